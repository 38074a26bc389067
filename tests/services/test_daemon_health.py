"""What the daemon knows of itself: crashes, outages and errors become alerts that end by themselves, and are shown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
import structlog

from db.chain_story import FACTORY, VAULT, batch, deposit, policy_created, register, transaction
from services.database_door import DatabaseDoor
from tonsurance.core.alert_kinds import KINDS
from tonsurance.core.daemon_alerts import DAEMON_KINDS, read_figure
from tonsurance.core.errors import ChainUnavailable
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params
from tonsurance.db.daemons import EventCount, select_statuses
from tonsurance.db.pool import Connection, connect
from tonsurance.services.alerting import AlertService
from tonsurance.services.daemon_health import DaemonHealth, EventFigures, HealthReport, render_events, render_report
from tonsurance.services.daemon_reports import DaemonReports, say_report
from tonsurance.services.daemon_watch import DaemonWatch, find_faults
from tonsurance.services.ingest import IngestStatus, Progress
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.task_supervision import TaskState

SECOND = 1.0
HOUR = 3_600.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def status(contract: str = VAULT, **changes: object) -> IngestStatus:
    """A contract that is at its head."""
    values: dict[str, object] = {
        "contract": contract, "contract_kind": "MultiTrancheVault", "status": "active", "cursor_lt": 500,
        "head_lt": 500, "head_seqno": 7, "checked_at": 1.0, "error_code": None, "error": None, "caught_up_at": 1.0,
    }  # fmt: skip
    return IngestStatus(**(values | changes))


class Watched:
    """A watch whose clock, contracts and tasks are the test's, and the alerts it makes in a real database."""

    def __init__(self, dsn: str, conn: Connection) -> None:
        self.clock = Clock()
        self.watch = DaemonWatch(clock=self.clock)
        self.contracts: list[IngestStatus] = []
        self.tasks: list[TaskState] = []
        self.conn = conn
        self.pool = LazyPool(dsn)
        self.params: Params = DEFAULT_PARAMS
        self.service = AlertService(self.pool, lambda: self.params, (self.watch.evaluator,), recount_after_s=0.0)
        self.watch.begin(lambda: self.contracts, lambda: self.tasks)
        self.watch.note_head(1)

    def after(self, seconds: float, *, moving: bool = True) -> None:
        """Let time pass, with a look at the figures at its end; a chain that answers has moved."""
        self.clock.now += seconds
        if moving and self.watch.chain_answers:
            self.watch.note_head((self.watch.seqno or 0) + 1)
        self.watch.sample(self.params)

    def faults(self) -> list[str]:
        """The kinds that are beyond their line now."""
        return [kind.name for kind, _ in find_faults(self.watch.figures(self.params), self.params)]

    async def told(self) -> list[tuple[str, str | None, str]]:
        """Evaluate; then all that was ever told: kind, item, change."""
        await self.service.evaluate_all()
        rows = await self.conn.fetch("""
            SELECT kind, item, change FROM risk_alert_transitions JOIN risk_alerts USING (alert_id)
            ORDER BY transition_id""")
        return [tuple(row) for row in rows]


@pytest.fixture
async def conn(database: str) -> AsyncIterator[Connection]:
    await register(database)
    conn = await connect(database)
    yield conn
    await conn.close()


@pytest.fixture
async def watched(database: str, conn: Connection) -> AsyncIterator[Watched]:
    found = Watched(database, conn)
    yield found
    await found.pool.close()


async def test_a_crashed_task_alarms_until_it_has_run_well_for_a_while(watched: Watched) -> None:
    watched.tasks = [TaskState(name="history", state="waiting", crashes=1, failures=1)]
    key = ("Task_Crashed", "history")
    assert await watched.told() == [(*key, "opened")]
    watched.tasks = [TaskState(name="history", state="running", since=2e9, crashes=1, failures=1)]
    assert await watched.told() == [(*key, "opened")]
    watched.tasks = [TaskState(name="history", state="running", since=0.0, crashes=1, failures=1)]
    assert await watched.told() == [(*key, "opened"), (*key, "resolved")]


async def test_an_alert_about_what_is_gone_ends(watched: Watched) -> None:
    """A contract that was removed, or a task of the daemon that was active before."""
    watched.tasks = [TaskState(name="history", state="waiting", crashes=1, failures=1)]
    await watched.told()
    watched.tasks = []
    assert [change for *_, change in await watched.told()] == ["opened", "resolved"]


