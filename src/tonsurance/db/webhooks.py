"""SQL of the webhook outbox: what is to be sent, and what became of it."""

from __future__ import annotations

import msgspec

from tonsurance.db.pool import Connection

INSERT_DELIVERY = "INSERT INTO webhook_outbox (delivery_id, alert_id, transition, payload) VALUES ($1, $2, $3, $4)"
CLAIM_DELIVERY = """
UPDATE webhook_outbox SET attempts = attempts + 1, next_at = now() + make_interval(secs => $1)
WHERE delivery_id = (
    SELECT due.delivery_id FROM webhook_outbox due
    WHERE due.status = 'pending' AND due.next_at <= now() AND NOT EXISTS (
        SELECT FROM webhook_outbox earlier WHERE earlier.alert_id = due.alert_id
        AND earlier.delivery_id < due.delivery_id AND earlier.status = 'pending')
    ORDER BY due.next_at, due.delivery_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING delivery_id, alert_id, payload, attempts
"""
FINISH_DELIVERY = """
UPDATE webhook_outbox SET status = $3::text, last_error = $4, done_at = now()
WHERE delivery_id = $1 AND (attempts = $2 OR $3::text = 'sent') AND status = 'pending' RETURNING delivery_id
"""
DEFER_DELIVERY = """
UPDATE webhook_outbox SET next_at = now() + make_interval(secs => $3), last_error = $4
WHERE delivery_id = $1 AND attempts = $2 AND status = 'pending' RETURNING delivery_id
"""
SELECT_NEXT_DUE = """
SELECT extract(epoch FROM min(next_at) - now())::double precision FROM webhook_outbox WHERE status = 'pending'
"""
SELECT_OUTBOX_COUNTS = """
SELECT count(*) FILTER (WHERE status = 'pending') AS pending, count(*) FILTER (WHERE status = 'dead') AS dead,
    count(*) FILTER (WHERE status = 'sent') AS sent
FROM webhook_outbox
"""
FORGET_DONE = """
WITH gone AS (
    DELETE FROM webhook_outbox WHERE delivery_id IN (
        SELECT delivery_id FROM webhook_outbox WHERE status <> 'pending'
        AND done_at < now() - make_interval(days => $1) LIMIT 1000)
    RETURNING 1)
SELECT count(*) FROM gone
"""


class Delivery(msgspec.Struct, frozen=True):
    """One message for the webhook, and how many attempts it has had, this one included."""

    delivery_id: int
    alert_id: int
    payload: str
    attempts: int


class OutboxCounts(msgspec.Struct, frozen=True):
    """What waits, what was given up, and what was delivered lately."""

    pending: int
    dead: int
    sent: int


async def insert_delivery(conn: Connection, delivery_id: int, alert_id: int, transition: str, payload: str) -> None:
    """Have this sent; its id is the transition's."""
    await conn.execute(INSERT_DELIVERY, delivery_id, alert_id, transition, payload)


async def claim_delivery(conn: Connection, lease_s: float) -> Delivery | None:
    """The next one due, counted as attempted and hidden from others for `lease_s`; None when nothing is due.

    Of one alert the earlier is always sent first. Who claims it and dies leaves it to be claimed again after the lease.
    """
    row = await conn.fetchrow(CLAIM_DELIVERY, lease_s)
    return None if row is None else Delivery(*row)


async def finish_delivery(conn: Connection, delivery: Delivery, status: str, error: str | None) -> bool:
    """It is `sent` or `dead`. False when it is done already, or somebody else has claimed it since and it is dead."""
    done = await conn.fetchval(FINISH_DELIVERY, delivery.delivery_id, delivery.attempts, status, error)
    return done is not None


async def defer_delivery(conn: Connection, delivery: Delivery, delay_s: float, error: str) -> bool:
    """Try again later. False when somebody else has claimed it since."""
    done = await conn.fetchval(DEFER_DELIVERY, delivery.delivery_id, delivery.attempts, delay_s, error)
    return done is not None


async def select_next_due(conn: Connection) -> float | None:
    """Seconds until something is due (negative: it is); None when nothing waits."""
    due: float | None = await conn.fetchval(SELECT_NEXT_DUE)
    return due


async def select_outbox_counts(conn: Connection) -> OutboxCounts:
    """How the outbox stands."""
    [row] = await conn.fetch(SELECT_OUTBOX_COUNTS)
    return OutboxCounts(*row)


async def forget_done(conn: Connection, days: int) -> int:
    """Delete what ended more than `days` ago, at most 1,000 at a time; how many."""
    gone: int = await conn.fetchval(FORGET_DONE, days)
    return gone
