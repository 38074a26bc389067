"""The streams premiums are earned from, and the share prices of the past: what a tranche's yields are made of.

The vault's event says what came in, the factory's how long the cover runs. The two contracts are followed one beside
the other, so a stream is written with whichever event is posted later; its rows depend on the events alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.core.yields import SharePrice, StreamEnd, extend_stream
from tonsurance.db.pool import Connection, Record

_FIRST_ROWS, _MOST_ROWS = 96, 6_144

SELECT_PREMIUMS = """
WITH last AS (
    SELECT logical_time, message_index FROM premium_streams WHERE vault_id = $1
    ORDER BY logical_time DESC, message_index DESC LIMIT 1
)
SELECT l.tranche_id, l.logical_time, l.message_index, l.unearned_delta_nanoton AS premium, e.block_time,
    h.unearned_premium_nanoton AS unearned, cover.duration_s
FROM ledger_entries l
JOIN blockchain_events e USING (contract_address, logical_time, message_index)
JOIN tranche_utilization_history h ON h.vault_id = l.vault_id AND h.tranche_id = l.tranche_id
    AND h.logical_time = l.logical_time AND h.message_index = l.message_index AND h.recorded_at = e.block_time
LEFT JOIN LATERAL (
    SELECT date_part('epoch', p.expiry_time - p.start_time)::bigint AS duration_s
    FROM blockchain_sync_state factory JOIN policies p USING (contract_address)
    WHERE factory.vault_id = $1 AND factory.contract_type = $2 AND p.policy_id = e.policy_id
        AND p.created_lt > l.logical_time
    ORDER BY p.created_lt LIMIT 1
) cover ON true
WHERE l.vault_id = $1 AND l.unearned_delta_nanoton > 0
    AND (l.logical_time, l.message_index) > (
        coalesce((SELECT logical_time FROM last), -1), coalesce((SELECT message_index FROM last), -1))
ORDER BY l.logical_time, l.message_index, l.tranche_id LIMIT $3
"""
SELECT_STREAM_ENDS = """
SELECT last.tranche_id, date_part('epoch', last.recorded_at)::bigint AS since,
    last.unearned_premium_nanoton AS unearned, date_part('epoch', last.ends_at)::bigint AS end
FROM unnest($2::text[]) AS wanted (tranche_id)
CROSS JOIN LATERAL (
    SELECT * FROM premium_streams p WHERE p.vault_id = $1 AND p.tranche_id = wanted.tranche_id
    ORDER BY p.logical_time DESC, p.message_index DESC LIMIT 1
) last
"""
INSERT_STREAMS = """
INSERT INTO premium_streams (vault_id, tranche_id, logical_time, message_index, recorded_at, unearned_premium_nanoton,
    ends_at)
