"""Run the benchmarks and print each figure beside its limit; all of them go to bench/results.json."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

NAMES = (
    "reading",
    "quoting",
    "decoding",
    "posting",
    "reserving",
    "library",
    "config",
    "backfill",
    "latency",
    "stack",
    "forecast",
)
RESULTS = Path(__file__).with_name("results.json")


def main(chosen: list[str]) -> int:
    """Exit code 1 when a figure misses its limit, 2 for an unknown name."""
    unknown = set(chosen) - set(NAMES)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
        return 2
    console = Console()
    table = Table("figure", "value", "spread", "limit", "", title="Figures beside their limits")
    figures = []
    for name in chosen or NAMES:
        console.print(f"measuring {name} ...")
        figures += importlib.import_module(f"bench.{name}").measure()
    for figure in figures:
        mark = {True: "ok", False: "MISS", None: ""}[figure.ok]
        table.add_row(figure.name, figure.value, figure.spread, figure.limit, mark)
    console.print(table)
    for figure in figures:
        if figure.ok is False or figure.note:
            console.print(f"{'MISS: ' if figure.ok is False else ''}{figure.name}: {figure.note or 'see above'}")
    if not chosen:  # a part of the figures would pass for all of them
        RESULTS.write_text(json.dumps(msgspec.to_builtins(figures), indent=1) + "\n")
    return 1 if any(figure.ok is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
