"""Recorded transactions of our contracts decode to what the TVM did. Recorded by record_golden.py."""

from __future__ import annotations

import base64
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pytoniq_core.boc.cell import Cell
from pytoniq_core.tlb.transaction import Transaction

from tonsurance.chain.decode import Decoder, decode_transaction, decode_transaction_json
from tonsurance.chain.layout import load_layout
from tonsurance.chain.transactions import read_transaction
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import DecodeError
from tonsurance.core.events import EVENT_TYPES, FACTORY_KIND, GENESIS, VAULT_KIND, Cursor, DecodedTransaction
from tonsurance.core.ledger import Totals, entries_of, post

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "transactions.json").read_text())
ROWS: list[dict[str, Any]] = GOLDEN["transactions"]
LAYOUT = load_layout()


def decode(row: dict[str, Any]) -> DecodedTransaction:
    return decode_transaction(boc_of(row), contract=row["contract"], kind=row["kind"], layout=LAYOUT)


def boc_of(row: dict[str, Any]) -> bytes:
    return base64.b64decode(row["boc"])


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['kind']}-{row['lt']}" for row in ROWS])
def test_a_recorded_transaction_is_seen_as_the_other_reader_saw_it(row: dict[str, Any]) -> None:
    decoded = decode(row)
    assert decoded.cursor == Cursor(row["lt"], bytes.fromhex(row["hash"]))
    assert decoded.succeeded == row["succeeded"]
    assert decoded.undecoded == ()
    bodies = {str(event.message_index): Cell.one_from_boc(event.raw_body).hash.hex() for event in decoded.events}
    assert bodies == (row["bodies"] if row["succeeded"] else {})


def test_the_story_holds_failures_and_every_event_a_legal_history_leads_to() -> None:
    seen = {event.event_type for row in ROWS for event in decode(row).events}
    # no float is in it; cover is at 95 % of capital at most, and a claim takes as much of one as of the other
    assert set(EVENT_TYPES) - seen == {"ShortfallReported", "FloatRebalanced"}
    failed = Counter(row["kind"] for row in ROWS if not row["succeeded"])
    assert failed[VAULT_KIND] >= 5
    assert failed[FACTORY_KIND] >= 1


@pytest.mark.parametrize("kind", [VAULT_KIND, FACTORY_KIND])
def test_each_contracts_recorded_history_is_linked_from_genesis(kind: str) -> None:
    found = [read_transaction(boc_of(row)) for row in ROWS if row["kind"] == kind]
    assert found[0].previous == GENESIS
    assert all(later.previous == earlier.cursor for earlier, later in pairwise(found))


def test_the_decoded_events_add_up_to_the_vaults_own_getter() -> None:
    totals = dict.fromkeys(TRANCHE_IDS, Totals())
    for row in ROWS:
        for event in decode(row).events if row["kind"] == VAULT_KIND else ():
            for entry in entries_of(event.body):
                totals[entry.tranche_id] = post(totals[entry.tranche_id], entry)
    posted = [(t.capital, t.coverage, t.unearned, t.shares) for t in totals.values()]
    # a row: tranche_id, capital, coverage, unearned, end, last, shares
    assert posted == [(row[1], row[2], row[3], row[6]) for row in GOLDEN["tranches"]]


def test_the_command_shows_every_recorded_event_with_all_its_fields() -> None:
    for row in ROWS:
        shown = decode_transaction_json(boc_of(row), LAYOUT, row["kind"])
        events = decode(row).events
        assert [item["event_type"] for item in shown] == [event.event_type for event in events]
        for item, event in zip(shown, events, strict=True):
            assert set(item["fields"]) == set(event.body.__struct_fields__)
            assert item["logical_time"] == str(row["lt"])
            assert json.loads(json.dumps(item)) == item


def test_a_changed_bit_is_an_error_or_another_hash_or_changes_nothing() -> None:
    """What is not hashed (a bag's index, flags and checksum) has no meaning either."""
    rng = random.Random(1)
    for _ in range(1500):
        row = rng.choice(ROWS)
        boc = bytearray(boc_of(row))
        boc[rng.randrange(len(boc))] ^= 1 << rng.randrange(8)
        try:
            changed = decode(row | {"boc": base64.b64encode(boc).decode()})
        except DecodeError:
            continue
        assert changed.cursor.hash.hex() != row["hash"] or changed == decode(row)


def measure(bocs: list[bytes], read: Callable[[bytes], object]) -> float:
    """Transactions per second, best of three."""
    rates = []
    for _ in range(3):
        begun = time.perf_counter()
        for boc in bocs:
            read(boc)
        rates.append(len(bocs) / (time.perf_counter() - begun))
    return max(rates)


def main() -> None:
    """Figures: `python tests/chain/test_golden.py`."""
    bocs = [boc_of(row) for row in ROWS if row["kind"] == VAULT_KIND] * 20
    ours = measure(bocs, Decoder(LAYOUT, contract=ROWS[0]["contract"], kind=VAULT_KIND).decode)
    proof = measure(bocs, read_transaction)
    theirs = measure(bocs, lambda boc: Transaction.deserialize(Cell.one_from_boc(boc).begin_parse()))
    print(f"decode {ours:,.0f}/s, hash and links {proof:,.0f}/s, pytoniq-core Transaction.deserialize {theirs:,.0f}/s")


if __name__ == "__main__":
    main()
