"""A life of both contracts as messages, and ledgers of it that were made with a layout that lacks some events."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import msgspec

from chain.encoding import encode_event
from chain.making import Made, external_out, make_transaction
from db.chain_story import KINDS, cut, register
from proof.story import FACTORY, VAULT, make_steps
from services.ledger_tables import rows_of
from tonsurance.chain.decode import Decoder
from tonsurance.chain.layout import Layout, load_layout
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import GENESIS, ContractBatch
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.events import select_cursor
from tonsurance.db.pool import connect
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.services.replay import Replay, replay_ledger
from tonsurance.services.rescan import Rescan, rescan_ledger

LAYOUT = load_layout()
EVERYTHING = (
    "blockchain_events", "ledger_entries", "tranche_utilization", "tranche_utilization_history",
    "blockchain_sync_state", "blockchain_transactions", "policies", "premium_streams", "product_exposure",
)  # fmt: skip


def without(*types: str) -> Layout:
    """Our layout as it would be if it did not know these events."""
    known = {key: event for key, event in LAYOUT.events.items() if event.type not in types}
    assert len(known) <= len(LAYOUT.events) - len(types)
    return msgspec.structs.replace(LAYOUT, events=known)


@cache
def accounts(seed: int, events: int) -> dict[str, list[Made]]:
    """The story's transactions by contract, linked, a second for each thousand of logical time."""
    told: dict[str, list[Made]] = {VAULT: [], FACTORY: []}
    for step in make_steps(seed, events):
        made, kind = told[step.contract], KINDS[step.contract]
        bodies = [external_out(step.contract, encode_event(body, LAYOUT, kind)) for body in step.bodies]
        previous = made[-1].cursor if made else GENESIS
        now = 1_700_000_000 + step.lt // 1_000
        made.append(make_transaction(account=step.contract, lt=step.lt, previous=previous, now=now, messages=bodies))
    return told


def decode(made: list[Made], contract: str, layout: Layout, sizes: Collection[int] = (7, 1, 30)) -> list[ContractBatch]:
    """Batches of a contract as its ingest would make them."""
    decoder = Decoder(layout, contract=contract, kind=KINDS[contract])
    return cut([decoder.decode(item.boc) for item in made], tuple(sizes), contract)


async def follow(
    dsn: str, layout: Layout, seed: int = 22, events: int = 300, *, register_too: bool = True
) -> list[str]:
    """Post everything that is not there yet; says which contracts were stopped by a contradiction."""
    if register_too:
        await register(dsn)
    writer, stopped = LedgerWriter(dsn, DEFAULT_PARAMS), []
    for contract in (VAULT, FACTORY):
        conn = await connect(dsn)
        cursor = await select_cursor(conn, contract) or GENESIS
        await conn.close()
        for part in decode([m for m in accounts(seed, events)[contract] if m.cursor.lt > cursor.lt], contract, layout):
            whole = msgspec.structs.replace(part, after=cursor)
            try:
                await writer.submit(whole)
            except LedgerRefused:
                stopped.append(contract)
                break
            cursor = whole.until
    await writer.close()
    return stopped


async def read_all(dsn: str) -> dict[str, list[dict[str, Any]]]:
    """All tables of a ledger, without what depends on when it was written; a product that is no longer covered is as
    one that never was."""
    conn = await connect(dsn)
    try:
        found = {table: await rows_of(conn, table) for table in EVERYTHING}
    finally:
        await conn.close()
    found["product_exposure"] = [row for row in found["product_exposure"] if row["policy_count"]]
    return found


async def fetch(dsn: str, sql: str, *values: object) -> list[dict[str, Any]]:
    """Rows of a database."""
    conn = await connect(dsn)
    try:
        return [dict(row) for row in await conn.fetch(sql, *values)]
    finally:
        await conn.close()


async def plant(dsn: str, *statements: str) -> None:
    """Change what may never change, as only a superuser can."""
    conn = await connect(dsn)
    try:
        await conn.execute("SET session_replication_role = replica")
        for statement in statements:
            changed = await conn.execute(statement)
            assert not changed.endswith(" 0"), f"nothing was planted: {statement}"
    finally:
        await conn.close()


def hush(line: str) -> None:
    """Progress that nobody reads."""


async def rescan(dsn: str, **options: Any) -> Rescan:
    """One rescan."""
    return await rescan_ledger(dsn, DEFAULT_PARAMS, hush, **options)


async def replay(dsn: str, **options: Any) -> Replay:
    """One replay."""
    return await replay_ledger(dsn, DEFAULT_PARAMS, hush, **options)


async def read_waiting(dsn: str) -> list[dict[str, Any]]:
    """What waits in quarantine."""
    return await fetch(
        dsn,
        "SELECT contract_address, logical_time, message_index, policy_id, reason FROM blockchain_quarantine"
        " WHERE resolved_at IS NULL ORDER BY contract_address, logical_time, message_index",
    )


async def read_everything(dsn: str) -> tuple[object, ...]:
    """All tables, the quarantine with its marks, the version, the cursors and the journal: what must not change."""
    return (
        await read_all(dsn),
        await fetch(dsn, "SELECT * FROM blockchain_quarantine ORDER BY quarantine_id"),
        await fetch(dsn, "SELECT * FROM ledger_head"),
        await fetch(dsn, "SELECT * FROM ledger_adjustments"),
        await fetch(dsn, "SELECT * FROM ledger_rebuilds"),
        await fetch(dsn, "SELECT event_id, created_at FROM blockchain_events ORDER BY event_id"),
    )
