"""Alerts over a real ledger: once for each version, the same after a restart, and nothing from figures nobody knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
import structlog

from services.alert_story import TRANCHE, AlertStory, alert_story
from tonsurance.core.alert_kinds import HIGH_UTILIZATION
from tonsurance.core.alerts import Line, Reading, Severity, Subject
from tonsurance.core.errors import DatabaseUnavailable, LedgerRefused, MigrationError
from tonsurance.core.params import Params, build_params
from tonsurance.db.alerts import select_evaluation_ages
from tonsurance.db.direct import DirectUpdate, Part, create_direct_vault, post_direct
from tonsurance.db.pool import Connection, connect
from tonsurance.services.alert_records import AlertRecords, UnknownAlert
from tonsurance.services.alert_tasks import AlertTasks
from tonsurance.services.alerting import TRANCHES, AlertService, Evaluator, Figures
from tonsurance.services.lazy_pool import LazyPool

HIGH = "High_Utilization"


@pytest.fixture
async def story(database: str) -> AsyncIterator[AlertStory]:
    """A tranche with 1,000 TON and no cover."""
    async with alert_story(database) as story:
        yield story


async def test_an_alert_opens_gets_worse_and_is_over(story: AlertStory) -> None:
    for covered in (500, 899, 900, 925, 951, 880, 870, 700):
        await story.cover(covered)
        await story.evaluate()
    assert await story.of_kind(HIGH) == [
        ("opened", "High"), ("updated", "High"), ("updated", "Critical"), ("resolved", "Critical")]  # fmt: skip
    assert await story.of_kind("Utilization_Webhook") == [
        ("opened", "Medium"), ("updated", "Medium"), ("updated", "Medium")]  # fmt: skip
    [alert] = await story.conn.fetch("SELECT * FROM risk_alerts WHERE kind = $1", HIGH)
    assert (alert["vault_id"], alert["tranche_id"]) == ("main", TRANCHE)
    assert alert["resolved_at"] is not None
    assert alert["message"] == "HIGH UTILIZATION: SURE-MEZZ at 87.00% (threshold: 95.00%)"


async def test_the_documented_lines_are_in_the_log(story: AlertStory) -> None:
    await story.cover(925)
    with structlog.testing.capture_logs() as lines:
        await story.evaluate()
    said = {line["event"]: line["log_level"] for line in lines}
    assert said["⚠️  HIGH UTILIZATION: SURE-MEZZ at 92.50% (threshold: 90.00%)"] == "warning"
    assert said["🚨 UNDERCOLLATERALIZED: SURE-MEZZ at 1.08x (minimum: 1.10x)"] == "error"


async def test_the_same_version_again_changes_nothing(story: AlertStory) -> None:
    """Neither by a restart, nor by a second process: two evaluations at the same figures would end the alert."""
    await story.cover(900)
    await story.evaluate()
    await story.cover(700)
    before = await story.evaluate()
    for _ in range(3):
        assert await story.evaluate() == ()
    assert before == ()
    assert await story.of_kind(HIGH) == [("opened", "High")]
    await story.cover(699)
    await story.evaluate()
    assert await story.of_kind(HIGH) == [("opened", "High"), ("resolved", "High")]


async def test_many_processes_at_once_tell_everything_once(story: AlertStory) -> None:
    await story.cover(960)
    told = await asyncio.gather(*(story.evaluate(with_webhook=True) for _ in range(8)))
    assert sorted(map(len, told)) == [0] * 7 + [3]
    assert await story.conn.fetchval("SELECT count(*) FROM webhook_outbox") == 3


async def test_a_quiet_vault_is_evaluated_again_after_a_while(story: AlertStory) -> None:
    for covered in (900, 700):
        await story.cover(covered)
        await story.evaluate()
    await story.conn.execute("UPDATE alert_evaluations SET evaluated_at = now() - interval '31 s'")
    await story.evaluate()
    assert await story.of_kind(HIGH) == [("opened", "High"), ("resolved", "High")]


async def test_alerts_are_the_same_whether_or_not_it_was_restarted_in_the_middle(story: AlertStory, pg: object) -> None:
    """The story's evaluations are each by another process; here they are by one."""
    covers = (500, 900, 925, 960, 920, 915, 870, 910, 700, 700.1)
    for covered in covers:
        await story.cover(covered)
        await story.evaluate()
    restarted = await story.transitions()
    other = pg.create()  # type: ignore[attr-defined]
    try:
        async with alert_story(other) as steady, steady.service() as service:
            for covered in covers:
                await steady.cover(covered)
                await service.evaluate_all()
            assert await steady.transitions() == restarted
    finally:
        pg.drop(other)  # type: ignore[attr-defined]


