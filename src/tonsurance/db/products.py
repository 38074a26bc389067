"""Statistics of events by product, and the counts the daemon's minute line shows."""

from __future__ import annotations

import msgspec

from tonsurance.db.pool import Connection

REFRESH_TIMEOUT_S = 60.0
SELECT_REFRESHED = "SELECT refresh_event_stats(), refresh_hedge_requirements()"
SELECT_EVENT_COUNTS = """
SELECT (SELECT coalesce(sum(total_events_synced), 0)::bigint FROM blockchain_sync_state) AS total,
    (SELECT count(*) FROM blockchain_events WHERE event_type = 'PolicyCreated') AS policies,
    (SELECT count(*) FROM blockchain_events WHERE event_type = 'PayoutExecuted') AS payouts,
    (SELECT count(*) FROM blockchain_quarantine WHERE resolved_at IS NULL)
        + (SELECT count(*) FROM blockchain_sync_state WHERE sync_status = 'error') AS errors,
    (SELECT extract(epoch FROM now() - created_at)::double precision FROM blockchain_events
        ORDER BY event_id DESC LIMIT 1) AS last_event_age_s
"""


class EventCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Events posted since the first, of them purchases and payouts; messages in quarantine and contracts that stand
    still; and how long ago the last event was posted, None before the first."""

    total: int
    policies: int
    payouts: int
    errors: int
    last_event_age_s: float | None


async def refresh_product_views(conn: Connection) -> None:
    """Bring mv_event_stats_by_product and mv_hedge_requirements up to now; readers are not kept waiting."""
    await conn.execute(SELECT_REFRESHED, timeout=REFRESH_TIMEOUT_S)


async def select_event_counts(conn: Connection) -> EventCounts:
    """What was posted so far."""
    [row] = await conn.fetch(SELECT_EVENT_COUNTS)
    return EventCounts(**dict(row))
