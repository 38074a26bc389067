"""What the actors know: the contracts as getters show them, and what is under way and does not show yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from pytoniq_core.boc.address import Address

from tonsurance.core.catalog import TRANCHES
from tonsurance.core.errors import GetMethodFailed
from tonsurance.core.limits import coverage_cap_nano
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.waterfall import split
from tonsurance.localnet.cells import address_from
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import Contracts
from tonsurance.localnet.incidents import Policy, incident_of

HEADROOM = 0.20
"""The part of what the contracts would allow that actors leave to others."""
ACTOR_LIMIT = DEFAULT_PARAMS.thresholds.max_utilization * (1 - HEADROOM)
BLOCKS_UNDER_WAY = 5
"""Blocks until an order shows in the vault: wallet, factory, vault, and two to spare."""
PENDING, ACTIVE, CLOSING, PAYING, DUE = 1, 2, 3, 4, 5
"""A policy's states at the factory."""
_UNKNOWN_POLICY = 150
_STUCK_SHARES = 100
"""Nobody may join a tranche with more shares than this for each of its nanoTON."""
_TRANCHE_COUNT = len(TRANCHES)


class TrancheView(msgspec.Struct, frozen=True, kw_only=True):
    """A tranche as the vault stores it, in nanoTON; `number` is 1 (senior) to 6."""

    number: int
    capital: int
    coverage: int
    shares: int

    @property
    def is_stuck(self) -> bool:
        """Whether losses left it a price at which the vault takes no deposit, and yet did not use it up."""
        return self.shares > 0 and _STUCK_SHARES * self.capital < self.shares


class Holding(msgspec.Struct, frozen=True):
    """What one owner has in one tranche. The last three are 0 when no withdrawal is announced."""

    shares: int
    requested: int
    available_at: int
    expires_at: int


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that is not ended. `tried_at` is when the vault was asked last, in unix seconds."""

    state: int
    premium: int
    tried_at: int
    policy: Policy

    @property
    def end(self) -> int:
        """When the cover ends, in unix seconds."""
        return self.policy.end


class VaultView(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps the vault from doing what it is asked: a time in unix seconds, and how many claims wait."""

    frozen_until: int
    claims_due: int


class ClaimView(msgspec.Struct, frozen=True):
    """A claim the vault holds back: nanoTON and unix seconds; zeros when it holds none."""

    amount: int
    due_at: int


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
        self._touched: dict[int, int] = {}
        self._seen: tuple[int, list[TrancheView], VaultView] | None = None

    def tranches(self) -> list[TrancheView]:
        """The six tranches after the last block."""
        return self._look()[1]

    def vault(self) -> VaultView:
        """The vault as a whole after the last block."""
        return self._look()[2]

    def is_open(self) -> bool:
        """Whether people trade: not around an incident, and not while the vault refuses them for a claim's sake."""
        seqno = self.chain.head.seqno
        return not incident_of(self.chain.seed, seqno).is_near(seqno) and not self.vault().claims_due

    def _look(self) -> tuple[int, list[TrancheView], VaultView]:
        """Read once per block: everybody wants to know."""
        if self._seen is None or self._seen[0] != self.chain.head.seqno:
            (rows,) = self._call(self.contracts.vault, "get_all_tranches")
            tranches = [
                TrancheView(number=number, capital=capital, coverage=coverage, shares=shares)
                for number, capital, coverage, _, _, _, shares in rows
            ]
            *_, frozen_until, claims_due = self._call(self.contracts.vault, "get_vault_state")
            vault = VaultView(frozen_until=frozen_until, claims_due=claims_due)
            self._seen = self.chain.head.seqno, tranches, vault
        return self._seen

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
        return _read_policy(policy_id, result.stack)

    def claim(self, policy_id: int) -> ClaimView:
        """What the vault holds back for a policy."""
        return ClaimView(*self._call(self.contracts.vault, "get_claim", [policy_id]))

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

    def touch(self, policy_id: int) -> None:
        """Something was ordered about this policy that does not show at once."""
        self._touched[policy_id] = self.chain.head.seqno + BLOCKS_UNDER_WAY

    def is_touched(self, policy_id: int) -> bool:
        """Whether what was ordered about it may still be under way."""
        until = self._touched.get(policy_id)
        if until is not None and until <= self.chain.head.seqno:
            del self._touched[policy_id]
            until = None
        return until is not None

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


def _read_policy(policy_id: int, stack: Sequence[Any]) -> PolicyView:
    state, _, _, coverage_type, chain_id, stablecoin_id, coverage, premium, start, end = stack[:10]
    policy = Policy(
        policy_id=policy_id,
        coverage_type=coverage_type,
        chain_id=chain_id,
        stablecoin_id=stablecoin_id,
        coverage=coverage,
        start=start,
        end=end,
    )
    return PolicyView(state=state, premium=premium, tried_at=stack[14], policy=policy)


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
