"""The wallet contract: only its owner spends, each order once, and what is shipped is what the source gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from localnet.probe import FAIL, SOMEBODY, TON, body, deploy_probe
from tonsurance.core.errors import InputError
from tonsurance.localnet.cells import address_from, boc_of, cell_from_boc, raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.messages import external_message, read_message
from tonsurance.localnet.wallets import Transfer, Wallet, wallet_code

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
TARGET = raw_address(SOMEBODY)


@pytest.fixture
def wallet(chain: LocalChain) -> Wallet:
    """Deployed, with almost 10 TON."""
    wallet = Wallet("owner", chain.seed)
    chain.airdrop(wallet.address, 10 * TON)
    chain.mine_until_idle()
    wallet.send(chain, Transfer(destination=TARGET, value=1, bounce=False))
    chain.mine_until_idle()
    return wallet


def submit(chain: LocalChain, order: bytes) -> int:
    """How many orders were refused because of this one."""
    before = chain.rejected
    chain.submit_external(order)
    chain.mine_until_idle()
    return chain.rejected - before


def test_the_shipped_code_is_what_the_source_compiles_to(engine: TonpyEngine) -> None:
    source = "\n".join((CONTRACTS / name).read_text() for name in ("stdlib.fc", "wallet.fc"))

    assert boc_of(cell_from_boc(engine.compile_func(source))) == boc_of(wallet_code())


def test_the_same_name_and_seed_are_the_same_wallet() -> None:
    assert Wallet("a", 1).address == Wallet("a", 1).address
    assert len({Wallet("a", 1).address, Wallet("a", 2).address, Wallet("b", 1).address}) == 3


def test_an_order_pays_up_to_four(chain: LocalChain, wallet: Wallet) -> None:
    before = chain.balance(SOMEBODY)
    wallet.send(chain, *(Transfer(destination=TARGET, value=TON, bounce=False) for _ in range(4)))
    chain.mine_until_idle()

    assert 4 * TON - 10 <= chain.balance(SOMEBODY) - before <= 4 * TON
    with pytest.raises(InputError):
        wallet.send(chain, *(Transfer(destination=TARGET, value=1) for _ in range(5)))
    with pytest.raises(InputError):
        wallet.send(chain)


def test_an_order_counts_once(chain: LocalChain, wallet: Wallet) -> None:
    order = wallet.order([Transfer(destination=TARGET, value=1)], seqno=1, valid_until=chain.now + 60)

    assert [submit(chain, order), submit(chain, order)] == [0, 1]
    assert wallet.seqno(chain) == 2


def test_somebody_else_cannot_order(chain: LocalChain, wallet: Wallet) -> None:
    """A valid order, signed with another key."""
    thief = Wallet("thief", chain.seed)
    order = thief.order([Transfer(destination=TARGET, value=1)], seqno=1, valid_until=chain.now + 60)
    signed = read_message(cell_from_boc(order)).body

    assert submit(chain, boc_of(external_message(address_from(wallet.address), signed))) == 1
    assert wallet.seqno(chain) == 1


@pytest.mark.parametrize(("seqno", "valid_for"), [(0, 60), (2, 60), (1, 0), (1, -1)])
def test_a_wrong_number_or_a_late_order_is_refused(
    chain: LocalChain, wallet: Wallet, seqno: int, valid_for: int
) -> None:
    until = chain.now + 1 + valid_for
    order = wallet.order([Transfer(destination=TARGET, value=1)], seqno=seqno, valid_until=until)

    assert submit(chain, order) == 1


def test_an_order_is_used_up_even_when_its_message_cannot_be_sent(chain: LocalChain, wallet: Wallet) -> None:
    too_much = wallet.order([Transfer(destination=TARGET, value=1000 * TON)], seqno=1, valid_until=chain.now + 60)

    assert [submit(chain, too_much), submit(chain, too_much)] == [0, 1]


def test_a_refused_message_comes_back_to_the_wallet(chain: LocalChain, wallet: Wallet, probe_code: bytes) -> None:
    probe, before = deploy_probe(chain, probe_code), chain.balance(wallet.address)
    wallet.send(chain, Transfer(destination=raw_address(probe), value=2 * TON, body=body(FAIL)))
    chain.mine_until_idle()

    assert before - TON // 10 < chain.balance(wallet.address) < before
