"""The local chain on disk: SQLite, one file, one process.

A block, its transactions, the account states it changed and the queue it leaves are committed together before anybody
can see the block. The journal is written without waiting for the disk (synchronous=NORMAL): that survives the death of
the process at any moment; after a loss of power the chain may end a few blocks earlier, but is never broken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tonsurance.core.errors import DependencyError, InputError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    seqno INTEGER PRIMARY KEY, clock_ms INTEGER NOT NULL, start_lt INTEGER NOT NULL, end_lt INTEGER NOT NULL,
    root_hash BLOB NOT NULL, file_hash BLOB NOT NULL, rejected INTEGER NOT NULL, mined_at REAL NOT NULL
);
CREATE TABLE transactions (
    account BLOB NOT NULL, lt INTEGER NOT NULL, hash BLOB NOT NULL, seqno INTEGER NOT NULL, boc BLOB NOT NULL
);
CREATE UNIQUE INDEX transactions_by_account ON transactions (account, lt);
CREATE INDEX transactions_by_block ON transactions (seqno);
CREATE TABLE states (account BLOB NOT NULL, seqno INTEGER NOT NULL, boc BLOB NOT NULL);
CREATE UNIQUE INDEX states_by_account ON states (account, seqno);
CREATE TABLE queue (position INTEGER PRIMARY KEY, account BLOB NOT NULL, boc BLOB NOT NULL);
"""


class BlockHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A block without its transactions. `rejected` counts the messages dropped since the first block."""

    seqno: int
    clock_ms: int
    start_lt: int
    end_lt: int
    root_hash: bytes
    file_hash: bytes
    rejected: int
    mined_at: float

    @property
    def utime(self) -> int:
        """The block's time in unix seconds of the chain."""
        return self.clock_ms // 1000


class StoredTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction as it was made. `account` is one byte of workchain and 32 of address."""

    account: bytes
    lt: int
    hash: bytes
    seqno: int
    boc: bytes


class QueuedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that waits for the next block. Positions never repeat."""

    position: int
    account: bytes
    boc: bytes


class BlockChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one block writes."""

    header: BlockHeader
    transactions: tuple[StoredTransaction, ...] = ()
    states: dict[bytes, bytes] = {}
    taken: tuple[QueuedMessage, ...] = ()
    queued: tuple[QueuedMessage, ...] = ()


class ChainStore:
    """The stored chain. Raises DependencyError when the file cannot be read or written."""

    def __init__(self, path: Path | str = ":memory:") -> None:
        """Opens or creates the file; ":memory:" keeps everything in memory. Raises InputError for a foreign file."""
        self._path = str(path)
        with self._translated():
            self._db = sqlite3.connect(self._path, timeout=1, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Gives the file back."""
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # a second process on this file is an error, at once
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise InputError(f"{self._path} was written by another version of the local chain.")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DependencyError(f"The chain's file {self._path} cannot be used: {error}.") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def save_block(self, changes: BlockChanges) -> None:
        """Write a block with all it changes, or nothing."""
        header = changes.header
        with self._transaction():
            self._db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(header))
            self._db.executemany(
                "INSERT INTO transactions VALUES (?, ?, ?, ?, ?)", map(msgspec.structs.astuple, changes.transactions)
            )
            self._db.executemany(
                "INSERT INTO states VALUES (?, ?, ?)",
                ((account, header.seqno, boc) for account, boc in changes.states.items()),
            )
            self._db.executemany("DELETE FROM queue WHERE position = ?", ((m.position,) for m in changes.taken))
            self._insert_queued(changes.queued)

    def save_queued(self, message: QueuedMessage) -> None:
        """Write a message that came from outside between two blocks."""
        with self._transaction():
            self._insert_queued((message,))

    def _insert_queued(self, messages: Iterable[QueuedMessage]) -> None:
        self._db.executemany("INSERT INTO queue VALUES (?, ?, ?)", map(msgspec.structs.astuple, messages))

    def save_fact(self, name: str, value: str) -> None:
        """Write something about this chain that is not part of a block, such as its seed."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def load_fact(self, name: str) -> str | None:
        """What save_fact wrote last; None when it never did."""
        row = self._row("SELECT value FROM facts WHERE name = ?", name)
        return None if row is None else str(row[0])

    def load_header(self, seqno: int | None = None) -> BlockHeader | None:
        """One block, without seqno the last; None when there is none."""
        if seqno is None:
            row = self._row("SELECT * FROM blocks ORDER BY seqno DESC LIMIT 1")
        else:
            row = self._row("SELECT * FROM blocks WHERE seqno = ?", seqno)
        return None if row is None else _header(row)

    def load_last_headers(self, count: int) -> list[BlockHeader]:
        """The last blocks, oldest first."""
        rows = self._rows("SELECT * FROM blocks ORDER BY seqno DESC LIMIT ?", count)
        return [_header(row) for row in reversed(rows)]

    def load_queue(self) -> list[QueuedMessage]:
        """What waits for the next block, in order."""
        rows = self._rows("SELECT position, account, boc FROM queue ORDER BY position")
        return [QueuedMessage(position=position, account=account, boc=boc) for position, account, boc in rows]

    def load_state(self, account: bytes, seqno: int) -> bytes | None:
        """The ShardAccount after this block; None when nothing had reached the account by then."""
        row = self._row(
            "SELECT boc FROM states WHERE account = ? AND seqno <= ? ORDER BY seqno DESC LIMIT 1", account, seqno
        )
        return None if row is None else bytes(row[0])

    def load_transaction(self, account: bytes, lt: int) -> StoredTransaction | None:
        """The account's transaction with this logical time."""
        row = self._row("SELECT * FROM transactions WHERE account = ? AND lt = ?", account, lt)
        return None if row is None else _transaction(row)

    def load_transactions(
        self, account: bytes, *, until_lt: int | None = None, after_lt: int = 0, limit: int = 100
    ) -> list[StoredTransaction]:
        """The account's transactions with after_lt < lt <= until_lt, newest first."""
        rows = self._rows(
            "SELECT * FROM transactions WHERE account = ? AND lt <= ? AND lt > ? ORDER BY lt DESC LIMIT ?",
            account, 2**63 - 1 if until_lt is None else until_lt, after_lt, limit,
        )  # fmt: skip
        return [_transaction(row) for row in rows]

    def load_block_transactions(self, seqno: int) -> list[StoredTransaction]:
        """The transactions of one block, in the order they were made."""
        return [
            _transaction(row) for row in self._rows("SELECT * FROM transactions WHERE seqno = ? ORDER BY rowid", seqno)
        ]

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._translated():
            return self._db.execute(query, values).fetchall()

    def _row(self, query: str, *values: object) -> tuple[Any, ...] | None:
        with self._translated():
            row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
            return row


def _header(row: tuple[Any, ...]) -> BlockHeader:
    return msgspec.convert(dict(zip(BlockHeader.__struct_fields__, row, strict=True)), BlockHeader)


def _transaction(row: tuple[Any, ...]) -> StoredTransaction:
    account, lt, hash_, seqno, boc = row
    return StoredTransaction(account=account, lt=lt, hash=hash_, seqno=seqno, boc=boc)
