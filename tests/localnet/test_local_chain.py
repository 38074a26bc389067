"""Blocks: one hop each, in order, deterministic; the past stays readable as it was."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from pytoniq_core.boc.cell import Cell

from localnet.probe import COUNT, FAIL, LOG, PASS_ON, SOMEBODY, TON, body, deploy_probe
from tonsurance.core.errors import DependencyError, InputError, NotReady
from tonsurance.localnet.actors import Actors
from tonsurance.localnet.blocks import Block
from tonsurance.localnet.cells import boc_of, builder
from tonsurance.localnet.chain import FIRST_SEQNO, MAX_BLOCK_MESSAGES, MAX_WAITING_MESSAGES, LocalChain
from tonsurance.localnet.deploy import deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.messages import external_message, internal_message, read_message, read_transaction
from tonsurance.localnet.server import Localnet
from tonsurance.localnet.store import BlockChanges, ChainStore
from tonsurance.localnet.wallets import Transfer, Wallet

KEY = bytes(range(32))


def busy(engine: TonpyEngine, store: ChainStore, *, seed: int = 1) -> Localnet:
    """A chain with our contracts and actors, two minutes of chain time per block."""
    chain = LocalChain(engine, store, seed=seed, block_seconds=120)
    contracts = deploy_contracts(chain, KEY)
    return Localnet(chain, contracts, Actors(chain, contracts, KEY))


def hashes(blocks: list[Block]) -> list[tuple[bytes, tuple[bytes, ...]]]:
    return [(block.header.root_hash, tuple(made.hash for made in block.transactions)) for block in blocks]


def test_a_message_moves_one_contract_per_block(chain: LocalChain, probe_code: bytes) -> None:
    here, there = (deploy_probe(chain, probe_code, number=number) for number in (0, 1))
    chain.submit_internal(here, TON, body(PASS_ON, (3, 8), to=there))

    blocks = chain.mine_until_idle()

    assert [[made.account[1:] for made in block.transactions] for block in blocks] == [
        [here.hash_part], [there.hash_part], [here.hash_part], [there.hash_part],
    ]  # fmt: skip


def test_a_refused_message_bounces_with_its_value_in_the_next_block(chain: LocalChain, probe_code: bytes) -> None:
    here, there = (deploy_probe(chain, probe_code, number=number) for number in (0, 1))
    before = chain.balance(here)
    chain.submit_internal(there, TON, body(FAIL), source=here)

    refused, returned = chain.mine_until_idle()

    view = read_transaction(refused.transactions[0].boc)
    assert (view.exit_code, view.succeeded) == (77, False)
    bounce = read_message(view.out_messages[0])
    assert (bounce.bounced, bounce.destination) == (True, here)
    assert bounce.body.begin_parse().load_uint(32) == 0xFFFFFFFF
    assert read_transaction(returned.transactions[0].boc).in_message == view.out_messages[0]
    assert before + TON - 10**7 < chain.balance(here) < before + TON


def test_coins_for_an_address_without_contract_stay_there(chain: LocalChain) -> None:
    chain.airdrop(SOMEBODY, TON)
    chain.mine()

    assert chain.account(SOMEBODY).status == "uninitialized"
    assert chain.balance(SOMEBODY) == TON


def test_external_messages_to_one_account_run_in_order_in_one_block(chain: LocalChain) -> None:
    wallet = Wallet("me", chain.seed)
    chain.airdrop(wallet.address, 10 * TON)
    chain.mine_until_idle()
    target = f"0:{SOMEBODY.hash_part.hex()}"
    for seqno, amount in enumerate((1, 2, 3)):
        transfer = Transfer(destination=target, value=amount, bounce=False)
        chain.submit_external(wallet.order([transfer], seqno=seqno, valid_until=chain.now + 60))

    sent, received = chain.mine_until_idle()

    assert len(sent.transactions) == 3
    values = [
        read_message(read_transaction(made.boc).in_message or Cell.empty()).value for made in received.transactions
    ]
    assert values == [1, 2, 3]


def test_an_external_message_nobody_accepts_is_dropped_and_counted(chain: LocalChain) -> None:
    chain.submit_external(boc_of(external_message(SOMEBODY, builder().end_cell())))

    block = chain.mine()

    assert block.transactions == ()
    assert (chain.rejected, chain.waiting) == (1, 0)


@pytest.mark.parametrize(
    "boc",
    [
        b"",
        b"nonsense",
        boc_of(builder().end_cell()),
        boc_of(builder().store_uint(0b10, 2).end_cell()),
        boc_of(internal_message(SOMEBODY, SOMEBODY, TON)),
        boc_of(builder().store_uint(0b10_00_00, 6).store_coins(0).store_uint(0, 2).end_cell()),
    ],
)  # fmt: skip
def test_what_is_no_external_message_is_refused_and_changes_nothing(chain: LocalChain, boc: bytes) -> None:
    with pytest.raises(InputError):
        chain.submit_external(boc)

    assert chain.waiting == 0


def test_events_go_nowhere_and_stay_in_the_transaction(chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    chain.submit_internal(probe, TON, body(LOG))

    (block,) = chain.mine_until_idle()

    (event,) = read_transaction(block.transactions[0].boc).out_messages
    view = read_message(event)
    assert (view.kind, view.source, view.destination) == ("external_out", probe, None)
    assert view.body.begin_parse().load_uint(32) == 0xABCD


def test_logical_times_grow_and_links_are_unbroken(engine: TonpyEngine, store: ChainStore) -> None:
    localnet = busy(engine, store)
    chain = localnet.chain
    blocks = [localnet.step() for _ in range(60)]

    for earlier, later in pairwise(blocks):
        assert later.start_lt % 1_000_000 == 0
        assert earlier.end_lt <= later.start_lt < later.end_lt + 1
        assert earlier.header.clock_ms < later.header.clock_ms
    assert localnet.contracts is not None
    made = chain.transactions(localnet.contracts.vault, limit=10_000)
    views = [read_transaction(transaction.boc) for transaction in made]
    assert len(views) > 50
    for newer, older in pairwise(views):
        assert (newer.prev_lt, newer.prev_hash) == (older.lt, older.hash)
    assert (views[-1].prev_lt, views[-1].prev_hash) == (0, bytes(32))


def test_a_seed_decides_everything(engine: TonpyEngine) -> None:
    runs = []
    for seed in (1, 1, 2):
        store = ChainStore()
        localnet = busy(engine, store, seed=seed)
        runs.append(hashes([localnet.step() for _ in range(60)]))
        store.close()

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_chains_of_different_seeds_share_no_block(engine: TonpyEngine) -> None:
    """Not even an empty one, so that nobody takes one for the other."""
    roots = []
    for seed in (1, 2):
        store = ChainStore()
        chain = LocalChain(engine, store, seed=seed)
        roots.append([chain.head.root_hash, chain.mine().header.root_hash, chain.head.file_hash])
        store.close()

    assert not set(roots[0]) & set(roots[1])


def test_every_block_of_the_past_is_read_as_it_was(chain: LocalChain, probe_code: bytes) -> None:
    probe = deploy_probe(chain, probe_code)
    seen = {}
    for number in range(40):
        if number % 3:
            chain.submit_internal(probe, TON, body(COUNT))
        block = chain.mine()
        seen[block.seqno] = (
            chain.account(probe), chain.get_method(probe, "get_count"), chain.get_method(probe, "get_time"),
        )  # fmt: skip

    for seqno, (account, count, times) in seen.items():
        assert chain.account(probe, seqno) == account
        assert chain.get_method(probe, "get_count", seqno=seqno) == count
        assert chain.get_method(probe, "get_time", seqno=seqno) == times
    assert chain.account(probe, FIRST_SEQNO).status == "uninitialized"


@pytest.mark.parametrize("seqno", [-1, 0, 2, 2**31, 2**70])
def test_a_block_that_does_not_exist_is_an_input_error(chain: LocalChain, seqno: int) -> None:
    with pytest.raises(InputError, match="no block"):
        chain.account(SOMEBODY, seqno)


def test_time_goes_by_blocks_and_by_hand(chain: LocalChain) -> None:
    start = chain.now
    chain.mine()
    assert chain.now == start + 1
    chain.speed = 300
    chain.mine()
    assert chain.now == start + 301
    assert chain.advance_time(3600).utime == start + 601 + 3600
    with pytest.raises(InputError):
        chain.advance_time(-1)
    with pytest.raises(InputError, match="2106"):
        chain.advance_time(2**32)
    assert chain.now == start + 601 + 3600


@pytest.mark.parametrize("speed", [0, -1, 1e9, float("nan"), float("inf")])
def test_an_impossible_speed_is_refused(chain: LocalChain, speed: float) -> None:
    with pytest.raises(InputError, match="speed"):
        chain.speed = speed

    assert chain.speed == 1.0


@pytest.mark.parametrize("nano", [0, -1, 2**63])
def test_an_impossible_airdrop_is_refused(chain: LocalChain, nano: int) -> None:
    with pytest.raises(InputError, match="amount"):
        chain.airdrop(SOMEBODY, nano)

    assert chain.waiting == 0


def test_a_full_block_leaves_the_rest_for_the_next(chain: LocalChain) -> None:
    for _ in range(MAX_BLOCK_MESSAGES + 1):
        chain.airdrop(SOMEBODY, 1)

    first, second = chain.mine_until_idle()

    assert (len(first.transactions), len(second.transactions)) == (MAX_BLOCK_MESSAGES, 1)


def test_waiting_messages_are_bounded(chain: LocalChain) -> None:
    for _ in range(MAX_WAITING_MESSAGES):
        chain.airdrop(SOMEBODY, 1)

    with pytest.raises(NotReady):
        chain.airdrop(SOMEBODY, 1)


def test_a_second_start_continues_as_if_there_had_been_none(engine: TonpyEngine, tmp_path: Path) -> None:
    """Closed and opened between any two blocks, with messages waiting."""

    def play(chain: LocalChain, round_: int) -> Block:
        wallet = Wallet("player", chain.seed)
        if round_ % 3 == 0:
            chain.airdrop(wallet.address, 5 * TON)
        elif chain.balance(wallet.address) > TON:
            wallet.send(chain, Transfer(destination=wallet.address, value=TON // 3, bounce=False))
        return chain.mine()

    memory, path = ChainStore(), tmp_path / "chain.sqlite"
    never_stopped = LocalChain(engine, memory, seed=4)
    expected = [play(never_stopped, round_) for round_ in range(30)]
    resumed, waited = [], 0
    for round_ in range(30):
        store = ChainStore(path)
        chain = LocalChain(engine, store, seed=4)
        waited += chain.waiting
        resumed.append(play(chain, round_))
        store.close()
    memory.close()

    assert hashes(resumed) == hashes(expected)
    assert waited > 5


def test_what_was_submitted_is_kept_over_a_restart(engine: TonpyEngine, tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    store = ChainStore(path)
    LocalChain(engine, store).airdrop(SOMEBODY, 5)
    store.close()

    store = ChainStore(path)
    chain = LocalChain(engine, store)
    chain.mine()

    assert chain.balance(SOMEBODY) == 5
    store.close()


def test_a_chain_of_another_seed_is_refused(engine: TonpyEngine, store: ChainStore) -> None:
    LocalChain(engine, store, seed=1)

    with pytest.raises(InputError, match="seed 1, not 2"):
        LocalChain(engine, store, seed=2)


class FullStore(ChainStore):
    """A store whose disk is full once the genesis is written."""

    def save_block(self, changes: BlockChanges) -> None:
        if changes.header.seqno > FIRST_SEQNO:
            raise DependencyError("The disk is full.")
        super().save_block(changes)


def test_a_block_that_cannot_be_stored_did_not_happen(engine: TonpyEngine) -> None:
    store = FullStore()
    chain = LocalChain(engine, store)
    chain.airdrop(SOMEBODY, TON)
    head = chain.head

    for _ in range(2):
        with pytest.raises(DependencyError, match="full"):
            chain.mine()

    assert (chain.head, chain.waiting, chain.balance(SOMEBODY)) == (head, 1, 0)
    store.close()


def test_a_store_that_cannot_be_read_is_an_outage(chain: LocalChain, store: ChainStore) -> None:
    """Not an account without money."""
    store.close()

    with pytest.raises(DependencyError, match="cannot be used"):
        chain.balance(SOMEBODY)


def test_two_processes_cannot_have_one_file(tmp_path: Path, engine: TonpyEngine) -> None:
    first = ChainStore(tmp_path / "chain.sqlite")
    LocalChain(engine, first)

    with pytest.raises(DependencyError, match="locked"):
        ChainStore(tmp_path / "chain.sqlite")
    first.close()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chain.sqlite").write_bytes(b"this is no database" * 100)

    with pytest.raises(DependencyError, match="not a database"):
        ChainStore(tmp_path / "chain.sqlite")
