"""What an initialised tracker works with: its reads, its writes, and the tasks beside them."""

from __future__ import annotations

import asyncio

from tonsurance.bus.notify import Listener
from tonsurance.core.params import Params
from tonsurance.services.alerting import AlertService, StandIn
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.direct_vaults import QUEUE_POLL_S, DirectVaults
from tonsurance.services.history_reads import HistoryReads
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_reads import PostgresLedgerReader
from tonsurance.services.loop import every
from tonsurance.services.reservations import Reservations
from tonsurance.services.shared_redis import SharedRedis
from tonsurance.services.tranche_reads import TrancheReads


class TrackerParts:
    """One connected tracker. `redis_url`: what is read is shared with other processes through this Redis."""

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int,
        vault_id: str,
        cache_ttl_s: float,
        freshen_s: float,
        redis_url: str | None,
    ) -> None:
        self._freshen_s = freshen_s
        self.loader = ConfigLoader(dsn, process="tracker")
        self.shared = None if redis_url is None else SharedRedis(redis_url)
        self.ledger = PostgresLedgerReader(
            dsn, pool_size=pool_size, shared=None if self.shared is None else self.shared.cache
        )
        self.pool = LazyPool(dsn, max_size=pool_size, application_name="tonsurance tracker")
        self.reads = TrancheReads(self.ledger, self.loader.params, vault_id=vault_id, stale_after_s=cache_ttl_s)
        self.direct = DirectVaults(self.pool, self._read_params)
        self.reservations = Reservations(self.pool, self._read_params, on_change=self.note_change)
        self.history = HistoryReads(self.pool, self.reads)
        self.alerts = StandIn(AlertService(self.pool, self._read_params, leave_to_daemon=True))
        self.stop = asyncio.Event()
        self.wake = asyncio.Event()
        self.commits = Listener(dsn, self._hear)
        self.tasks: list[asyncio.Task[None]] = []
        self._heard = False

    async def start(self) -> None:
        """Load the parameters, start the tasks, and read the figures, so that the first call finds them here."""
        self.loader.subscribe(self._use_params)
        await self.loader.start()
        work = [
            self.commits.run(self.stop),
            every(self._freshen_s, self.reads.freshen, stop=self.stop, wake=self.wake, name="tranches in memory"),
            every(QUEUE_POLL_S, self.apply_queued, stop=self.stop, name="queued updates"),
            self.alerts.run(self.stop),
        ]
        if self.shared is not None:
            work.append(self.shared.listen(self._hear_redis, self.stop))
        self.tasks = [asyncio.create_task(job) for job in work]
        await self.reads.refresh()

    def note_change(self) -> None:
        """Something was committed: no read takes the old figures any more, and the new ones are fetched at once."""
        self.reads.invalidate()
        self.wake.set()

    def note_update(self) -> None:
        """This tracker posted something: what `note_change` does, and alerts are looked at after the answer."""
        self.note_change()
        self.alerts.note_update()

    async def apply_queued(self) -> int:
        """Apply accepted updates; returns how many came to their end."""
        done = await self.direct.apply_queued()
        if done:
            self.note_update()
        return done

    @property
    def degraded(self) -> str | None:
        """Why answers may be older or slower than they should be; None while all is well."""
        if self.reads.failure is not None:
            return f"The ledger cannot be read: {self.reads.failure.message}"
        if self._heard and not self.commits.connected:
            return "Commits are not heard: the database's connection is lost."
        redis = None if self.shared is None else self.shared.cache.degraded
        return self.loader.degraded or redis

    async def close(self) -> None:
        """Post what was submitted, look at its alerts, and give the connections back."""
        await self.reservations.close()
        await self.direct.close()
        self.stop.set()
        await asyncio.gather(*self.tasks)
        await self.loader.close()
        await self.pool.close()
        await self.ledger.close()
        if self.shared is not None:
            await self.shared.close()

    def _hear(self, _version: int | None) -> None:
        self._heard = True
        self.note_change()

    def _hear_redis(self, _version: int | None) -> None:
        self.note_change()

    def _read_params(self) -> Params:
        return self.loader.params

    def _use_params(self, params: Params) -> None:
        self.reads.use_params(params)
