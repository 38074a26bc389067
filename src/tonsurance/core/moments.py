"""A moment of the past, as people name it: a time, a logical time, or a version of the ledger."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from tonsurance.core.errors import InputError
from tonsurance.core.units import BIGINT_MAX

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_NUMBER = re.compile(r"(lt|version):(\d{1,19})", re.ASCII)


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """After everything up to and including this: exactly one of them is given; `time` is UTC."""

    time: datetime | None = None
    lt: int | None = None
    version: int | None = None


def parse_moment(text: str) -> Moment:
    """From RFC 3339 (`2026-11-20T12:00:00Z`), `lt:<N>` or `version:<N>`. Raises InputError."""
    numbered = _NUMBER.fullmatch(text)
    if numbered is not None and int(numbered[2]) <= BIGINT_MAX:
        number = int(numbered[2])
        return Moment(lt=number) if numbered[1] == "lt" else Moment(version=number)
    if _TIME.fullmatch(text):
        try:
            time = datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        else:
            return Moment(time=time)
    raise InputError(
        f"{text[:64]!r} names no moment: write a time with its zone as 2026-11-20T12:00:00Z, lt:<number> or "
        "version:<number> (and + as %2B)."
    )