async def test_what_other_vaults_do_is_no_evaluation_of_a_vaults_alerts(story: AlertStory) -> None:
    """Two evaluations beyond the line end an alert, and they are those of its own figures."""
    await story.cover(905)
    await story.evaluate()
    await story.cover(870)
    await story.evaluate()
    for number in range(5):
        await move_elsewhere(story, number)
        await story.evaluate()
    assert await story.of_kind(HIGH) == [("opened", "High")]
    await story.cover(870.1)
    await story.evaluate()
    assert await story.of_kind(HIGH) == [("opened", "High"), ("resolved", "High")]


async def move_elsewhere(story: AlertStory, number: int) -> None:
    """One commit of another vault."""
    await create_direct_vault(story.conn, "other")
    part = Part("SURE-BTC", capital=1)
    update = DirectUpdate(principal="t", route="r", key=f"{number}", vault_id="other", parts=(part,))
    await post_direct(story.conn, [update], story.params)


async def test_a_quiet_vault_among_busy_ones_is_counted_again_after_a_while(story: AlertStory) -> None:
    for covered in (905, 870):
        await story.cover(covered)
        await story.evaluate()
    await story.conn.execute(
        "UPDATE alert_evaluations SET evaluated_at = now() - interval '31 s' WHERE evaluator <> 'tranches'"
    )
    await move_elsewhere(story, 1)
    await story.evaluate()
    assert await story.of_kind(HIGH) == [("opened", "High"), ("resolved", "High")]
    assert set(await select_evaluation_ages(story.conn)) == {"tranches"}


async def test_who_stands_in_does_nothing_while_a_daemon_writes_the_ledger(story: AlertStory) -> None:
    """The daemon alone knows of a webhook: a transition another process wrote would never be sent."""
    await story.cover(960)
    assert await story.evaluate(leave_to_daemon=True) == ()
    await story.stop_writing()
    assert len(await story.evaluate(leave_to_daemon=True)) == 3


async def test_new_parameters_are_evaluated_at_once(story: AlertStory) -> None:
    await story.cover(800)
    await story.evaluate()
    values = {("risk", "high_utilization"): 0.75, ("risk", "webhook_utilization"): 0.7}
    story.params = build_params(values, 2)
    await story.evaluate()
    assert await story.of_kind(HIGH) == [("opened", "High")]
    assert await story.conn.fetchval("SELECT params_version FROM risk_alerts WHERE kind = $1", HIGH) == 2


async def test_an_alert_opens_again_as_another_one(story: AlertStory) -> None:
    for covered in (900, 700, 701, 900):
        await story.cover(covered)
        await story.evaluate()
    ids = await story.conn.fetch("SELECT alert_id FROM risk_alerts WHERE kind = $1", HIGH)
    assert len({row["alert_id"] for row in ids}) == 2


async def test_nothing_ends_on_figures_of_a_chain_nobody_looks_at(story: AlertStory) -> None:
    await story.cover(900)
    await story.evaluate()
    await story.cover(700)
    await story.see_head(ago_s=600)
    for _ in range(4):
        assert await story.evaluate(recount_after_s=0.0) == ()
    await story.see_head()
    for _ in range(2):
        await story.evaluate(recount_after_s=0.0)
    assert await story.of_kind(HIGH) == [("opened", "High"), ("resolved", "High")]


async def test_nothing_opens_or_ends_while_the_database_is_away(story: AlertStory) -> None:
    await story.cover(900)
    await story.evaluate()
    pool = LazyPool("postgresql://nobody@127.0.0.1:1/nothing")
    service = AlertService(pool, lambda: story.params)
    with pytest.raises(DatabaseUnavailable):
        await service.evaluate_all()
    assert await story.of_kind(HIGH) == [("opened", "High")]


async def test_what_dies_before_its_commit_did_nothing_and_is_done_by_the_next(story: AlertStory) -> None:
    await story.cover(960)

    async def read_and_die(conn: Connection, params: Params) -> Figures:
        figures = await TRANCHES.read(conn, params)
        return Figures(figures.version, (*figures.readings, _breached("other")))

    dying = Evaluator("tranches", TRANCHES.kinds, read_and_die)
    await story.conn.execute("ALTER TABLE risk_alerts ADD CONSTRAINT die CHECK (item IS NULL OR item <> 'other')")
    with pytest.raises(LedgerRefused):
        await story.evaluate(evaluators=[dying])
    assert await story.transitions() == []
    assert await story.conn.fetchval("SELECT count(*) FROM alert_evaluations") == 0
    assert len(await story.evaluate()) == 3


def _breached(item: str) -> Reading:
    return Reading(
        kind=HIGH_UTILIZATION, subject=Subject(item=item), value=0.99, lines=(Line(Severity.HIGH, 0.9),),
        hysteresis=0.02, evaluations=2, step=0.01,
    )  # fmt: skip


