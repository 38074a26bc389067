"""`tonsurance config`: look at the parameters, change them, and prove that they are what was written.

Whoever may use it has the database's address, so it asks for no token; what it does stands in the audit log under
`--author`. A parameter of money needs two people when approvals are on: then it is changed by the admin API, or here
with --emergency.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar

import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console

from tonsurance import stack
from tonsurance.cli_targets import resolve_database
from tonsurance.core.errors import UsageError
from tonsurance.core.parameters.registry import REGISTRY
from tonsurance.db.roles import ROLE_OF
from tonsurance.running import run_async
from tonsurance.services.config_migrate import migrate_config, report_lines
from tonsurance.services.config_store import (
    Actor,
    Applied,
    AuditRow,
    Change,
    ConfigStore,
    Edit,
    ParameterRow,
    Planned,
    VersionRow,
)
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.settings import DatabaseParts, Environment, database_url, home_dir, read_switch

EXIT_OK, EXIT_FAULT = 0, 1

config_cli = cyclopts.App(name="config", help="Business parameters: values, versions, audit log.")

_Result = TypeVar("_Result")
_Negative = Annotated[str, Parameter(allow_leading_hyphen=True)]


def with_store(work: Callable[[ConfigStore], Awaitable[_Result]], explicit: str | None) -> _Result:
    """Do the work on the configuration of the database that is named, else of the running stack."""
    dsn = resolve_database(DatabaseParts(), explicit=explicit)

    async def run() -> _Result:
        pool = LazyPool(dsn, max_size=1, application_name="tonsurance config", role=ROLE_OF["config"])
        try:
            return await work(ConfigStore(pool))
        finally:
            await pool.close()

    return run_async(run())


@config_cli.command
def get(
    category: str | None = None,
    key: str | None = None,
    *,
    as_of: datetime | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    database_url: str | None = None,
) -> None:
    """Print parameters: all, those of a category, or the value of one.

    Parameters
    ----------
    category
        pricing, risk, tranche, api, or another.
    key
        Name of one parameter.
    as_of
        As it was at this time.
    as_json
        Print JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    time = None if as_of is None else as_of.astimezone()

    async def read(store: ConfigStore) -> tuple[ParameterRow, ...]:
        if category is not None and key is not None:
            return (await store.find(category, key, as_of=time),)
        return await (store.list_parameters(category) if time is None else store.list_past(time, category))

    rows = with_store(read, database_url)
    if as_json:
        _print_json(msgspec.to_builtins(rows))
    elif key is not None:
        _print(json.dumps(rows[0].value_data))
    else:
        for row in rows:
            _print(_parameter_line(row))


@config_cli.command(name="set")
def set_value(
    category: str,
    key: str,
    value: _Negative,
    *,
    reason: str = "",
    author: str | None = None,
    expected_version: int | None = None,
    emergency: bool = False,
    dry_run: bool = False,
    database_url: str | None = None,
) -> int:
    """Change one parameter.

    Parameters
    ----------
    category
        Category of the parameter.
    key
        Name of the parameter.
    value
        The new value as JSON; a text needs no quotation marks.
    reason
        Why; it stands in the audit log.
    author
        Who; your login name when left out.
    expected_version
        The version you saw: refused when others changed the parameter since.
    emergency
        Pass the cage and the second person of parameters of money; audited as such.
    dry_run
        Only say whether it would be accepted.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    edits = (Edit(category, key, "set", _parse(category, key, value)),)
    if dry_run:
        planned = with_store(
            lambda store: store.plan(edits, expected_version=expected_version, emergency=emergency), database_url
        )
        return _print_plan(planned)
    _refuse_money(edits, emergency)
    applied = with_store(
        lambda store: store.apply(
            edits, actor=_actor(author), reason=reason, expected_version=expected_version, emergency=emergency
        ),
        database_url,
    )
    _print_applied(applied)
    return EXIT_OK


@config_cli.command
def history(
    category: str | None = None,
    key: str | None = None,
    *,
    limit: int = 50,
    before: int | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    database_url: str | None = None,
) -> None:
    """Print the versions, newest first; with a category or a parameter, its lines of the audit log.

    Parameters
    ----------
    category
        Category of the parameters.
    key
        Name of one parameter.
    limit
        At most so many, up to 1,000.
    before
        Only versions (or audit lines) before this number.
    as_json
        Print JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    if category is None:
        versions = with_store(lambda store: store.versions(before=before, limit=limit), database_url)
        _print_rows(versions, _version_line, as_json)
        return
    rows = with_store(lambda store: store.audit(limit=limit, category=category, key=key, before=before), database_url)
    _print_rows(rows, _audit_line, as_json)


