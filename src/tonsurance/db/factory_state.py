"""What factories and their vaults said of themselves last, and the policies that may be ended."""

from __future__ import annotations

import msgspec

from tonsurance.db.pool import Connection

SELECT_FACTORY_STATES = """
SELECT factory_address, vault_id, vault_address, network_id, public_key, previous_key, previous_until, paused,
    waiting_period_s, claim_grace_s, key_overlap_s, policy_count, max_policies, quote_count, max_quotes, vault_factory,
    vault_paused, frozen_until, claims_due, withdraw_delay_s, withdraw_window_s, chain_time_offset_s,
    seqno, extract(epoch FROM read_at)::double precision AS read_at,
    extract(epoch FROM clock_timestamp() - read_at)::double precision AS age_s
FROM factory_state s
WHERE EXISTS (SELECT FROM followed_contracts f
    WHERE f.contract_address = s.factory_address AND f.wanted IN ('active', 'backfill'))
ORDER BY vault_id, factory_address
"""
SELECT_FOLLOWED_FACTORIES = """
SELECT contract_address, vault_id FROM followed_contracts
WHERE contract_type = $1 AND wanted IN ('active', 'backfill') ORDER BY vault_id, contract_address
"""
UPSERT_FACTORY_STATE = """
INSERT INTO factory_state AS s (factory_address, vault_id, vault_address, network_id, public_key, previous_key,
    previous_until, paused, waiting_period_s, claim_grace_s, key_overlap_s, policy_count, max_policies, quote_count,
    max_quotes, vault_factory, vault_paused, frozen_until, claims_due, withdraw_delay_s, withdraw_window_s,
    chain_time_offset_s, seqno)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
ON CONFLICT (factory_address) DO UPDATE SET vault_id = excluded.vault_id, vault_address = excluded.vault_address,
    network_id = excluded.network_id, public_key = excluded.public_key, previous_key = excluded.previous_key,
    previous_until = excluded.previous_until, paused = excluded.paused, waiting_period_s = excluded.waiting_period_s,
    claim_grace_s = excluded.claim_grace_s, key_overlap_s = excluded.key_overlap_s,
    policy_count = excluded.policy_count, max_policies = excluded.max_policies, quote_count = excluded.quote_count,
    max_quotes = excluded.max_quotes, vault_factory = excluded.vault_factory, vault_paused = excluded.vault_paused,
    frozen_until = excluded.frozen_until, claims_due = excluded.claims_due,
    withdraw_delay_s = excluded.withdraw_delay_s, withdraw_window_s = excluded.withdraw_window_s,
    chain_time_offset_s = excluded.chain_time_offset_s, seqno = excluded.seqno, read_at = clock_timestamp()
WHERE s.seqno <= excluded.seqno
"""
SELECT_NEWS = """
SELECT max(event_id) AS last_id, coalesce(bool_or(event_type = ANY($2::text[])), false) AS concerns
FROM blockchain_events WHERE event_id > $1
"""
SELECT_LAST_EVENT = "SELECT coalesce(max(event_id), 0)::bigint FROM blockchain_events"
SELECT_POLICY_END = """
SELECT status, extract(epoch FROM expiry_time)::bigint AS expiry FROM policies
WHERE contract_address = $1 AND policy_id = $2
"""


class FactoryState(msgspec.Struct, frozen=True, kw_only=True):
    """A factory and its vault as the daemon read them `age_s` seconds ago, at masterchain block `seqno`.

    Keys are the 32 bytes of an Ed25519 public key, addresses raw, `*_until` and `read_at` unix seconds, `*_s` seconds.
    `chain_time_offset_s`: so far ahead of the daemon's clock was the chain's; a local chain's may run fast.
    """

    factory_address: str
    vault_id: str
    vault_address: str
    network_id: int
    public_key: bytes
    previous_key: bytes | None
    previous_until: int
    paused: bool
    waiting_period_s: int
    claim_grace_s: int
    key_overlap_s: int
    policy_count: int
    max_policies: int
    quote_count: int
    max_quotes: int
    vault_factory: str | None
    vault_paused: bool
    frozen_until: int
    claims_due: int
    withdraw_delay_s: int
    withdraw_window_s: int
    chain_time_offset_s: float = 0.0
    seqno: int
    read_at: float = 0.0
    age_s: float = 0.0


class PolicyEnd(msgspec.Struct, frozen=True):
    """A policy's status, and when its cover ends, in unix seconds."""

    status: str
    expiry: int


async def select_factory_states(conn: Connection) -> tuple[FactoryState, ...]:
    """The last reading of every factory that is followed now."""
    return tuple(FactoryState(**dict(row)) for row in await conn.fetch(SELECT_FACTORY_STATES))


async def select_followed_factories(conn: Connection, kind: str) -> tuple[tuple[str, str], ...]:
    """Address and vault id of every contract of this kind that is followed."""
    return tuple(
        (row["contract_address"], row["vault_id"]) for row in await conn.fetch(SELECT_FOLLOWED_FACTORIES, kind)
    )


async def upsert_factory_state(conn: Connection, state: FactoryState) -> None:
    """Keep a reading, made now; one of an older block than is kept changes nothing."""
    *values, _read_at, _age_s = msgspec.structs.astuple(state)
    await conn.execute(UPSERT_FACTORY_STATE, *values)


async def select_last_event(conn: Connection) -> int:
    """The id of the newest event; 0 before the first."""
    newest: int = await conn.fetchval(SELECT_LAST_EVENT)
    return newest


async def select_news(conn: Connection, after: int, types: tuple[str, ...]) -> tuple[int, bool]:
    """The newest event's id, and whether one after `after` is of these types."""
    [row] = await conn.fetch(SELECT_NEWS, after, list(types))
    return row["last_id"] or after, row["concerns"]


async def select_policy_end(conn: Connection, factory: str, policy_id: int) -> PolicyEnd | None:
    """When a policy's cover ends; None when the ledger knows none of this id."""
    row = await conn.fetchrow(SELECT_POLICY_END, factory, policy_id)
    return None if row is None else PolicyEnd(**dict(row))
