"""The tranches' rows in Redis, so that processes which share one read PostgreSQL's tables once for each commit.

A stored value carries the ledger version it is of, and is used only for exactly that version, which its reader has
from PostgreSQL in the same moment: an old value in Redis cannot make an answer old. Redis is trusted like the database
it stands beside: who may write there could forge a value of the right version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable

import msgspec

from tonsurance import metrics
from tonsurance.bus.redis import FAILURES, Circuit, connect_redis
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.db.tranches import TrancheRow

TTL_S = 30
MAX_BYTES = 4_000_000
_SCHEMA = hashlib.sha256(",".join(TrancheRow.__struct_fields__).encode()).hexdigest()[:12]
"""Another program's rows are not ours: its key is another."""


class _Stored(msgspec.Struct, frozen=True):
    version: int
    rows: tuple[TrancheRow, ...]


_decoder = msgspec.msgpack.Decoder(_Stored)


class SharedCache:
    """One Redis for any number of processes. `system` is the database's identity: several on one Redis do not mix.

    No method raises or waits long for Redis; `degraded` says when it cannot be used.
    """

    def __init__(self, url: str, *, ttl_s: int = TTL_S) -> None:
        self._client = connect_redis(url)
        self._ttl_s = ttl_s
        self._circuit = Circuit()

    @property
    def degraded(self) -> str | None:
        """Why Redis is not used now; None while it is."""
        return self._circuit.degraded

    async def get_utilizations(self, system: str) -> tuple[int, tuple[TrancheRow, ...]] | None:
        """The version stored last and its rows; None when there is nothing usable."""
        data = await self._try(self._client.get(_key(system))) if not self._circuit.is_open else None
        if not isinstance(data, bytes):
            metrics.REDIS_READS.labels("none").inc()
            return None
        stored = _read(data)
        metrics.REDIS_READS.labels("found" if stored is not None else "garbage").inc()
        return None if stored is None else (stored.version, stored.rows)

    async def store_utilizations(self, system: str, version: int, rows: tuple[TrancheRow, ...]) -> None:
        """Let the others have these rows."""
        data = msgspec.msgpack.encode(_Stored(version, rows))
        if len(data) <= MAX_BYTES and not self._circuit.is_open:
            await self._try(self._client.set(_key(system), data, ex=self._ttl_s))

    async def invalidate(self, system: str) -> None:
        """Take the rows out."""
        if not self._circuit.is_open:
            await self._try(self._client.delete(_key(system)))

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def _try(self, asking: Awaitable[object]) -> object:
        try:
            answer = await asking
        except FAILURES as error:
            self._circuit.failed(error)
            return None
        self._circuit.succeeded()
        return answer


def _key(system: str) -> str:
    return f"tonsurance:{system}:{_SCHEMA}:tranches"


def _read(data: bytes) -> _Stored | None:
    """What stands there, when it is something of ours."""
    if len(data) > MAX_BYTES:
        return None
    try:
        stored = _decoder.decode(data)
    except (msgspec.DecodeError, ValueError):
        return None
    known = all(row.tranche_id in TRANCHE_IDS and row.ledger_version <= stored.version for row in stored.rows)
    return stored if known and stored.version >= 0 else None
