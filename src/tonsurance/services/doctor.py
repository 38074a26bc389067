"""Looks at a running system like somebody called at night, and says what to do next. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import httpx
import msgspec

from tonsurance.core.errors import DatabaseUnavailable, TonsuranceError
from tonsurance.db.pool import Connection, connect, driver_errors

HTTP_TIMEOUT_S = 5.0
DATABASE = "database connection"


class Diagnosis(msgspec.Struct, frozen=True):
    """What one check found, and what to do about it (empty when all is well)."""

    check: str
    ok: bool
    finding: str
    advice: str = ""


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """The system to look at: its database, and what else is known of it. None: not known, and so not looked at."""

    dsn: str
    api_url: str | None = None
    chain_url: str | None = None
    home: Path | None = None
    pids: dict[str, int] = {}
    clock: Callable[[], float] = time.time


class Examination:
    """What the checks look at. `conn` is None while the database cannot be reached."""

    def __init__(self, patient: Patient, conn: Connection | None, http: httpx.AsyncClient) -> None:
        self.patient = patient
        self.conn = conn
        self.http = http


Check: TypeAlias = "tuple[str, bool, Callable[[Examination], Awaitable[Diagnosis | None]]]"
"""A check's name, whether it needs the database, and what does it; None when there is nothing to look at."""


def well(check: str, finding: str) -> Diagnosis:
    """Nothing is wrong."""
    return Diagnosis(check, True, finding)


def ill(check: str, finding: str, advice: str) -> Diagnosis:
    """Something is wrong."""
    return Diagnosis(check, False, finding, advice)


async def examine(patient: Patient, checks: Sequence[Check]) -> tuple[Diagnosis, ...]:
    """Make every check. One that cannot be made says so, and is not well."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, trust_env=False))
        conn, diagnosis = await _connect(patient.dsn)
        if conn is not None:
            stack.push_async_callback(conn.close)
        examination = Examination(patient, conn, http)
        found = [diagnosis, *[await _make(check, examination) for check in checks]]
    return tuple(diagnosis for diagnosis in found if diagnosis is not None)


async def _make(check: Check, examination: Examination) -> Diagnosis | None:
    name, needs_database, look = check
    if needs_database and examination.conn is None:
        return ill(name, "not checked: the database cannot be reached", "Mend the database connection first.")
    try:
        with driver_errors():
            return await look(examination)
    except TonsuranceError as error:
        return ill(name, f"not checked: {error.message}", error.advice or "Mend this, and look again.")


async def _connect(dsn: str) -> tuple[Connection | None, Diagnosis]:
    try:
        conn = await connect(dsn, application_name="tonsurance doctor")
    except DatabaseUnavailable as error:
        return None, ill(DATABASE, error.message, _advise(error.message))
    with driver_errors():
        version = await conn.fetchval("SHOW server_version")
    return conn, well(DATABASE, f"PostgreSQL {version} answers")


_ADVICE = (
    ("password", "The password is not the database's: set DB_PASSWORD (or DATABASE_URL) to the right one."),
    ("authentication", "The login is not let in: check DB_USER and DB_PASSWORD, and the server's pg_hba.conf."),
    (
        "does not exist",
        "There is no such database or role: check DB_NAME and DB_USER; create it, then `tonsurance migrate`.",
    ),
    ("starting up", "It is starting: look again in a moment."),
    ("shutting down", "It is being stopped: find out by whom."),
    ("too many", "All its connections are taken: lower DB_POOL_SIZE, or raise max_connections."),
    ("certificate", "Its certificate is not accepted: check DB_SSLROOTCERT and the name in the address."),
)
_OTHERWISE = (
    "Is it running, and are DB_HOST and DB_PORT right? Try pg_isready -h HOST -p PORT; a local one: `tonsurance run`."
)


def _advise(message: str) -> str:
    text = message.casefold()
    return next((advice for words, advice in _ADVICE if words in text), _OTHERWISE)