async def test_a_new_kind_needs_an_evaluator_and_nothing_else(story: AlertStory) -> None:
    """Such as a bridge's: about no vault, with figures and versions of its own."""
    kind = msgspec.structs.replace(
        HIGH_UTILIZATION, name="Bridge_Health", rising=False,
        describe=lambda subject, value, limit: f"{subject.name} at {value:.2f} (line: {limit:.2f})",
    )  # fmt: skip

    async def read(_conn: Connection, _params: Params) -> Figures:
        return Figures(41, (msgspec.structs.replace(_breached("ton_eth"), kind=kind, value=0.4),))

    await story.cover(960)
    told = await story.evaluate(evaluators=[TRANCHES, Evaluator("bridges", (kind,), read)])
    assert [transition.message for transition in told][-1] == "ton_eth at 0.40 (line: 0.90)"
    row = await story.conn.fetchrow("SELECT * FROM risk_alerts WHERE kind = 'Bridge_Health'")
    assert (row["item"], row["vault_id"], row["ledger_version"]) == ("ton_eth", None, 41)


async def test_a_failing_evaluator_does_not_keep_the_others_from_their_turn(story: AlertStory) -> None:
    async def read(_conn: Connection, _params: Params) -> Figures:
        raise MigrationError

    await story.cover(960)
    with pytest.raises(MigrationError):
        await story.evaluate(evaluators=[Evaluator("bridges", (), read), TRANCHES])
    assert len(await story.transitions()) == 3


async def test_an_unknown_figure_of_an_open_alert_leaves_it_as_it_is(story: AlertStory) -> None:
    async def read_nothing(_conn: Connection, _params: Params) -> Figures:
        return Figures(99, ())

    await story.cover(960)
    await story.evaluate()
    for _ in range(3):
        await story.evaluate(evaluators=[Evaluator("tranches", TRANCHES.kinds, read_nothing)], recount_after_s=0.0)
    assert {change for _, change, _ in await story.transitions()} == {"opened"}


async def test_who_acknowledged_first_stays_until_it_gets_more_severe(story: AlertStory) -> None:
    records = AlertRecords(LazyPool(story.dsn))
    try:
        await story.cover(905)
        await story.evaluate()
        alert_id = await story.conn.fetchval("SELECT alert_id FROM risk_alerts WHERE kind = $1", HIGH)
        first = await records.acknowledge(alert_id, "ann")
        again = await records.acknowledge(alert_id, "bob")
        assert (first, again.acknowledged_by) == (again, "ann")
        await story.cover(925)
        await story.evaluate()
        assert await story.conn.fetchval("SELECT acknowledged_by FROM risk_alerts WHERE kind = $1", HIGH) == "ann"
        await story.cover(951)
        await story.evaluate()
        assert await story.conn.fetchval("SELECT acknowledged_by FROM risk_alerts WHERE kind = $1", HIGH) is None
        with pytest.raises(UnknownAlert):
            await records.acknowledge(9_999, "ann")
    finally:
        await records.close()
    assert [change for change, _ in await story.of_kind(HIGH)] == ["opened", "acknowledged", "updated", "updated"]


async def test_the_daemons_tasks_evaluate_on_every_commit_and_tell_listeners(story: AlertStory) -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()
    listener = await connect(story.dsn)
    await listener.add_listener("tonsurance_alerts", lambda *args: heard.put_nowait(json.loads(args[3])["v"]))
    stop, tasks = asyncio.Event(), AlertTasks(story.dsn, lambda: story.params)
    running = asyncio.create_task(tasks.run(stop))
    try:
        async with asyncio.timeout(60):
            await story.cover(910)
            first = await heard.get()
            await story.cover(960)
            assert await heard.get() > first
    finally:
        stop.set()
        await running
        await listener.close()
    assert ("updated", "Critical") in await story.of_kind(HIGH)


async def test_transitions_cannot_be_rewritten(story: AlertStory) -> None:
    await story.cover(910)
    await story.evaluate()
    for change in ("UPDATE risk_alert_transitions SET message = 'x'", "DELETE FROM risk_alert_transitions"):
        with pytest.raises(Exception, match="append-only"):
            await story.conn.execute(change)


async def test_an_alert_is_open_once_even_for_who_writes_past_us(story: AlertStory) -> None:
    await story.cover(910)
    await story.evaluate()
    with pytest.raises(Exception, match="idx_alerts_one_open"):
        await story.conn.execute("""
            INSERT INTO risk_alerts (kind, vault_id, tranche_id, severity, message, value, threshold, unit, told_value,
                evaluations_back, opened_version, opened_params_version, ledger_version, params_version)
            SELECT kind, vault_id, tranche_id, severity, message, value, threshold, unit, told_value,
                evaluations_back, 99, 99, 99, 99 FROM risk_alerts WHERE kind = 'High_Utilization'""")
