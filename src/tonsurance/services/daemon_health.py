"""What a daemon says of its health: in one summary of figures and reasons, and as lines for people."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from tonsurance.chain.endpoint import EndpointStatus
from tonsurance.core import daemon_alerts as kinds
from tonsurance.core.params import Params
from tonsurance.core.units import WHOLE_PERCENT
from tonsurance.db.daemons import EventCount, Sums
from tonsurance.services.daemon_watch import DaemonWatch, find_faults
from tonsurance.services.ingest import IngestStatus
from tonsurance.services.task_supervision import TaskState

Status = Literal["HEALTHY", "DEGRADED", "UNHEALTHY"]
_SIGNS: Mapping[str, str] = {"HEALTHY": "✅", "DEGRADED": "⚠️", "UNHEALTHY": "❌"}
_DOWN = (kinds.CHAIN_AWAY, kinds.DATABASE_AWAY, kinds.HEAD_STALLED)
_POLICY, _PAYOUT = "PolicyCreated", "PayoutExecuted"
_HOUR_S = 3_600.0
_WIDTH = 46


class EventFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Events of contracts in the audit log, and the unix time the last was posted at (None: there is none)."""

    total: int = 0
    policies: int = 0
    payouts: int = 0
    last_id: int = 0
    last_at: float | None = None

    def plus(self, counts: Sequence[EventCount]) -> EventFigures:
        """With what was posted after the last of these."""
        by_type = {count.event_type: count.events for count in counts}
        return EventFigures(
            total=self.total + sum(by_type.values()),
            policies=self.policies + by_type.get(_POLICY, 0),
            payouts=self.payouts + by_type.get(_PAYOUT, 0),
            last_id=max((count.last_id for count in counts), default=self.last_id),
            last_at=max((count.last_at for count in counts), default=self.last_at),
        )


class ContractReport(msgspec.Struct, frozen=True, kw_only=True):
    """A followed contract. `quiet_s`: how long its cursor has stood although it is at the head."""

    contract: str
    kind: str
    status: str
    cursor_lt: int
    head_lt: int
    lag_lt: int
    quiet_s: float
    error: str | None
    read: int = 0
    posted: int = 0
    from_lt: int = 0
    rate: float = 0.0


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one moment; amounts in nanoTON, times in unix seconds. `reasons`: why it is not healthy."""

    at: float
    role: str
    status: Status
    reasons: tuple[str, ...]
    uptime_s: float
    vault_syncs: int
    errors: int
    events: EventFigures
    capital: int
    coverage: int
    tranches: int
    tasks: tuple[TaskState, ...]
    contracts: tuple[ContractReport, ...]
    endpoints: tuple[EndpointStatus, ...]


class DaemonHealth:
    """Figures of one process, and the summary they make. Nothing here waits for anything."""

    def __init__(
        self,
        watch: DaemonWatch,
        params: Callable[[], Params],
        *,
        network: str,
        endpoints: Callable[[], Sequence[EndpointStatus]] = tuple,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self.watch = watch
        self.params = params
        self.network = network
        self.host, self.pid = socket.gethostname(), os.getpid()
        self.instance_id = f"{self.host}:{self.pid}:{secrets.token_hex(4)}"
        self.started_at = time.time()
        self.events = EventFigures()
        self.sums = Sums(0, 0, 0)
        self.vault_syncs = 0
        self._endpoints = endpoints
        self._leads = leads

    def note_vault_sync(self) -> None:
        """A vault was held against its contract."""
        self.vault_syncs += 1

    @property
    def role(self) -> str:
        """Whether this is the active daemon or one that stands by."""
        return "active" if self._leads() else "standby"

    def report(self) -> HealthReport:
        """The summary now."""
        faults = find_faults(self.watch.figures(self.params()), self.params())
        contracts = tuple(self._report_contract(status) for status in self.watch.contracts)
        stopped = [f"{item.kind} {item.contract}: {item.error}" for item in contracts if item.status == "error"]
        status: Status = "DEGRADED" if faults or stopped else "HEALTHY"
        if any(kind in _DOWN for kind, _ in faults):
            status = "UNHEALTHY"
        return HealthReport(
            at=time.time(),
            role=self.role,
            status=status,
            reasons=(*(words for _, words in faults), *stopped),
            uptime_s=time.time() - self.started_at,
            vault_syncs=self.vault_syncs,
            errors=self.watch.errors,
            events=self.events,
            capital=self.sums.capital,
            coverage=self.sums.coverage,
            tranches=self.sums.tranches,
            tasks=tuple(self.watch.tasks),
            contracts=contracts,
            endpoints=tuple(self._endpoints()),
        )

    def _report_contract(self, status: IngestStatus) -> ContractReport:
        done = status.progress
        return ContractReport(
            contract=status.contract,
            kind=status.contract_kind,
            status=status.status,
            cursor_lt=status.cursor_lt,
            head_lt=status.head_lt,
            lag_lt=status.lag_lt,
            quiet_s=self.watch.quiet_s(status.contract) if status.lag_lt == 0 else 0.0,
            error=status.error,
            read=0 if done is None else done.read,
            posted=0 if done is None else done.posted,
            from_lt=status.cursor_lt if done is None else done.from_lt,
            rate=0.0 if done is None else done.rate,
        )


def render_report(report: HealthReport) -> list[str]:
    """The summary as lines: the figures in a box, the tranches together, and what is wrong."""
    figures = (
        f"Uptime: {report.uptime_s / _HOUR_S:.2f} hours",
        f"Vault syncs: {report.vault_syncs}",
        f"Events processed: {report.events.total}",
        f"Errors: {report.errors}",
        f"Status: {_SIGNS[report.status]} {report.status}" + (" (standing by)" if report.role == "standby" else ""),
    )
    return [
        f"┌─ Integration daemon {'─' * (_WIDTH - 22)}",
        *(f"│ {line}" for line in figures),
        f"└{'─' * (_WIDTH - 1)}",
        render_utilization(report),
        *(f"! {reason}" for reason in report.reasons),
        *filter(None, map(render_contract, report.contracts)),
    ]


def render_utilization(report: HealthReport) -> str:
    """All tranches together."""
    share = "none" if not report.capital else f"{report.coverage / report.capital * WHOLE_PERCENT:.2f}%"
    return (
        f"Utilization: {share} | Capital: {report.capital} nanoTON | Coverage: {report.coverage} nanoTON"
        f" | Cached: {report.tranches} tranches"
    )


def render_events(report: HealthReport) -> str:
    """The line of each minute."""
    events = report.events
    last = "never" if events.last_at is None else f"{max(0.0, report.at - events.last_at):.0f}s ago"
    return (
        f"Event Stats: total={events.total}, policies={events.policies}, payouts={events.payouts},"
        f" errors={report.errors}, last_event={last}"
    )


def render_contract(contract: ContractReport) -> str | None:
    """What a contract does now, when that is something to tell."""
    name = f"{contract.kind} {contract.contract}"
    if contract.lag_lt == 0:
        return f"{name}: quiet for {contract.quiet_s:.0f} s, nothing is missing" if contract.quiet_s > 0 else None
    if contract.read == 0:
        return f"{name}: {contract.lag_lt} behind its head {contract.head_lt}"
    return (
        f"{name}: reading up, {contract.read} read, {contract.posted} posted, lt {contract.from_lt} -"
        f" {contract.cursor_lt} - {contract.head_lt}, {contract.rate:.0f} transactions/s"
    )
