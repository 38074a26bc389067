"""Policies one by one and in pages, as people and programs read them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tonsurance.db.pool import Connection, Record

MAX_POLICIES = 200
"""Most policies one select returns."""

SELECT_POLICIES = """
SELECT p.contract_address, p.policy_id, p.vault_id, p.quote_id::text, p.coverage_type, p.chain_id, p.stablecoin_id,
    p.buyer_address, p.beneficiary_address, p.coverage_amount_nanoton, p.premium_nanoton, p.approved_nanoton,
    p.payout_nanoton, p.trigger_bps, p.floor_bps, p.start_time, p.expiry_time, p.status, p.created_lt, p.created_at,
    p.closed_lt, p.closed_at, f.claim_grace_s
FROM policies p LEFT JOIN factory_state f ON f.factory_address = p.contract_address
"""
SELECT_POLICY = f"""
{SELECT_POLICIES} WHERE p.policy_id = $1 AND ($2::text IS NULL OR p.contract_address = $2)
ORDER BY p.vault_id = $3 DESC, p.created_lt DESC LIMIT 1
"""
SELECT_PURCHASE = """
SELECT hash FROM blockchain_transactions
WHERE contract_address IN (SELECT contract_address FROM blockchain_sync_state
        WHERE contract_type = $4 AND CASE WHEN $2::text IS NULL THEN vault_id = $3 ELSE contract_address = $2 END)
    AND policy_id = $1 AND succeeded
ORDER BY logical_time LIMIT 1
"""


class Place(msgspec.Struct, frozen=True):
    """A policy's place among all of them, by the transaction that made it; `factory` parts two of one time and id."""

    created_lt: int
    policy_id: int
    factory: str


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One policy. Amounts in nanoTON; `claim_grace_s` is the factory's, None while it was not read."""

    contract_address: str
    policy_id: int
    vault_id: str
    quote_id: int
    coverage_type: int
    chain_id: int
    stablecoin_id: int
    buyer_address: str
    beneficiary_address: str
    coverage_amount_nanoton: int
    premium_nanoton: int
    approved_nanoton: int | None
    payout_nanoton: int
    trigger_bps: int
    floor_bps: int
    start_time: datetime
    expiry_time: datetime
    status: str
    created_lt: int
    created_at: datetime
    closed_lt: int | None
    closed_at: datetime | None
    claim_grace_s: int | None

    @classmethod
    def from_row(cls, row: Record) -> PolicyRow:
        """From a row of the selects above."""
        return cls(**{**row, "quote_id": int(row["quote_id"])})

    @property
    def place(self) -> Place:
        """Where it stands in lists."""
        return Place(self.created_lt, self.policy_id, self.contract_address)


async def select_policy(conn: Connection, policy_id: int, factory: str | None, vault_id: str) -> PolicyRow | None:
    """The policy of this id and factory; without a factory that of the vault, else the newest of any."""
    row = await conn.fetchrow(SELECT_POLICY, policy_id, factory, vault_id)
    return None if row is None else PolicyRow.from_row(row)


async def select_purchase(
    conn: Connection, policy_id: int, factory: str | None, vault_id: str, factory_kind: str
) -> bytes | None:
    """The hash of the transaction in which a factory (without one: of the vault) gave this id; None when it did not."""
    found: bytes | None = await conn.fetchval(SELECT_PURCHASE, policy_id, factory, vault_id, factory_kind)
    return found


async def select_policies(
    conn: Connection,
    *,
    buyer: str | None = None,
    status: str | None = None,
    after: Place | None = None,
    limit: int = 50,
) -> list[PolicyRow]:
    """A page of policies, newest first; `after` is the last one seen, `limit` is cut to MAX_POLICIES."""
    wanted = {"buyer_address": buyer, "status": status}
    given = {column: value for column, value in wanted.items() if value is not None}
    sql = make_policies_statement(tuple(given), paged=after is not None)
    place = [] if after is None else [after.created_lt, after.policy_id, after.factory]
    rows = await conn.fetch(sql, *given.values(), min(limit, MAX_POLICIES), *place)
    return [PolicyRow.from_row(row) for row in rows]


def make_policies_statement(columns: tuple[str, ...], *, paged: bool) -> str:
    """The statement with just these conditions. Its values are the columns' in this order, the limit, then, when
    `paged`, the place of the last policy seen."""
    conditions = [f"p.{column} = ${number}" for number, column in enumerate(columns, 1)]
    count = len(columns) + 1
    if paged:
        conditions.append(
            f"(p.created_lt, p.policy_id, p.contract_address) < (${count + 1}, ${count + 2}, ${count + 3})"
        )
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "ORDER BY p.created_lt DESC, p.policy_id DESC, p.contract_address DESC"
    return f"{SELECT_POLICIES} {where} {order} LIMIT ${count}"
