"""What the actors know: the contracts as getters show them, and what is under way and does not show yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from pytoniq_core.boc.address import Address

from tonsurance.core.capacity import coverage_cap_nano
from tonsurance.core.catalog import TRANCHES
from tonsurance.core.errors import GetMethodFailed
from tonsurance.core.params import Thresholds
from tonsurance.core.waterfall import split
from tonsurance.localnet.cells import address_from
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import Contracts

HEADROOM = 0.20
"""The part of what the contracts would allow that actors leave to others."""
ACTOR_LIMIT = Thresholds().max_utilization * (1 - HEADROOM)
BLOCKS_UNDER_WAY = 5
"""Blocks until an order shows in the vault: wallet, factory, vault, and two to spare."""
_UNKNOWN_POLICY = 150
_TRANCHE_COUNT = len(TRANCHES)


class TrancheView(msgspec.Struct, frozen=True, kw_only=True):
    """A tranche as the vault stores it, in nanoTON; `number` is 1 (senior) to 6."""

    number: int
    capital: int
    coverage: int
    shares: int


class Holding(msgspec.Struct, frozen=True):
    """What one owner has in one tranche. The last three are 0 when no withdrawal is announced."""

    shares: int
    requested: int
    available_at: int
    expires_at: int


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that is not ended. `tried_at` is when the vault was asked last; times in unix seconds."""

    state: int
    premium: int
    end: int
    tried_at: int


class UnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """What one order will change in the vault, senior to junior; counted until a block by which it must show."""

    until_seqno: int
    coverage: tuple[int, ...]
    withdrawn: tuple[int, ...]


class Market:
    """The two contracts, seen from outside."""

    def __init__(self, chain: LocalChain, contracts: Contracts) -> None:
        self.chain = chain
        self.contracts = contracts
        self._under_way: list[UnderWay] = []

    def tranches(self) -> list[TrancheView]:
        """The six tranches after the last block."""
        (rows,) = self._call(self.contracts.vault, "get_all_tranches")
        return [
            TrancheView(number=number, capital=capital, coverage=coverage, shares=shares)
            for number, capital, coverage, _, _, _, shares in rows
        ]

    def holding(self, owner: str, number: int) -> Holding:
        """One owner's shares in one tranche."""
        return Holding(*self._call(self.contracts.vault, "get_shares", [address_from(owner), number]))

    def next_policy_id(self) -> int:
        """The id the next policy will get; all before it were given."""
        (next_id,) = self._call(self.contracts.factory, "get_next_policy_id")
        return int(next_id)

    def policy(self, policy_id: int) -> PolicyView | None:
        """A policy; None when it is over or was refused."""
        result = self.chain.get_method(self.contracts.factory, "get_policy", [policy_id])
        if result.exit_code == _UNKNOWN_POLICY:
            return None
        if not result.succeeded:
            raise GetMethodFailed(f"get_policy({policy_id}) ended with {result.exit_code}.")
        stack = result.stack
        return PolicyView(state=stack[0], premium=stack[7], end=stack[9], tried_at=stack[14])

    def _call(self, address: str, method: str, args: Sequence[int | Address] = ()) -> list[Any]:
        result = self.chain.get_method(address, method, args)
        if not result.succeeded:
            raise GetMethodFailed(f"{method} ended with {result.exit_code}.")
        return result.stack

    # --- what is under way

    def note_cover(self, coverage: int) -> None:
        """A policy was ordered."""
        self._note(split_cover(coverage), (0,) * _TRANCHE_COUNT)

    def note_withdrawal(self, number: int, amount: int) -> None:
        """A withdrawal was ordered."""
        withdrawn = tuple(amount if tranche == number else 0 for tranche in range(1, _TRANCHE_COUNT + 1))
        self._note((0,) * _TRANCHE_COUNT, withdrawn)

    def _note(self, coverage: tuple[int, ...], withdrawn: tuple[int, ...]) -> None:
        until = self.chain.head.seqno + BLOCKS_UNDER_WAY
        self._under_way.append(UnderWay(until_seqno=until, coverage=coverage, withdrawn=withdrawn))

    def expected(self) -> list[TrancheView]:
        """The tranches as if every order under way that makes them fuller had been carried out."""
        self._under_way = [order for order in self._under_way if order.until_seqno > self.chain.head.seqno]
        return [
            msgspec.structs.replace(
                view,
                capital=view.capital - sum(order.withdrawn[index] for order in self._under_way),
                coverage=view.coverage + sum(order.coverage[index] for order in self._under_way),
            )
            for index, view in enumerate(self.tranches())
        ]


def split_cover(coverage: int) -> tuple[int, ...]:
    """How the vault divides cover over the tranches."""
    return split(coverage, (tranche.allocation_percent for tranche in TRANCHES))


def has_room(tranche: TrancheView, *, coverage: int = 0, withdrawn: int = 0) -> bool:
    """Whether a tranche stays within what actors use when it takes this cover or gives this capital back."""
    return tranche.coverage + coverage <= coverage_cap_nano(tranche.capital - withdrawn, ACTOR_LIMIT)


def fullest(tranches: Sequence[TrancheView], cover: Sequence[int]) -> float:
    """The highest utilisation of the tranches once they take this cover; 1.0 while one has no capital."""
    return max(
        (view.coverage + part) / view.capital if view.capital > 0 else 1.0
        for view, part in zip(tranches, cover, strict=True)
    )