async def test_a_chain_that_is_away_alarms_and_comes_back(watched: Watched) -> None:
    watched.watch.note_chain_failure()
    watched.after(59)
    assert watched.faults() == []
    watched.after(1)
    assert watched.faults() == ["Chain_Away"]
    assert await watched.told() == [("Chain_Away", "TON API", "opened")]
    watched.watch.note_head(2)
    watched.after(0)
    await watched.told()
    assert (await watched.told())[-1] == ("Chain_Away", "TON API", "resolved")


async def test_a_head_that_stands_still_alarms_and_one_that_moves_does_not(watched: Watched) -> None:
    for _ in range(8):
        watched.after(59)
    assert watched.faults() == []
    watched.after(60, moving=False)
    watched.watch.note_head(9)
    assert watched.faults() == ["Head_Stalled"]
    assert await watched.told() == [("Head_Stalled", "masterchain", "opened")]
    watched.watch.note_chain_failure()
    assert await watched.told() == [("Head_Stalled", "masterchain", "opened")]  # nobody knows now
    watched.watch.note_head(10)
    assert (await watched.told())[-1] == ("Head_Stalled", "masterchain", "resolved")


async def test_a_quiet_contract_is_no_fault(watched: Watched) -> None:
    for minute in range(60):
        watched.contracts = [status(caught_up_at=float(minute))]
        watched.after(60)
    assert watched.faults() == []
    assert await watched.told() == []
    assert watched.watch.quiet_s(VAULT) == pytest.approx(59 * 60)


@pytest.mark.parametrize(
    "stuck",
    [status(caught_up_at=1.0), status(cursor_lt=400, caught_up_at=None, status="error")],
    ids=["its head cannot be read", "its head is beyond the cursor"],
)
async def test_no_events_in_five_minutes_alarms_when_the_contract_is_not_at_its_head(
    watched: Watched, stuck: IngestStatus
) -> None:
    watched.contracts = [stuck]
    watched.after(0)
    watched.after(299)
    assert watched.faults() == []
    watched.after(1)
    [told] = [words for _, words in find_faults(watched.watch.figures(watched.params), watched.params)]
    assert told == f"No events processed in 5 minutes (possible API failure): {VAULT}"
    assert await watched.told() == [("No_Events_Processed", VAULT, "opened")]
    watched.contracts = [status(caught_up_at=9.0)]
    watched.after(0)
    await watched.told()
    assert (await watched.told())[-1] == ("No_Events_Processed", VAULT, "resolved")


async def test_a_long_walk_that_goes_on_reading_is_no_fault(watched: Watched) -> None:
    for read in range(1, 30):
        watched.contracts = [status(cursor_lt=0, caught_up_at=None, transactions_read=read * 100)]
        watched.after(60)
    assert watched.faults() == []


async def test_more_than_five_sync_errors_within_an_hour_are_critical(watched: Watched) -> None:
    for _ in range(5):
        watched.watch.note_error("chain_unavailable")
        watched.after(10)
    assert watched.faults() == []
    watched.watch.note_error("chain_unavailable")
    assert watched.faults() == ["Sync_Errors"]
    assert await watched.told() == [("Sync_Errors", "daemon", "opened")]
    severity = await watched.conn.fetchval("SELECT severity FROM risk_alerts")
    watched.after(HOUR - 49)
    assert severity == "Critical"
    assert watched.faults() == []
    await watched.told()
    assert (await watched.told())[-1] == ("Sync_Errors", "daemon", "resolved")
    watched.params = build_params({("risk", "sync_errors_per_hour"): 1}, 2)
    assert watched.faults() == ["Sync_Errors"]


async def test_what_could_not_be_stored_is_logged_and_told_with_its_worst_value_afterwards(watched: Watched) -> None:
    """Database and chain are away together; both are back before anything can be stored."""
    watched.watch.note_database(answers=False)
    watched.watch.note_chain_failure()
    with structlog.testing.capture_logs() as lines:
        watched.after(90)
        watched.watch.note_head(2)
        watched.after(10)
    assert "🚨 DATABASE AWAY: out of reach for 90 s (limit: 10 s)" in {line["event"] for line in lines}
    assert "🚨 CHAIN AWAY: no answer of the TON API for 90 s (limit: 60 s)" in {line["event"] for line in lines}
    watched.watch.note_database(answers=True)
    watched.after(1)
    assert watched.faults() == []
    assert sorted(await watched.told()) == [
        ("Chain_Away", "TON API", "opened"),
        ("Database_Away", "database", "opened"),
    ]
    values = {row[0]: row[1] for row in await watched.conn.fetch("SELECT kind, value FROM risk_alerts")}
    assert values == {"Chain_Away": 90.0, "Database_Away": 100.0}
    assert [change for *_, change in await watched.told()] == ["opened", "opened", "resolved", "resolved"]


