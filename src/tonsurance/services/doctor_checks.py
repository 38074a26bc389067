"""The checks of `doctor`: each looks at one thing that goes wrong, and says what to do about it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping

import httpx
import msgspec

from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import InputError
from tonsurance.core.limits import TrancheRoom, coverage_cap_nano, find_tight_caps, read_rules, tranche_capacity
from tonsurance.core.parameters.registry import REGISTRY
from tonsurance.core.params import Params
from tonsurance.core.tranches import current_apy_percent, utilization
from tonsurance.db import config
from tonsurance.db.config import select_newest, select_version
from tonsurance.db.diagnosis import (
    Following,
    select_clock,
    select_following,
    select_snapshot_lag,
    select_unreflected,
    select_writers,
)
from tonsurance.db.ledger import WRITER_LOCK, select_ledger_version
from tonsurance.db.migrate import migrate
from tonsurance.db.reservations import select_held
from tonsurance.db.tranches import TrancheRow, select_tranches
from tonsurance.services.config_rows import build_version, default_values, read_values, same_json
from tonsurance.services.config_verify import verify_all
from tonsurance.services.doctor import Check, Diagnosis, Examination, ill, well

MOST_SKEW_S = 2.0
QUIET_S = 60.0
REFLECTED_S = 5.0
LEAST_FREE_BYTES = 1 << 30
VERSIONS_BEHIND = 50
READS, LEAST_HIT_RATE = 50, 0.9
LEAST_SHARE = 0.01  # of the tranches' room: a cap that leaves less is taken for a slip
_SAME_APY = 1e-9


async def check_schema(examination: Examination) -> Diagnosis | None:
    """Migrations that were not applied."""
    assert examination.conn is not None
    report = await migrate(examination.conn, dry_run=True, wait_s=1.0)
    if report.applied:
        return ill("schema", f"not applied yet: {', '.join(report.applied)}", "Run `tonsurance migrate`.")
    return well("schema", f"version {report.version}, as this program knows it")


async def check_clock(examination: Examination) -> Diagnosis | None:
    """This machine's clock against the database's."""
    assert examination.conn is not None
    before = examination.patient.clock()
    theirs = await select_clock(examination.conn)
    after = examination.patient.clock()
    skew = max(before - theirs, theirs - after, 0.0)
    if skew > MOST_SKEW_S:
        return ill(
            "clock",
            f"this machine and the database differ by {skew:.1f} s",
            "Have both follow NTP (timedatectl, chronyc): expiries and ages are wrong meanwhile.",
        )
    return well("clock", "this machine and the database agree")


async def check_writer(examination: Examination) -> Diagnosis | None:
    """Whether somebody writes the ledger."""
    assert examination.conn is not None
    if await select_writers(examination.conn, WRITER_LOCK) == 0:
        return ill(
            "ledger writer",
            "nobody writes the ledger",
            "Start the daemon (`tonsurance run` starts it too), and look at its log if it should be there.",
        )
    return well("ledger writer", "one daemon writes the ledger")


async def check_following(examination: Examination) -> Diagnosis | None:
    """Whether every contract is read up to its head."""
    assert examination.conn is not None
    contracts = await select_following(examination.conn)
    if not contracts:
        return ill("following", "no contract is followed yet", "Start the daemon with --vault and --factory.")
    faults = [fault for contract in contracts if (fault := _stuck(contract)) is not None]
    if faults:
        return ill(
            "following",
            "; ".join(faults),
            "Look at the daemon's log and at the TON API. A broken history or a refused event needs a person: see "
            "docs/alerts.md.",
        )
    return well("following", f"{len(contracts)} contracts are read up to their heads")


def _stuck(contract: Following) -> str | None:
    if contract.sync_status != "active":
        return f"{contract.contract_type} is {contract.sync_status}: {contract.error_message or 'no reason was noted'}"
    if contract.age_s is None or contract.age_s > QUIET_S:
        age = "never" if contract.age_s is None else f"{contract.age_s:.0f} s ago"
        return f"{contract.contract_type} was last read {age}"
    return None


async def check_chain(examination: Examination) -> Diagnosis | None:
    """Whether the TON API answers."""
    url = examination.patient.chain_url
    if url is None:
        return None
    try:
        answer = await examination.http.get(f"{url.rstrip('/')}/api/v2/getMasterchainInfo")
        seqno = answer.json()["result"]["last"]["seqno"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return ill(
            "TON API",
            f"it does not answer as it should: {type(error).__name__}",
            "Check the network and --network; with a public API also TON_API_KEY and its rate limit.",
        )
    return well("TON API", f"answers; the newest block is {seqno}")


async def check_stored_configuration(examination: Examination) -> Diagnosis | None:
    """Whether what is stored can be used and is as it was written."""
    assert examination.conn is not None
    name = "configuration as stored"
    async with examination.conn.transaction(isolation="repeatable_read", readonly=True):
        report = await verify_all(examination.conn)
        params = build_version(await select_newest(examination.conn))
    if not report.ok:
        return ill(
            name,
            "; ".join(str(fault) for fault in report.faults[:3]),
            "Somebody changed rows by hand: a value changed that way is used by nobody. `tonsurance config verify` "
            "lists all; change values with `tonsurance config set` or the admin API.",
        )
    return well(name, f"version {params.version}, {report.audit_rows} audit rows, as written")


async def check_configuration_cache(examination: Examination) -> Diagnosis | None:
    """Cache not updating: whether the API works with the newest version."""
    assert examination.conn is not None
    name = "configuration cache"
    figures = await _read_metrics(examination)
    if figures is None:
        return None
    stored = max(1, (await config.select_head(examination.conn)).version)
    used, degraded = figures.get("tonsurance_config_version"), figures.get("tonsurance_config_degraded")
    if used is None:
        return ill(name, "the API does not say which version it uses", "Is it of this program's version? Restart it.")
    if degraded:
        return ill(
            name,
            f"the API works with version {used:.0f} from its disk or from defaults, not from the database",
            "Check the API's own connection to the database (its log says why); it catches up by itself.",
        )
    if used < stored:
        return ill(
            name,
            f"the API uses version {used:.0f}, the newest is {stored}",
            "It polls every 60 s and hears of changes at once: POST /admin/config/reload forces it; then see its log.",
        )
    return well(name, f"the API uses version {used:.0f}, the newest")


async def check_change_reflected(examination: Examination) -> Diagnosis | None:
    """Change not reflected: events with old parameters, and parameters that nothing uses."""
    assert examination.conn is not None
    name = "changes are reflected"
    found = await select_unreflected(examination.conn, REFLECTED_S)
    if found is not None:
        return ill(
            name,
            f"an event was posted with version {found.params_version} at {found.created_at:%H:%M:%S}, "
            f"after version {found.version} held",
            "The daemon did not hear of the change: see its log for `config_degraded`, and restart it.",
        )
    idle = await _find_idle(examination)
    if idle:
        return ill(
            name,
            f"changed, but used by nothing yet: {', '.join(idle)}",
            "These wait for a feature that is not there yet (`awaited_by` in /admin/config); a change has no effect.",
        )
    return well(name, "every change is in use")


async def _find_idle(examination: Examination) -> list[str]:
    assert examination.conn is not None
    newest = await select_newest(examination.conn)
    defaults = default_values()
    values: Mapping[tuple[str, str], object] = {} if newest is None else read_values(newest.values)
    return [
        f"{category}/{key} (awaits {REGISTRY[category, key].awaited_by})"
        for (category, key), value in sorted(values.items())
        if (category, key) in REGISTRY
        and REGISTRY[category, key].awaited_by
        and not same_json(value, defaults[category, key])
    ]


async def check_apy(examination: Examination) -> Diagnosis | None:
    """APY not moving: whether each tranche's row follows its entries and has the curve's APY."""
    assert examination.conn is not None
    entries, snapshot = await select_snapshot_lag(examination.conn)
    if entries is None:
        return well("APY", "nothing was posted yet")
    if snapshot is None or snapshot < entries:
        return ill(
            "APY",
            f"entries were posted at version {entries}, the tranches stand at {snapshot}",
            "Run `tonsurance replay`: it names the rows that differ; then `tonsurance verify`.",
        )
    rows = await select_tranches(examination.conn)
    wrong = [row.tranche_id for row in rows if not _fits_curve(row, await _params_of(examination, row.params_version))]
    if wrong:
        return ill(
            "APY",
            f"not the curve's at the stored utilisation: {', '.join(wrong)}",
            "The row was changed by hand or by another program: run `tonsurance replay`.",
        )
    return well("APY", f"{len(rows)} tranches have the curve's APY at their utilisation")


def _fits_curve(row: TrancheRow, params: Params) -> bool:
    used = utilization(row.total_capital_nanoton, row.coverage_sold_nanoton)
    wanted = current_apy_percent(params.tranche(row.tranche_id), used)
    if wanted is None or row.current_apy is None:
        return wanted is row.current_apy
    return abs(wanted - row.current_apy) <= _SAME_APY


async def _params_of(examination: Examination, version: int) -> Params:
    assert examination.conn is not None
    return build_version(await select_version(examination.conn, version))


async def check_api(examination: Examination) -> Diagnosis | None:
    """Whether the API answers, and from the ledger as it is."""
    assert examination.conn is not None
    url = examination.patient.api_url
    if url is None:
        return None
    stored = await select_ledger_version(examination.conn)
    try:
        answer = (await examination.http.get(f"{url}/health")).json()
        shown = answer.get("ledger_version")
        reasons = answer.get("reasons") or []
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        return ill("API", f"{url} does not answer: {type(error).__name__}", "Is it running? `tonsurance api` or `run`.")
    if shown is not None and int(shown) < stored - VERSIONS_BEHIND:
        return ill("API", f"it shows ledger version {shown}, the ledger is at {stored}", "See its log; restart it.")
    if answer.get("status") != "healthy":
        return ill(
            "API", "; ".join(map(str, reasons)) or "it is not healthy", "Mend what is named; it recovers by itself."
        )
    return well("API", f"healthy, at ledger version {shown}")


async def check_cache(examination: Examination) -> Diagnosis | None:
    """Cache always misses: whether the API answers reads from memory now, whatever it did since its start."""
    before = await _read_metrics(examination)
    if before is None:
        return None
    for _ in range(READS):
        await _get(examination, f"/api/v1/utilization/{TRANCHE_IDS[0]}")
    after = await _read_metrics(examination) or {}
    names = ("tonsurance_tranche_cache_hits", "tonsurance_tranche_cache_misses")
    hits, misses = (after.get(name, 0.0) - before.get(name, 0.0) for name in names)
    asked = hits + misses
    if asked <= 0:
        return well("tranche cache", "the API counted no read: it was started anew, or limits this address")
    if hits / asked < LEAST_HIT_RATE:
        return ill(
            "tranche cache",
            f"{hits / asked:.0%} of {asked:.0f} reads found fresh figures just now",
            "The API cannot keep its figures fresh: look at its database connection and at `live feed` in its log.",
        )
    return well("tranche cache", f"{hits / asked:.1%} of {asked:.0f} reads from memory")


async def check_capacity(examination: Examination) -> Diagnosis | None:
    """Capacity too tight: tranches that refuse cover below the cap of the vault contract, and what takes their room;
    and configured caps that leave next to nothing of what the tranches have."""
    assert examination.conn is not None
    params = build_version(await select_newest(examination.conn))
    rules = read_rules(params)
    held = await select_held(examination.conn)
    tight = []
    vaults: dict[str, list[TrancheRoom]] = {}
    for row in await select_tranches(examination.conn):
        taken = held.get((row.vault_id, row.tranche_id), 0)
        room = TrancheRoom(
            tranche_id=row.tranche_id, capital_nano=row.total_capital_nanoton, coverage_nano=row.coverage_sold_nanoton
        )
        vaults.setdefault(row.vault_id, []).append(room)
        free = tranche_capacity(room, rules)
        capped = coverage_cap_nano(room.capital_nano, params.thresholds.max_utilization) - room.coverage_nano
        if capped <= 0:
            continue  # full, or empty: refusing is right
        if free.available_nano == 0:
            tight.append(
                f"{row.tranche_id} refuses because of {free.binding_limit}, with {capped} nanoTON below the cap"
            )
        elif taken >= free.available_nano:
            tight.append(f"{row.tranche_id}: reservations hold all of its {free.available_nano} nanoTON")
    for vault_id, rooms in vaults.items():
        caps = find_tight_caps(rooms, rules, LEAST_SHARE)
        tight += [f"risk/{cap} leaves a policy of {most} nanoTON in {vault_id}" for cap, most in caps.items()]
    if tight:
        return ill(
            "capacity",
            "; ".join(tight),
            "Reservations end within minutes, or are released; min_collateralization refuses only while "
            "risk/enforce_min_collateralization is on; a cap far below the tranches' room is raised with "
            "`tonsurance config set`. "
            "GET /api/v1/tranche/{id}/capacity and /api/v1/capacity/policy list every limit.",
        )
    return well("capacity", "no tranche refuses cover before the vault contract would, and no cap is far below them")


async def check_home(examination: Examination) -> Diagnosis | None:
    """Room on disk, and processes that should be there."""
    home, pids = examination.patient.home, examination.patient.pids
    if home is None:
        return None
    gone = [name for name, pid in pids.items() if not _is_alive(pid)]
    if gone:
        return ill("processes", f"not running: {', '.join(sorted(gone))}", "Start it again: `tonsurance run`.")
    free = shutil.disk_usage(home).free
    if free < LEAST_FREE_BYTES:
        return ill("disk", f"{free >> 20} MB are left", "Make room: a database without any stops.")
    return well("disk and processes", f"{free >> 30} GB free, {len(pids)} processes run")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_SAMPLE = re.compile(r"^(tonsurance_\w+) ([0-9.e+-]+)$", re.MULTILINE)


async def _read_metrics(examination: Examination) -> dict[str, float] | None:
    """The API's figures without labels; None when no API is known."""
    if examination.patient.api_url is None:
        return None
    answer = await _get(examination, "/metrics")
    return {name: float(value) for name, value in _SAMPLE.findall(answer.text)}


