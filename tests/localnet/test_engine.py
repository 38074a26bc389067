"""The TVM gives what a node would: values, exit codes, gas, refusals."""

from __future__ import annotations

import pytest
from pytoniq_core.boc.cell import Cell
from pytoniq_core.boc.slice import Slice

from localnet.probe import SOMEBODY, TON, body, deploy_probe
from tonsurance.core.errors import InputError
from tonsurance.localnet.accounts import view_account
from tonsurance.localnet.cells import address_from, boc_of, builder, raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.engine import TonpyEngine, method_id
from tonsurance.localnet.messages import external_message, internal_message

NOW, LT, SEED = 1_790_000_000, 46_000_000_000_000, bytes(32)


def test_method_ids_are_those_of_the_compiler() -> None:
    assert method_id("seqno") == 85143
    assert method_id("get_public_key") == 78748
    assert method_id(5) == 5


def test_a_program_that_does_not_compile_is_an_input_error(engine: TonpyEngine) -> None:
    with pytest.raises(InputError, match="FunC"):
        engine.compile_func("int main() { return x; }")


@pytest.mark.parametrize("boc", [b"", b"abc", b"\xb5\xee\x9cr" + bytes(20)])
def test_bytes_that_are_no_bag_are_an_input_error(engine: TonpyEngine, boc: bytes) -> None:
    with pytest.raises(InputError):
        engine.run_transaction(None, boc, now=NOW, lt=LT, seed=SEED)
    with pytest.raises(InputError):
        engine.run_get_method(boc, SOMEBODY, "seqno", [], now=NOW, lt=LT)


def test_an_external_message_nobody_accepts_gives_no_transaction(engine: TonpyEngine) -> None:
    message = boc_of(external_message(SOMEBODY, builder().end_cell()))

    assert engine.run_transaction(None, message, now=NOW, lt=LT, seed=SEED) is None


def test_the_same_input_gives_the_same_bytes(engine: TonpyEngine) -> None:
    message = boc_of(internal_message(SOMEBODY, SOMEBODY, TON, bounce=False, lt=LT, at=NOW))

    results = {engine.run_transaction(None, message, now=NOW, lt=LT, seed=SEED) for _ in range(3)}

    assert len(results) == 1


def test_the_account_points_at_its_transaction(engine: TonpyEngine) -> None:
    message = boc_of(internal_message(SOMEBODY, SOMEBODY, TON, bounce=False, lt=LT, at=NOW))

    result = engine.run_transaction(None, message, now=NOW, lt=LT, seed=SEED)

    assert result is not None
    view = view_account(result.account_boc)
    assert view.status == "uninitialized"
    assert view.balance == TON
    assert view.last_lt == LT + 1
    assert view.last_hash == Cell.one_from_boc(result.transaction_boc).hash


@pytest.mark.parametrize(
    ("method", "args", "exit_code"),
    [("fail", [], 404), ("endless", [], -14), ("no_such_method", [], 11), ("subtract", [1], 2), ("get_count", [], 0)],
)
def test_exit_codes_are_those_of_the_tvm(
    chain: LocalChain, probe_code: bytes, method: str, args: list[int], exit_code: int
) -> None:
    assert chain.get_method(deploy_probe(chain, probe_code), method, args).exit_code == exit_code


def test_an_account_without_code_has_no_methods(chain: LocalChain) -> None:
    result = chain.get_method(SOMEBODY, "get_count")

    assert (result.exit_code, result.stack, result.succeeded) == (-13, [], False)


def test_a_getter_sees_its_address_and_the_block(chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)

    (address,) = chain.get_method(probe, "get_address").stack

    assert raw_address(address.load_address()) == raw_address(probe)
    assert chain.get_method(probe, "get_time").stack == [chain.now, chain.head.end_lt]


def test_values_go_in_and_come_out_unchanged(chain: LocalChain, probe_code: bytes) -> None:
    probe, cell = deploy_probe(chain, probe_code), body(7, (1, 9))

    assert chain.get_method(probe, "subtract", [2**255, 3]).stack == [2**255 - 3]
    assert chain.get_method(probe, "subtract", [-5, 2**200]).stack == [-5 - 2**200]
    assert chain.get_method(probe, "same_cell", [cell]).stack == [cell]
    (value,) = chain.get_method(probe, "same_slice", [SOMEBODY]).stack
    assert isinstance(value, Slice)
    assert value.load_address() == SOMEBODY
    assert chain.get_method(probe, "same_tuple", [[1, [-2, None], cell]]).stack == [(1, (-2, None), cell)]


def test_what_no_getter_can_take_is_an_input_error(chain: LocalChain, probe_code: bytes) -> None:
    with pytest.raises(InputError, match="float"):
        chain.get_method(deploy_probe(chain, probe_code), "subtract", [1.5, 2])


def test_addresses_are_read_in_every_form() -> None:
    raw = "0:" + "ab" * 32

    assert raw_address(address_from("0:" + "AB" * 32)) == raw
