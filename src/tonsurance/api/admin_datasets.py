"""Admin routes of the data sets: depegs of the past and stress scenarios."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter, SkipValidation

from tonsurance.api import admin_dataset_wire as wire
from tonsurance.api.admin import read_time
from tonsurance.api.admin_errors import problems_out
from tonsurance.api.admin_guard import BODY, ROLE
from tonsurance.api.admin_injected import ANSWERS, BeforeId, CallerOf, ReasonInQuery, VersionInQuery
from tonsurance.api.render import show_time
from tonsurance.core.datasets import DEPEGS, SCENARIOS, Depeg, Entry, Scenario
from tonsurance.db.datasets import DepegStatistics, EntryRow
from tonsurance.services.admin_tokens import Role
from tonsurance.services.datasets import Datasets, EntryTrial

Injected = NamedDependency[SkipValidation[Datasets]]
EntryId = Annotated[int, PathParameter(ge=1, le=2**31 - 1, description="The entry's id.")]
Flag = Annotated[bool | None, QueryParameter(description="Only those that are, or are not.")]
Limit = Annotated[int, QueryParameter(ge=1, le=500)]
Time = Annotated[str | None, QueryParameter(max_length=40, description="ISO 8601; UTC when it names no zone.")]


@get("/datasets/depegs", summary="Depegs on record", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def list_depegs(
    datasets: Injected,
    asset: Annotated[str | None, QueryParameter(max_length=20, description="Only this coin.")] = None,
    verified: Flag = None,
    before: BeforeId = None,
    limit: Limit = 100,
) -> tuple[wire.DepegOut, ...]:
    """Newest entry first."""
    rows = await datasets.list_depegs(asset=asset, verified=verified, before=_bounded(before), limit=limit)
    return tuple(show_depeg(row) for row in rows)


@get(
    "/datasets/depegs/statistics",
    summary="What the depegs of each coin come to",
    description="Frequency, severity and expected loss of the verified depegs in a window (the last two years when it "
    "is not given). A coin without one has nulls: nothing on record is not zero.",
    opt={ROLE: Role.VIEWER},
    responses=ANSWERS,
)
async def get_statistics(datasets: Injected, since: Time = None, until: Time = None) -> wire.StatisticsOut:
    """Every coin of the catalogue."""
    window = await datasets.statistics(
        None if since is None else read_time(since), None if until is None else read_time(until)
    )
    return wire.StatisticsOut(
        since=show_time(window.since.timestamp()),
        until=show_time(window.until.timestamp()),
        coins=tuple(show_statistics(coin) for coin in window.coins),
    )


@get("/datasets/depegs/{number:int}", summary="One depeg", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def get_depeg(datasets: Injected, number: EntryId) -> wire.DepegOut:
    """All that is on record of it."""
    return show_depeg(await datasets.find(DEPEGS, number))


@post(
    "/datasets/depegs",
    summary="Enter a depeg",
    description="201 when it is on record. With `dry_run` 200, and nothing changes.",
    opt={ROLE: Role.EDITOR, BODY: wire.DepegBody},
    responses=ANSWERS,
)
async def post_depeg(
    datasets: Injected, caller: CallerOf, data: JSONBody[wire.DepegBody]
) -> Response[wire.DepegOut | wire.EntryTrialOut]:
    """Enter it, or try out."""
    entry = _depeg_of(data)
    if data.dry_run:
        return Response(
            show_trial(await datasets.try_create(entry, actor=caller.actor, reason=data.reason)), status_code=200
        )
    return Response(show_depeg(await datasets.create(entry, actor=caller.actor, reason=data.reason)), status_code=201)


@put(
    "/datasets/depegs/{number:int}",
    summary="Correct or verify a depeg",
    opt={ROLE: Role.EDITOR, BODY: wire.DepegBody},
    responses=ANSWERS,
)
async def put_depeg(
    datasets: Injected, caller: CallerOf, number: EntryId, data: JSONBody[wire.DepegBody]
) -> Response[wire.DepegOut | wire.EntryTrialOut]:
    """Replace it, or try out."""
    wanted: dict[str, Any] = {"actor": caller.actor, "reason": data.reason, "expected_version": data.expected_version}
    if data.dry_run:
        return Response(show_trial(await datasets.try_update(number, _depeg_of(data), **wanted)))
    return Response(show_depeg(await datasets.update(number, _depeg_of(data), **wanted)))


@delete(
    "/datasets/depegs/{number:int}",
    summary="Take a depeg out",
    opt={ROLE: Role.EDITOR},
    status_code=200,
    responses=ANSWERS,
)
async def delete_depeg(
    datasets: Injected,
    caller: CallerOf,
    number: EntryId,
    reason: ReasonInQuery = "",
    expected_version: VersionInQuery = None,
) -> wire.EntryDeletedOut:
    """Gone from the figures; the audit log keeps what it was."""
    return await _delete(datasets, caller, DEPEGS, number, reason, expected_version)


@get("/datasets/scenarios", summary="Stress scenarios", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def list_scenarios(
    datasets: Injected, enabled: Flag = None, before: BeforeId = None, limit: Limit = 100
) -> tuple[wire.ScenarioOut, ...]:
    """Newest entry first."""
    rows = await datasets.list_scenarios(enabled=enabled, before=_bounded(before), limit=limit)
    return tuple(show_scenario(row) for row in rows)


@get("/datasets/scenarios/{number:int}", summary="One scenario", opt={ROLE: Role.VIEWER}, responses=ANSWERS)
async def get_scenario(datasets: Injected, number: EntryId) -> wire.ScenarioOut:
    """All of it."""
    return show_scenario(await datasets.find(SCENARIOS, number))


@post(
    "/datasets/scenarios",
    summary="Add a scenario",
    description="201 when it is there. With `dry_run` 200, and nothing changes.",
    opt={ROLE: Role.EDITOR, BODY: wire.ScenarioBody},
    responses=ANSWERS,
)
async def post_scenario(
    datasets: Injected, caller: CallerOf, data: JSONBody[wire.ScenarioBody]
) -> Response[wire.ScenarioOut | wire.EntryTrialOut]:
    """Add it, or try out."""
    entry = _scenario_of(data)
    if data.dry_run:
        return Response(
            show_trial(await datasets.try_create(entry, actor=caller.actor, reason=data.reason)), status_code=200
        )
    return Response(
        show_scenario(await datasets.create(entry, actor=caller.actor, reason=data.reason)), status_code=201
    )


@put(
    "/datasets/scenarios/{number:int}",
    summary="Change a scenario, switch it on or off",
    opt={ROLE: Role.EDITOR, BODY: wire.ScenarioBody},
    responses=ANSWERS,
)
async def put_scenario(
    datasets: Injected, caller: CallerOf, number: EntryId, data: JSONBody[wire.ScenarioBody]
) -> Response[wire.ScenarioOut | wire.EntryTrialOut]:
    """Replace it, or try out."""
    wanted: dict[str, Any] = {"actor": caller.actor, "reason": data.reason, "expected_version": data.expected_version}
    if data.dry_run:
        return Response(show_trial(await datasets.try_update(number, _scenario_of(data), **wanted)))
    return Response(show_scenario(await datasets.update(number, _scenario_of(data), **wanted)))


@delete(
    "/datasets/scenarios/{number:int}",
    summary="Take a scenario out",
    opt={ROLE: Role.EDITOR},
    status_code=200,
    responses=ANSWERS,
)
async def delete_scenario(
    datasets: Injected,
    caller: CallerOf,
    number: EntryId,
    reason: ReasonInQuery = "",
    expected_version: VersionInQuery = None,
) -> wire.EntryDeletedOut:
    """Gone; the audit log keeps what it was."""
    return await _delete(datasets, caller, SCENARIOS, number, reason, expected_version)


ROUTES: tuple[HTTPRouteHandler, ...] = (
    list_depegs,
    get_statistics,
    get_depeg,
    post_depeg,
    put_depeg,
    delete_depeg,
    list_scenarios,
    get_scenario,
    post_scenario,
    put_scenario,
    delete_scenario,
)


async def _delete(
    datasets: Datasets, caller: CallerOf, dataset: str, number: int, reason: str, expected_version: int | None
) -> wire.EntryDeletedOut:
    row = await datasets.delete(dataset, number, actor=caller.actor, reason=reason, expected_version=expected_version)
    return wire.EntryDeletedOut(success=True, id=row.id)


def show_depeg(row: EntryRow) -> wire.DepegOut:
    """A depeg for the wire."""
    return wire.DepegOut(**_content(row.entry), **_about(row), verified_by=row.verified_by)


def show_scenario(row: EntryRow) -> wire.ScenarioOut:
    """A scenario for the wire."""
    return wire.ScenarioOut(**_content(row.entry), **_about(row))


def show_statistics(coin: DepegStatistics) -> wire.CoinStatistics:
    """A coin's figures for the wire."""
    return wire.CoinStatistics(**msgspec.structs.asdict(coin), has_data=coin.events > 0)