async def _get(examination: Examination, path: str) -> httpx.Response:
    try:
        answer = await examination.http.get(f"{examination.patient.api_url}{path}")
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise InputError(f"The API's {path} does not answer ({type(error).__name__}).") from error
    return answer


CHECKS: tuple[Check, ...] = (
    ("schema", True, check_schema),
    ("clock", True, check_clock),
    ("ledger writer", True, check_writer),
    ("following", True, check_following),
    ("TON API", False, check_chain),
    ("configuration as stored", True, check_stored_configuration),
    ("configuration cache", True, check_configuration_cache),
    ("changes are reflected", True, check_change_reflected),
    ("APY", True, check_apy),
    ("API", True, check_api),
    ("tranche cache", False, check_cache),
    ("capacity", True, check_capacity),
    ("disk and processes", False, check_home),
)


def describe(found: tuple[Diagnosis, ...]) -> tuple[str, ...]:
    """What was found, for people."""
    lines = []
    for diagnosis in found:
        lines.append(f"{'ok   ' if diagnosis.ok else 'FAULT'}  {diagnosis.check}: {diagnosis.finding}")
        if not diagnosis.ok:
            lines.append(f"       -> {diagnosis.advice}")
    faults = sum(not diagnosis.ok for diagnosis in found)
    return (*lines, f"{len(found)} checks, {faults} faults." if faults else f"{len(found)} checks, all well.")


def encode(found: tuple[Diagnosis, ...]) -> str:
    """What was found, as JSON: a list of {check, ok, finding, advice}."""
    return msgspec.json.encode(found).decode()
