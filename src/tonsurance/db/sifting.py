"""Events that were decoded and still cannot be applied: policies of products nobody knows, and what becomes of them.

They go to quarantine whole, so that the contract is followed on: its other policies must not wait for a new catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tonsurance.core.events import ChainEvent, ContractBatch, DecodedTransaction, PolicyCreated, Undecoded
from tonsurance.core.policies import policy_of
from tonsurance.core.products import find_unknown_dimension
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.pool import Connection

SELECT_QUARANTINED_POLICIES = """
SELECT DISTINCT q.contract_address, q.policy_id
FROM blockchain_quarantine q JOIN unnest($1::text[], $2::bigint[]) AS wanted (contract_address, policy_id)
    USING (contract_address, policy_id)
WHERE q.resolved_at IS NULL
"""

_Reasons = dict[tuple[str, int], str]
"""Why a policy (its factory, its id) is set aside."""


async def sift_batches(conn: Connection, batches: Sequence[ContractBatch]) -> Sequence[ContractBatch]:
    """The batches with such events among their undecoded messages; the same ones when there is none."""
    reasons = await _find_reasons(conn, batches)
    return [_sift(batch, reasons) for batch in batches] if reasons else batches


async def _find_reasons(conn: Connection, batches: Sequence[ContractBatch]) -> _Reasons:
    reasons: _Reasons = {}
    moved: set[tuple[str, int]] = set()
    for event in (event for batch in batches for transaction in batch.transactions for event in transaction.events):
        policy_id = policy_of(event.body)
        if policy_id is None or policy_id > BIGINT_MAX:
            continue
        if not isinstance(event.body, PolicyCreated):
            moved.add((event.contract, policy_id))
        elif unknown := find_unknown_dimension(event.body.coverage_type, event.body.chain_id, event.body.stablecoin_id):
            reasons[event.contract, policy_id] = f"PolicyCreated of policy {policy_id}: {unknown}."
    if moved:
        contracts, policy_ids = (list(column) for column in zip(*sorted(moved), strict=True))
        for row in await conn.fetch(SELECT_QUARANTINED_POLICIES, contracts, policy_ids):
            reasons[row["contract_address"], row["policy_id"]] = f"Policy {row['policy_id']} is in quarantine itself."
    return reasons


def _sift(batch: ContractBatch, reasons: _Reasons) -> ContractBatch:
    transactions = tuple(_sift_transaction(transaction, reasons) for transaction in batch.transactions)
    return msgspec.structs.replace(batch, transactions=transactions)


def _sift_transaction(transaction: DecodedTransaction, reasons: _Reasons) -> DecodedTransaction:
    set_aside = {event: reason for event in transaction.events if (reason := _reason_of(event, reasons))}
    if not set_aside:
        return transaction
    return msgspec.structs.replace(
        transaction,
        events=tuple(event for event in transaction.events if event not in set_aside),
        undecoded=(*transaction.undecoded, *(_keep(event, reason) for event, reason in set_aside.items())),
    )


def _reason_of(event: ChainEvent, reasons: _Reasons) -> str | None:
    policy_id = policy_of(event.body)
    return None if policy_id is None else reasons.get((event.contract, policy_id))


def _keep(event: ChainEvent, reason: str) -> Undecoded:
    return Undecoded(
        message_index=event.message_index,
        reason=reason,
        raw_body=event.raw_body,
        policy_id=policy_of(event.body),
    )
