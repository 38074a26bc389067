"""Answers that need not be sent again while nothing changed."""

from __future__ import annotations

import zlib
from typing import TypeVar

from litestar import Response

from tonsurance.services.tranche_reads import Freshness, Snapshot

T = TypeVar("T")


def snapshot_etag(snapshot: Snapshot, freshness: Freshness) -> str:
    """Weak, because the time of the answer is in its body: equal tags mean equal figures, equally fresh or stale."""
    held = zlib.crc32(repr([totals.held_nano for totals in snapshot.state.tranches]).encode())
    age = "stale" if freshness.stale else "live"
    return f'W/"{snapshot.vault_id}-{snapshot.state.version}-{snapshot.params_version}-{held:x}-{age}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has this version, by weak comparison."""
    if if_none_match is None:
        return False
    opaque = etag.removeprefix("W/")
    given = {candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")}
    return "*" in given or opaque in given


def answer_unless_known(content: T, etag: str, if_none_match: str | None, *, known: T) -> Response[T]:
    """200 with the content, or 304 with `known` (what stands for no body)."""
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if matches(if_none_match, etag):
        return Response(known, status_code=304, headers=headers)
    return Response(content, headers=headers)
