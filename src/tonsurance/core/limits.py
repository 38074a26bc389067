"""All hard limits on new cover as one list: the room each leaves, and the one that binds.

Nothing here raises: an amount out of any bounds is simply without room. Amounts are integers of nanoTON, and limits
as ratios are taken to six decimals, so nothing is rounded twice. Source of the numbers: docs/formulas.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate, pairwise

import msgspec

from tonsurance.core.capacity import Capacity, Limit
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.params import Params
from tonsurance.core.units import BIGINT_MAX, PARTS_PER_MILLION, WHOLE_PERCENT
from tonsurance.core.waterfall import split

MAX_UTILIZATION = "max_utilization"
MIN_COLLATERALIZATION = "min_collateralization"
MAX_POLICY_PERCENT = "max_policy_percent"
PRODUCT_CAP = "product_cap"
CHAIN_CAP = "chain_cap"
RESERVATION_SHARE = "reservation_share"

_VERSIONS_KEPT = 16
_EDGES_KEPT = 128


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one version of the parameters. `min_collateralization` is None while it only alerts;
    `allocation` is each tranche's part of a policy in percent, senior to junior."""

    max_utilization: float
    min_collateralization: float | None
    max_policy_percent: int
    product_cap: float
    chain_cap: float
    reservation_share: float
    allocation: tuple[int, ...]


