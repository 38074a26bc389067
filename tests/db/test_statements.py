"""Every SQL statement of the query modules fits the migrated schema, and gives the columns its row type names."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from types import ModuleType

import msgspec
import pytest

from tonsurance.db import (
    alerts,
    audits,
    contracts,
    daemons,
    entries,
    events,
    exposure,
    factory_state,
    history,
    ledger,
    partitions,
    policies,
    policy_lists,
    policy_repairs,
    postings,
    quarantine,
    quotes,
    reconciliation,
    reservations,
    series,
    shadow,
    sifting,
    streams,
    swapping,
    sync_results,
    tranches,
    transactions,
    webhooks,
)
from tonsurance.db.pool import connect

_MODULES: tuple[ModuleType, ...] = (
    alerts,
    audits,
    contracts,
    daemons,
    entries,
    events,
    exposure,
    factory_state,
    history,
    ledger,
    partitions,
    policies,
    policy_lists,
    policy_repairs,
    postings,
    quarantine,
    quotes,
    reconciliation,
    reservations,
    series,
    shadow,
    sifting,
    streams,
    swapping,
    sync_results,
    tranches,
    transactions,
    webhooks,
)
_VERBS = ("SELECT", "INSERT", "UPDATE", "WITH")
STATEMENTS = {
    f"{module.__name__.rsplit('.', 1)[-1]}.{name}": value
    for module in _MODULES
    for name, value in vars(module).items()
    if name.isupper() and name[0] != "_" and isinstance(value, str) and value.strip().startswith(_VERBS)
}
ROW_TYPES = {
    "alerts.SELECT_ALERTS": alerts.AlertRow,
    "alerts.SELECT_OPEN_ALERTS": alerts.AlertRow,
    "alerts.ACKNOWLEDGE": alerts.AlertRow,
    "alerts.SELECT_EVALUATED": alerts.Evaluated,
    "alerts.SELECT_TRANSITIONS": alerts.TransitionRow,
    "webhooks.CLAIM_DELIVERY": webhooks.Delivery,
    "webhooks.SELECT_OUTBOX_COUNTS": webhooks.OutboxCounts,
    "contracts.SELECT_FOLLOWED": contracts.FollowedRow,
    "contracts.SELECT_CONTRACT_STATES": contracts.ContractState,
    "daemons.SELECT_STATUSES": daemons.DaemonRow,
    "daemons.SELECT_SUMS": daemons.Sums,
    "events.SELECT_EVENTS": events.EventRow,
    "events.SELECT_EVENTS_SINCE": events.EventRow,
    "entries.SELECT_ENTRIES": entries.EntryRow,
    "exposure.SELECT_EXPOSURE": exposure.ExposureRow,
    "exposure.SELECT_LAST_POSTED": exposure.LastPosted,
    "exposure.SELECT_RECORDS": exposure.RecordRow,
    "factory_state.SELECT_FACTORY_STATES": factory_state.FactoryState,
    "factory_state.SELECT_POLICY_END": factory_state.PolicyEnd,
    "history.SELECT_TRANCHES_AT_LT": tranches.TrancheRow,
    "history.SELECT_TRANCHES_AT_TIME": tranches.TrancheRow,
    "history.SELECT_REACH": history.Reach,
    "quotes.SELECT_QUOTE": quotes.QuoteRow,
    "quotes.SELECT_QUOTE_FATE": quotes.QuoteFate,
    "quotes.SELECT_CONVERSION": quotes.ConversionRow,
    "quotes.SELECT_CONVERSION_SUMS": quotes.ConversionSum,
    "quotes.SELECT_FORGOTTEN": quotes.Forgotten,
    "tranches.SELECT_TRANCHES": tranches.TrancheRow,
    "tranches.SELECT_TRANCHES_SINCE": tranches.TrancheRow,
    "policy_lists.SELECT_POLICIES": policy_lists.PolicyRow,
    "policy_lists.SELECT_POLICY": policy_lists.PolicyRow,
    "transactions.SELECT_ISSUED_QUOTE": transactions.IssuedQuote,
    "transactions.SELECT_MATCHES": transactions.TransactionRow,
    "transactions.SELECT_SENT": transactions.TransactionRow,
    "transactions.SELECT_SENT_BY": transactions.TransactionRow,
    "transactions.SELECT_TRANSACTION": transactions.TransactionRow,
    "transactions.SELECT_POLICY_TRANSACTIONS": transactions.TransactionRow,
    "policies.SELECT_POLICY_COUNTS": policies.PolicyCounts,
}


@pytest.fixture
async def conn(each_database: str) -> AsyncIterator[object]:
    conn = await connect(each_database)
    yield conn
    await conn.close()


async def test_every_statement_can_be_prepared_and_rows_have_their_fields(conn) -> None:  # type: ignore[no-untyped-def]
    assert len(STATEMENTS) >= 20
    for name, sql in STATEMENTS.items():
        statement = await conn.prepare(sql)
        if name in ROW_TYPES:
            columns = {attribute.name for attribute in statement.get_attributes()}
            assert columns == {field.name for field in msgspec.structs.fields(ROW_TYPES[name])}, name


async def test_every_combination_of_filters_can_be_prepared(conn) -> None:  # type: ignore[no-untyped-def]
    columns = ("contract_address", "event_type", "transaction_hash", "policy_id")
    for chosen, paged, newest in itertools.product(range(16), (False, True), (False, True)):
        some = tuple(column for place, column in enumerate(columns) if chosen >> place & 1)
        await conn.prepare(events.make_events_statement(some, paged=paged, newest_first=newest))
        listed = tuple(column for place, column in enumerate(("buyer_address", "status")) if chosen >> place & 1)
        await conn.prepare(policy_lists.make_policies_statement(listed, paged=paged))
        by_tranche = bool(chosen & 1)
        await conn.prepare(entries.make_entries_statement(by_tranche=by_tranche, paged=paged, newest_first=newest))
