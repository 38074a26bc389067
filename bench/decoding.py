"""Decoding a transaction into events, against pytoniq-core's parse of the same transactions."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from pytoniq_core import Cell
from pytoniq_core.tlb import Transaction

from bench.figures import Figure, alternate, median, seconds, spread
from tonsurance.chain.decode import Decoder
from tonsurance.chain.layout import load_layout

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "transactions.json"
TIMES = 10


def measure() -> list[Figure]:
    """Transactions per second of the recorded local chain, and the ratio to the parse alone."""
    recorded = json.loads(GOLDEN.read_text())["transactions"]
    layout = load_layout()
    work = [
        (Decoder(layout, contract=item["contract"], kind=item["kind"]), base64.b64decode(item["boc"]))
        for item in recorded
    ] * TIMES

    def decode() -> float:
        return seconds(lambda: [decoder.decode(boc) for decoder, boc in work])

    def parse() -> float:
        return seconds(lambda: [Transaction.deserialize(Cell.one_from_boc(boc).begin_parse()) for _, boc in work])

    ratios = alternate(parse, decode)
    rate = len(work) / median([decode() for _ in range(3)])
    return [
        Figure(
            name="transaction decoding, speed against pytoniq-core's parse",
            value=f"{median(ratios):.2f} ({rate:,.0f}/s)",
            spread=spread(ratios),
            limit=">= 0.8",
            ok=median(ratios) >= 0.8,
        )
    ]
