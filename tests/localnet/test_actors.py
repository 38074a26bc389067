"""The actors make a living market and keep their promises: head-room, nothing stuck, claims settled, no errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tonsurance.chain.decode import Decoder
from tonsurance.chain.layout import load_layout
from tonsurance.chain.messages import Op
from tonsurance.core.events import (
    FACTORY_KIND,
    VAULT_KIND,
    LossAbsorbed,
    PayoutApproved,
    PayoutExecuted,
    PayoutRefused,
    PolicyCreated,
    PolicyExpired,
)
from tonsurance.core.limits import coverage_cap_nano
from tonsurance.localnet.actors import Actors
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import deploy_contracts
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.incidents import incident_of
from tonsurance.localnet.market import ACTIVE, ACTOR_LIMIT, BLOCKS_UNDER_WAY, Market, TrancheView, has_room
from tonsurance.localnet.messages import read_message, read_transaction
from tonsurance.localnet.server import Localnet
from tonsurance.localnet.store import ChainStore

KEY = bytes(range(32))
SEED = 5
"""With this one a deferred claim is executed, one overridden and one cancelled."""
FROZEN = 123
BLOCKS = 1_400
"""Six incidents, the last of them a big one, and time to recover."""
CHAIN_SECONDS_PER_BLOCK = 250
"""A day is then 346 blocks: policies end within the run. A quote still reaches the factory in time."""


class Played:
    """A run of the actors, with the tranches after each block."""

    def __init__(self, engine: TonpyEngine, store: ChainStore) -> None:
        self.chain = LocalChain(engine, store, seed=SEED, block_seconds=CHAIN_SECONDS_PER_BLOCK)
        self.contracts = deploy_contracts(self.chain, KEY)
        self.localnet = Localnet(self.chain, self.contracts, Actors(self.chain, self.contracts, KEY))
        self.market = Market(self.chain, self.contracts)
        self.first_seqno = self.chain.head.seqno + 1
        self.seen: list[list[TrancheView]] = []
        self.claims_due: list[int] = []

    def play(self, blocks: int) -> None:
        for _ in range(blocks):
            self.localnet.step()
            self.seen.append(self.market.tranches())
            self.claims_due.append(self.market.vault().claims_due)


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
        assert max(used) > 0.2
    assert sum(view.capital for view in played.seen[10]) >= 100_000 * 10**9


def test_the_tranches_are_used_differently(played: Played) -> None:
    used = [view.coverage / view.capital for view in played.seen[-1]]

    assert len(set(used)) == 6
    assert used[0] == min(used)
    assert max(used) - min(used) > 0.2


def test_a_fifth_of_what_the_contracts_allow_is_left_to_others(played: Played) -> None:
    assert pytest.approx(0.76) == ACTOR_LIMIT
    expect_headroom(played)


def expect_headroom(played: Played) -> None:
    """Whenever cover was sold. A loss may leave a tranche fuller; then nothing is sold until it is filled up."""
    for before, after in pairwise(played.seen):
        for was, view in zip(before, after, strict=True):
            if view.coverage > was.coverage:
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
    assert factory["PolicyRefused"] == 0
    assert factory["PayoutApproved"] > factory["PayoutExecuted"] > 20
    assert vault["LossAbsorbed"] >= factory["PayoutExecuted"]
    for happened in ("ClaimDeferred", "ClaimCancelled", "Frozen", "EpochStarted"):
        assert vault[happened] > 0, happened
    for happened in ("PayoutCancelled", "PayoutRefused"):
        assert factory[happened] > 0, happened
    assert vault["ClaimCancelled"] == factory["PayoutCancelled"]
    assert vault["ShortfallReported"] == 0


def test_deferred_claims_are_executed_overridden_and_cancelled(played: Played) -> None:
    done = Counter(op for op in ops_of(played, played.contracts.vault))

    assert done[Op.EXECUTE_CLAIM] > 0
    assert done[Op.OVERRIDE_CLAIM] > 0
    assert done[Op.CANCEL_CLAIM] > 0
    assert max(played.claims_due) > 1
    assert played.claims_due[-1] == 0


def ops_of(played: Played, contract: str) -> Iterator[int]:
    """The op-codes of what a contract was asked and did."""
    for made in played.chain.transactions(contract, limit=100_000):
        view = read_transaction(made.boc)
        assert view.in_message is not None
        body = read_message(view.in_message).body.begin_parse()
        if view.succeeded and body.remaining_bits >= 32:
            yield body.load_uint(32)


def test_claims_are_paid_within_the_cover_and_the_first_loss_comes_first(played: Played) -> None:
    factory = events_of(played, played.contracts.factory, FACTORY_KIND)
    covers = {body.policy_id: body for body in factory if isinstance(body, PolicyCreated)}
    approved = {body.policy_id: body.amount for body in factory if isinstance(body, PayoutApproved)}
    for body in factory:
        if isinstance(body, PayoutExecuted):
            assert body.beneficiary == covers[body.policy_id].buyer
            assert body.amount == approved[body.policy_id] <= covers[body.policy_id].coverage_amount
    losses = [body for body in events_of(played, played.contracts.vault, VAULT_KIND) if isinstance(body, LossAbsorbed)]
    by_tranche = Counter(body.tranche_id for body in losses)
    assert by_tranche[6] > by_tranche[5] > 0 == by_tranche[1]


def test_what_was_lost_is_filled_up_again(played: Played) -> None:
    """Soon, in the tranche that was used up and in the one above it that lost a part."""
    for index, left in ((5, 0.01), (4, 0.75)):
        first = played.seen[10][index].capital
        capitals = [tranches[index].capital for tranches in played.seen[10:]]
        lowest = capitals.index(min(capitals))
        assert capitals[lowest] < first * left
        assert max(capitals[lowest : lowest + 120]) > first * 0.84


def test_nobody_trades_around_an_incident(played: Played) -> None:
    """Nor while a claim waits: the vault would refuse it."""
    for seqno, (before, after) in enumerate(pairwise(played.seen), start=played.first_seqno + 1):
        near = incident_of(played.chain.seed, seqno - BLOCKS_UNDER_WAY)
        if near.is_on(seqno):
            assert all(view.coverage <= was.coverage for was, view in zip(before, after, strict=True))


def test_nothing_fails_but_payouts_while_frozen(played: Played) -> None:
    refused = [
        body for body in events_of(played, played.contracts.factory, FACTORY_KIND) if isinstance(body, PayoutRefused)
    ]
    assert {body.op for body in refused} == {Op.PAY_CLAIM}
    assert played.localnet.actors is not None
    assert played.localnet.actors.errors == 0
    assert played.chain.rejected == 0
    vault, factory = failures_of(played, played.contracts.vault), failures_of(played, played.contracts.factory)
    assert vault == Counter({FROZEN: len(refused)})
    assert factory == Counter({"bounced": len(refused)})


def failures_of(played: Played, contract: str) -> Counter[int | str]:
    """Exit codes of what failed, and how often something came back."""
    found: Counter[int | str] = Counter()
    for made in played.chain.transactions(contract, limit=100_000):
        view = read_transaction(made.boc)
        assert view.in_message is not None
        if read_message(view.in_message).bounced:
            found["bounced"] += 1
        elif not view.succeeded:
            found[view.exit_code] += 1
    return found


def test_every_policy_is_active_or_over(played: Played) -> None:
    """But for what the last blocks began. Ended ones are gone soon after their time to claim."""
    bodies = events_of(played, played.contracts.factory, FACTORY_KIND)
    created = {body.policy_id: body for body in bodies if isinstance(body, PolicyCreated)}
    over = {body.policy_id for body in bodies if isinstance(body, PolicyExpired | PayoutExecuted)}
    last = played.market.next_policy_id()
    assert len(created) >= last - 1 - BLOCKS_UNDER_WAY
    for policy_id, body in created.items():
        policy = played.market.policy(policy_id)
        assert (policy is None) == (policy_id in over)
        if policy is not None and policy.state == ACTIVE:
            assert body.end + 600 > played.chain.now - 20 * CHAIN_SECONDS_PER_BLOCK


def test_actors_go_on_after_a_restart(engine: TonpyEngine) -> None:
    """New actors on the same chain know the policies to end, the withdrawals to take and the claims to see to from
    the chain alone.
    """

    def counts() -> Counter[str]:
        vault = events_of(first, first.contracts.vault, VAULT_KIND)
        factory = events_of(first, first.contracts.factory, FACTORY_KIND)
        return Counter(type(body).__name__ for body in vault + factory)

    store = ChainStore()
    first = Played(engine, store)
    while first.market.vault().claims_due < 2:
        assert len(first.seen) < BLOCKS
        first.play(1)
    before, failed = counts(), failures_of(first, first.contracts.vault)
    for _ in range(60):
        first.chain.mine()  # nobody acts: the incident is over, its claims are due
    second = Played(engine, store)
    second.play(120)
    after = counts()

    assert second.contracts == first.contracts
    assert second.localnet.actors is not None
    assert (second.localnet.actors.errors, second.chain.rejected) == (0, 0)
    for name in ("PolicyExpired", "WithdrawalMade", "DepositMade", "WithdrawalRequested", "PayoutExecuted"):
        assert after[name] > before[name], name
    assert second.market.vault().claims_due == 0
    assert failures_of(second, second.contracts.vault) == failed
    expect_headroom(second)
    store.close()


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
