"""Typed reads of our contracts, and the check that an account is one."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from tonutils.contracts.wallet import WalletV3R2, WalletV4R2, WalletV5R1

from chain.fake_toncenter import FakeTonCenter
from chain.making import ALICE, FACTORY, LAYOUT, VAULT, make_chain
from tonsurance.chain.cells import parse_boc
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import WALLET_CODE, FactoryReader, TrancheState, VaultReader, check_contract
from tonsurance.chain.stack import read_stack
from tonsurance.core.errors import ChainDataError, NotOurContract
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND

VAULT_CODE = Builder().store_uint(1, 8).end_cell()
FACTORY_CODE = Builder().store_uint(2, 8).end_cell()
KNOWN = msgspec.structs.replace(LAYOUT, code={VAULT_KIND: VAULT_CODE.hash, FACTORY_KIND: FACTORY_CODE.hash})


def number(value: int) -> dict[str, Any]:
    return {"@type": "tvm.stackEntryNumber", "number": {"@type": "tvm.numberDecimal", "number": str(value)}}


def rows(count: int = 6, width: int = 7) -> list[Any]:
    elements = [
        {
            "@type": "tvm.stackEntryTuple",
            "tuple": {"@type": "tvm.tuple", "elements": [number(10 * row + column) for column in range(width)]},
        }
        for row in range(1, count + 1)
    ]
    return [["tuple", {"@type": "tvm.tuple", "elements": elements}]]


def slice_of(address: str) -> list[Any]:
    boc = Builder().store_address(Address(address)).end_cell().to_boc()
    return ["cell", {"bytes": base64.b64encode(boc).decode()}]


async def test_all_tranches_are_read_at_one_block_with_the_last_transaction_there(
    fake: FakeTonCenter, client: TonCenterClient
) -> None:
    fake.methods["get_all_tranches"] = {"stack": rows()}
    fake.accounts[VAULT] = made = make_chain(2)
    reading = await VaultReader(client, VAULT).all_tranches(95)
    assert (reading.seqno, reading.last_transaction) == (95, made[-1].cursor)
    assert reading.tranches[1] == TrancheState(
        tranche_id=20, capital=21, coverage=22, unearned=23, end=24, last=25, shares=26
    )
    assert [params.get("seqno") for _, params, _ in fake.requests] == [95, "95"]


async def test_the_answers_own_last_transaction_saves_a_request(fake: FakeTonCenter, client: TonCenterClient) -> None:
    identity = {"lt": "77", "hash": base64.b64encode(b"\2" * 32).decode()}
    fake.methods["get_all_tranches"] = {"stack": rows(), "last_transaction_id": identity}
    reading = await VaultReader(client, VAULT).all_tranches(95)
    assert reading.last_transaction.lt == 77
    assert len(fake.requests) == 1


@pytest.mark.parametrize("stack", [[], rows(5), rows(7), rows(6, 6), [["num", "0x1"]], [["list", {"elements": []}]]])
async def test_anything_but_six_full_rows_is_an_error(
    fake: FakeTonCenter, client: TonCenterClient, stack: list[Any]
) -> None:
    fake.methods["get_all_tranches"] = {"stack": stack}
    with pytest.raises(ChainDataError, match="did not return"):
        await VaultReader(client, VAULT).all_tranches(95)


async def test_the_vaults_figures_are_read(fake: FakeTonCenter, client: TonCenterClient) -> None:
    fake.methods["get_vault_state"] = {"stack": [["num", hex(value)] for value in (-1, 5, 6, 7, 8, 9, 60, 120, 3, 2)]}
    state = await VaultReader(client, VAULT).vault_state()
    assert (state.paused, state.total_capital, state.withdraw_window) == (True, 5, 120)
    assert (state.frozen_until, state.claims_due) == (3, 2)


async def test_the_factorys_configuration_is_read(fake: FakeTonCenter, client: TonCenterClient) -> None:
    numbers = [["num", hex(value)] for value in range(10)]
    fake.methods["get_factory_config"] = {
        "stack": [["num", "0x0"], ["num", "-0x3"], slice_of(VAULT), slice_of(ALICE), slice_of(FACTORY), *numbers]
    }
    fake.methods["get_next_policy_id"] = {"stack": [["num", "0x2a"]]}
    reader = FactoryReader(client, FACTORY)
    config = await reader.config()
    assert (config.paused, config.network, config.vault, config.admin) == (False, -3, VAULT, ALICE)
    assert config.max_quotes == 9
    assert await reader.next_policy_id() == 42


@pytest.mark.parametrize("stack", [[], [["num", "0x1"], ["num", "0x1"]], [["list", {"elements": []}]]])
async def test_a_policy_id_that_is_no_number_is_an_error(
    fake: FakeTonCenter, client: TonCenterClient, stack: list[Any]
) -> None:
    fake.methods["get_next_policy_id"] = {"stack": stack}
    with pytest.raises(ChainDataError, match="one number"):
        await FactoryReader(client, FACTORY).next_policy_id()


@pytest.mark.parametrize(
    "stack",
    [
        None, 5, [5], [["num"]], [["num", 5]], [["num", "zz"]], [["what", "1"]], [["cell", {}]],
        [["cell", {"bytes": "%"}]], [["tuple", {"elements": [{"@type": "x"}]}]], [["tuple", {}]], [["tuple", 7]],
    ],
)  # fmt: skip
def test_a_stack_of_another_form_is_a_data_error(stack: object) -> None:
    with pytest.raises(ChainDataError):
        read_stack(stack)


def test_tuples_nested_without_end_are_refused() -> None:
    inner: dict[str, Any] = {"elements": []}
    for _ in range(100):
        inner = {"elements": [{"@type": "tvm.stackEntryTuple", "tuple": inner}]}
    with pytest.raises(ChainDataError, match="too deep"):
        read_stack([["tuple", inner]])


async def test_our_contract_passes_the_check(fake: FakeTonCenter, client: TonCenterClient) -> None:
    fake.codes[VAULT] = VAULT_CODE.to_boc()
    assert (await check_contract(client, VAULT, VAULT_KIND, KNOWN)).status == "active"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        ("uninitialized", b"", "is not deployed on http://127.0.0.1"),
        ("frozen", b"", "is frozen"),
        ("active", FACTORY_CODE.to_boc(), "holds a PolicyFactory; are two addresses exchanged"),
        ("active", Builder().store_uint(9, 9).end_cell().to_boc(), "holds a contract with code"),
    ],
)
async def test_what_is_not_our_contract_is_said_clearly(
    fake: FakeTonCenter, client: TonCenterClient, status: str, code: bytes, reason: str
) -> None:
    fake.status, fake.codes[VAULT] = status, code
    with pytest.raises(NotOurContract, match=reason):
        await check_contract(client, VAULT, VAULT_KIND, KNOWN)


@pytest.mark.parametrize(("wallet", "name"), [(WalletV3R2, "v3r2"), (WalletV4R2, "v4r2"), (WalletV5R1, "v5r1")])
async def test_a_wallet_is_recognised(fake: FakeTonCenter, client: TonCenterClient, wallet: Any, name: str) -> None:
    code = wallet.get_default_code().to_boc()
    assert parse_boc(code).hash.hex() in WALLET_CODE
    fake.codes[VAULT] = code
    with pytest.raises(NotOurContract, match=f"holds a wallet {name}"):
        await check_contract(client, VAULT, VAULT_KIND, KNOWN)


async def test_a_layout_without_code_cannot_vouch_for_a_contract(fake: FakeTonCenter, client: TonCenterClient) -> None:
    fake.codes[VAULT] = VAULT_CODE.to_boc()
    with pytest.raises(NotOurContract, match="knows no code"):
        await check_contract(client, VAULT, VAULT_KIND, LAYOUT)
