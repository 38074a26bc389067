"""The admin API of one API process, joined: parameters, people, guard. Without a secret there is none."""

from __future__ import annotations

from tonsurance.api.admin_guard import AdminGuard
from tonsurance.api.admin_routes import AdminParts
from tonsurance.api.admin_settings import AdminSettings
from tonsurance.db.roles import ROLE_OF
from tonsurance.services.admin_records import AdminRecords
from tonsurance.services.admin_tokens import TokenKeys
from tonsurance.services.config_admin import ConfigAdmin
from tonsurance.services.config_effects import make_effects
from tonsurance.services.config_loader import ConfigLoader
from tonsurance.services.config_store import ConfigStore
from tonsurance.services.datasets import Datasets
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.tranche_reads import TrancheReads


class AdminWiring:
    """Makes the admin API's parts over a pool of their own. Raises UsageError for a secret that is too weak."""

    def __init__(
        self,
        dsn: str,
        loader: ConfigLoader,
        secret: str,
        previous_secret: str | None,
        *,
        allow: tuple[str, ...],
        proxies: tuple[str, ...],
        approvals: bool,
    ) -> None:
        """`allow`, `proxies` and `approvals` are AdminSettings."""
        self._pool = LazyPool(dsn, max_size=2, application_name="tonsurance admin", role=ROLE_OF["admin api"])
        self._loader = loader
        self._keys = TokenKeys(secret, previous_secret)
        self._settings = AdminSettings(allow=allow, proxies=proxies, approvals=approvals)

    def make(self, reads: TrancheReads) -> AdminParts:
        """The parts; what a dry run shows is computed from what `reads` serves."""
        records = AdminRecords(self._pool)
        admin = ConfigAdmin(
            ConfigStore(self._pool),
            records,
            make_effects(),
            self._loader,
            snapshot=lambda: reads.snapshot_or_none,
            approvals=self._settings.approvals,
        )
        guard = AdminGuard(self._keys, records, self._settings, self._rate_limit)
        datasets = Datasets(self._pool, approvals=self._settings.approvals)
        return AdminParts(admin=admin, datasets=datasets, guard=guard, settings=self._settings)

    def _rate_limit(self) -> int:
        return self._loader.get_int("api", "admin_rate_limit")

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()