@config_cli.command
def diff(
    old: int,
    new: int,
    *,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    database_url: str | None = None,
) -> int:
    """Print what differs between two versions. Exit code 1 when something does.

    Parameters
    ----------
    old
        One version.
    new
        The other one.
    as_json
        Print JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    changes = with_store(lambda store: store.diff(old, new), database_url)
    _print_rows(changes, _change_line, as_json)
    return EXIT_FAULT if changes else EXIT_OK


@config_cli.command
def rollback(
    version: int,
    *,
    reason: str = "",
    author: str | None = None,
    expected_version: int | None = None,
    emergency: bool = False,
    database_url: str | None = None,
) -> None:
    """Make a new version with the values of an earlier one.

    Parameters
    ----------
    version
        The version to go back to.
    reason
        Why; it stands in the audit log.
    author
        Who; your login name when left out.
    expected_version
        Refused when this is not the newest version.
    emergency
        Pass the second person of parameters of money; audited as such.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """

    async def work(store: ConfigStore) -> Applied:
        _refuse_money(await store.rollback_edits(version), emergency)
        return await store.rollback(
            version, actor=_actor(author), reason=reason, expected_version=expected_version, emergency=emergency
        )

    _print_applied(with_store(work, database_url))


@config_cli.command
def verify(*, as_json: Annotated[bool, Parameter(name="--json")] = False, database_url: str | None = None) -> int:
    """Prove that the audit log, the versions and the values that hold are what was written. Exit code 1 when not.

    Parameters
    ----------
    as_json
        Print JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    report = with_store(lambda store: store.verify(), database_url)
    if as_json:
        _print_json({"ok": report.ok, **msgspec.to_builtins(report)})
        return EXIT_OK if report.ok else EXIT_FAULT
    for fault in report.faults:
        _print(str(fault))
    found = "all as written" if report.ok else f"{len(report.faults)} faults"
    _print(f"{report.audit_rows} audit rows and {report.versions} versions: {found}. Newest audit hash: {report.head}")
    return EXIT_OK if report.ok else EXIT_FAULT


@config_cli.command
def migrate(
    *,
    dry_run: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    database_url: str | None = None,
) -> int:
    """Load the declared defaults that are not stored yet, check everything, and print a report.

    No value that holds is changed; the schema must be there (tonsurance migrate). Exit code 1 when something is wrong.

    Parameters
    ----------
    dry_run
        Only say what would be loaded.
    as_json
        Print JSON.
    database_url
        The database; else DATABASE_URL, DB_HOST and so on, else the running stack's.
    """
    report = with_store(lambda store: migrate_config(store, dry_run=dry_run), database_url)
    if as_json:
        _print_json({"ok": report.ok, **msgspec.to_builtins(report)})
    else:
        for line in report_lines(report):
            _print(line)
    return EXIT_OK if report.ok else EXIT_FAULT


def _parse(category: str, key: str, text: str) -> object:
    """The value somebody typed: JSON, or the text itself where a text is wanted."""
    declared = REGISTRY.get((category, key))
    if declared is not None and declared.kind == "string" and not text.startswith('"'):
        return text
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def _actor(author: str | None) -> Actor:
    return Actor(author or getpass.getuser(), "admin")


def _refuse_money(edits: tuple[Edit, ...], emergency: bool) -> None:
    money = [edit.key for edit in edits if (found := REGISTRY.get(edit.name)) is not None and found.money]
    env = Environment()
    is_local = stack.read_status(home_dir(env)) is not None and database_url(env, DatabaseParts()) is None
    if money and not emergency and read_switch(env, "APPROVALS", default=not is_local):
        raise UsageError(
            f"{', '.join(money[:5])}: a second person has to agree.",
            advice="File a change request by the admin API, or override with --emergency.",
        )


def _print_plan(planned: Planned) -> int:
    for problem in planned.problems:
        _print(str(problem))
    for change in planned.changes if not planned.problems else ():
        _print(_change_line(change))
    _print("Refused; nothing was changed." if planned.problems else "Valid; nothing was changed.")
    return EXIT_FAULT if planned.problems else EXIT_OK


def _print_applied(applied: Applied) -> None:
    for change in applied.changes:
        _print(_change_line(change))
    _print(f"Version {applied.version} holds.")


def _parameter_line(row: ParameterRow) -> str:
    marks = [name for name, on in (("chain", row.chain_owned), ("money", row.money), ("added", row.custom)) if on]
    shown = f" ({', '.join(marks)})" if marks else ""
    return f"{row.category}/{row.key} = {json.dumps(row.value_data)} {row.unit}".rstrip() + shown


def _change_line(change: Change) -> str:
    return f"{change.category}/{change.key}: {json.dumps(change.old)} -> {json.dumps(change.new)}"


def _version_line(row: VersionRow) -> str:
    reason = f": {row.reason}" if row.reason else ""
    return f"{row.version}  {row.created_at.isoformat(timespec='seconds')}  {row.kind} by {row.author}{reason}"


def _audit_line(row: AuditRow) -> str:
    tried = " (dry run)" if row.dry_run else " (emergency)" if row.emergency else ""
    what = f"{row.category}/{row.key}: {json.dumps(row.old_value)} -> {json.dumps(row.new_value)}"
    when = row.changed_at.isoformat(timespec="seconds")
    return f"{row.id}  {when}  version {row.version}  {row.action}{tried} by {row.changed_by}  {what}"


def _print_rows(rows: tuple[_Result, ...], line: Callable[[_Result], str], as_json: bool) -> None:
    if as_json:
        _print_json(msgspec.to_builtins(rows))
        return
    for row in rows:
        _print(line(row))


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


def _print(line: str) -> None:
    Console(highlight=False, soft_wrap=True).print(line, markup=False)