SELECT $1, tranche_id, lt, message_index, to_timestamp(since), unearned, to_timestamp(ends)
FROM unnest($2::text[], $3::bigint[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS new (tranche_id, lt, message_index, since, unearned, ends)
"""
SELECT_YIELD_BASES = """
SELECT asked.vault_id, asked.tranche_id, date_part('epoch', s.recorded_at)::bigint AS stream_since,
    s.unearned_premium_nanoton AS stream_unearned, date_part('epoch', s.ends_at)::bigint AS stream_end,
    date_part('epoch', b.recorded_at)::bigint AS before_time, b.total_capital_nanoton AS before_capital,
    b.shares::text AS before_shares, EXISTS (
        SELECT FROM blockchain_sync_state vault JOIN blockchain_events e USING (contract_address)
        WHERE vault.vault_id = asked.vault_id AND vault.contract_type = $6 AND e.event_type = 'EpochStarted'
            AND e.logical_time > b.logical_time AND e.logical_time <= asked.lt
            AND e.metadata ->> 'tranche_id' = asked.number::text
    ) AS new_epoch
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::int[])
    AS asked (vault_id, tranche_id, lt, since, number)
LEFT JOIN LATERAL (
    SELECT * FROM premium_streams p
    WHERE p.vault_id = asked.vault_id AND p.tranche_id = asked.tranche_id AND p.logical_time <= asked.lt
    ORDER BY p.logical_time DESC, p.message_index DESC LIMIT 1
) s ON true
LEFT JOIN LATERAL (
    (SELECT h.recorded_at, h.logical_time, h.total_capital_nanoton, h.shares, 0 AS choice
    FROM tranche_utilization_history h
    WHERE h.vault_id = asked.vault_id AND h.tranche_id = asked.tranche_id AND h.recorded_at <= asked.since
    ORDER BY h.recorded_at DESC, h.logical_time DESC, h.message_index DESC LIMIT 1)
    UNION ALL
    (SELECT h.recorded_at, h.logical_time, h.total_capital_nanoton, h.shares, 1
    FROM tranche_utilization_history h
    WHERE h.vault_id = asked.vault_id AND h.tranche_id = asked.tranche_id AND h.recorded_at > asked.since
        AND h.logical_time <= asked.lt
    ORDER BY h.recorded_at, h.logical_time, h.message_index LIMIT 1)
    ORDER BY choice LIMIT 1
) b ON true
"""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A tranche after its event at logical time `lt`, and since when (unix seconds) its share price is looked at."""

    vault_id: str
    tranche_id: str
    lt: int
    since: float


class YieldBasis(msgspec.Struct, frozen=True, kw_only=True):
    """What the database knows for a tranche's yields; `new_epoch`: its shares became void since `before`."""

    stream: StreamEnd | None
    before: SharePrice | None
    new_epoch: bool


async def advance_streams(conn: Connection, vault_id: str) -> int:
    """Write the streams of all premiums whose cover is known by now, in their order; returns how many rows."""
    ends: dict[str, StreamEnd] | None = None
    written, limit = 0, _FIRST_ROWS
    while True:
        found = await conn.fetch(SELECT_PREMIUMS, vault_id, FACTORY_KIND, limit)
        rows = _whole_premiums(found, cut=len(found) == limit)
        known = list(takewhile(lambda row: row["duration_s"] is not None, rows))
        if known:
            ends = ends or await _select_ends(conn, vault_id)
            new = [_extend(ends, row) for row in known]
            await conn.execute(INSERT_STREAMS, vault_id, *(list(column) for column in zip(*new, strict=True)))
            written += len(new)
        if len(found) < limit or len(known) < len(rows):
            return written
        limit = min(2 * limit, _MOST_ROWS)


def _whole_premiums(rows: list[Record], *, cut: bool) -> list[Record]:
    """Without the last premium when the limit may have cut through its rows."""
    if not cut:
        return rows
    last = (rows[-1]["logical_time"], rows[-1]["message_index"])
    return [row for row in rows if (row["logical_time"], row["message_index"]) != last]


def _extend(ends: dict[str, StreamEnd], row: Record) -> tuple[object, ...]:
    tranche_id, now = row["tranche_id"], int(row["block_time"].timestamp())
    duration_s = max(0, row["duration_s"])
    end = extend_stream(ends.get(tranche_id), row["unearned"], row["premium"], duration_s, now)
    ends[tranche_id] = end
    return (tranche_id, row["logical_time"], row["message_index"], now, end.unearned, end.end)


async def _select_ends(conn: Connection, vault_id: str) -> dict[str, StreamEnd]:
    return {
        row["tranche_id"]: StreamEnd(since=row["since"], unearned=row["unearned"], end=row["end"])
        for row in await conn.fetch(SELECT_STREAM_ENDS, vault_id, list(TRANCHE_IDS))
    }


async def select_yield_bases(conn: Connection, asked: Sequence[Asked]) -> dict[tuple[str, str], YieldBasis]:
    """The streams and earlier share prices of tranches, by (vault_id, tranche_id)."""
    rows = await conn.fetch(
        SELECT_YIELD_BASES,
        [one.vault_id for one in asked],
        [one.tranche_id for one in asked],
        [one.lt for one in asked],
        [datetime.fromtimestamp(one.since, UTC) for one in asked],
        [TRANCHE_IDS.index(one.tranche_id) + 1 for one in asked],
        VAULT_KIND,
    )
    return {
        (row["vault_id"], row["tranche_id"]): YieldBasis(
            stream=None
            if row["stream_end"] is None
            else StreamEnd(since=row["stream_since"], unearned=row["stream_unearned"], end=row["stream_end"]),
            before=None
            if row["before_time"] is None
            else SharePrice(time=row["before_time"], capital=row["before_capital"], shares=int(row["before_shares"])),
            new_epoch=row["new_epoch"],
        )
        for row in rows
    }
