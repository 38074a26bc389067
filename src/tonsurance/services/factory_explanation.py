"""Why the factory's half of a ledger is not its chain: the factory's transactions once more against the log, the log
against the policies, and the policies against the exposure. What differs is named; nothing is changed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from tonsurance.chain.answers import RawTransaction
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.chain.layout import Layout
from tonsurance.core.drift import Finding
from tonsurance.core.events import FACTORY_KIND, GENESIS, ChainEvent, ContractBatch, Cursor, DecodedTransaction
from tonsurance.db.audits import select_followed
from tonsurance.db.policy_repairs import read_factory_log, select_log_digest, select_set_aside
from tonsurance.db.pool import Connection, Pool, acquire
from tonsurance.db.reconciliation import EventRepair, Window
from tonsurance.db.sifting import sift_batches
from tonsurance.services.comparison import Comparison, Explanation
from tonsurance.services.policy_comparison import examine_policies

_CHUNK = 500
"""Transactions decoded and compared between two turns of other work."""


class FactoryFound(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a factory's rows up to its transaction `until`, and the events that would make its log right.
    `mark` names the log as it was found: while it is the same, the next run begins after `until`."""

    contract: str
    until: Cursor
    findings: tuple[Finding, ...]
    unreadable: tuple[Finding, ...]
    events: tuple[EventRepair, ...]
    mark: str


class FactoryExplainer:
    """Explains one factory of a vault."""

    def __init__(self, client: TonCenterClient, pool: Pool, contract: str, vault_id: str, layout: Layout) -> None:
        self._pool = pool
        self._contract = contract
        self._vault_id = vault_id
        self._follower = Follower(client, contract, FACTORY_KIND)
        self._decoder = Decoder(layout, contract=contract, kind=FACTORY_KIND)

    async def explain(self, seqno: int, mark: str | None) -> FactoryFound:
        """Compare everything up to a masterchain block, or to where the ledger stands when that is earlier.

        Raises ChainUnavailable, DatabaseUnavailable, ChainDataError when the history is not linked, and LedgerRefused
        when an event of the log cannot be read and the chain does not say what it is.
        """
        head = await self._follower.read_head(seqno)
        async with acquire(self._pool) as conn:
            followed = await select_followed(conn, self._contract)
            reached = GENESIS if followed is None else followed.cursor
            until = min(head, reached, key=lambda cursor: cursor.lt)
            after = await self._find_start(conn, mark, until)
            made = _make_mark(self._contract, until, await select_log_digest(conn, self._contract, until.lt))
        found = Explanation(after=after, until=until)
        comparison = Comparison(self._contract, self._vault_id, found)
        await self._compare_all(comparison, found)
        async with acquire(self._pool) as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            followed = await select_followed(conn, self._contract)
            beyond = until.lt if followed is None else followed.cursor.lt
            comparison.compare_beyond(await read_factory_log(conn, self._contract, beyond))
            policies = await examine_policies(conn, self._contract, self._vault_id, found.repairs.events)
        return FactoryFound(
            contract=self._contract,
            until=until,
            findings=(*found.findings, *policies.findings),
            unreadable=tuple(found.unreadable),
            events=tuple(found.repairs.events),
            mark=made,
        )

    async def _find_start(self, conn: Connection, mark: str | None, until: Cursor) -> Cursor:
        """Where the run before ended, when the log up to there is what it was then; else the beginning."""
        if mark is None:
            return GENESIS
        _, lt, transaction_hash, _ = mark.split(" ")
        start = Cursor(int(lt), bytes.fromhex(transaction_hash))
        now = await select_log_digest(conn, self._contract, start.lt)
        return start if start.lt <= until.lt and mark == _make_mark(self._contract, start, now) else GENESIS

    async def _compare_all(self, comparison: Comparison, found: Explanation) -> None:
        cursor = found.after
        while cursor != found.until:
            walk = await self._follower.walk(cursor, found.until)
            for start in range(0, len(walk.transactions), _CHUNK):
                decoded = list(map(self._decode, walk.transactions[start : start + _CHUNK]))
                await self._compare(comparison, cursor, decoded)
                cursor = decoded[-1].cursor
                await asyncio.sleep(0)

    def _decode(self, transaction: RawTransaction) -> DecodedTransaction:
        if transaction.outcome is None:
            return self._decoder.decode(transaction.boc)
        return self._decoder.decode_outcome(transaction.outcome)

    async def _compare(self, comparison: Comparison, after: Cursor, decoded: Sequence[DecodedTransaction]) -> None:
        since, until = after.lt if after.lt else -1, decoded[-1].cursor.lt
        batch = ContractBatch(
            contract=self._contract, contract_kind=FACTORY_KIND, after=after, transactions=tuple(decoded)
        )
        async with acquire(self._pool) as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            window = await read_factory_log(conn, self._contract, since, until)
            waiting = await select_set_aside(conn, self._contract, since, until)
            (sifted,) = await sift_batches(conn, [batch])
        comparison.note_unreadable(decoded)
        comparison.compare_log(list(_demanded(decoded, sifted, window, waiting)), window)


def _demanded(
    decoded: Sequence[DecodedTransaction], sifted: ContractBatch, window: Window, waiting: frozenset[tuple[int, int]]
) -> list[ChainEvent]:
    """The events that must stand in the log: not those that are set aside, as long as they are not in it."""
    held = {(row.lt, row.message_index) for row in window.log}
    applied = {(event.lt, event.message_index) for item in sifted.transactions for event in item.events} - waiting
    events = (event for item in decoded for event in item.events)
    return [event for event in events if (event.lt, event.message_index) in held | applied]


def _make_mark(contract: str, until: Cursor, digest: str) -> str:
    return f"{contract} {until.lt} {until.hash.hex()} {digest}"
