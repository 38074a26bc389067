"""A writer on a fresh database of each PostgreSQL version, and a reader beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from db.chain_story import register
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import Connection, connect
from tonsurance.services.ledger_writer import LedgerWriter


@pytest.fixture
async def conn(each_database: str) -> AsyncIterator[Connection]:
    """A reader beside the writer, on a database that knows the vault and its factory."""
    await register(each_database)
    conn = await connect(each_database)
    yield conn
    await conn.close()


@pytest.fixture
async def writer(each_database: str, conn: Connection) -> AsyncIterator[LedgerWriter]:
    writer = LedgerWriter(each_database, DEFAULT_PARAMS)
    writer.start()
    yield writer
    await writer.close()
