"""Long histories of transactions for benchmarks, cheaply: recorded ones again and again, linked anew."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from tonsurance.chain.cells import Cell, parse_boc, write_boc
from tonsurance.chain.decode import Decoder
from tonsurance.chain.layout import Layout
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import GENESIS, VAULT_KIND, Cursor, DecodedTransaction
from tonsurance.core.ledger import Totals, entries_of, post

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "transactions.json"
_LT_STEP = 1_000_000
_AFTER_LINK = 4 + 256 + 64 + 256 + 64  # tag, account, lt, previous hash, previous lt


def recorded(kind: str) -> tuple[str, list[bytes]]:
    """The address of the recorded contract of this kind, and its transactions."""
    rows = [row for row in json.loads(GOLDEN.read_text())["transactions"] if row["kind"] == kind]
    return rows[0]["contract"], [base64.b64decode(row["boc"]) for row in rows]


class Repeated:
    """A vault's history of any length. Only what the ledger can take at that moment is repeated."""

    def __init__(self, layout: Layout) -> None:
        self.contract, bocs = recorded(VAULT_KIND)
        decoder = Decoder(layout, contract=self.contract, kind=VAULT_KIND)
        self._parts = [(parse_boc(boc), decoder.decode(boc)) for boc in bocs]
        self._totals = dict.fromkeys(TRANCHE_IDS, Totals())

    def make(self, count: int) -> Iterator[tuple[Cursor, bytes]]:
        """Cursors and bags of cells, oldest first, each naming the one before it."""
        previous, number, made = GENESIS, 0, 0
        while made < count:
            root, decoded = self._parts[number % len(self._parts)]
            number += 1
            if not self._takes(decoded):
                continue
            cell = _relink(root, previous.lt + _LT_STEP, previous)
            previous = Cursor(previous.lt + _LT_STEP, cell.hash)
            made += 1
            yield previous, write_boc(cell)

    def _takes(self, decoded: DecodedTransaction) -> bool:
        totals = dict(self._totals)
        try:
            for entry in (entry for event in decoded.events for entry in entries_of(event.body)):
                totals[entry.tranche_id] = post(totals[entry.tranche_id], entry)
        except LedgerRefused:
            return False
        self._totals = totals
        return True


def _relink(root: Cell, lt: int, previous: Cursor) -> Cell:
    """The same transaction at another place."""
    width = 8 * len(root.data)
    value = int.from_bytes(root.data, "big")
    rest = value & ((1 << (width - _AFTER_LINK)) - 1)
    head = value >> (width - 4 - 256)
    for number, bits in ((lt, 64), (int.from_bytes(previous.hash, "big"), 256), (previous.lt, 64)):
        head = (head << bits) | number
    data = ((head << (width - _AFTER_LINK)) | rest).to_bytes(len(root.data), "big")
    return Cell(data, root.bit_count, root.refs)
