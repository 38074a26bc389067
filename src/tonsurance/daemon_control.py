"""What commands ask of the database about daemons and the contracts they follow, and change there.

It imports its parts inside the functions, so that no other command pays for them.
"""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from tonsurance.core.errors import UsageError
from tonsurance.running import run_async
from tonsurance.settings import network_url

if TYPE_CHECKING:
    from tonsurance.db.contracts import ContractState
    from tonsurance.db.daemons import DaemonRow
    from tonsurance.services.contract_admin import ContractAdmin
    from tonsurance.services.daemon_health import ContractReport

FRESH_S = 15.0
"""A daemon that said nothing for longer may be gone; it speaks every two seconds."""
_POLL_S = 1.0


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Which chain is meant: the one that is named, else the active daemon's, else the running stack's."""

    named: str | None
    of_stack: str
    api_key: str | None = None


def show_contracts(dsn: str, *, as_json: bool) -> str:
    """Every contract, what is wanted of it, how far it was read, and what the daemon does with it now."""

    async def work() -> str:
        async with _opened(dsn) as admin:
            states, reports = await admin.read_states(), _find_reports(await admin.read_daemons())
        if as_json:
            return msgspec.json.encode([_as_object(state, reports) for state in states]).decode()
        return "\n".join(_describe(state, reports) for state in states) or "No contract is followed."

    return run_async(work())


def add_contract(dsn: str, chain: Chain, address: str, *, kind: str, vault_id: str, layout: str, note: str) -> str:
    """Follow a contract after it was found to be one of this kind; returns its raw address."""
    from tonsurance.chain.client import TonCenterClient

    async def work() -> str:
        async with _opened(dsn) as admin:
            network = _find_network(await admin.read_daemons(), chain)
            async with TonCenterClient(network, chain.api_key) as client:
                return await admin.add(
                    client, address, kind=kind, vault_id=vault_id, network=network, layout=layout, note=note
                )

    return run_async(work())


def want_contract(dsn: str, chain: Chain, address: str, wanted: str, *, note: str | None) -> str:
    """Want something of a contract: active, paused, removed or backfill; returns its raw address."""

    async def work() -> str:
        async with _opened(dsn) as admin:
            network = _find_network(await admin.read_daemons(), chain)
            return await admin.want(address, wanted, network=network, note=note)

    return run_async(work())


def await_backfill(dsn: str, address: str, *, wait_s: float, say: Callable[[str], None]) -> None:
    """A line a second until the contract is at its head. Raises UsageError when the time is over before."""

    async def work() -> None:
        deadline = time.monotonic() + wait_s
        async with _opened(dsn) as admin:
            while time.monotonic() < deadline:
                [state] = [item for item in await admin.read_states() if item.contract_address == address]
                say(_describe(state, _find_reports(await admin.read_daemons())))
                if state.wanted != "backfill" and state.head_lt is not None and state.last_synced_lt >= state.head_lt:
                    return
                await asyncio.sleep(_POLL_S)
        raise UsageError(f"{address} is not at its head after {wait_s:g} s.", advice="It goes on: contracts list")

    run_async(work())


def show_daemons(dsn: str, *, as_json: bool) -> tuple[bool, str]:
    """Whether one active daemon is healthy, and what each daemon says of itself."""
    from tonsurance.db.daemons import select_statuses
    from tonsurance.db.pool import acquire, open_pool
    from tonsurance.db.roles import ROLE_OF

    async def work() -> tuple[DaemonRow, ...]:
        pool = await open_pool(dsn, max_size=1, application_name="tonsurance health", role=ROLE_OF["health"])
        try:
            async with acquire(pool) as conn:
                return await select_statuses(conn)
        finally:
            await pool.close()

    rows = run_async(work())
    objects = [{**msgspec.to_builtins(row), "report": msgspec.Raw(row.report.encode())} for row in rows]
    text = msgspec.json.encode(objects).decode() if as_json else _describe_daemons(rows)
    return [row.status for row in rows if _is_active(row)] == ["HEALTHY"], text


@asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[ContractAdmin]:
    """The list of contracts, as the person who runs the command."""
    from tonsurance.db.pool import open_pool
    from tonsurance.db.roles import ROLE_OF
    from tonsurance.services.contract_admin import ContractAdmin

    pool = await open_pool(dsn, max_size=1, application_name="tonsurance contracts", role=ROLE_OF["contracts"])
    try:
        yield ContractAdmin(pool, actor=getpass.getuser())
    finally:
        await pool.close()


def _is_active(row: DaemonRow) -> bool:
    return row.role == "active" and row.age_s <= FRESH_S


def _find_network(rows: tuple[DaemonRow, ...], chain: Chain) -> str:
    followed = next((row.network for row in rows if _is_active(row)), None)
    if chain.named is not None:
        given = network_url(chain.named)
        if followed not in (None, given):
            raise UsageError(f"The daemon follows {followed}, not {given}.")
        return given
    found = followed or chain.of_stack
    if not found:
        raise UsageError("No daemon is active and no chain is named.", advice="Give --network, or start a daemon.")
    return found


def _find_reports(rows: tuple[DaemonRow, ...]) -> dict[str, ContractReport]:
    """What the active daemon says of its contracts; nothing when none is active."""
    from tonsurance.services.daemon_health import HealthReport

    for row in rows:
        if _is_active(row):
            report = msgspec.json.decode(row.report, type=HealthReport)
            return {contract.contract: contract for contract in report.contracts}
    return {}


def _as_object(state: ContractState, reports: dict[str, ContractReport]) -> dict[str, object]:
    return {**msgspec.to_builtins(state), "daemon": msgspec.to_builtins(reports.get(state.contract_address))}


def _describe(state: ContractState, reports: dict[str, ContractReport]) -> str:
    from tonsurance.services.daemon_health import render_contract

    report = reports.get(state.contract_address)
    head = "?" if state.head_lt is None else str(state.head_lt)
    lines = [
        f"{state.contract_address}  {state.contract_type} of {state.vault_id} ({state.layout})",
        f"  {state.wanted}, {state.sync_status}; lt {state.last_synced_lt} of {head};"
        f" {state.total_events_synced} events; by {state.changed_by}" + (f": {state.note}" if state.note else ""),
    ]
    doing = None if report is None else render_contract(report)
    told = [state.error_message, None if report is None else report.error, doing]
    return "\n".join([*lines, *(f"  {line}" for line in dict.fromkeys(filter(None, told)))])


def _describe_daemons(rows: tuple[DaemonRow, ...]) -> str:
    from tonsurance.services.daemon_health import HealthReport, render_report

    lines: list[str] = []
    for row in rows:
        silent = row.role != "stopped" and row.age_s > FRESH_S
        said = "silent, it may be gone" if silent else row.role
        lines.append(f"{row.instance_id} on {row.network}: {said}; said {row.age_s:.0f} s ago")
        if row.role == "stopped" or silent:
            continue
        report = msgspec.json.decode(row.report, type=HealthReport)
        lines += render_report(report)
        lines += [f"  {endpoint.url}: {endpoint.state}" for endpoint in report.endpoints]
        lines += [f"  task {task.name}: {task.state}, crashed {task.crashes} times" for task in report.tasks]
    return "\n".join(lines) or "No daemon ran within the last day."