def show_trial(trial: EntryTrial) -> wire.EntryTrialOut:
    """What a change would do, for the wire."""
    moved = tuple(
        wire.MovedStatistics(before=show_statistics(before), after=show_statistics(after))
        for before, after in trial.statistics
    )
    return wire.EntryTrialOut(
        dry_run=True,
        valid=trial.valid,
        errors=problems_out(trial.errors),
        effects={"depeg_statistics": moved},
        before=trial.before,
        after=trial.after,
    )


def _about(row: EntryRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "version": row.version,
        "entered_by": row.entered_by,
        "created_at": show_time(row.created_at.timestamp()),
        "updated_at": show_time(row.updated_at.timestamp()),
    }


def _content(entry: Entry) -> dict[str, Any]:
    fields = msgspec.structs.asdict(entry)
    return fields | ({"timestamp": show_time(entry.timestamp.timestamp())} if isinstance(entry, Depeg) else {})


def _depeg_of(body: wire.DepegBody) -> Depeg:
    return Depeg(**{name: getattr(body, name) for name in Depeg.__struct_fields__})


def _scenario_of(body: wire.ScenarioBody) -> Scenario:
    return Scenario(**{name: getattr(body, name) for name in Scenario.__struct_fields__})


def _bounded(before: int | None) -> int | None:
    """Ids have 31 bits; a larger one is after all of them."""
    return None if before is None else min(before, 2**31 - 1)
