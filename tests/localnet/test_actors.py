"""The actors make a living market and keep their promises: head-room, nothing stuck, no errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tonsurance.chain.decode import Decoder
from tonsurance.chain.layout import load_layout
from tonsurance.core.capacity import coverage_cap_nano
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND, PolicyCreated, PolicyExpired
from tonsurance.localnet.actors import Actors
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.keeper import ACTIVE
from tonsurance.localnet.market import ACTOR_LIMIT, BLOCKS_UNDER_WAY, Market, TrancheView, has_room
from tonsurance.localnet.messages import read_message, read_transaction
from tonsurance.localnet.server import Localnet
from tonsurance.localnet.store import ChainStore

KEY = bytes(range(32))
BLOCKS = 400
CHAIN_SECONDS_PER_BLOCK = 250
"""400 blocks are then 27 hours: one-day policies end within the run. A quote still reaches the factory in time."""


class Played:
    """A run of the actors, with the tranches after each block."""

    def __init__(self, engine: TonpyEngine, store: ChainStore) -> None:
        self.chain = LocalChain(engine, store, seed=1, block_seconds=CHAIN_SECONDS_PER_BLOCK)
        self.contracts = deploy_contracts(self.chain, KEY)
        self.localnet = Localnet(self.chain, self.contracts, Actors(self.chain, self.contracts, KEY))
        self.market = Market(self.chain, self.contracts)
        self.seen: list[list[TrancheView]] = []

    def play(self, blocks: int) -> None:
        for _ in range(blocks):
            self.localnet.step()
            self.seen.append(self.market.tranches())


@pytest.fixture(scope="module")
def played(engine: TonpyEngine) -> Iterator[Played]:
    store = ChainStore()
    played = Played(engine, store)
    played.play(BLOCKS)
    yield played
    store.close()


def events_of(played: Played, contract: str, kind: str) -> list[object]:
    decoder = Decoder(load_layout(), contract=contract, kind=kind)
    decoded = [decoder.decode(made.boc) for made in reversed(played.chain.transactions(contract, limit=100_000))]
    assert all(transaction.undecoded == () for transaction in decoded)
    return [event.body for transaction in decoded for event in transaction.events]


def test_all_six_tranches_hold_capital_and_move(played: Played) -> None:
    for index in range(6):
        assert played.seen[10][index].capital > 0
        used = {view[index].coverage / view[index].capital for view in played.seen if view[index].capital}
        assert len(used) > 100
        assert 0.2 < max(used) < 0.95
    assert sum(view.capital for view in played.seen[10]) >= 100_000 * 10**9


def test_the_tranches_are_used_differently(played: Played) -> None:
    used = [view.coverage / view.capital for view in played.seen[-1]]

    assert len(set(used)) == 6
    assert used[0] == min(used)
    assert max(used) - min(used) > 0.2


def test_a_fifth_of_what_the_contracts_allow_is_left_to_others(played: Played) -> None:
    assert pytest.approx(0.76) == ACTOR_LIMIT
    for tranches in played.seen:
        for view in tranches:
            assert view.coverage <= coverage_cap_nano(view.capital, ACTOR_LIMIT)


def test_everything_that_can_happen_happens(played: Played) -> None:
    vault = Counter(type(body).__name__ for body in events_of(played, played.contracts.vault, VAULT_KIND))
    factory = Counter(type(body).__name__ for body in events_of(played, played.contracts.factory, FACTORY_KIND))

    assert vault["DepositMade"] > 20
    assert vault["WithdrawalRequested"] > 10
    assert vault["WithdrawalMade"] > 10
    assert vault["PremiumsDistributed"] == factory["PolicyCreated"] > 50
    assert vault["PremiumsEarned"] > 50
    assert factory["PolicyExpired"] > 5
    assert factory["PolicyRefused"] == factory["PayoutRefused"] == 0


def test_nothing_is_refused_and_nobody_fails(played: Played) -> None:
    assert played.localnet.actors is not None
    assert played.localnet.actors.errors == 0
    assert played.chain.rejected == 0
    for contract in (played.contracts.vault, played.contracts.factory):
        for made in played.chain.transactions(contract, limit=100_000):
            view = read_transaction(made.boc)
            assert view.in_message is not None
            assert not read_message(view.in_message).bounced
            # the message that deploys the vault finds its code; nothing else may fail
            assert view.succeeded, view.exit_code


def test_every_policy_is_active_or_over(played: Played) -> None:
    """But for what the last blocks began. Ended ones are gone soon after their time to claim."""
    bodies = events_of(played, played.contracts.factory, FACTORY_KIND)
    created = {body.policy_id: body for body in bodies if isinstance(body, PolicyCreated)}
    over = {body.policy_id for body in bodies if isinstance(body, PolicyExpired)}
    last = played.market.next_policy_id()
    assert len(created) >= last - 1 - BLOCKS_UNDER_WAY
    for policy_id, body in created.items():
        policy = played.market.policy(policy_id)
        assert (policy is None) == (policy_id in over)
        if policy is not None and policy.state == ACTIVE:
            assert body.end + 600 > played.chain.now - 20 * CHAIN_SECONDS_PER_BLOCK


def test_actors_go_on_after_a_restart(engine: TonpyEngine) -> None:
    """New actors on the same chain know the policies to end and the withdrawals to take from the chain alone."""

    def counts() -> Counter[str]:
        vault = events_of(first, first.contracts.vault, VAULT_KIND)
        factory = events_of(first, first.contracts.factory, FACTORY_KIND)
        return Counter(type(body).__name__ for body in vault + factory)

    store = ChainStore()
    first = Played(engine, store)
    first.play(380)
    before = counts()
    second = Played(engine, store)
    second.play(60)
    after = counts()
    store.close()

    assert second.contracts == first.contracts
    assert second.localnet.actors is not None
    assert (second.localnet.actors.errors, second.chain.rejected) == (0, 0)
    for name in ("PolicyExpired", "WithdrawalMade", "DepositMade", "WithdrawalRequested"):
        assert after[name] > before[name], name
    for tranches in second.seen:
        for view in tranches:
            assert view.coverage <= coverage_cap_nano(view.capital, ACTOR_LIMIT)


def test_deploying_twice_changes_nothing(chain: LocalChain) -> None:
    first = deploy_contracts(chain, KEY)
    seqno = chain.head.seqno

    assert deploy_contracts(chain, KEY) == first
    assert chain.head.seqno == seqno


def test_another_quote_key_is_set_on_the_same_factory(chain: LocalChain) -> None:
    first = deploy_contracts(chain, KEY)

    assert deploy_contracts(chain, bytes(32)) == first
    assert chain.get_method(first.factory, "get_factory_config").stack[6] != 0


class Broken(Actors):
    """Actors with a fault in them."""

    def act(self) -> None:
        raise RuntimeError("planted")


def test_failing_actors_do_not_stop_the_chain(chain: LocalChain) -> None:
    contracts = deploy_contracts(chain, KEY)
    actors = Broken(chain, contracts, KEY)
    localnet = Localnet(chain, contracts, actors)
    seqno = chain.head.seqno

    for _ in range(3):
        localnet.step()

    assert (chain.head.seqno, actors.errors) == (seqno + 3, 3)


def test_room_is_counted_with_what_comes_and_goes() -> None:
    view = TrancheView(number=1, capital=1000, coverage=700, shares=1000)

    assert has_room(view, coverage=60)
    assert not has_room(view, coverage=61)
    assert has_room(view, withdrawn=78)
    assert not has_room(view, withdrawn=79)


def test_what_is_under_way_counts_until_it_shows(chain: LocalChain) -> None:
    market = Market(chain, deploy_contracts(chain, KEY))
    market.note_cover(1_000)
    market.note_cover(200)
    market.note_withdrawal(6, 70)

    expected = market.expected()

    assert [view.coverage for view in expected] == [300, 240, 216, 180, 144, 120]
    assert [view.capital for view in expected] == [0, 0, 0, 0, 0, -70]
    for _ in range(BLOCKS_UNDER_WAY):
        chain.mine()
    assert market.expected() == market.tranches()
