"""Reservations in the database, and what of a vault's room they hold.

Whoever decides about a vault's room holds its row in `reservation_locks` first and reads the clock after that, so that
decisions have one order. No notification is sent: its commit would take a lock that the ledger's writer needs too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.limits import TrancheRoom
from tonsurance.core.reservations import Reservation, VaultBook
from tonsurance.db.pool import Connection, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SEEN_LT = """(SELECT min(p.created_lt) FROM policies p WHERE p.vault_id = r.vault_id AND p.quote_id = r.quote_id
    AND EXISTS (SELECT FROM blockchain_events e JOIN blockchain_sync_state s USING (contract_address)
        WHERE s.vault_id = r.vault_id AND e.policy_id = p.policy_id AND e.event_type = 'CoverageChanged'))"""
"""When its policy was created, once the ledger has both the policy and its cover; else null. The vault and its factory
are read one after the other: only when both have told of it may the reservation stop to hold room."""

_SUMS = ", ".join(f"coalesce(sum(split[{place}]), 0)::bigint" for place in range(1, 7))
_COLUMNS = f"""
    r.reservation_id::text, r.vault_id, r.tranche_id, r.amount_nanoton, r.split, r.principal, r.route,
    r.idempotency_key, r.request_hash, r.quote_id::text, r.ttl_s, r.created_at, r.expires_at,
    coalesce(r.seen_lt, seen.lt) AS seen_lt,
    CASE WHEN seen.lt IS NOT NULL THEN 'committed' WHEN late THEN 'expired' ELSE r.status END AS status,
    CASE WHEN late AND seen.lt IS NULL THEN r.expires_at ELSE r.ended_at END AS ended_at
FROM capacity_reservations r
CROSS JOIN LATERAL (SELECT r.holds_room AND r.expires_at <= clock_timestamp() AS late) is_late
CROSS JOIN LATERAL (SELECT CASE WHEN r.holds_room THEN {_SEEN_LT} END AS lt) seen
"""
"""Statuses as they are by now, also where nobody has marked them yet."""

LOCK_VAULTS = "SELECT vault_id FROM reservation_locks WHERE vault_id = ANY($1) ORDER BY vault_id FOR UPDATE"
INSERT_LOCKS = """
INSERT INTO reservation_locks SELECT vault_id FROM vaults WHERE vault_id = ANY($1) ORDER BY vault_id
ON CONFLICT DO NOTHING
"""
END_LATE = f"""
UPDATE capacity_reservations r SET status = 'expired', ended_at = r.expires_at
WHERE r.vault_id = ANY($1) AND r.holds_room AND r.expires_at <= statement_timestamp() AND {_SEEN_LT} IS NULL
RETURNING r.reservation_id
"""  # noqa: S608
MARK_SEEN = f"""
UPDATE capacity_reservations r SET status = 'committed', seen_lt = seen.lt, ended_at = statement_timestamp()
FROM (SELECT r.reservation_id, {_SEEN_LT} AS lt FROM capacity_reservations r
    WHERE r.vault_id = ANY($1) AND r.holds_room AND r.quote_id IS NOT NULL) seen
WHERE r.reservation_id = seen.reservation_id AND seen.lt IS NOT NULL
RETURNING r.reservation_id
"""  # noqa: S608
SELECT_ROOM = f"""
WITH open AS MATERIALIZED (
    SELECT r.vault_id, r.principal, r.split FROM capacity_reservations r
    WHERE r.vault_id = ANY($1) AND r.holds_room AND (r.quote_id IS NULL OR {_SEEN_LT} IS NULL)
)
SELECT 'vault' AS kind, vault_id, source AS name, ARRAY[]::bigint[] AS amounts FROM vaults WHERE vault_id = ANY($1)
UNION ALL
SELECT 'tranche', vault_id, tranche_id, ARRAY[total_capital_nanoton, coverage_sold_nanoton]
FROM tranche_utilization WHERE vault_id = ANY($1)
UNION ALL SELECT 'held', vault_id, '', ARRAY[count(*), {_SUMS}] FROM open GROUP BY vault_id
UNION ALL
SELECT 'own', vault_id, principal, ARRAY[count(*), {_SUMS}] FROM open WHERE principal = ANY($2)
GROUP BY vault_id, principal
UNION ALL SELECT 'clock', '', '', ARRAY[(extract(epoch FROM clock_timestamp()) * 1000000)::bigint]
"""  # noqa: S608
SELECT_BY_IDENTITY = f"""
SELECT {_COLUMNS}
JOIN unnest($1::text[], $2::text[], $3::text[]) AS asked (principal, route, idempotency_key)
    USING (principal, route, idempotency_key)