async def test_what_an_evaluation_that_was_rolled_back_had_offered_is_offered_again(watched: Watched) -> None:
    watched.watch.note_database(answers=False)
    watched.after(90)
    watched.watch.note_database(answers=True)
    watched.after(1)
    await watched.conn.execute("ALTER TABLE risk_alerts ADD CONSTRAINT die CHECK (kind <> 'Database_Away')")
    with contextlib.suppress(Exception):
        await watched.service.evaluate_all()
    await watched.conn.execute("ALTER TABLE risk_alerts DROP CONSTRAINT die")
    assert await watched.told() == [("Database_Away", "database", "opened")]


async def test_who_stands_by_says_it_in_its_log(watched: Watched) -> None:
    watched.watch.end()
    watched.watch.note_chain_failure()
    with structlog.testing.capture_logs() as lines:
        watched.after(61)
        watched.watch.note_head(2)
        watched.after(1)
    assert [line["log_level"] for line in lines] == ["error", "info"]


async def test_a_change_wakes_the_alerts_once(watched: Watched) -> None:
    woken: list[float] = []
    watched.watch.on_change = lambda: woken.append(watched.clock.now)
    watched.watch.note_chain_failure()
    for _ in range(100):
        watched.after(1)
    watched.watch.note_head(2)
    watched.after(0)
    assert woken == [1_060.0, 1_100.0]


def test_every_kind_has_a_limit_and_words() -> None:
    names = ["Task_Crashed", "Head_Stalled", "Chain_Away", "Database_Away", "No_Events_Processed", "Sync_Errors"]
    assert [kind.name for kind in DAEMON_KINDS] == names
    for kind in DAEMON_KINDS:
        reading = read_figure(kind, "x", 1_000.0, DEFAULT_PARAMS)
        assert kind.passes(1_000.0, reading.lines[0].limit)
        assert kind.describe(reading.subject, 1_000.0, reading.lines[0].limit)
        assert KINDS[kind.name] is kind


def make_health(watched: Watched) -> DaemonHealth:
    return DaemonHealth(watched.watch, lambda: watched.params, network="http://127.0.0.1:1")


async def test_the_summary_has_the_documented_figures(watched: Watched) -> None:
    health = make_health(watched)
    health.started_at -= 24.53 * HOUR
    for _ in range(294):
        health.note_vault_sync()
    health.events = EventFigures(total=1247, policies=1183, payouts=64, last_id=1247, last_at=0.0)
    report = msgspec.structs.replace(
        health.report(), capital=50_000_000_000, coverage=34_210_000_000, tranches=6, at=5.0
    )
    text = "\n".join(render_report(report))
    for words in (
        "Uptime: 24.53 hours",
        "Vault syncs: 294",
        "Events processed: 1247",
        "Errors: 0",
        "Status: ✅ HEALTHY",
        "Utilization: 68.42% | Capital: 50000000000 nanoTON | Coverage: 34210000000 nanoTON | Cached: 6 tranches",
    ):
        assert words in text
    assert render_events(report) == "Event Stats: total=1247, policies=1183, payouts=64, errors=0, last_event=5s ago"
    never = msgspec.structs.replace(report, events=EventFigures())
    assert render_events(never).endswith("last_event=never")


async def test_the_status_says_what_is_wrong(watched: Watched) -> None:
    health = make_health(watched)
    assert (health.report().status, health.report().reasons) == ("HEALTHY", ())
    watched.contracts = [status(status="error", error="capital would become -1 nanoTON.", cursor_lt=400)]
    assert health.report().status == "DEGRADED"
    assert "capital would become -1" in health.report().reasons[0]
    watched.watch.note_chain_failure()
    watched.clock.now += 61
    assert (health.report().status, len(health.report().reasons)) == ("UNHEALTHY", 2)
    assert "! CHAIN AWAY" in "\n".join(render_report(health.report()))


async def test_progress_and_quiet_are_said(watched: Watched) -> None:
    health = make_health(watched)
    progress = Progress(read=200, posted=100, from_lt=1, at_lt=50, to_lt=500, seconds=2.0)
    watched.contracts = [status(cursor_lt=50, caught_up_at=None, progress=progress)]
    [line] = render_report(health.report())[-1:]
    assert line.endswith("reading up, 200 read, 100 posted, lt 1 - 50 - 500, 50 transactions/s")
    watched.contracts = [status()]
    watched.after(0)
    watched.after(120)
    assert render_report(health.report())[-1].endswith("quiet for 120 s, nothing is missing")
    with structlog.testing.capture_logs() as lines:
        say_report(health.report())
    assert {"Status: ✅ HEALTHY", "health"} <= {line["event"].removeprefix("│ ") for line in lines}