class TrancheRoom(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in one tranche: capital, cover sold, what all open reservations hold, and what those of the caller
    hold (a part of `held_nano`)."""

    tranche_id: str
    capital_nano: int = 0
    coverage_nano: int = 0
    held_nano: int = 0
    own_nano: int = 0


class InForce(msgspec.Struct, frozen=True):
    """Cover of policies in force for one product, and for all products of its chain."""

    product_nano: int
    chain_nano: int


@lru_cache(maxsize=_VERSIONS_KEPT)
def read_rules(params: Params) -> Rules:
    """The limits that hold under these parameters; made once for each version of them."""
    enforced = params.value("risk", "enforce_min_collateralization")
    return Rules(
        max_utilization=params.thresholds.max_utilization,
        min_collateralization=params.thresholds.min_collateralization if enforced else None,
        max_policy_percent=int(_number(params, "max_policy_percent")),
        product_cap=_number(params, "product_cap"),
        chain_cap=_number(params, "chain_cap"),
        reservation_share=_number(params, "reservation_max_share"),
        allocation=tuple(tranche.allocation_percent for tranche in params.tranches),
    )


def _number(params: Params, key: str) -> float:
    value = params.value("risk", key)
    if not isinstance(value, int | float):  # the declaration says so; this is for the type checker
        raise TypeError(f"risk/{key} is not a number.")
    return value


def coverage_cap_nano(capital_nano: int, max_utilization: float) -> int:
    """floor(max_utilization * capital): the most cover a tranche may back."""
    return share_of(capital_nano, max_utilization)


def policy_cap_nano(capital_nano: int, rules: Rules) -> int:
    """The largest policy a vault with this capital may sell."""
    return capital_nano * rules.max_policy_percent // WHOLE_PERCENT


def share_of(amount_nano: int, ratio: float) -> int:
    """floor(ratio * amount) in exact integers; the ratio is taken to six decimals."""
    return amount_nano * round(ratio * PARTS_PER_MILLION) // PARTS_PER_MILLION


def tranche_capacity(room: TrancheRoom, rules: Rules, *, reserving: bool = False) -> Capacity:
    """Room of one tranche; with `reserving` also under the caller's share. Zero capital is zero capacity."""
    return _bind(_tranche_limits(room, rules) + (_share_limits(room, rules) if reserving else []))


def policy_capacity(
    rooms: Iterable[TrancheRoom],
    rules: Rules,
    *,
    in_force: InForce | None = None,
    reserving: bool = False,
) -> Capacity:
    """The largest policy up to which every amount fits: each part in its tranche, and the whole in the vault's limits.

    A tranche that is missing in `rooms` has no capital. With `in_force` the caps of that product and its chain count.
    """
    found = {room.tranche_id: room for room in rooms}
    six = [found.get(tranche_id) or TrancheRoom(tranche_id=tranche_id) for tranche_id in TRANCHE_IDS]
    limits = [limit for part in zip(six, _edges(rules), strict=True) for limit in _policy_limits(*part, rules)]
    capital = sum(room.capital_nano for room in six)
    limits.append(_limit(MAX_POLICY_PERCENT, policy_cap_nano(capital, rules), rules.max_policy_percent / WHOLE_PERCENT))
    if in_force is not None:
        limits += cap_limits(capital, in_force, rules)
    if reserving:
        for room, edges in zip(six, _edges(rules), strict=True):
            limits += [_as_policy(limit, *edges) for limit in _share_limits(room, rules)]
    return _bind(limits)


def cap_limits(capital_nano: int, in_force: InForce, rules: Rules) -> tuple[Limit, Limit]:
    """What the caps of a product and of its chain leave of a vault's capital."""
    product, chain = share_of(capital_nano, rules.product_cap), share_of(capital_nano, rules.chain_cap)
    return (
        _limit(PRODUCT_CAP, product - in_force.product_nano, rules.product_cap),
        _limit(CHAIN_CAP, chain - in_force.chain_nano, rules.chain_cap),
    )


def find_tightest(capacity: Capacity, caps: Iterable[Limit]) -> Limit:
    """The limit that binds when these stand beside those of a capacity: of equal ones the first, as in one list."""
    bound = Limit(capacity.binding_limit, capacity.available_nano, capacity.binding_tranche)
    return min((bound, *caps), key=lambda limit: limit.headroom_nano)


_CAPS = {
    MAX_POLICY_PERCENT: "max_policy_percent",
    PRODUCT_CAP: "product_cap",
    CHAIN_CAP: "chain_cap",
    RESERVATION_SHARE: "reservation_max_share",
}
"""Limits by configuration alone, and their parameters' names."""


def find_tight_caps(rooms: Iterable[TrancheRoom], rules: Rules, least_share: float) -> dict[str, int]:
    """Parameters that leave less than this share of the largest policy the tranches have room for, with nothing held
    and nothing in force, and the policy that each leaves."""
    least: dict[str, int] = {}
    for limit in policy_capacity(rooms, rules, in_force=InForce(0, 0), reserving=True).limits:
        name = _CAPS.get(limit.name, "")
        least[name] = min(limit.headroom_nano, least.get(name, limit.headroom_nano))
    free = least.pop("")
    return {name: most for name, most in least.items() if most < free * least_share}


def split_cover(amount_nano: int, rules: Rules, tranche_id: str | None = None) -> tuple[int, ...]:
    """What each of the six tranches backs of a cover: all of it in one tranche or, with None, a policy's parts."""
    if tranche_id is None:
        return split(amount_nano, rules.allocation)
    return tuple(amount_nano if name == tranche_id else 0 for name in TRANCHE_IDS)


def most_within(part_nano: int, low: int, high: int) -> int:
    """The largest policy such that of every policy up to it at most `part_nano` falls on a tranche.

    The tranche backs what lies between the cumulated percents `low` and `high`. Parts of floors jump by one back and
    forth, so that a larger policy may fit where a smaller one does not: this is the amount below the first that does
    not fit. At most 2^63 - 1, also when the tranche takes no part at all.
    """
    firsts = _first_remainders(low, high)
    most, wanted, percent = len(firsts) - 1, max(0, part_nano) + 1, high - low
    if percent <= 0:
        return BIGINT_MAX
    hundreds = max(0, -((most - wanted) // percent))
    first = WHOLE_PERCENT * hundreds + firsts[max(0, wanted - hundreds * percent)]
    return min(BIGINT_MAX, first - 1)


@lru_cache(maxsize=_EDGES_KEPT)
def _first_remainders(low: int, high: int) -> tuple[int, ...]:
    """The least r of 0..99 of which the tranche backs at least 0, 1, 2, ... nano."""
    parts = [r * high // WHOLE_PERCENT - r * low // WHOLE_PERCENT for r in range(WHOLE_PERCENT)]
    return tuple(next(r for r, part in enumerate(parts) if part >= wanted) for wanted in range(max(parts) + 1))


def _edges(rules: Rules) -> list[tuple[int, int]]:
    return list(pairwise(accumulate(rules.allocation, initial=0)))


def _limit(name: str, headroom_nano: int, ratio: float, tranche_id: str | None = None) -> Limit:
    return Limit(name, max(0, headroom_nano), tranche_id, ratio)


def _tranche_limits(room: TrancheRoom, rules: Rules) -> list[Limit]:
    used, name = room.coverage_nano + room.held_nano, room.tranche_id
    cap = coverage_cap_nano(room.capital_nano, rules.max_utilization)
    limits = [_limit(MAX_UTILIZATION, cap - used, rules.max_utilization, name)]
    if rules.min_collateralization is not None:
        backed = (
            room.capital_nano
            * PARTS_PER_MILLION
            // max(PARTS_PER_MILLION, round(rules.min_collateralization * PARTS_PER_MILLION))
        )
        limits.append(_limit(MIN_COLLATERALIZATION, backed - used, rules.min_collateralization, name))
    return limits


def _share_limits(room: TrancheRoom, rules: Rules) -> list[Limit]:
    """What one caller may hold of the room that all others leave."""
    free = min(limit.headroom_nano for limit in _tranche_limits(_without_own(room), rules))
    share = share_of(free, rules.reservation_share)
    return [_limit(RESERVATION_SHARE, share - room.own_nano, rules.reservation_share, room.tranche_id)]


def _without_own(room: TrancheRoom) -> TrancheRoom:
    return msgspec.structs.replace(room, held_nano=room.held_nano - room.own_nano, own_nano=0)


def _policy_limits(room: TrancheRoom, edges: tuple[int, int], rules: Rules) -> list[Limit]:
    return [_as_policy(limit, *edges) for limit in _tranche_limits(room, rules)]


def _as_policy(limit: Limit, low: int, high: int) -> Limit:
    """A tranche's head-room as the policy that uses it up."""
    return msgspec.structs.replace(limit, headroom_nano=most_within(limit.headroom_nano, low, high))


def _bind(limits: list[Limit]) -> Capacity:
    tightest = min(limits, key=lambda limit: limit.headroom_nano)
    return Capacity(tightest.headroom_nano, tightest.name, tuple(limits), tightest.tranche_id)
