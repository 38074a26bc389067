"""A moment is read in three forms and in no other."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tonsurance.core.errors import InputError
from tonsurance.core.moments import Moment, parse_moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("lt:0", Moment(lt=0)),
        ("lt:9223372036854775807", Moment(lt=2**63 - 1)),
        ("version:42", Moment(version=42)),
        ("2026-11-20T12:00:00Z", Moment(time=datetime(2026, 11, 20, 12, tzinfo=UTC))),
        ("2026-11-20t12:00:00.5z", Moment(time=datetime(2026, 11, 20, 12, 0, 0, 500_000, UTC))),
        ("2026-11-20T14:00:00+02:00", Moment(time=datetime(2026, 11, 20, 12, tzinfo=UTC))),
    ],
)
def test_a_moment_is_a_time_a_logical_time_or_a_version(text: str, moment: Moment) -> None:
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "42",
        "lt:",
        "lt:-1",
        "lt:9223372036854775808",
        "lt:1e3",
        "lt:٣",
        "version: 4",
        "seqno:4",
        "2026-11-20",
        "2026-11-20T12:00:00",
        "2026-11-20 12:00:00Z",
        "2026-11-20T12:00:00 02:00",
        "2026-02-30T12:00:00Z",
        "2026-11-20T24:30:00Z",
        "2026-11-20T12:00:60Z",
        "0000-11-20T12:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "20261120T120000Z",
        "x" * 5000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="names no moment"):
        parse_moment(text)
