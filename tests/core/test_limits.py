"""Limits as one list: what is shown as room fits, and one nano more does not; nothing overflows and nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.limits import (
    Capacity,
    InForce,
    Rules,
    TrancheRoom,
    coverage_cap_nano,
    most_within,
    policy_capacity,
    read_rules,
    split_cover,
    tranche_capacity,
)
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.core.units import BIGINT_MAX

TON = 10**9
RULES = read_rules(DEFAULT_PARAMS)
any_nano = st.one_of(st.integers(0, 2000), st.integers(0, BIGINT_MAX), st.sampled_from([BIGINT_MAX, BIGINT_MAX - 1]))


@st.composite
def tranche_rooms(draw: st.DrawFn, tranche_id: str = "SURE-BTC") -> TrancheRoom:
    """Any state of a tranche, also one that is far beyond its limits."""
    held = draw(any_nano)
    return TrancheRoom(
        tranche_id=tranche_id,
        capital_nano=draw(any_nano),
        coverage_nano=draw(st.one_of(st.just(0), any_nano)),
        held_nano=held,
        own_nano=draw(st.integers(0, held)),
    )


@st.composite
def vaults(draw: st.DrawFn) -> list[TrancheRoom]:
    """Six tranches that have some room, most of the time."""
    rooms = []
    for tranche_id in TRANCHE_IDS:
        capital = draw(st.one_of(st.integers(0, 3000), st.integers(0, BIGINT_MAX)))
        coverage = draw(st.integers(0, capital))
        rooms.append(TrancheRoom(tranche_id=tranche_id, capital_nano=capital, coverage_nano=coverage // 2))
    return rooms


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """Any allocation and limits."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=5, max_size=5)))
    allocation = tuple(high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True))
    return Rules(
        max_utilization=draw(st.floats(0.1, 1.0)),
        min_collateralization=draw(st.none() | st.floats(1.0, 10.0)),
        max_policy_percent=draw(st.integers(1, 100)),
        product_cap=RULES.product_cap,
        chain_cap=RULES.chain_cap,
        reservation_share=draw(st.floats(0.0001, 1.0)),
        allocation=allocation,
    )


def fits_everywhere(amount: int, rooms: list[TrancheRoom], rules: Rules) -> bool:
    """By hand: every part beside the cover within its tranche, and the whole within the policy limit."""
    for part, room in zip(split_cover(amount, rules), rooms, strict=True):
        if part == 0:
            continue
        if room.coverage_nano + part > coverage_cap_nano(room.capital_nano, rules.max_utilization):
            return False
        factor = rules.min_collateralization
        if factor is not None and (room.coverage_nano + part) * round(factor * 10**6) > room.capital_nano * 10**6:
            return False
    return amount * 100 <= sum(room.capital_nano for room in rooms) * rules.max_policy_percent


