"""Folding vault events into totals, and storing what each event did to each tranche."""

from __future__ import annotations

from tonsurance.core.errors import LedgerRefused, UnknownTranche
from tonsurance.core.events import ChainEvent
from tonsurance.core.ledger import Entry, Totals, entries_of, post
from tonsurance.core.params import Params
from tonsurance.core.tranches import current_apy_percent, utilization
from tonsurance.db.pool import Connection

INSERT_POSTINGS = """
WITH posting AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::int[], $4::bigint[], $5::text[], $6::text[],
        $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[],
        $13::bigint[], $14::bigint[], $15::bigint[], $16::text[], $17::text[], $18::text[],
        $19::float8[], $20::float8[], $21::boolean[], $22::float8[], $23::bigint[])
        WITH ORDINALITY AS p (contract, lt, message_index, block_time, vault_id, tranche_id,
        capital_delta, coverage_delta, unearned_delta, earned_delta, loss_delta, shares_delta,
        capital, coverage, unearned, earned, losses, shares, capped, raw, insolvent, apy, version, place)
), entry AS (
    INSERT INTO ledger_entries (contract_address, logical_time, message_index, vault_id, tranche_id,
        capital_delta_nanoton, coverage_delta_nanoton, unearned_delta_nanoton, earned_delta_nanoton, loss_delta_nanoton,
        shares_delta, ledger_version)
    SELECT contract, lt, message_index, vault_id, tranche_id, capital_delta, coverage_delta, unearned_delta,
        earned_delta, loss_delta, shares_delta::numeric, version
    FROM posting ORDER BY place
), history AS (
    INSERT INTO tranche_utilization_history (vault_id, tranche_id, logical_time, message_index, recorded_at,
        total_capital_nanoton, coverage_sold_nanoton, unearned_premium_nanoton, earned_premium_nanoton,
        absorbed_losses_nanoton, shares, utilization_ratio, utilization_raw, insolvent, current_apy, params_version)
    SELECT vault_id, tranche_id, lt, message_index, to_timestamp(block_time), capital, coverage, unearned,
        earned::numeric, losses::numeric, shares::numeric, capped, raw, insolvent, apy, $24
    FROM posting
)
INSERT INTO tranche_utilization AS t (vault_id, tranche_id, total_capital_nanoton, coverage_sold_nanoton,
    unearned_premium_nanoton, earned_premium_nanoton, absorbed_losses_nanoton, shares, utilization_ratio,
    utilization_raw, insolvent, current_apy, logical_time, message_index, block_time, params_version, ledger_version)
SELECT DISTINCT ON (vault_id, tranche_id) vault_id, tranche_id, capital, coverage, unearned, earned::numeric,
    losses::numeric, shares::numeric, capped, raw, insolvent, apy, lt, message_index, to_timestamp(block_time), $24,
    version
FROM posting ORDER BY vault_id, tranche_id, place DESC
ON CONFLICT (vault_id, tranche_id) DO UPDATE SET
    total_capital_nanoton = excluded.total_capital_nanoton, coverage_sold_nanoton = excluded.coverage_sold_nanoton,
    unearned_premium_nanoton = excluded.unearned_premium_nanoton,
    earned_premium_nanoton = excluded.earned_premium_nanoton,
    absorbed_losses_nanoton = excluded.absorbed_losses_nanoton, shares = excluded.shares,
    utilization_ratio = excluded.utilization_ratio, utilization_raw = excluded.utilization_raw,
    insolvent = excluded.insolvent, current_apy = excluded.current_apy, logical_time = excluded.logical_time,
    message_index = excluded.message_index, mc_seqno = excluded.mc_seqno, block_time = excluded.block_time,
    params_version = excluded.params_version, ledger_version = excluded.ledger_version, updated_at = now()
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
            await conn.execute(INSERT_POSTINGS, *columns, self._params.version)
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