"""
SELECT_BY_ID = f"SELECT {_COLUMNS} WHERE r.reservation_id = ANY($1::text[]::uuid[])"
SELECT_OPEN = f"""
SELECT {_COLUMNS} WHERE r.vault_id = $1 AND r.holds_room ORDER BY r.created_at DESC, r.reservation_id DESC LIMIT $2
"""
SELECT_VAULTS_OF = "SELECT DISTINCT vault_id FROM capacity_reservations WHERE reservation_id = ANY($1::text[]::uuid[])"
SELECT_SELLING = """
SELECT DISTINCT vault_id FROM capacity_reservations r JOIN vaults v USING (vault_id)
WHERE reservation_id = ANY($1::text[]::uuid[]) AND holds_room AND v.source = 'direct'
"""
SELECT_USED_QUOTES = """
SELECT vault_id, p.quote_id::text AS quote FROM policies p
JOIN unnest($1::text[], $2::text[]) AS asked (vault_id, quote) USING (vault_id)
WHERE p.quote_id = asked.quote::numeric
"""
SELECT_OPEN_VAULTS = f"""
SELECT vault_id,
    bool_or(expires_at <= statement_timestamp() OR (quote_id IS NOT NULL AND {_SEEN_LT} IS NOT NULL)) AS due
FROM capacity_reservations r WHERE holds_room GROUP BY vault_id ORDER BY vault_id
"""  # noqa: S608
SELECT_HELD = f"""
SELECT vault_id, ARRAY[{_SUMS}] AS held,
    extract(epoch FROM min(expires_at) - now())::double precision AS ends_in_s
FROM capacity_reservations r
WHERE holds_room AND expires_at > now() AND (quote_id IS NULL OR {_SEEN_LT} IS NULL) GROUP BY vault_id
"""  # noqa: S608
INSERT_RESERVATIONS = """
INSERT INTO capacity_reservations (reservation_id, vault_id, tranche_id, amount_nanoton, split, status, principal,
    route, idempotency_key, request_hash, quote_id, ttl_s, created_at, expires_at)
SELECT id::uuid, vault, tranche, amount, ARRAY[s1, s2, s3, s4, s5, s6], 'pending', principal, route, key, hash,
    quote::numeric, ttl, created, expires
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int[],
    $17::timestamptz[], $18::timestamptz[])
    AS new (id, vault, tranche, amount, s1, s2, s3, s4, s5, s6, principal, route, key, hash, quote, ttl, created,
    expires)
ON CONFLICT (principal, route, idempotency_key) DO NOTHING
RETURNING reservation_id::text
"""
MOVE_RESERVATIONS = """
UPDATE capacity_reservations r SET status = moved.status, quote_id = moved.quote::numeric,
    expires_at = moved.expires, ended_at = moved.ended, seen_lt = moved.seen
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bigint[])
    AS moved (id, status, quote, expires, ended, seen)
WHERE r.reservation_id = moved.id::uuid
"""
SELECT_UNTOLD_COVER = """
SELECT EXISTS (
    SELECT FROM blockchain_events e JOIN blockchain_sync_state s USING (contract_address)
    WHERE s.vault_id = $1 AND e.event_type = 'CoverageChanged'
        AND e.event_id > (SELECT coalesce(max(event_id), 0) - 1000 FROM blockchain_events)
        AND e.created_at > clock_timestamp() - make_interval(secs => $2)
        AND NOT EXISTS (SELECT FROM policies p WHERE p.vault_id = $1 AND p.policy_id = e.policy_id)
)
"""
DELETE_OLD = """
DELETE FROM capacity_reservations WHERE reservation_id IN (
    SELECT reservation_id FROM capacity_reservations WHERE ended_at < now() - make_interval(secs => $1)
    ORDER BY ended_at LIMIT 1000)
