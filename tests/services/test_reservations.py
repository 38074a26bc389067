"""Reservations against a real PostgreSQL: identities, limits, commit, release, expiry, bump."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from db.chain_story import TON
from services.reserving import Desk, open_book, open_desk, quote_of
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import (
    CapacityExceeded,
    IdempotencyConflict,
    InputError,
    ReservationEnded,
    TonsuranceError,
    UnknownReservation,
    UnknownTranche,
    UnknownVault,
)
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.reservations import ANONYMOUS, Outcome, ReservationStatus, ReserveRequest
from tonsurance.core.sale_errors import QuoteNeeded, QuoteUsed
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.direct import DirectUpdate, Part, create_direct_vault, post_direct
from tonsurance.db.pool import connect
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.reservations import Reservations, Settled


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    async with open_desk(database) as desk:
        await desk.chain.fill()
        yield desk


async def refused(desk: Desk, error: type[TonsuranceError], amount: int, **other: object) -> TonsuranceError:
    """The error that a request ends with."""
    with pytest.raises(error) as caught:
        await desk.reserve(amount, **other)
    return caught.value


# --- reserve


async def test_a_policy_is_held_in_all_six_tranches_and_one_tranche_in_itself(desk: Desk) -> None:
    policy = await desk.reserve(100 * TON)
    assert policy.split == (25 * TON, 20 * TON, 18 * TON, 15 * TON, 12 * TON, 10 * TON)
    assert (policy.status, policy.expires_at - policy.created_at) == ("pending", timedelta(seconds=60))
    single = await desk.reserve(850 * TON, tranche_id="SURE_JNR_PLUS")
    assert (single.tranche_id, single.split) == ("SURE-JNR+", (0, 0, 0, 0, 850 * TON, 0))
    error = await refused(desk, CapacityExceeded, 89 * TON, tranche_id="SURE-JNR+")
    assert error.capacity.available_nano == 950 * TON - 850 * TON - 12 * TON
    assert (error.capacity.binding_limit, error.capacity.binding_tranche) == ("max_utilization", "SURE-JNR+")


async def test_the_documented_updates_as_reservations(database: str) -> None:
    async with open_desk(database) as desk:
        await desk.chain.fill(1000, 800)
        await desk.reserve(100 * TON, tranche_id="SURE-SNR")
        assert (
            await refused(desk, CapacityExceeded, 200 * TON, tranche_id="SURE-SNR")
        ).capacity.available_nano == 50 * TON


async def test_a_key_gets_the_first_answer_again_also_after_the_end(desk: Desk) -> None:
    who = {"principal": "ada", "idempotency_key": "one"}
    first = await desk.reserve(TON, **who)
    assert await desk.reserve(TON, **who) == first
    await desk.reservations.release(first.reservation_id)
    outcome = await desk.reservations.reserve_coverage("main", None, TON, 60, "one", "ada")
    assert (outcome.replayed, outcome.reservation) == (True, first)
    assert len(await desk.statuses()) == 1


async def test_a_thousand_times_one_key_is_one_reservation(desk: Desk) -> None:
    who = {"principal": "ada", "idempotency_key": "one"}
    made = await asyncio.gather(*(desk.reserve(TON, **who) for _ in range(1000)))
    assert len({one.reservation_id for one in made}) == 1
    assert len(await desk.statuses()) == 1


@pytest.mark.parametrize(
    "other", [{"ttl_s": 61}, {"quote_id": 7}, {"tranche_id": "SURE-BTC"}, {"amount": 2 * TON}, {"vault": "other"}]
)
async def test_a_key_used_for_another_request_is_a_conflict_and_changes_nothing(desk: Desk, other: dict) -> None:
    await desk.reservations.reserve_coverage("main", None, TON, 60, "one", "ada")
    asked = {"vault": "main", "tranche_id": None, "amount": TON, "ttl_s": 60, "quote_id": None} | other
    with pytest.raises(IdempotencyConflict):
        await desk.reservations.reserve_coverage(
            asked["vault"], asked["tranche_id"], asked["amount"], asked["ttl_s"], "one", "ada", asked["quote_id"]
        )
    assert len(await desk.statuses()) == 1


async def test_keys_are_each_principals_and_routes_own(desk: Desk) -> None:
    made = [
        await desk.reserve(TON, principal=principal, idempotency_key="one", route=route)
        for principal in ("ada", "bob")
        for route in ("reservations", "elsewhere")
    ]
    assert len({one.reservation_id for one in made}) == 4


async def test_a_refusal_is_not_remembered(desk: Desk) -> None:
    who = {"principal": "ada", "idempotency_key": "one", "tranche_id": "SURE-EQT"}
    full = await desk.reserve(950 * TON, tranche_id="SURE-EQT")
    await refused(desk, CapacityExceeded, 1, **who)
    await desk.reservations.release(full.reservation_id)
    assert (await desk.reserve(1, **who)).status == "pending"


@pytest.mark.parametrize(
    ("error", "bad"),
    [
        (InputError, {"amount": 0}),
        (InputError, {"amount": -1}),
        (InputError, {"amount": BIGINT_MAX + 1}),
        (InputError, {"ttl_s": 0}),
        (InputError, {"ttl_s": 301}),
        (InputError, {"idempotency_key": ""}),
        (InputError, {"idempotency_key": "a b"}),
        (InputError, {"idempotency_key": "x" * 256}),
        (InputError, {"amount": 1.5}),
        (InputError, {"amount": True}),
        (InputError, {"amount": None}),
        (InputError, {"amount": "1"}),
        (InputError, {"amount": float("nan")}),
        (InputError, {"ttl_s": True}),
        (InputError, {"ttl_s": 1.5}),
        (InputError, {"ttl_s": None}),
        (InputError, {"ttl_s": "60"}),
        (InputError, {"idempotency_key": None}),
        (InputError, {"idempotency_key": 5}),
        (InputError, {"principal": "x" * 101}),
        (InputError, {"principal": ""}),
        (InputError, {"principal": None}),
        (InputError, {"principal": "a\0b"}),
        (InputError, {"route": "x" * 101}),
        (InputError, {"quote_id": True}),
        (InputError, {"quote_id": 1.5}),
        (InputError, {"quote_id": "5"}),
        (InputError, {"quote_id": float("nan")}),
        (InputError, {"tranche_id": 5}),
        (InputError, {"tranche_id": ["SURE-BTC"]}),
        (UnknownTranche, {"tranche_id": ""}),
        (InputError, {"quote_id": -1}),
        (InputError, {"quote_id": 2**64}),
        (UnknownTranche, {"tranche_id": "SURE-XXX"}),
        (CapacityExceeded, {"amount": BIGINT_MAX}),
    ],
)
async def test_bad_input_is_refused_and_changes_nothing(desk: Desk, error: type[TonsuranceError], bad: dict) -> None:
    amount = bad.pop("amount", TON)
    await refused(desk, error, amount, **bad)
    assert await desk.statuses() == {}


async def test_an_unknown_vault_has_no_room(desk: Desk) -> None:
    for name in ("nowhere", "a\0b", "", "UPPER", "x" * 65, "main\n", None, 5):
        with pytest.raises(UnknownVault):
            await desk.reservations.reserve_coverage(name, None, TON, 60, "one", "ada")
    for no_id in (None, 5, ""):
        with pytest.raises(UnknownReservation):
            await desk.reservations.commit(no_id)
    made = await desk.reserve(TON)
    for no_quote in (True, 1.5, "5", -1):
        with pytest.raises(InputError, match="quote_id"):
            await desk.reservations.commit(made.reservation_id, quote_id=no_quote)


async def test_one_caller_holds_at_most_its_share_and_others_are_not_touched(database: str) -> None:
    async with open_desk(database, params=DEFAULT_PARAMS) as desk:
        await desk.chain.fill()
        share = 950 * TON * 5 // 100
        ada = {"principal": "ada", "tranche_id": "SURE-BTC"}
        await desk.reserve(share - 1, **ada, idempotency_key="a")
        error = await refused(desk, CapacityExceeded, 2, **ada, idempotency_key="b")
        assert (error.capacity.binding_limit, error.capacity.available_nano) == ("reservation_share", 1)
        await desk.reserve(1, **ada, idempotency_key="c")
        await desk.reserve((950 * TON - share) * 5 // 100, principal="bob", tranche_id="SURE-BTC")


async def test_without_a_token_each_key_has_a_share_of_its_own(database: str) -> None:
    async with open_desk(database, params=DEFAULT_PARAMS) as desk:
        await desk.chain.fill()
        for _ in range(3):
            await desk.reserve(40 * TON, principal=ANONYMOUS, tranche_id="SURE-BTC")
        await refused(desk, CapacityExceeded, 48 * TON, principal=ANONYMOUS, tranche_id="SURE-BTC")


# --- commit and release


async def test_commit_needs_the_quote_by_which_the_policy_is_known(desk: Desk) -> None:
    made = await desk.reserve(TON)
    with pytest.raises(QuoteNeeded, match="quote_id"):
        await desk.reservations.commit(made.reservation_id)
    outcome = await desk.reservations.commit(made.reservation_id, quote_id=7)
    assert (outcome.reservation.status, outcome.reservation.quote_id) == ("committed", 7)
    assert outcome.reservation.expires_at == made.expires_at + timedelta(seconds=120)
    again = await desk.reservations.commit(made.reservation_id, quote_id=7)
    assert (again.replayed, again.reservation) == (True, outcome.reservation)
    with pytest.raises(IdempotencyConflict):
        await desk.reservations.commit(made.reservation_id, quote_id=8)
    with pytest.raises(ReservationEnded, match="committed"):
        await desk.reservations.release(made.reservation_id)


async def test_release_gives_the_room_back_once(desk: Desk) -> None:
    made = await desk.reserve(950 * TON, tranche_id="SURE-EQT")
    first = await desk.reservations.release(made.reservation_id)
    again = await desk.reservations.release(made.reservation_id)
    assert (first.replayed, again.replayed, again.reservation) == (False, True, first.reservation)
    with pytest.raises(ReservationEnded, match="released"):
        await desk.reservations.commit(made.reservation_id, quote_id=7)
    await desk.reserve(950 * TON, tranche_id="SURE-EQT")
    assert all(excess <= 0 for excess in (await desk.excess()).values())


async def test_a_reservation_is_its_principals_alone(desk: Desk) -> None:
    made = await desk.reserve(TON, principal="ada")
    for call in (desk.reservations.get, desk.reservations.commit, desk.reservations.release):
        with pytest.raises(UnknownReservation):
            await call(made.reservation_id, principal="bob")
        with pytest.raises(UnknownReservation):
            await call("no id at all")
    assert await desk.reservations.get(made.reservation_id, principal="ada") == made
    assert await desk.reservations.list("main") == (made,)


async def test_the_room_is_counted_once_from_the_commit_in_which_the_policy_is_known(desk: Desk) -> None:
    policy_id = desk.chain.next_policy()
    made = await desk.reserve(100 * TON, quote_id=quote_of(policy_id))
    before = await room_of(desk)
    await desk.chain.tell_cover(policy_id, 100 * TON)
    assert await room_of(desk) == [room - part for room, part in zip(before, made.split, strict=True)]
    await desk.chain.tell_policy(policy_id, 100 * TON)
    assert await room_of(desk) == before
    assert (await desk.reservations.get(made.reservation_id)).status == "committed"
    assert await desk.statuses() == {made.reservation_id: "pending"}  # nobody has marked it yet
    assert await desk.reservations.settle() == Settled(committed=1)
    assert await desk.statuses() == {made.reservation_id: "committed"}
    assert await room_of(desk) == before


async def test_a_policy_known_before_its_cover_still_holds_its_room(desk: Desk) -> None:
    policy_id = desk.chain.next_policy()
    await desk.reserve(100 * TON, quote_id=quote_of(policy_id))
    before = await room_of(desk)
    await desk.chain.tell_policy(policy_id, 100 * TON)
    assert await room_of(desk) == before
    await desk.chain.tell_cover(policy_id, 100 * TON)
    assert await room_of(desk) == before


async def room_of(desk: Desk) -> list[int]:
    """What each tranche can still take, as a refusal tells."""
    rooms = []
    for tranche_id in TRANCHE_IDS:
        error = await refused(desk, CapacityExceeded, BIGINT_MAX, tranche_id=tranche_id)
        rooms.append(error.capacity.limits[0].headroom_nano)
    return rooms


async def test_commit_on_a_direct_vault_is_cover_at_once_and_only_once(database: str) -> None:
    conn = await connect(database)
    await create_direct_vault(conn, "book")
    parts = tuple(Part(tranche_id, capital=1000 * TON) for tranche_id in TRANCHE_IDS)
    await post_direct(
        conn, [DirectUpdate(principal="a", route="r", key="k", vault_id="book", parts=parts)], DEFAULT_PARAMS
    )
    pool = LazyPool(database)
    reservations = Reservations(pool, lambda: DEFAULT_PARAMS)
    made = (await reservations.reserve_coverage("book", None, 100 * TON, 60, "one", "ada")).reservation
    first, again = [await reservations.commit(made.reservation_id) for _ in range(2)]
    assert (first.reservation.status, first.reservation.seen_lt, first.replayed) == ("committed", 2, False)
    assert (again.reservation, again.replayed) == (first.reservation, True)
    rows = await conn.fetch("SELECT tranche_id, coverage_sold_nanoton FROM tranche_utilization")
    assert {row[0]: row[1] for row in rows} == dict(zip(TRANCHE_IDS, made.split, strict=True))
    await reservations.close()
    await pool.close()
    await conn.close()


async def test_a_commit_on_a_direct_vault_never_sells_past_a_limit_of_that_moment(database: str) -> None:
    async with open_book(database) as book:
        made = await book.reserve(40 * TON)
        await book.move("update_capital", Part("SURE-SNR", capital=-990 * TON))
        with pytest.raises(ReservationEnded, match="bumped"):
            await book.reservations.commit(made.reservation_id)
        assert await book.totals() == (10 * TON, 0)
        shown = await book.reservations.get(made.reservation_id)
        assert (shown.status, shown.holds_room, shown.ended_at is not None) == ("bumped", False, True)
        with pytest.raises(ReservationEnded, match="bumped"):
            await book.reservations.commit(made.reservation_id)
        other = await book.reserve(40 * TON, tranche_id="SURE-BTC")
        await book.move("update_coverage", Part("SURE-BTC", coverage=940 * TON))
        with pytest.raises(ReservationEnded, match="bumped"):
            await book.reservations.commit(other.reservation_id)
        assert await book.totals("SURE-BTC") == (1000 * TON, 940 * TON)


async def test_where_room_was_taken_the_oldest_can_still_be_committed_and_the_youngest_not(database: str) -> None:
    async with open_book(database) as book:
        made = [await book.reserve(200 * TON) for _ in range(4)]
        elsewhere = await book.reserve(TON, tranche_id="SURE-EQT")
        await book.move("update_capital", Part("SURE-SNR", capital=-500 * TON))
        outcomes = await asyncio.gather(
            *(book.reservations.commit(one.reservation_id) for one in [*reversed(made), elsewhere]),
            return_exceptions=True,
        )
        ended = [isinstance(outcome, ReservationEnded) for outcome in outcomes]
        assert ended == [True, True, False, False, False]
        assert await book.totals() == (500 * TON, 400 * TON)
        assert await book.sold_past_a_limit() == []


async def test_a_policy_larger_than_the_capital_permits_by_now_is_not_sold_on_a_direct_vault(database: str) -> None:
    async with open_book(database) as book:
        made = await book.reserve(300 * TON, tranche_id=None)  # 5 % of 6,000 TON
        await book.move("update_capital", Part("SURE-EQT", capital=-TON))
        with pytest.raises(ReservationEnded, match="bumped"):
            await book.reservations.commit(made.reservation_id)
        assert await book.totals() == (1000 * TON, 0)


async def test_a_quote_that_was_bought_already_cannot_be_reserved_for(desk: Desk) -> None:
    policy_id = desk.chain.next_policy()
    quote = quote_of(policy_id)
    before = await desk.reserve(TON, quote_id=quote, principal="ada", idempotency_key="one")
    await desk.chain.tell_policy(policy_id, TON)
    await refused(desk, QuoteUsed, TON, quote_id=quote)
    await desk.chain.tell_cover(policy_id, TON)
    await refused(desk, QuoteUsed, TON, quote_id=quote)
    assert len(await desk.statuses()) == 1
    again = await desk.reservations.reserve_coverage("main", None, TON, 60, "one", "ada", quote)
    assert (again.replayed, again.reservation) == (True, before)  # asked before it was bought


# --- together


class Poison(Reservations):
    """Takes what the checks refuse, as a check that was forgotten would."""

    async def reserve(self, request: ReserveRequest) -> Outcome:
        """Unchecked."""
        return await self._submit(request)


async def test_what_only_the_database_refuses_is_one_callers_error_and_nobody_elses(desk: Desk) -> None:
    pool = LazyPool(desk.dsn)
    reservations = Poison(pool, lambda: DEFAULT_PARAMS)
    good = {"vault_id": "main", "tranche_id": None, "amount_nano": TON, "ttl_s": 60}
    requests = [
        ReserveRequest(
            **(good | {"vault_id": "a\0b"} if i % 10 == 5 else good), idempotency_key=f"k{i}", principal=name
        )
        for i in range(60)
        for name in [f"p{i}" if i != 33 else "x" * 101]
    ]
    answers = await asyncio.gather(*map(reservations.reserve, requests), return_exceptions=True)
    bad = {i for i, answer in enumerate(answers) if isinstance(answer, Exception)}
    assert bad == {5, 15, 25, 33, 35, 45, 55}
    assert {(type(answers[i]), str(answers[i])) for i in bad} == {
        (InputError, "The request cannot be stored: the database refuses one of its values.")
    }
    assert len(await desk.statuses()) == 53
    await reservations.close()
    await pool.close()


# --- time and chain


async def test_what_is_late_holds_nothing_before_anybody_has_marked_it_and_never_comes_back(desk: Desk) -> None:
    late = await desk.reserve(950 * TON, tranche_id="SURE-EQT", quote_id=7)
    await desk.make_late(late.reservation_id)
    assert (await desk.reservations.get(late.reservation_id)).status == "expired"
    await desk.reserve(950 * TON, tranche_id="SURE-EQT")
    with pytest.raises(ReservationEnded, match="expired"):
        await desk.reservations.commit(late.reservation_id)
    with pytest.raises(ReservationEnded, match="expired"):
        await desk.reservations.release(late.reservation_id)


async def test_the_keeper_marks_what_is_late_also_after_a_commit(desk: Desk) -> None:
    pending, committed = await desk.reserve(TON), await desk.reserve(TON)
    await desk.reservations.commit(committed.reservation_id, quote_id=7)
    await desk.make_late(pending.reservation_id, committed.reservation_id)
    assert await desk.reservations.settle() == Settled(expired=2)
    assert set((await desk.statuses()).values()) == {"expired"}
    assert await desk.reservations.settle() == Settled()


async def test_withdrawals_bump_the_youngest_until_the_rest_fits(desk: Desk) -> None:
    made = [await desk.reserve(200 * TON, tranche_id="SURE-MEZZ") for _ in range(4)]
    elsewhere = await desk.reserve(TON, tranche_id="SURE-BTC")
    await desk.chain.withdraw(3, 500 * TON)
    assert (await desk.excess())["SURE-MEZZ"] == 325 * TON
    assert await desk.reservations.settle() == Settled(bumped=2)
    statuses = await desk.statuses()
    assert [statuses[one.reservation_id] for one in made] == ["pending", "pending", "bumped", "bumped"]
    assert statuses[elsewhere.reservation_id] == "pending"
    assert (await desk.excess())["SURE-MEZZ"] <= 0
    with pytest.raises(ReservationEnded, match="bumped"):
        await desk.reservations.commit(made[3].reservation_id, quote_id=7)


async def test_cover_that_only_the_vault_has_told_of_bumps_nobody_yet(database: str) -> None:
    async with open_desk(database, patience_s=60.0) as desk:
        await desk.chain.fill(100)
        policy_id = desk.chain.next_policy()
        await desk.reserve(29 * TON, quote_id=quote_of(policy_id))
        other = await desk.reserve(87 * TON, tranche_id="SURE-BTC")
        await desk.chain.tell_cover(policy_id, 29 * TON)  # now counted twice
        assert await desk.reservations.settle() == Settled()
        await desk.chain.tell_policy(policy_id, 29 * TON)
        assert await desk.reservations.settle() == Settled(committed=1)
        assert (await desk.statuses())[other.reservation_id] == "pending"


async def test_what_has_ended_cannot_be_changed_even_by_hand(desk: Desk) -> None:
    made = await desk.reserve(TON)
    await desk.reservations.release(made.reservation_id)
    with pytest.raises(Exception, match="is released and stays so"):
        await desk.fetch("UPDATE capacity_reservations SET status = 'pending', ended_at = NULL")


async def test_changes_are_told_so_that_figures_are_read_again(desk: Desk) -> None:
    before = len(desk.changes)
    made = await desk.reserve(TON)
    await desk.reservations.release(made.reservation_id)
    assert len(desk.changes) == before + 2


def test_statuses_are_those_of_the_table() -> None:
    assert [status.value for status in ReservationStatus] == ["pending", "committed", "released", "expired", "bumped"]
