"""Folding vault events into totals, and storing what each event did to each tranche."""

from __future__ import annotations

from tonsurance.core.errors import LedgerRefused, UnknownTranche
from tonsurance.core.events import ChainEvent
from tonsurance.core.ledger import Entry, Totals, entries_of, post
from tonsurance.core.params import Params
from tonsurance.core.tranches import current_apy_percent, utilization
from tonsurance.db.pool import Connection

POST_ENTRIES = """
SELECT post_entries($1::text[], $2::bigint[], $3::int[], $4::bigint[], $5::text[], $6::text[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $14::bigint[], $15::bigint[],
    $16::text[], $17::text[], $18::text[], $19::float8[], $20::float8[], $21::boolean[], $22::float8[], $23::bigint[],
    $24)
"""
"""Entries, one history row per event and touched tranche, and the snapshot: the last of these rows per tranche."""


class TrancheBook:
    """Totals of some vaults' tranches while events are folded into them; missing ones are empty."""

    def __init__(self, totals: dict[tuple[str, str], Totals], params: Params) -> None:
        self._totals = totals
        self._params = params
        self._rows: list[tuple[object, ...]] = []

    def post(self, event: ChainEvent, vault_id: str, version: int) -> None:
        """Apply one event of a ledger version.

        Raises LedgerRefused, naming the event; the book must not be written then.
        """
        try:
            for entry in entries_of(event.body):
                key = (vault_id, entry.tranche_id)
                self._totals[key] = post(self._totals.get(key, Totals()), entry)
                self._rows.append(self._row(event, vault_id, entry, self._totals[key], version))
        except (LedgerRefused, UnknownTranche) as error:
            raise LedgerRefused(f"{event.event_type} at logical time {event.lt}: {error.message}") from error

    async def write(self, conn: Connection) -> None:
        """Store entries, history and snapshot."""
        if self._rows:
            columns = (list(column) for column in zip(*self._rows, strict=True))
            await conn.execute(POST_ENTRIES, *columns, self._params.version)
            self._rows.clear()

    def _row(self, event: ChainEvent, vault_id: str, entry: Entry, after: Totals, version: int) -> tuple[object, ...]:
        used = utilization(after.capital, after.coverage)
        return (
            event.contract,
            event.lt,
            event.message_index,
            event.block_time,
            vault_id,
            entry.tranche_id,
            entry.capital,
            entry.coverage,
            entry.unearned,
            entry.earned,
            entry.losses,
            str(entry.shares),
            after.capital,
            after.coverage,
            after.unearned,
            str(after.earned),
            str(after.losses),
            str(after.shares),
            used.capped,
            used.raw,
            used.insolvent,
            current_apy_percent(self._params.tranche(entry.tranche_id), used),
            version,
        )
