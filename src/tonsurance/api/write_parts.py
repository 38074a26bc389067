"""The writing routes of one API process, joined: reservations, and who may make them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tonsurance.api.admin_guard import AdminGuard
from tonsurance.api.admin_settings import AdminSettings
from tonsurance.api.reservations import WriteParts
from tonsurance.api.write_guard import WriteGuard
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.admin_records import AdminRecords
from tonsurance.services.admin_tokens import TokenKeys
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.reservations import Reservations

TELL_AFTER_S = 0.1
"""Changes of what is held are told together this long after the first of them."""


class WriteWiring:
    """Makes the writing routes' parts over a pool of their own. Raises UsageError for a secret that is too weak."""

    def __init__(
        self,
        dsn: str,
        loader: ConfigLoader,
        secret: str | None,
        previous_secret: str | None,
        *,
        proxies: tuple[str, ...],
        open_to_all: bool,
    ) -> None:
        """Without a secret no token is accepted; with `open_to_all` none is needed."""
        self._pool = LazyPool(dsn, max_size=4, application_name="tonsurance reservations", role=ROLE_OF["reservations"])
        self._people = LazyPool(dsn, max_size=1, application_name="tonsurance tokens", role=ROLE_OF["admin api"])
        self._loader = loader
        self._keys = None if secret is None else TokenKeys(secret, previous_secret)
        self._settings = AdminSettings(proxies=proxies)
        self._open = open_to_all
        self._reservations: Reservations | None = None

    def make(self, on_change: Callable[[], None]) -> WriteParts:
        """The parts; `on_change` is called soon after something changed what is held."""
        teller = Teller(on_change)
        self._reservations = Reservations(self._pool, lambda: self._loader.params, on_change=teller.note)
        tokens = None
        if self._keys is not None:
            tokens = AdminGuard(self._keys, AdminRecords(self._people), self._settings, self._rate_limit)
        return WriteParts(reservations=self._reservations, guard=WriteGuard(tokens, open_to_all=self._open))

    def _rate_limit(self) -> int:
        return self._loader.get_int("api", "key_rate_limit")

    async def close(self) -> None:
        """Decide what was submitted and give the connections back."""
        if self._reservations is not None:
            await self._reservations.close()
        await self._people.close()
        await self._pool.close()


class Teller:
    """Calls back once for all changes of a short time."""

    def __init__(self, on_change: Callable[[], None], *, after_s: float = TELL_AFTER_S) -> None:
        self._on_change = on_change
        self._after_s = after_s
        self._waiting = False

    def note(self) -> None:
        """Something changed."""
        if not self._waiting:
            self._waiting = True
            asyncio.get_running_loop().call_later(self._after_s, self._tell)

    def _tell(self) -> None:
        self._waiting = False
        self._on_change()
