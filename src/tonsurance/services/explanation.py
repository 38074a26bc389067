"""Why a ledger is not its chain: the vault's transactions once more, each proved to be the next one, against every row
they must have left. What differs is named; nothing is changed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tonsurance.chain.answers import RawTransaction
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.chain.layout import Layout
from tonsurance.core.events import VAULT_KIND, Cursor, DecodedTransaction
from tonsurance.db.history import select_tranches_at_lt
from tonsurance.db.pool import Pool, acquire
from tonsurance.db.reconciliation import read_beyond, read_window, select_stray_entries
from tonsurance.services.comparison import Comparison, Explanation

_CHUNK = 500
"""Transactions decoded and compared between two turns of other work."""


class Explainer:
    """Explains one vault."""

    def __init__(self, client: TonCenterClient, pool: Pool, contract: str, vault_id: str, layout: Layout) -> None:
        self._pool = pool
        self._contract = contract
        self._vault_id = vault_id
        self._follower = Follower(client, contract, VAULT_KIND)
        self._decoder = Decoder(layout, contract=contract, kind=VAULT_KIND)

    async def explain(self, after: Cursor, until: Cursor) -> Explanation:
        """Compare everything after one transaction up to another.

        Raises ChainUnavailable, DatabaseUnavailable, and ChainDataError when the history is not linked.
        """
        found = Explanation(after=after, until=until)
        comparison = Comparison(self._contract, self._vault_id, found)
        async with acquire(self._pool) as conn:
            before = await select_tranches_at_lt(conn, self._vault_id, after.lt) if after.lt else []
        found.totals = {row.tranche_id: row.totals for row in before}
        cursor = after
        while cursor != until and found.refused is None:
            walk = await self._follower.walk(cursor, until)
            for start in range(0, len(walk.transactions), _CHUNK):
                decoded = list(map(self._decode, walk.transactions[start : start + _CHUNK]))
                await self._compare(comparison, cursor, decoded)
                cursor, found.block_time = decoded[-1].cursor, decoded[-1].block_time
                await asyncio.sleep(0)
        await self._compare_rest(comparison, after)
        return found

    def _decode(self, transaction: RawTransaction) -> DecodedTransaction:
        """From what was read when it was proved, where that could be read."""
        if transaction.outcome is None:
            return self._decoder.decode(transaction.boc)
        return self._decoder.decode_outcome(transaction.outcome)

    async def _compare(self, comparison: Comparison, after: Cursor, decoded: Sequence[DecodedTransaction]) -> None:
        since = after.lt if after.lt else -1  # rows at 0 belong to no transaction
        async with acquire(self._pool) as conn:
            window = await read_window(conn, self._contract, self._vault_id, since, decoded[-1].cursor.lt)
            await comparison.params.load(conn, [row.params_version for row in window.log])
        comparison.note_unreadable(decoded)
        comparison.compare([event for item in decoded for event in item.events], window)

    async def _compare_rest(self, comparison: Comparison, after: Cursor) -> None:
        """What is beyond everything that was ever read, and what another contract left in this vault."""
        async with acquire(self._pool) as conn:
            _, beyond = await read_beyond(conn, self._contract, self._vault_id)
            strays = () if after.lt else await select_stray_entries(conn, self._contract, self._vault_id)
        comparison.compare_beyond(beyond)
        for stray in strays:
            comparison.drop_entry(stray, None)