"""

Identity = tuple[str, str, str]


class Room(msgspec.Struct, frozen=True):
    """The room of some vaults at one moment of the database's clock; a vault that does not exist is left out."""

    now: datetime
    books: dict[str, VaultBook]


async def lock_vaults(conn: Connection, vault_ids: Iterable[str]) -> None:
    """Decide alone about these vaults' room until the transaction ends. Vaults that do not exist are passed over."""
    wanted = sorted(set(vault_ids))
    if len(await conn.fetch(LOCK_VAULTS, wanted)) < len(wanted):  # a new vault, or none at all
        await conn.execute(INSERT_LOCKS, wanted)
        await conn.fetch(LOCK_VAULTS, wanted)


async def end_late(conn: Connection, vault_ids: Iterable[str]) -> int:
    """End what is late, so that room once given away cannot come back when a clock jumps. Returns how many."""
    return len(await conn.fetch(END_LATE, sorted(set(vault_ids))))


async def mark_seen(conn: Connection, vault_ids: Iterable[str]) -> int:
    """Mark those as committed whose policies are in the ledger. Returns how many."""
    return len(await conn.fetch(MARK_SEEN, sorted(set(vault_ids))))


async def read_room(conn: Connection, vault_ids: Iterable[str], principals: Iterable[str] = ()) -> Room:
    """What stands in the vaults, in one statement: cover and what it was reserved by are of one commit."""
    rows = await conn.fetch(SELECT_ROOM, sorted(set(vault_ids)), sorted(set(principals)))
    by_kind: dict[str, list[Record]] = {"vault": [], "tranche": [], "held": [], "own": [], "clock": []}
    for row in rows:
        by_kind[row["kind"]].append(row)
    books = {row["vault_id"]: _make_book(row, by_kind) for row in by_kind["vault"]}
    for row in by_kind["own"]:
        count, *held = row["amounts"]
        books[row["vault_id"]].know_own(row["name"], count, held)
    return Room(_EPOCH + timedelta(microseconds=by_kind["clock"][0]["amounts"][0]), books)


def _make_book(vault: Record, by_kind: dict[str, list[Record]]) -> VaultBook:
    name = vault["vault_id"]
    rooms = [
        TrancheRoom(tranche_id=row["name"], capital_nano=row["amounts"][0], coverage_nano=row["amounts"][1])
        for row in by_kind["tranche"]
        if row["vault_id"] == name
    ]
    for row in by_kind["held"]:
        if row["vault_id"] == name:
            count, *held = row["amounts"]
            return VaultBook(name, vault["name"], rooms=rooms, held=held, open_count=count)
    return VaultBook(name, vault["name"], rooms=rooms)


async def select_by_identity(conn: Connection, identities: Iterable[Identity]) -> dict[Identity, Reservation]:
    """The reservations these requests made, by (principal, route, idempotency key)."""
    columns = [list(column) for column in zip(*set(identities), strict=True)]
    if not columns:
        return {}
    found = map(_reservation, await conn.fetch(SELECT_BY_IDENTITY, *columns))
    return {(one.principal, one.route, one.idempotency_key): one for one in found}


async def select_by_id(conn: Connection, reservation_ids: Iterable[str]) -> dict[str, Reservation]:
    """Reservations by their ids, which have to be UUIDs."""
    wanted = sorted(set(reservation_ids))
    found = map(_reservation, await conn.fetch(SELECT_BY_ID, wanted) if wanted else [])
    return {one.reservation_id: one for one in found}


async def select_open(conn: Connection, vault_id: str, limit: int) -> list[Reservation]:
    """Reservations nobody has ended yet, youngest first; one that is late or seen by now says so in its status."""
    return list(map(_reservation, await conn.fetch(SELECT_OPEN, vault_id, limit)))


