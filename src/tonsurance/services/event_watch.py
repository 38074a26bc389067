"""Watching contracts for a while: every event as it comes, straight from the chain, and what it comes to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from tonsurance.core.errors import TonsuranceError
from tonsurance.core.events import ChainEvent, PayoutExecuted, PolicyCreated
from tonsurance.services.ton_client import TonClient


class WatchTotals(msgspec.Struct, kw_only=True):
    """What was seen. `errors` counts messages no layout explains; `fault` is why a contract cannot be read at the end;
    `last_at` is when the last event came, in seconds of the monotonic clock."""

    total: int = 0
    policies: int = 0
    payouts: int = 0
    errors: int = 0
    last_at: float | None = None
    fault: TonsuranceError | None = None


async def watch_events(
    ton: TonClient,
    contracts: Sequence[str],
    show: Callable[[ChainEvent], None],
    *,
    from_lt: int | None,
    poll_interval_s: float,
    duration_s: float | None,
    stop: asyncio.Event,
) -> WatchTotals:
    """Show every event of the contracts after `from_lt` (None: from now on) for so many seconds, or until `stop`.

    An outage delays events. Raises NotOurContract or ChainUnavailable when a contract cannot be looked at at first.
    """
    totals = WatchTotals()

    def note(event: ChainEvent) -> None:
        totals.total += 1
        totals.policies += isinstance(event.body, PolicyCreated)
        totals.payouts += isinstance(event.body, PayoutExecuted)
        totals.last_at = time.monotonic()
        show(event)

    opened = []
    for contract in contracts:
        start = await _head_of(ton, contract) if from_lt is None else from_lt
        opened.append(await ton.events.open(contract, start or None, poll_interval_s, callback=note))
    running = [asyncio.create_task(subscription.run(stop)) for subscription in opened]
    ending = asyncio.create_task(stop.wait())
    await asyncio.wait((*running, ending), timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await ending
    await asyncio.gather(*running)
    totals.errors = sum(subscription.undecoded for subscription in opened)
    totals.fault = next((subscription.error for subscription in opened if subscription.error is not None), None)
    return totals


async def _head_of(ton: TonClient, contract: str) -> int:
    return (await ton.get_contract_state(contract)).last_transaction.lt


def describe_totals(totals: WatchTotals) -> str:
    """The documented line."""
    last = "never" if totals.last_at is None else f"{time.monotonic() - totals.last_at:.0f}s ago"
    return (
        f"📊 Event Stats: total={totals.total}, policies={totals.policies}, payouts={totals.payouts},"
        f" errors={totals.errors}, last_event={last}"
    )