def test_counts_grow_by_what_was_posted_since() -> None:
    figures = EventFigures().plus([EventCount("DepositMade", 3, 7, 10.0), EventCount("PolicyCreated", 2, 9, 11.0)])
    more = figures.plus([EventCount("PayoutExecuted", 1, 12, 13.0)]).plus([])
    assert (more.total, more.policies, more.payouts, more.last_id, more.last_at) == (6, 2, 1, 12, 13.0)


class FakeChain:
    """Answers with the next masterchain block, or not at all."""

    def __init__(self) -> None:
        self.away = False
        self.asked = asyncio.Event()

    async def get_masterchain_info(self) -> object:
        self.asked.set()
        raise ChainUnavailable


@contextlib.asynccontextmanager
async def speaking(watched: Watched, dsn: str) -> AsyncIterator[tuple[DaemonHealth, DaemonReports]]:
    """The reports of a daemon, every few milliseconds, until the block ends."""
    health = make_health(watched)
    reports = DaemonReports(
        health, FakeChain(), LazyPool(dsn), head_every_s=0.01, heartbeat_s=0.01, sample_s=0.01  # type: ignore[arg-type]
    )  # fmt: skip
    stop = asyncio.Event()
    running = [asyncio.create_task(_run(task.run, stop)) for task in reports.tasks]
    try:
        yield health, reports
    finally:
        stop.set()
        await asyncio.wait(running)
        await reports.close()


async def _run(run: Callable[[asyncio.Event], Awaitable[object]], stop: asyncio.Event) -> None:
    await run(stop)


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await done():
            await asyncio.sleep(0.01)


async def test_the_row_has_real_counts_and_says_when_the_daemon_ended(
    watched: Watched, database: str, conn: Connection
) -> None:
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(transaction(10, deposit(1, 10**12)), transaction(11, deposit(1, 5))))
    await writer.submit(batch(transaction(20, policy_created(1), contract=FACTORY), contract=FACTORY))
    await writer.close()
    async with speaking(watched, database) as (health, _):

        async def counted() -> bool:
            rows = await select_statuses(conn)
            return bool(rows) and msgspec.json.decode(rows[0].report, type=HealthReport).events.total == 3

        await _until(counted)
        [row] = await select_statuses(conn)
        report = msgspec.json.decode(row.report, type=HealthReport)
        assert (report.events.policies, report.events.payouts, report.capital) == (1, 0, 10**12 + 5)
        assert (row.role, row.instance_id, row.network) == ("active", health.instance_id, "http://127.0.0.1:1")
        assert row.age_s < 60
    [row] = await select_statuses(conn)
    assert row.role == "stopped"


async def test_the_daemon_notices_its_database_going_and_coming(watched: Watched, database: str) -> None:
    door = DatabaseDoor(database)
    await door.open()
    try:
        async with speaking(watched, door.dsn):

            async def answers() -> bool:
                return watched.watch.database_answers

            async def silent() -> bool:
                return not watched.watch.database_answers

            await _until(answers)
            await door.shut()
            await _until(silent)
            await door.open()
            await _until(answers)
    finally:
        await door.shut()


async def test_a_chain_that_does_not_answer_is_noticed_and_health_is_said_on_demand(
    watched: Watched, database: str
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with speaking(watched, database) as (_, reports):

            async def away() -> bool:
                return not watched.watch.chain_answers

            async def said() -> bool:
                return any(line["event"] == "health" for line in lines)

            await _until(away)
            reports.say_now()
            await _until(said)
    assert any(line["event"].startswith("Event Stats: total=") for line in lines)


async def test_a_daemon_that_takes_over_does_not_end_the_alert_of_the_hour_before_it(watched: Watched) -> None:
    for _ in range(6):
        watched.watch.note_error("chain_unavailable")
    opened = ("Sync_Errors", "daemon", "opened")
    assert await watched.told() == [opened]
    watched.watch = DaemonWatch(clock=watched.clock)  # it has counted nothing yet
    watched.watch.begin(lambda: watched.contracts, lambda: watched.tasks)
    watched.watch.note_head(1)
    watched.service = AlertService(
        watched.pool, lambda: watched.params, (watched.watch.evaluator,), recount_after_s=0.0
    )
    for _ in range(3):
        watched.after(HOUR / 4)
        assert await watched.told() == [opened]
    watched.after(HOUR / 4)
    await watched.told()
    assert (await watched.told())[-1] == ("Sync_Errors", "daemon", "resolved")