async def select_vaults_of(conn: Connection, reservation_ids: Iterable[str]) -> set[str]:
    """The vaults of reservations; it is the one thing about them that never changes."""
    return {row["vault_id"] for row in await conn.fetch(SELECT_VAULTS_OF, sorted(set(reservation_ids)))}


async def select_selling(conn: Connection, reservation_ids: Iterable[str]) -> set[str]:
    """The direct vaults in which a commit of one of these would be a sale; no later one becomes such by waiting."""
    return {row["vault_id"] for row in await conn.fetch(SELECT_SELLING, sorted(set(reservation_ids)))}


async def select_used_quotes(conn: Connection, asked: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    """Of these (vault_id, quote_id) those by which a policy was bought: for each vault its used quotes."""
    used: dict[str, set[int]] = {}
    columns = [list(column) for column in zip(*((vault, str(quote)) for vault, quote in set(asked)), strict=True)]
    for row in await conn.fetch(SELECT_USED_QUOTES, *columns) if columns else ():
        used.setdefault(row["vault_id"], set()).add(int(row["quote"]))
    return used


async def select_open_vaults(conn: Connection) -> dict[str, bool]:
    """Vaults with reservations nobody has ended yet, and whether one of these is late or its policy seen."""
    return {row["vault_id"]: row["due"] for row in await conn.fetch(SELECT_OPEN_VAULTS)}


async def select_held(conn: Connection) -> dict[tuple[str, str], int]:
    """What reservations hold by (vault_id, tranche_id), in nanoTON; zeros are left out."""
    return (await select_held_until(conn))[0]


async def select_held_until(conn: Connection) -> tuple[dict[tuple[str, str], int], float | None]:
    """What `select_held` gives, and after how many seconds the first of them is late; None: nothing is held."""
    found = await conn.fetch(SELECT_HELD)
    held = {
        (row["vault_id"], tranche_id): held
        for row in found
        for tranche_id, held in zip(TRANCHE_IDS, row["held"], strict=True)
        if held
    }
    return held, min((row["ends_in_s"] for row in found), default=None)


async def insert_reservations(conn: Connection, new: Sequence[Reservation]) -> set[str]:
    """Store pending reservations; returns the ids stored: an identity used meanwhile for another vault is not."""
    if not new:
        return set()
    columns = [list(column) for column in zip(*map(_row, new), strict=True)]
    return {row["reservation_id"] for row in await conn.fetch(INSERT_RESERVATIONS, *columns)}


async def move_reservations(conn: Connection, moved: Sequence[Reservation]) -> None:
    """Store status, quote and times of reservations that are there."""
    rows = [
        (
            one.reservation_id,
            one.status.value,
            None if one.quote_id is None else str(one.quote_id),
            one.expires_at,
            one.ended_at,
            one.seen_lt,
        )
        for one in moved
    ]
    if rows:
        await conn.execute(MOVE_RESERVATIONS, *(list(column) for column in zip(*rows, strict=True)))


async def has_untold_cover(conn: Connection, vault_id: str, within_s: float) -> bool:
    """Whether the vault has told of cover in the last seconds of which its factory has not: the cover is in the
    ledger, and the reservation it came from may still hold the same room."""
    found: bool = await conn.fetchval(SELECT_UNTOLD_COVER, vault_id, within_s)
    return found


async def delete_old(conn: Connection, older_than_s: float) -> None:
    """Forget reservations that ended longer ago, at most 1,000 of them."""
    await conn.execute(DELETE_OLD, older_than_s)


def _reservation(row: Record) -> Reservation:
    fields = dict(row)
    fields["amount_nano"] = fields.pop("amount_nanoton")
    fields["quote_id"] = None if row["quote_id"] is None else int(row["quote_id"])
    return msgspec.convert(fields, Reservation)


def _row(one: Reservation) -> tuple[object, ...]:
    quote = None if one.quote_id is None else str(one.quote_id)
    return (
        one.reservation_id,
        one.vault_id,
        one.tranche_id,
        one.amount_nano,
        *one.split,
        one.principal,
        one.route,
        one.idempotency_key,
        one.request_hash,
        quote,
        one.ttl_s,
        one.created_at,
        one.expires_at,
    )
