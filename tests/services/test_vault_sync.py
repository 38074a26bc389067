"""Drift between vault and ledger is found at one block, explained by name, repaired by the cause, and written down."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.ledger_tables import read_ledger
from services.syncing import JOURNAL, RUNS, Desk, explained, open_desk
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.services.verdicts import describe_replay


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    async with open_desk(database) as desk:
        yield desk


async def test_an_equal_ledger_is_called_equal_and_written_down_once(desk: Desk) -> None:
    result = await desk.run()
    assert (result.status, result.differences, result.findings, result.adjustments) == ("equal", (), (), 0)
    (row,) = await desk.rows(RUNS)
    assert (row["run_id"], row["status"], row["vault_id"], row["logical_time"]) == (
        result.run_id, "equal", "main", result.lt)  # fmt: skip
    tranches = await desk.rows("SELECT * FROM vault_sync_tranches ORDER BY tranche_id")
    assert {tranche["tranche_id"] for tranche in tranches} == set(TRANCHE_IDS)
    for tranche in tranches:
        assert tranche["chain_capital_nanoton"] == tranche["ledger_capital_nanoton"] > 0
        assert tranche["capital_drift_pct"] == tranche["coverage_drift_pct"] == 0
    assert await desk.rows(JOURNAL) == []


A_DEPOSIT = "(SELECT min(logical_time) FROM blockchain_events WHERE event_type = 'DepositMade')"
MEZZ_DEPOSIT = (
    "(SELECT logical_time FROM blockchain_events WHERE event_type = 'DepositMade' AND metadata ->> 'tranche_id' = '3')"
)
FOREIGN_EVENT = """
INSERT INTO blockchain_events (event_type, policy_id, contract_address, contract_type, transaction_hash, logical_time,
    message_index, metadata, raw_body, decoder, block_time, ledger_version, params_version)
SELECT event_type, policy_id, contract_address, contract_type, transaction_hash, logical_time, message_index + 7,
    metadata, raw_body, decoder, block_time, ledger_version, params_version
FROM blockchain_events WHERE event_type = 'DepositMade' AND metadata ->> 'tranche_id' = '3'
"""
FOREIGN_ENTRY = """
INSERT INTO ledger_entries (contract_address, logical_time, message_index, vault_id, tranche_id, capital_delta_nanoton,
    coverage_delta_nanoton, unearned_delta_nanoton, earned_delta_nanoton, loss_delta_nanoton, shares_delta,
    ledger_version)
SELECT contract_address, logical_time, message_index + {0}, vault_id, 'SURE-MEZZ', 150000000000, 0, 0, 0, 0, 0,
    ledger_version