@given(vaults(), rules())
def test_the_largest_policy_fits_every_tranche_and_one_nano_more_does_not(
    rooms: list[TrancheRoom], rules: Rules
) -> None:
    room = policy_capacity(rooms, rules)
    most = room.available_nano
    for amount in {0, most, most - 1, most // 2, most // 3} - {-1}:
        assert fits_everywhere(amount, rooms, rules)
    assert most == BIGINT_MAX or not fits_everywhere(most + 1, rooms, rules)


@given(vaults())
def test_every_policy_up_to_the_capacity_fits(rooms: list[TrancheRoom]) -> None:
    most = policy_capacity(rooms, RULES).available_nano
    for amount in range(max(0, most - 250), most + 1):
        assert fits_everywhere(amount, rooms, RULES)


@given(st.integers(0, 400), st.integers(0, 100), st.integers(0, 100))
def test_the_policy_that_uses_up_a_part_is_found_as_by_trying_all(part: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    found = most_within(part, low, high)
    if low == high:
        assert found == BIGINT_MAX
        return
    first = next(a for a in range(100 * (part + 2)) if a * high // 100 - a * low // 100 > part)
    assert found == first - 1


@given(st.lists(tranche_rooms(), min_size=6, max_size=6), rules(), st.booleans(), any_nano, any_nano)
def test_no_state_raises_or_gives_room_below_zero(
    rooms: list[TrancheRoom], rules: Rules, reserving: bool, product: int, chain: int
) -> None:
    named = [TrancheRoom(tranche_id=name, capital_nano=room.capital_nano, coverage_nano=room.coverage_nano,
                         held_nano=room.held_nano, own_nano=room.own_nano)
             for name, room in zip(TRANCHE_IDS, rooms, strict=True)]  # fmt: skip
    in_force = InForce(product, chain)
    for room in (
        policy_capacity(named, rules, in_force=in_force, reserving=reserving),
        tranche_capacity(named[0], rules),
    ):
        check_shape(room)
        assert 0 <= room.available_nano <= BIGINT_MAX


def check_shape(room: Capacity) -> None:
    """The binding limit is the first of those with the least head-room."""
    least = min(limit.headroom_nano for limit in room.limits)
    first = next(limit for limit in room.limits if limit.headroom_nano == least)
    assert (room.available_nano, room.binding_limit, room.binding_tranche) == (least, first.name, first.tranche_id)


@given(tranche_rooms())
def test_zero_capital_is_zero_capacity_whatever_else_is_there(room: TrancheRoom) -> None:
    empty = TrancheRoom(tranche_id="SURE-BTC", coverage_nano=room.coverage_nano, held_nano=room.held_nano)
    assert tranche_capacity(empty, RULES, reserving=True).available_nano == 0
    assert policy_capacity([empty], RULES).available_nano == 0
    assert policy_capacity([], RULES).available_nano == 0


def test_at_the_largest_amount_of_the_database_nothing_overflows() -> None:
    full = TrancheRoom(tranche_id="SURE-BTC", capital_nano=BIGINT_MAX)
    assert tranche_capacity(full, RULES).available_nano == BIGINT_MAX * 95 // 100
    # 97.1 M TON: from here on coverage * 100 leaves 64 bits
    trap = TrancheRoom(tranche_id="SURE-BTC", capital_nano=98_000_000 * TON, coverage_nano=93_099_999 * TON)
    assert tranche_capacity(trap, RULES).available_nano == TON
    six = [TrancheRoom(tranche_id=name, capital_nano=BIGINT_MAX) for name in TRANCHE_IDS]
    room = policy_capacity(six, RULES, in_force=InForce(0, 0), reserving=True)
    assert (room.binding_limit, room.available_nano) == (
        "reservation_share",
        most_within(BIGINT_MAX * 95 // 2000, 0, 25),
    )


def test_what_is_held_takes_room_and_a_caller_has_a_share_of_what_the_others_leave() -> None:
    room = TrancheRoom(tranche_id="SURE-BTC", capital_nano=1000 * TON, coverage_nano=500 * TON, held_nano=50 * TON)
    assert tranche_capacity(room, RULES).available_nano == 400 * TON
    own = TrancheRoom(
        tranche_id="SURE-BTC", capital_nano=1000 * TON, coverage_nano=500 * TON, held_nano=60 * TON, own_nano=10 * TON
    )
    reserving = tranche_capacity(own, RULES, reserving=True)
    assert (reserving.binding_limit, reserving.available_nano) == ("reservation_share", 20 * TON - 10 * TON)


@pytest.mark.parametrize(
    ("in_force", "binding", "available"),
    [
        (None, "max_policy_percent", 300),
        (InForce(1_400 * TON, 1_400 * TON), "product_cap", 100),
        (InForce(1_600 * TON, 1_600 * TON), "product_cap", 0),
        (InForce(0, 3_599 * TON), "chain_cap", 1),
    ],
)
def test_the_caps_of_product_and_chain_count_what_is_in_force(
    in_force: InForce | None, binding: str, available: int
) -> None:
    six = [TrancheRoom(tranche_id=name, capital_nano=1000 * TON) for name in TRANCHE_IDS]
    room = policy_capacity(six, RULES, in_force=in_force)
    assert (room.binding_limit, room.available_nano) == (binding, available * TON)


def test_collateralisation_is_a_limit_only_when_enforced() -> None:
    room = TrancheRoom(tranche_id="SURE-BTC", capital_nano=1100 * TON)
    assert [limit.name for limit in tranche_capacity(room, read_rules(DEFAULT_PARAMS)).limits] == ["max_utilization"]
    enforced = read_rules(build_params({("risk", "enforce_min_collateralization"): True}, version=2))
    found = tranche_capacity(room, enforced)
    assert (found.binding_limit, found.available_nano) == ("min_collateralization", 1000 * TON)


def test_the_rules_are_those_of_the_parameters() -> None:
    assert read_rules(DEFAULT_PARAMS) == RULES
    changed = read_rules(
        build_params({("risk", "product_cap"): 0.1, ("risk", "reservation_max_share"): 0.2}, version=2)
    )
    assert (changed.product_cap, changed.reservation_share) == (0.1, 0.2)
