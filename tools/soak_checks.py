"""What the soak compares: the ledger with the chain at one block, and with a ledger that got every event twice."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.chain.layout import load_layout
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import CursorConflict
from tonsurance.core.events import FACTORY_KIND, GENESIS, VAULT_KIND, ContractBatch, Cursor, DecodedTransaction
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.events import register_contract, select_cursor
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import Connection, connect
from tonsurance.services.ledger_writer import LedgerWriter
from tonsurance.stack import Status

CAUGHT_UP_S = 120.0
COPY = "soak_doubled"
_CLOCKS = {"created_at", "updated_at", "last_sync_timestamp", "event_id", "entry_id", "quarantine_id", "ledger_version"}
_CLOCKS |= {"params_version"}  # the contracts' terms are taken over at some moment of the run and change no figure
_BLOCK_TIMES = {"policies": {"created_at"}, "tranche_utilization_history": {"updated_at"}}
_TABLES = ("blockchain_events", "blockchain_quarantine", "ledger_entries", "tranche_utilization_history")

Figures = tuple[int, int, int, int]
"""Capital, coverage and unearned premium in nanoTON, and shares."""

LAST_OF_EACH = """
SELECT DISTINCT ON (tranche_id) tranche_id, total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton,
    shares
FROM tranche_utilization_history WHERE logical_time <= $1 ORDER BY tranche_id, logical_time DESC, message_index DESC
"""


class Mismatch(Exception):
    """Two things that must be equal are not."""


async def count_transactions(status: Status) -> int:
    """Transactions of both contracts, every one proved to follow the one before."""
    found = 0
    async with TonCenterClient(status.chain_url) as client:
        for address in (status.vault, status.factory):
            follower = Follower(client, address, "")
            found += len((await follower.walk(GENESIS, await follower.read_head())).transactions)
    return found


async def compare_with_chain(status: Status, dsn: str | None = None, seqno: int | None = None) -> int:
    """The vault's getter at a block (the newest) against the ledger after the same transaction. Returns the block.

    Waits for the ledger to get there. Raises Mismatch naming the tranche, or TimeoutError.
    """
    async with TonCenterClient(status.chain_url) as client:
        seqno = seqno or (await client.get_masterchain_info()).last.seqno
        result = await client.run_get_method(status.vault, "get_all_tranches", seqno=seqno)
    if result.last_transaction is None:
        raise Mismatch("The chain does not say after which transaction the getter ran.")
    conn = await connect(dsn or status.database_url)
    try:
        await _await_cursor(conn, status.vault, result.last_transaction)
        stored = {
            row[0]: tuple(map(int, tuple(row)[1:]))
            for row in await conn.fetch(LAST_OF_EACH, result.last_transaction.lt)
        }
    finally:
        await conn.close()
    (rows,) = result.stack
    for name, row in zip(TRANCHE_IDS, _as_rows(rows), strict=True):
        if stored.get(name, (0, 0, 0, 0)) != row:
            raise Mismatch(f"{name} at block {seqno}: the chain says {row} and the ledger {stored.get(name)}.")
    return seqno


def _as_rows(rows: Any) -> list[Figures]:
    """tranche, capital, coverage, unearned, (two about streaming), shares: as the getter gives them."""
    return [(row[1], row[2], row[3], row[6]) for row in rows]


async def _await_cursor(conn: Connection, contract: str, wanted: Cursor) -> None:
    async with asyncio.timeout(CAUGHT_UP_S):
        while True:
            cursor = await select_cursor(conn, contract)
            if cursor is not None and cursor.lt >= wanted.lt:
                return
            await asyncio.sleep(0.05)


async def deliver_twice(status: Status) -> tuple[str, dict[str, int]]:
    """Post the whole history into a new database, each event twice in its transaction and each batch twice.

    Returns how to reach it, and counts. Raises Mismatch when its ledger is not that of the stack up to the same
    transactions.
    """
    server = await connect(status.database_url)
    await server.execute(f"DROP DATABASE IF EXISTS {COPY} WITH (FORCE)")
    await server.execute(f"CREATE DATABASE {COPY}")
    await server.close()
    dsn = urlsplit(status.database_url)._replace(path=f"/{COPY}").geturl()
    conn = await connect(dsn)
    await migrate(conn)
    writer, counts = LedgerWriter(dsn, DEFAULT_PARAMS), {"events": 0, "second times": 0, "batches refused again": 0}
    try:
        for address, kind in ((status.vault, VAULT_KIND), (status.factory, FACTORY_KIND)):
            await register_contract(conn, address, kind, "main")
            async for part in _doubled_batches(status.chain_url, address, kind):
                posted = await writer.submit(part)
                counts["events"] += posted.events
                counts["second times"] += posted.duplicates
                counts["batches refused again"] += await _is_refused(writer, part)
        await _compare_tables(conn, status)
    finally:
        await writer.close()
        await conn.close()
    return dsn, counts


async def _doubled_batches(url: str, address: str, kind: str) -> Any:
    decoder, after = Decoder(load_layout(), contract=address, kind=kind), GENESIS
    async with TonCenterClient(url) as client:
        follower = Follower(client, address, kind)
        walk = await follower.walk(after, await follower.read_head())
    for start in range(0, len(walk.transactions), 200):
        decoded = tuple(_double(decoder.decode(item.boc)) for item in walk.transactions[start : start + 200])
        part = ContractBatch(contract=address, contract_kind=kind, after=after, transactions=decoded)
        yield part
        after = part.until


def _double(transaction: DecodedTransaction) -> DecodedTransaction:
    return msgspec.structs.replace(transaction, events=transaction.events * 2)


async def _is_refused(writer: LedgerWriter, batch: ContractBatch) -> bool:
    try:
        await writer.submit(batch)
    except CursorConflict:
        return True
    raise Mismatch("A batch was posted a second time.")


async def _compare_tables(conn: Connection, status: Status) -> None:
    """What both databases hold of the transactions that both have, without times and numbers of writing."""
    live = await connect(status.database_url)
    try:
        for address in (status.vault, status.factory):
            cursor = await select_cursor(conn, address)
            if cursor is not None:
                await _await_cursor(live, address, cursor)
        for table in _TABLES:
            for address in (status.vault, status.factory):
                until = await select_cursor(conn, address)
                if until is None or await _rows(conn, table, address) != await _rows(live, table, address, until.lt):
                    raise Mismatch(f"{table} of {address} is not the same after every event came twice.")
    finally:
        await live.close()


async def _rows(conn: Connection, table: str, contract: str, until_lt: int = 2**62) -> list[str]:
    """The history of the tranches has no contract of its own: it is that of the vault."""
    left_out = _CLOCKS - _BLOCK_TIMES.get(table, set())
    of = "vault_id" if table == "tranche_utilization_history" else "contract_address"
    sql = f"SELECT * FROM {table} WHERE logical_time <= $1 AND {of} = $2"  # noqa: S608 - names of this module
    same = "(SELECT vault_id FROM blockchain_sync_state WHERE contract_address = $2 AND contract_type = $3)"
    if of == "vault_id":
        rows = await conn.fetch(sql.replace("= $2", f"= {same}"), until_lt, contract, VAULT_KIND)
    else:
        rows = await conn.fetch(sql, until_lt, contract)
    return sorted(repr({name: value for name, value in row.items() if name not in left_out}) for row in rows)
