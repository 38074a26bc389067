"""Says how the service is and, for everything that is not well, why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.services.ports import ContractSync, LedgerState
from tonsurance.services.tranche_reads import Freshness, TrancheReads

ALERTS, REDIS = "alerts", "redis"
"""Names of components without which figures are still served: they do not keep an instance from its traffic."""

ComponentStatus = Literal["ok", "degraded", "down"]


class Component(msgspec.Struct, frozen=True):
    """One part of the system; `reason` is None when it is well."""

    name: str
    status: ComponentStatus
    reason: str | None = None


class ContractHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A followed contract: logical time behind its head (None: unknown) and seconds since the head was looked at."""

    sync: ContractSync
    lag_lt: int | None
    age_s: float | None
    component: Component


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The whole picture."""

    status: Literal["healthy", "degraded", "unhealthy"]
    components: tuple[Component, ...]
    contracts: tuple[ContractHealth, ...]
    freshness: Freshness
    ledger_version: int | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the status is not `healthy`."""
        return tuple(part.reason for part in self.components if part.reason is not None)


class HealthReads:
    """Judges what the tranche reads hold. `quiet_after_s`: a contract whose head nobody looked at for longer than
    this is not followed.
    """

    def __init__(self, reads: TrancheReads, *, quiet_after_s: float) -> None:
        self._reads = reads
        self._quiet_after_s = quiet_after_s
        self._configuration: Callable[[], str | None] | None = None
        self._alerts: Callable[[], str | None] | None = None
        self._redis: Callable[[], str | None] | None = None

    def watch_alerts(self, trouble: Callable[[], str | None]) -> None:
        """Have alerting judged too: `trouble` says why alerts cannot be relied on now, None when they can."""
        self._alerts = trouble

    def watch_redis(self, degraded: Callable[[], str | None]) -> None:
        """Have Redis judged too: `degraded` says why it is not used now, None when it is."""
        self._redis = degraded

    def watch_configuration(self, degraded: Callable[[], str | None]) -> None:
        """Have the configuration judged too: `degraded` says why it is not current, None when it is."""
        self._configuration = degraded

    def check(self) -> Health:
        """The state of every component now. Reads memory only: it answers when the database does not."""
        freshness = self._reads.freshness
        snapshot = self._reads.snapshot_or_none
        state = None if snapshot is None else snapshot.state
        contracts = (
            () if state is None else tuple(self._check_contract(sync, state, freshness) for sync in state.contracts)
        )
        components = (
            self._check_database(),
            _check_snapshot(state, freshness),
            _check_tranches(state, self._reads.vault_id),
            _check_following(state),
            *self._check_configuration(),
            *self._check_alerts(),
            *self._check_redis(),
            *(contract.component for contract in contracts),
        )
        return Health(
            status=_overall(components, has_data=state is not None),
            components=components,
            contracts=contracts,
            freshness=freshness,
            ledger_version=None if state is None else state.version,
        )

    def unready_reasons(self) -> tuple[str, ...]:
        """Why this instance should get no traffic; empty when it should."""
        parts = self.check().components
        return tuple(part.reason for part in parts if part.reason is not None and part.name not in (ALERTS, REDIS))

    def _check_database(self) -> Component:
        failure = self._reads.failure
        if failure is not None:
            return Component("database", "down", f"The ledger cannot be read ({failure.code}).")
        if self._reads.freshness.age_s is None:
            return Component("database", "down", "The ledger has not been read yet.")
        return Component("database", "ok")

    def _check_redis(self) -> tuple[Component, ...]:
        if self._redis is None:
            return ()
        reason = self._redis()
        return (Component(REDIS, "ok" if reason is None else "degraded", reason),)

    def _check_configuration(self) -> tuple[Component, ...]:
        if self._configuration is None:
            return ()
        reason = self._configuration()
        return (Component("configuration", "ok" if reason is None else "degraded", reason),)

    def _check_alerts(self) -> tuple[Component, ...]:
        if self._alerts is None:
            return ()
        reason = self._alerts()
        return (Component(ALERTS, "ok" if reason is None else "degraded", reason),)

    def _check_contract(self, sync: ContractSync, state: LedgerState, freshness: Freshness) -> ContractHealth:
        age = None if sync.checked_at is None else state.read_at - sync.checked_at + (freshness.age_s or 0.0)
        lag = None if sync.head_lt is None else max(0, sync.head_lt - sync.last_lt)
        name = f"contract {sync.contract_kind}"
        if sync.status != "active":
            component = Component(name, "down", f"{sync.contract_kind} is not followed: its status is {sync.status}.")
        elif age is None or lag is None:
            component = Component(name, "degraded", f"{sync.contract_kind} has not been read up to its head yet.")
        elif age > self._quiet_after_s:
            component = Component(name, "degraded", f"{sync.contract_kind} was last checked {age:.0f} s ago.")
        else:
            component = Component(name, "ok")
        return ContractHealth(sync=sync, lag_lt=lag, age_s=age, component=component)


def _check_snapshot(state: LedgerState | None, freshness: Freshness) -> Component:
    if state is None:
        return Component("snapshot", "down", "There are no figures yet.")
    if freshness.stale:
        return Component("snapshot", "degraded", f"The figures are {freshness.age_s or 0.0:.0f} s old.")
    return Component("snapshot", "ok")


def _check_tranches(state: LedgerState | None, vault_id: str) -> Component:
    totals = () if state is None else state.tranches
    posted = {row.tranche_id for row in totals if row.vault_id == vault_id and row.lt > 0}
    missing = [tranche_id for tranche_id in TRANCHE_IDS if tranche_id not in posted]
    if missing:
        return Component("tranches", "degraded", f"Not posted yet: {', '.join(missing)}.")
    return Component("tranches", "ok")


def _check_following(state: LedgerState | None) -> Component:
    if state is None or not state.contracts:
        return Component("following", "down", "No contract is followed yet.")
    return Component("following", "ok")


def _overall(components: tuple[Component, ...], *, has_data: bool) -> Literal["healthy", "degraded", "unhealthy"]:
    if all(part.status == "ok" for part in components):
        return "healthy"
    return "degraded" if has_data else "unhealthy"
