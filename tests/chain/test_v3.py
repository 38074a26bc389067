"""The second source: what it confirms, what it may not know yet, and what it must never be believed."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chain.fake_index import FIRST_SEQNO, FakeIndex, b64, index_row
from chain.fake_toncenter import GATEWAY, LITE_SERVER, RATE_LIMITED, TRUNCATED, Fault, serving
from chain.making import FACTORY, VAULT, Made, earned, make_chain
from chain.patience import QUICK
from tonsurance.chain.answers import RawTransaction
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.messages import boc_of
from tonsurance.chain.v3 import V3Source
from tonsurance.core.errors import ChainDataError, ChainUnavailable, HashMismatch, SourcesDisagree, UsageError
from tonsurance.core.events import GENESIS

COUNT = 8
PASSING = {
    "429": Fault(429, b'{"error":"rate limit","code":429}'),
    "429 as v2 words it": RATE_LIMITED,
    "500": LITE_SERVER,
    "502 HTML": GATEWAY,
    "200 HTML": Fault(200, b"<html></html>"),
    "truncated": TRUNCATED,
}


@pytest.fixture
def history() -> tuple[Made, ...]:
    return tuple(make_chain(COUNT))


@pytest.fixture
async def index(history: tuple[Made, ...]) -> AsyncIterator[FakeIndex]:
    fake = FakeIndex(rows=[index_row(item, VAULT, FIRST_SEQNO + n) for n, item in enumerate(history)])
    async with serving(fake):
        yield fake


@pytest.fixture
async def source(index: FakeIndex) -> AsyncIterator[V3Source]:
    async with V3Source(index.url, "s3cret", retry=QUICK, rng=random.Random(1)) as opened:
        yield opened


@pytest.fixture
def proved(history: tuple[Made, ...]) -> list[RawTransaction]:
    """As API v2 gave them."""
    return [RawTransaction(cursor=item.cursor, previous=item.previous, boc=item.boc) for item in history]


async def test_transactions_are_read_as_checked_values(
    source: V3Source, index: FakeIndex, history: tuple[Made, ...]
) -> None:
    body = earned(3, 7)
    content = {"hash": b64(bytes(body.hash)), "body": b64(boc_of(body))}
    index.rows[0]["out_msgs"] = [{"hash": b64(bytes(32)), "message_content": content}]
    index.rows[1]["out_msgs"] = [{"hash": b64(bytes(32)), "message_content": None}]
    index.rows[1]["description"]["aborted"] = True
    index.rows[2]["description"] = {"aborted": False, "compute_ph": {"skipped": True, "reason": "no_gas"}}
    first, second, third, *_ = await source.get_transactions(VAULT)
    assert (first.cursor, first.previous, first.seqno) == (history[0].cursor, GENESIS, FIRST_SEQNO)
    assert second.previous == history[0].cursor
    assert [item.succeeded for item in (first, second, third)] == [True, False, False]
    assert (first.aborted, second.aborted) == (False, True)
    [message] = first.out_messages
    assert message.body is not None
    assert message.body.hash == bytes(body.hash)
    assert second.out_messages[0].body is None
    lts = [item.cursor.lt for item in history]
    page = await source.get_transactions(VAULT, start_lt=lts[2], end_lt=lts[5], limit=2, offset=1, sort="desc")
    assert [item.cursor.lt for item in page] == [lts[4], lts[3]]
    assert all(headers["x-api-key"] == "s3cret" and "s3cret" not in str(asked) for _, asked, headers in index.requests)


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_a_fault_that_passes_is_not_seen(source: V3Source, index: FakeIndex, fault: Fault) -> None:
    index.faults.extend([fault, fault])
    assert len(await source.get_transactions(VAULT)) == COUNT
    assert len(index.requests) == 3


async def test_a_fault_that_stays_is_an_error_never_an_empty_list(index: FakeIndex) -> None:
    index.faults.extend([LITE_SERVER] * 100)
    async with V3Source(index.url, retry=QUICK) as source:
        with pytest.raises(ChainUnavailable, match="NOTREADY"):
            await source.get_transactions(VAULT)
        with pytest.raises(ChainUnavailable, match="is asked now"):
            await source.get_transactions(VAULT)
        assert (source.status.state, source.status.requests) == ("open", 5)


def change(field: str, value: Any, at: int = 2) -> Callable[[list[dict[str, Any]]], object]:
    return lambda rows: rows[at].__setitem__(field, value)


WRONG: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "another account": change("account", FACTORY),
    "no account": change("account", "somebody"),
    "a short hash": change("hash", b64(b"x")),
    "no base64": change("hash", "%%"),
    "no logical time": change("lt", "soon"),
    "only emulated": change("emulated", True),
    "no description": change("description", None),
    "twice the same": lambda rows: rows.append(rows[0]),
    "a body of another hash": change(
        "out_msgs",
        [{"hash": b64(bytes(32)), "message_content": {"hash": b64(bytes(32)), "body": b64(boc_of(earned(1, 1)))}}],
    ),
    "a body that is none": change(
        "out_msgs", [{"hash": b64(bytes(32)), "message_content": {"hash": None, "body": b64(b"abc")}}]
    ),
}


@pytest.mark.parametrize("fault", WRONG.values(), ids=WRONG)
async def test_what_is_not_as_documented_is_refused(
    source: V3Source, index: FakeIndex, fault: Callable[[list[dict[str, Any]]], object]
) -> None:
    fault(index.rows)
    index.raw.append(json.dumps({"transactions": index.rows}).encode())
    with pytest.raises((ChainDataError, HashMismatch)):
        await source.get_transactions(VAULT)


async def test_a_page_that_was_not_asked_for_is_refused(source: V3Source, index: FakeIndex) -> None:
    lts = [int(row["lt"]) for row in index.rows]
    index.raw.append(b'{"transactions": []}')
    assert await source.get_transactions(VAULT, start_lt=lts[3]) == ()
    for asked in ({"start_lt": lts[1]}, {"end_lt": lts[-2]}, {"limit": COUNT - 1}, {"sort": "desc"}):
        index.raw.append(json.dumps({"transactions": index.rows}).encode())
        with pytest.raises(ChainDataError):
            await source.get_transactions(VAULT, **asked)
    with pytest.raises(UsageError):
        await source.get_transactions(VAULT, limit=1001)


# ---- confirming


async def test_the_same_history_is_confirmed_with_its_blocks(source: V3Source, proved: list[RawTransaction]) -> None:
    told = await source.confirm(VAULT, proved)
    assert (told.verdict, told.seqnos) == ("agrees", tuple(range(FIRST_SEQNO, FIRST_SEQNO + COUNT)))
    assert told.confirmed_until == proved[-1].cursor
    part = await source.confirm(VAULT, proved[2:5])
    assert (part.verdict, part.seqnos) == ("agrees", (FIRST_SEQNO + 2, FIRST_SEQNO + 3, FIRST_SEQNO + 4))
    assert (await source.confirm(VAULT, [])).verdict == "agrees"


async def test_a_server_of_short_pages_is_read_to_the_end(
    source: V3Source, index: FakeIndex, proved: list[RawTransaction]
) -> None:
    index.page_cap = 3
    assert (await source.confirm(VAULT, proved)).verdict == "agrees"
    assert index.count("transactions") == 3


@pytest.mark.parametrize("known", [0, 1, COUNT - 1])
async def test_an_index_that_is_behind_confirms_what_it_has(
    source: V3Source, index: FakeIndex, proved: list[RawTransaction], known: int
) -> None:
    del index.rows[known:]
    told = await source.confirm(VAULT, proved)
    assert told.verdict == "lags"
    assert told.seqnos == (*range(FIRST_SEQNO, FIRST_SEQNO + known), *[None] * (COUNT - known))
    assert told.confirmed_until == (proved[known - 1].cursor if known else None)


async def test_what_is_in_no_masterchain_block_yet_confirms_nothing(
    source: V3Source, index: FakeIndex, proved: list[RawTransaction]
) -> None:
    index.rows[-1] |= {"mc_block_seqno": None, "hash": b64(b"y" * 32)}
    told = await source.confirm(VAULT, proved)
    assert (told.verdict, told.seqnos[-2:]) == ("lags", (FIRST_SEQNO + COUNT - 2, None))


@pytest.mark.parametrize("at", [0, 3, COUNT - 1])
async def test_another_hash_is_a_disagreement_that_names_the_first_place(
    source: V3Source, index: FakeIndex, proved: list[RawTransaction], at: int
) -> None:
    for row in index.rows[at:]:
        row["hash"] = b64(b"z" * 32)
    with pytest.raises(SourcesDisagree, match=index.url) as caught:
        await source.confirm(VAULT, proved)
    assert caught.value.lt == proved[at].cursor.lt


@pytest.mark.parametrize("at", [0, 3, COUNT - 2])
async def test_a_transaction_one_of_them_lacks_is_a_disagreement(
    source: V3Source, index: FakeIndex, proved: list[RawTransaction], at: int
) -> None:
    missing = index.rows.pop(at)
    with pytest.raises(SourcesDisagree, match="has no transaction") as caught:
        await source.confirm(VAULT, proved)
    assert caught.value.lt == proved[at].cursor.lt
    index.rows.insert(at, missing)
    shown = proved[:at] + proved[at + 1 :]
    if at:  # of what is before the range nothing was asked
        with pytest.raises(SourcesDisagree, match="which is none") as caught:
            await source.confirm(VAULT, shown)
        assert caught.value.lt == proved[at].cursor.lt


async def test_blocks_that_go_back_are_refused(
    source: V3Source, index: FakeIndex, proved: list[RawTransaction]
) -> None:
    index.rows[4]["mc_block_seqno"] = 3
    with pytest.raises(ChainDataError, match="ever older"):
        await source.confirm(VAULT, proved)


async def test_one_key_has_one_rate_for_both_apis(index: FakeIndex) -> None:
    async with (
        TonCenterClient(index.url, "s3cret", rps=25) as client,
        V3Source(index.url, "s3cret", bucket=client.buckets[index.url]) as source,
    ):
        assert source._sources.endpoints[0].bucket is client._sources.endpoints[0].bucket
