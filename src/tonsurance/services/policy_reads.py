"""Policies as the ledger has them, one by one with what happened to them, and in pages."""

from __future__ import annotations

import msgspec

from tonsurance.core.events import FACTORY_KIND
from tonsurance.core.sale_errors import UnknownPolicy
from tonsurance.db.policy_lists import Place, PolicyRow, select_policies, select_policy, select_purchase
from tonsurance.db.transactions import TransactionRow, select_policy_transactions
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import READ_TIMEOUT_S


class PolicyStory(msgspec.Struct, frozen=True):
    """A policy, and what factory and vault did about it, oldest first."""

    policy: PolicyRow
    transactions: tuple[TransactionRow, ...]


class PolicyQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which policies to list, newest first: those of a buyer (raw address) or status, after the last one seen."""

    buyer: str | None = None
    status: str | None = None
    after: Place | None = None
    limit: int = 50


class PolicyReads:
    """Reads policies over a pool; of several factories' policies with one id those of `vault_id` come first."""

    def __init__(self, pool: LazyPool, vault_id: str) -> None:
        self._pool = pool
        self._vault_id = vault_id

    async def find(self, policy_id: int, factory: str | None = None) -> PolicyStory:
        """One policy; `factory` (raw address) where several have one of this id.

        Raises UnknownPolicy, which names the purchase when the vault has not backed it, and DatabaseUnavailable.
        """
        async with self._pool.read(READ_TIMEOUT_S) as conn:
            policy = await select_policy(conn, policy_id, factory, self._vault_id)
            if policy is None:
                purchase = await select_purchase(conn, policy_id, factory, self._vault_id, FACTORY_KIND)
                raise _unknown(policy_id, purchase)
            rows = await select_policy_transactions(
                conn,
                vault_id=policy.vault_id,
                factory=policy.contract_address,
                policy_id=policy_id,
                closed_lt=policy.closed_lt,
            )
        return PolicyStory(policy, tuple(rows))

    async def list(self, query: PolicyQuery) -> tuple[PolicyRow, ...]:
        """One page. Raises DatabaseUnavailable."""
        async with self._pool.read(READ_TIMEOUT_S) as conn:
            rows = await select_policies(
                conn, buyer=query.buyer, status=query.status, after=query.after, limit=query.limit
            )
        return tuple(rows)


def _unknown(policy_id: int, purchase: bytes | None) -> UnknownPolicy:
    if purchase is None:
        return UnknownPolicy(f"There is no policy {policy_id}.")
    return UnknownPolicy(
        f"Policy {policy_id} was asked for and is not in force: the vault did not back it, or has not answered yet.",
        advice=f"See /api/v2/transactions/{purchase.hex()}.",
    )