FROM ledger_entries WHERE tranche_id = 'SURE-MEZZ' ORDER BY entry_id LIMIT 1
"""

IN_ORDER = """
SELECT contract_address, logical_time, message_index FROM blockchain_events ORDER BY contract_address, event_id
"""

Plant = tuple[str, ...]
PLANTS: dict[str, tuple[Plant, list[tuple[str, str, str | None]], str]] = {
    # name: (statements, (relation, fault, event class) of every finding, words of one of them)
    "a deleted entry": (
        (f"DELETE FROM ledger_entries WHERE tranche_id = 'SURE-MEZZ' AND logical_time = {MEZZ_DEPOSIT}",),
        [("ledger_entries", "missing", "DepositMade")],
        "The entry of SURE-MEZZ for DepositMade at logical time",
    ),
    "a changed amount": (
        (
            "UPDATE ledger_entries SET capital_delta_nanoton = capital_delta_nanoton - 150000000000"
            f" WHERE tranche_id = 'SURE-MEZZ' AND logical_time = {MEZZ_DEPOSIT}",
        ),
        [("ledger_entries", "altered", "DepositMade")],
        "capital is 850000000000 and must be 1000000000000",
    ),
    "a foreign entry": (
        (FOREIGN_ENTRY.format(9),),
        [("ledger_entries", "foreign", None)],
        "belongs to no event: capital +150000000000",
    ),
    "a deleted event": (
        (f"DELETE FROM blockchain_events WHERE logical_time = {MEZZ_DEPOSIT} AND event_type = 'DepositMade'",),
        [("blockchain_events", "missing", "DepositMade")],
        "DepositMade at logical time",
    ),
    "a deleted event whose number is gone too": (
        (
            f"DELETE FROM blockchain_events WHERE logical_time = {MEZZ_DEPOSIT} AND event_type = 'DepositMade'",
            "UPDATE blockchain_events e SET event_id = -n FROM"
            " (SELECT event_id, row_number() OVER (ORDER BY event_id) n FROM blockchain_events) x"
            " WHERE e.event_id = x.event_id",
            "UPDATE blockchain_events SET event_id = -event_id",
        ),
        [("blockchain_events", "missing", "DepositMade")],
        "is missing in the log",
    ),
    "a foreign event": (
        (FOREIGN_EVENT,),
        [("blockchain_events", "foreign", "DepositMade")],
        "stands in the log and not on the chain",
    ),
    "an altered event": (
        (
            "UPDATE blockchain_events SET metadata = jsonb_set(metadata, '{amount}', '7')"
            " WHERE event_type = 'DepositMade' AND metadata ->> 'tranche_id' = '3'",
        ),
        [("blockchain_events", "altered", "DepositMade")],
        "stands altered in the log: metadata",
    ),
    "an unreadable event": (
        ("UPDATE blockchain_events SET metadata = '[]' WHERE event_type = 'DepositMade'",),
        [("blockchain_events", "altered", "DepositMade")],
        "metadata",
    ),
    "an event moved in time": (
        (
            "UPDATE blockchain_events SET logical_time = logical_time + 1 WHERE event_type = 'DepositMade'"
            " AND metadata ->> 'tranche_id' = '3'",
        ),
        [("blockchain_events", "missing", "DepositMade"), ("blockchain_events", "foreign", "DepositMade")],
        "is missing in the log",
    ),
    "a changed snapshot row": (
        (
            "UPDATE tranche_utilization SET total_capital_nanoton = total_capital_nanoton / 2"
            " WHERE tranche_id = 'SURE-JNR'",
        ),
        [("tranche_utilization", "altered", None)],
        "The row of SURE-JNR is not the last one of its history: capital -",
    ),
    "a snapshot's rate": (
        ("UPDATE tranche_utilization SET current_apy = 1 WHERE tranche_id = 'SURE-JNR'",),
        [("tranche_utilization", "altered", None)],
        "no amount",
    ),
    "a deleted snapshot row": (
        ("DELETE FROM tranche_utilization WHERE tranche_id = 'SURE-JNR'",),
        [("tranche_utilization", "altered", None)],
        "capital -",
    ),
    "a changed state of the past": (
        (
            f"UPDATE tranche_utilization_history SET total_capital_nanoton = 5 WHERE logical_time = {MEZZ_DEPOSIT}"
            " AND tranche_id = 'SURE-MEZZ'",
        ),
        [("tranche_utilization_history", "altered", "DepositMade")],
        "capital is 5 and must be 1000000000000",
    ),
    "a past that is gone": (
        ("DELETE FROM tranche_utilization_history WHERE tranche_id = 'SURE-SNR'",),
        [
            ("tranche_utilization_history", "missing", "DepositMade"),
            ("tranche_utilization_history", "missing", "PremiumsDistributed"),
            ("tranche_utilization_history", "missing", "PremiumsEarned"),
            ("tranche_utilization_history", "missing", "CoverageChanged"),
            ("tranche_utilization", "altered", None),
        ],
        "is missing",
    ),
    "an entry beyond everything that was read": (
        (FOREIGN_ENTRY.format(0).replace("logical_time,", "logical_time + 1000000000000,", 2).replace(
            "(contract_address, logical_time + 1000000000000", "(contract_address, logical_time"),),
        [("ledger_entries", "foreign", None)],
        "belongs to no event",
    ),
    "an event that was never posted": (
        (
            f"DELETE FROM ledger_entries WHERE logical_time = {MEZZ_DEPOSIT}",
            f"DELETE FROM tranche_utilization_history WHERE logical_time = {MEZZ_DEPOSIT}",
            "UPDATE tranche_utilization_history SET total_capital_nanoton = total_capital_nanoton - 1000000000000,"
            " utilization_ratio = 1 WHERE tranche_id = 'SURE-MEZZ' AND total_capital_nanoton >= 1000000000000",
            f"DELETE FROM blockchain_events WHERE logical_time = {MEZZ_DEPOSIT}",
        ),
        [],
        "DepositMade at logical time",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
@pytest.mark.parametrize("known", [False, True], ids=["never looked at", "found equal before"])
async def test_a_planted_drift_is_found_explained_repaired_and_journalled(desk: Desk, name: str, known: bool) -> None:
    statements, faults, words = PLANTS[name]
    right = await read_ledger(desk.dsn)
    order = await desk.rows(IN_ORDER)
    if known:
        assert (await desk.run()).status == "equal"
    await desk.plant(*statements)
    result = await desk.run()
    assert result.status == "repaired", result
    named = {(group.relation, group.fault.value, group.event_type) for group in result.findings}
    assert named == set(faults) or (not faults and ("blockchain_events", "missing", "DepositMade") in named), named
    assert any(words in example for group in result.findings for example in group.examples), result.findings
    assert await read_ledger(desk.dsn) == right
    assert await desk.rows(IN_ORDER) == order
    again = await desk.replay()
    assert again.equal, "\n".join(describe_replay(again))
    journal = await desk.rows(JOURNAL)
    assert len(journal) == result.adjustments > 0
    assert {row["run_id"] for row in journal} == {result.run_id}
    assert result.adjustment_id == journal[0]["adjustment_id"]
    row = (await desk.rows(RUNS))[-1]
    assert (row["status"], row["adjustments"], row["adjustment_id"]) == (
        "repaired", result.adjustments, result.adjustment_id)  # fmt: skip
    assert explained(row)["findings"][0]["examples"]
    after = await desk.run()
    assert (after.status, after.adjustments, after.audited_from_lt) == ("equal", 0, 0)
    assert len(await desk.rows(JOURNAL)) == len(journal)
    assert (await desk.run()).audited_from_lt == after.lt
