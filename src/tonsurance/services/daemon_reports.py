"""What a daemon says of itself, and when: its row every two seconds, event counts each minute, health every few.

All of it goes on while the process stands by, and while the database or the chain is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from tonsurance import log
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.errors import DatabaseUnavailable
from tonsurance.db.daemons import count_events_after, forget_old_statuses, select_sums, write_status
from tonsurance.db.pool import Connection, acquire
from tonsurance.services.daemon_health import DaemonHealth, HealthReport, render_contract, render_events, render_report
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every, pause
from tonsurance.services.task_supervision import Task

HEARTBEAT_S = 2.0
SAMPLE_S = 1.0
STATISTICS_S = 60.0
PROGRESS_S = 10.0
_ACQUIRE_S = 2.0
_log = log.get(__name__)


class DaemonReports:
    """Tasks of a process, active or not. They own `pool`."""

    def __init__(
        self,
        health: DaemonHealth,
        client: TonCenterClient,
        pool: LazyPool,
        *,
        head_every_s: float = PROGRESS_S,
        heartbeat_s: float = HEARTBEAT_S,
        sample_s: float = SAMPLE_S,
    ) -> None:
        self._health = health
        self._client = client
        self._pool = pool
        self._head_every_s = head_every_s
        self._heartbeat_s = heartbeat_s
        self._sample_s = sample_s
        self._now = asyncio.Event()

    def say_now(self) -> None:
        """Log the health at once."""
        self._now.set()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is to run beside the daemon's work."""
        return (
            Task("head watch", self._repeat(self._head_every_s, self._watch_head, "head watch")),
            Task("heartbeat", self._repeat(self._heartbeat_s, self._store, "heartbeat")),
            Task("figures", self._repeat(self._sample_s, self._sample, "figures")),
            Task("event statistics", self._repeat(STATISTICS_S, self._say_events, "event statistics")),
            Task("progress", self._repeat(PROGRESS_S, self._say_progress, "progress")),
            Task("health", self._say_health),
        )

    async def close(self) -> None:
        """Say that this daemon has ended, and give the connections back."""
        try:
            await self._write("stopped")
        except DatabaseUnavailable as error:
            _log.warning("end_not_noted", reason=error.message)
        finally:
            await self._pool.close()

    @staticmethod
    def _repeat(
        interval_s: float, job: Callable[[], Awaitable[None]], name: str
    ) -> Callable[[asyncio.Event], Awaitable[None]]:
        return lambda stop: every(interval_s, job, stop=stop, name=name, max_backoff_s=interval_s)

    async def _watch_head(self) -> None:
        sound = False
        try:
            info = await self._client.get_masterchain_info()
            self._health.watch.note_head(info.last.seqno)
            sound = True
        finally:
            if not sound:
                self._health.watch.note_chain_failure()

    async def _store(self) -> None:
        try:
            await self._read_figures()
            await self._write(self._health.role)
        except DatabaseUnavailable:
            self._health.watch.note_database(answers=False)
            raise
        self._health.watch.note_database(answers=True)

    async def _read_figures(self) -> None:
        async with acquire(await self._pool.open(), timeout_s=_ACQUIRE_S) as conn:
            self._health.events = self._health.events.plus(await count_events_after(conn, self._health.events.last_id))
            self._health.sums = await select_sums(conn)

    async def _write(self, role: str) -> None:
        async with acquire(await self._pool.open(), timeout_s=_ACQUIRE_S) as conn:
            await write_report(conn, self._health, role)

    async def _sample(self) -> None:
        self._health.watch.sample(self._health.params())

    async def _say_events(self) -> None:
        report = self._health.report()
        _log.info(render_events(report), database="answers" if self._health.watch.database_answers else "away")

    async def _say_progress(self) -> None:
        """How contracts that are far behind come up to their heads."""
        for contract in self._health.report().contracts:
            if contract.read:
                _log.info("backfill", text=render_contract(contract), **msgspec.to_builtins(contract))

    async def _say_health(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            interval_s = self._health.params().value("risk", "health_interval_s")
            assert isinstance(interval_s, int)
            await pause(interval_s, stop, self._now)
            if stop.is_set():
                return
            self._now.clear()
            say_report(self._health.report())


def say_report(report: HealthReport) -> None:
    """One line of log for each line of the summary, and one with everything for programs."""
    speak = _log.info if report.status == "HEALTHY" else _log.warning
    for line in render_report(report):
        speak(line)
    _log.info("health", status=report.status, role=report.role, reasons=list(report.reasons))


async def write_report(conn: Connection, health: DaemonHealth, role: str) -> None:
    """Store what a daemon says of itself now, and forget those that are long gone."""
    report = health.report()
    await write_status(
        conn,
        (
            health.instance_id,
            role,
            report.status,
            health.host,
            health.pid,
            health.network,
            health.started_at,
            msgspec.json.encode(report).decode(),
        ),
    )
    await forget_old_statuses(conn)
