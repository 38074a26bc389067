"""Makes a ledger its chain, by the cause: rows that the chain's events demand are restored, rows that they do not are
taken away; and where the vault holds what no event explains, an adjustment is posted as an event of its own.

All of a repair is one transaction under the ledger's write lock, and all of it is in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from tonsurance.chain.contracts import TranchesReading
from tonsurance.core.catalog import tranche_id_on_chain
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import VAULT_KIND, ChainEvent, LedgerAdjusted
from tonsurance.core.ledger import Totals
from tonsurance.core.params import Params
from tonsurance.db.audits import read_standing, select_followed
from tonsurance.db.folding import Posting, fold_events
from tonsurance.db.ledger import PUBLISH_VERSION
from tonsurance.db.pool import Connection
from tonsurance.db.reconciliation import (
    EventRepair,
    drop_streams,
    journal_adjusted,
    lock_head,
    next_adjusted_index,
    read_rows,
    repair_entries,
    repair_events,
    repair_history,
    repair_snapshot,
)
from tonsurance.db.streams import advance_streams
from tonsurance.services.comparison import Comparison, Explanation
from tonsurance.services.verification import Examination, compare_standing

MOST_REPAIRS = 50_000
"""More rows than this are not mended one by one: the read models are to be rebuilt, the log to be read again."""

DECODER = "vault-sync/1"
_CHUNK = 2_000


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair came to: adjustments in words, and the differences that are left (with `moved`: only because the
    ledger had gone on meanwhile, so that it may be tried again)."""

    adjusted: tuple[str, ...]
    remaining: tuple[str, ...]
    moved: bool


class LedgerRepair:
    """The repair of one vault as run `run_id`, inside the caller's transaction."""

    def __init__(
        self, conn: Connection, run_id: int, contract: str, vault_id: str, params: Callable[[], Params]
    ) -> None:
        self._conn = conn
        self._run_id = run_id
        self._contract = contract
        self._vault_id = vault_id
        self._params = params

    async def apply(self, examined: Examination, found: Explanation) -> Repaired:
        """Repair what was found. Raises LedgerRefused when that cannot be done; then nothing of it may stay."""
        if found.refused is not None:
            raise LedgerRefused(f"The chain's events make no ledger: {found.refused}")
        version = await lock_head(self._conn) + 1
        moved = await self._fold_tail(found)
        if found.repairs.count > MOST_REPAIRS:
            raise LedgerRefused(
                f"{found.repairs.count:,} rows differ, more than {MOST_REPAIRS:,} are not mended singly."
            )
        await self._restore(found)
        adjusted = () if moved else await self._adjust(examined.reading, found, version)
        await self._conn.execute(PUBLISH_VERSION, version)
        lt = examined.reading.last_transaction.lt
        standing = await read_standing(self._conn, self._contract, self._vault_id, lt)
        remaining = tuple(compare_standing(examined.reading, examined.verdict.chain_policies, standing))
        return Repaired(adjusted=adjusted, remaining=remaining, moved=moved and bool(remaining))

    async def _fold_tail(self, found: Explanation) -> bool:
        """What was posted since then stands on what is wrong: find what follows for it. Returns whether there is any.

        Its events were read from the chain just now, and the next run holds them against it.
        """
        followed = await select_followed(self._conn, self._contract)
        if followed is None or followed.cursor.lt <= found.until.lt:
            return False
        window = await read_rows(self._conn, self._contract, self._vault_id, found.until.lt, followed.cursor.lt)
        tail = Comparison(self._contract, self._vault_id, found)
        await tail.params.load(self._conn, [row.params_version for row in window.log])
        tail.fold(window)
        if found.refused is not None:
            raise LedgerRefused(f"What was posted since does not follow from what is right: {found.refused}")
        return True

    async def _restore(self, found: Explanation) -> None:
        repairs, conn = found.repairs, self._conn
        await repair_events(conn, self._run_id, self._contract, repairs.events)
        await repair_entries(conn, self._run_id, self._vault_id, repairs.entries)
        for start in range(0, len(repairs.drops), _CHUNK):
            await repair_history(conn, self._run_id, self._vault_id, repairs.drops[start : start + _CHUNK], ())
        for start in range(0, len(repairs.puts), _CHUNK):
            await repair_history(conn, self._run_id, self._vault_id, (), repairs.puts[start : start + _CHUNK])
        if repairs.first_lt is not None:
            await drop_streams(conn, self._run_id, self._vault_id, self._contract, repairs.first_lt)
            await advance_streams(conn, self._vault_id)
        await repair_snapshot(conn, self._run_id, self._vault_id)

    async def _adjust(self, reading: TranchesReading, found: Explanation, version: int) -> tuple[str, ...]:
        """Post what no event explains, after the vault's last transaction; says each in words."""
        last = reading.last_transaction
        if found.until != last:
            return ()
        index = await next_adjusted_index(self._conn, self._contract, last.lt)
        said: list[str] = []
        for body in list_gaps(reading, found.totals):
            event = ChainEvent(
                contract=self._contract,
                contract_kind=VAULT_KIND,
                lt=last.lt,
                message_index=index + len(said),
                transaction_hash=last.hash,
                block_time=found.block_time,
                decoder=DECODER,
                body=body,
                raw_body=b"",
            )
            said.append(await self._post(event, body, version))
        return tuple(said)

    async def _post(self, event: ChainEvent, body: LedgerAdjusted, version: int) -> str:
        params, tranche_id = self._params(), tranche_id_on_chain(body.tranche_id)
        amounts = {name: getattr(body, name) for name in ("capital", "coverage", "unearned", "shares")}
        moved = ", ".join(f"{name} {value:+d}" for name, value in amounts.items() if value)
        said = f"{tranche_id}: no event explains {moved}; adjusted at logical time {event.lt}."
        repair = EventRepair(
            lt=event.lt,
            message_index=event.message_index,
            event=event,
            ledger_version=version,
            params_version=params.version,
            why=said,
        )
        await journal_adjusted(self._conn, self._run_id, self._vault_id, tranche_id, event, said)
        await repair_events(self._conn, self._run_id, self._contract, [repair])
        posting = Posting(event=event, kind=VAULT_KIND, vault_id=self._vault_id, version=version)
        await fold_events(self._conn, [posting], params)
        return said


def list_gaps(reading: TranchesReading, totals: dict[str, Totals]) -> Iterator[LedgerAdjusted]:
    """By what the vault's tranches differ from what its events come to."""
    for state in reading.tranches:
        told = totals.get(tranche_id_on_chain(state.tranche_id), Totals())
        gap = LedgerAdjusted(
            tranche_id=state.tranche_id,
            capital=state.capital - told.capital,
            coverage=state.coverage - told.coverage,
            unearned=state.unearned - told.unearned,
            shares=state.shares - told.shares,
        )
        if (gap.capital, gap.coverage, gap.unearned, gap.shares) != (0, 0, 0, 0):
            yield gap
