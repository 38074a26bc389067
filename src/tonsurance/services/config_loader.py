"""Holds the parameters that a process works with: one frozen version, swapped whole.

A new version is announced by NOTIFY; a poll finds what was not. While the database is away, or holds a set that cannot
be used, the last good version stays; a process that starts then takes it from disk, else the declared defaults.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from tonsurance import log, metrics
from tonsurance.bus.notify import Listener
from tonsurance.core.errors import DatabaseUnavailable, InputError, TonsuranceError
from tonsurance.core.parameters.declaration import Value
from tonsurance.core.parameters.registry import UnknownParameter
from tonsurance.core.params import DEFAULT_PARAMS, Params
from tonsurance.core.tiers import base_rate, size_discount, utilization_multiplier
from tonsurance.db.config import CHANNEL
from tonsurance.db.pool import tls_query
from tonsurance.services.config_access import WHOLE_SET, AccessCounts, write_sample
from tonsurance.services.config_file import NoLastGood, load_last_good, save_last_good
from tonsurance.services.config_store import ConfigStore
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.loop import every

POLL_S = 60.0
SAMPLE_S = 60.0
READ_TIMEOUT_S = 5.0
_RETRY_S = 2.0
_POOL_SIZE = 2

Source: TypeAlias = Literal["database", "disk", "defaults"]
OnSwap: TypeAlias = Callable[[Params], None]

logger = log.get("config_loader")


class WrongKind(InputError):
    """The parameter is of another type."""

    code = "wrong_kind"


class ConfigLoader:
    """The current parameters, from the database at `dsn`. Reading them (`params`, `get_*`) is for any thread;
    everything else belongs to the event loop. `last_good` is the file kept on disk (None: none).
    """

    def __init__(
        self,
        dsn: str,
        *,
        last_good: Path | None = None,
        poll_s: float = POLL_S,
        sample_s: float = SAMPLE_S,
        process: str = "tonsurance",
        role: str | None = None,
    ) -> None:
        """`role` is the database's role to read with; None is the login's own rights."""
        self._params = DEFAULT_PARAMS
        self._taken = 0
        self.source: Source = "defaults"
        self.degraded: str | None = "The configuration has not been read yet."
        self.counts = AccessCounts()
        self._dsn = dsn
        self._last_good = last_good
        self._poll_s = poll_s
        self._sample_s = sample_s
        self._process = process
        self._role = role
        self._pool = self._make_pool(dsn)
        self._reading = asyncio.Lock()
        self._on_swap: list[OnSwap] = []
        self._read_at: float | None = None
        self._reloads = self._failures = 0
        self._kept: tuple[int, str] | None = None
        self._stop: asyncio.Event | None = None
        self._stop_poll = asyncio.Event()
        self._wake = asyncio.Event()
        self._listener: Listener | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def params(self) -> Params:
        """The whole set. Each taking is counted, without a lock: two threads at once may count as one."""
        self._taken += 1
        return self._params

    @params.setter
    def params(self, params: Params) -> None:
        self._params = params

    def subscribe(self, on_swap: OnSwap) -> None:
        """Have this called with the new parameters after each swap. It must not block or raise."""
        self._on_swap.append(on_swap)

    async def start(self) -> None:
        """Read once, within a few seconds, and then follow. Never fails: `degraded` says what is wrong."""
        _show(self._params)
        metrics.CONFIG_DEGRADED.set(1)
        if self._last_good is not None:
            self._take_last_good(self._last_good)
        with suppress(TonsuranceError):  # reload_cache has said it
            await self.reload_cache()
        self.start_auto_reload(interval_seconds=self._poll_s)

    async def close(self) -> None:
        """Write the last counts, stop following and give the connections back. The parameters stay."""
        await self._stop_following()
        try:
            await self._write_sample()
        except TonsuranceError as error:
            logger.info("config_accesses_lost", error=error.message)
        await self._pool.close()

    async def init_db_pool(
        self, *, host: str, port: int = 5432, database: str, user: str, password: str | None = None
    ) -> None:
        """Take the configuration from this database from now on. Raises what `reload_cache` raises; the parameters
        that held stay then.
        """
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        follows = bool(self._tasks)
        await self._stop_following()
        await self._pool.close()
        address = f"{quote(host, safe='')}:{port}/{quote(database, safe='')}"
        self._dsn = f"postgresql://{login}@{address}?{tls_query(self._dsn)}"
        self._pool = self._make_pool(self._dsn)
        if follows:
            self.start_auto_reload(interval_seconds=self._poll_s)
        await self.reload_cache()

    def start_auto_reload(self, *, interval_seconds: float = POLL_S) -> None:
        """Follow the database: by its notifications at once, by polling at this interval. Again takes the new interval
        at once."""
        changed, self._poll_s = interval_seconds != self._poll_s, interval_seconds
        if not self._tasks:
            stop = self._stop = asyncio.Event()
            self._wake = asyncio.Event()
            self._listener = Listener(self._dsn, lambda _version: self._wake.set(), channel=CHANNEL, role=self._role)
            sample = every(self._sample_s, self._write_sample, stop=stop, name="config accesses")
            self._tasks = [asyncio.create_task(job) for job in (self._listener.run(stop), sample)]
        elif not changed:
            return
        self._stop_poll.set()  # a reading in flight is finished; the new poll waits for it
        self._stop_poll = asyncio.Event()
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._poll(interval_seconds, self._stop_poll)))

    async def _poll(self, interval_s: float, stop: asyncio.Event) -> None:
        await every(
            interval_s,
            self.reload_cache,
            stop=stop,
            wake=self._wake,
            name="config",
            max_backoff_s=min(_RETRY_S, interval_s),
        )

    async def reload_cache(self) -> Params:
        """Read the newest version now, and swap to it when it is another one.

        Raises DatabaseUnavailable or ConfigDamaged: what held before stays, and `degraded` says why.
        """
        async with self._reading:
            try:
                params = await self._read()
            except TonsuranceError as error:
                self._degrade(error)
                raise
            self._keep(params)
        return self._params

    def get_float(self, category: str, key: str, default: float | None = None) -> float:
        """A number. Without the parameter: the default, or UnknownParameter when none is given. Raises WrongKind."""
        value = self._get(category, key, default)
        if type(value) is float:  # nearly always; the full check costs more than the access
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WrongKind(f"{category}/{key} is not a number.")
        return float(value)

    def get_int(self, category: str, key: str, default: int | None = None) -> int:
        """A whole number; otherwise like get_float."""
        value = self._get(category, key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise WrongKind(f"{category}/{key} is not a whole number.")
        return value

    def get_string(self, category: str, key: str, default: str | None = None) -> str:
        """A text; otherwise like get_float."""
        value = self._get(category, key, default)
        if not isinstance(value, str):
            raise WrongKind(f"{category}/{key} is not a text.")
        return value

    def get_json(self, category: str, key: str, default: Value = None) -> Value:
        """Any value, objects and lists as read-only mappings and tuples; otherwise like get_float."""
        return self._get(category, key, default)

    def get_base_rate(self, asset: str) -> float:
        """Base rate of an asset per year, as a fraction."""
        return base_rate(self._params, asset)

    def get_size_discount(self, coverage_usd: float) -> float:
        """Premium factor of a cover of this size in USD."""
        return size_discount(self._params, coverage_usd)

    def get_utilization_multiplier(self, utilization: float) -> float:
        """Premium factor at this utilisation."""
        return utilization_multiplier(self._params, utilization)

    def get_cache_stats(self) -> dict[str, object]:
        """What is held, where it comes from, how old it is, and how often it was read. Times in seconds."""
        self._count_taken()
        params, (hits, misses) = self._params, self.counts.totals
        age = None if self._read_at is None else time.monotonic() - self._read_at
        total = len(params.values)
        expired = total if age is None or age > 2 * self._poll_s else 0
        return {
            "total_entries": total,
            "valid_entries": total - expired,
            "expired_entries": expired,
            "ttl_seconds": self._poll_s,
            "version": params.version,
            "hash": params.hash,
            "source": self.source,
            "degraded": self.degraded,
            "age_seconds": age,
            "listening": self._listener is not None and self._listener.connected,
            "auto_reload": any(not task.done() for task in self._tasks),
            "reloads": self._reloads,
            "failures": self._failures,
            "hits": hits,
            "misses": misses,
            "hit_rate": hits / (hits + misses) if hits + misses else None,
        }

    def _get(self, category: str, key: str, default: Value) -> Value:
        params, name = self._params, (category, key)
        found = params.values.get(name)
        if found is None:
            found = params.derived.get(name)
        self.counts.record(name, found is not None)
        if found is not None:
            return found
        if default is None:
            raise UnknownParameter(f"There is no parameter {category[:64]}/{key[:128]}.")
        return default

    async def _read(self) -> Params:
        try:
            with metrics.CONFIG_READ_SECONDS.time():
                async with asyncio.timeout(READ_TIMEOUT_S):
                    return await ConfigStore(self._pool).read()
        except TimeoutError as error:
            raise DatabaseUnavailable("The database did not answer in time.") from error

    def _keep(self, params: Params) -> None:
        """What was read holds from now on."""
        self._count_taken()
        self._read_at = time.monotonic()
        self._reloads += 1
        if self.degraded is not None:
            logger.info("config_is_current", version=params.version)
        self.degraded, self.source = None, "database"
        metrics.CONFIG_DEGRADED.set(0)
        if (params.version, params.hash) != (self._params.version, self._params.hash):
            logger.info("config_swapped", version=params.version, before=self._params.version)
            self._swap(params)
        if self._last_good is not None and self._kept != (params.version, params.hash):
            self._save_last_good(self._last_good, params)

    def _swap(self, params: Params) -> None:
        self.params = params
        _show(params)
        self._taken += len(self._on_swap)
        for on_swap in self._on_swap:
            on_swap(params)

    def _count_taken(self) -> None:
        """Count what was taken until now as what it was: the newest set, or one from before an outage."""
        taken, self._taken = self._taken, 0
        if taken:
            self.counts.record(WHOLE_SET, self.degraded is None, taken)

    def _degrade(self, error: TonsuranceError) -> None:
        self._count_taken()
        self._failures += 1
        metrics.CONFIG_DEGRADED.set(1)
        reason = f"{error.message} In force: version {self._params.version} from {self.source} ({error.code})."
        if self.degraded != reason:
            logger.warning("config_degraded", code=error.code, error=error.message, version=self._params.version)
        self.degraded = reason

    def _take_last_good(self, path: Path) -> None:
        try:
            params = load_last_good(path)
        except NoLastGood as error:
            logger.info("config_no_last_good", reason=error.message)
            return
        self.source, self._kept = "disk", (params.version, params.hash)
        self._swap(params)

    def _save_last_good(self, path: Path, params: Params) -> None:
        try:
            save_last_good(path, params)
            self._kept = (params.version, params.hash)
        except OSError as error:  # the parameters hold all the same; a start without database would miss them
            logger.error("config_not_kept_on_disk", error=str(error))

    async def _write_sample(self) -> None:
        self._count_taken()
        await write_sample(self._pool, self._process, self.counts)

    async def _stop_following(self) -> None:
        tasks, self._tasks = self._tasks, []
        if self._stop is not None:
            self._stop.set()
        self._stop_poll.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_RETRY_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _make_pool(self, dsn: str) -> LazyPool:
        name = f"tonsurance-config {self._process}"
        return LazyPool(dsn, max_size=_POOL_SIZE, application_name=name, role=self._role)


def _show(params: Params) -> None:
    metrics.CONFIG_VERSION.set(params.version)
    metrics.CONFIG_ENTRIES.set(len(params.values))
