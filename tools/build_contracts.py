"""Compile the contracts: contracts/*.fc -> src/tonsurance/chain/code/*.boc, and their hashes in the layout's [code].

`--check` writes nothing and exits 1 when what is committed is not what the sources give.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from pytoniq_core import Cell
from tonpy.fift.fift import convert_assembler
from tonpy.libs.python_ton import func_string_to_asm

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "contracts"
CODE = ROOT / "src/tonsurance/chain/code"
LAYOUT = ROOT / "src/tonsurance/chain/layouts/tonsurance.toml"

SHARED = ("stdlib.fc", "errors.fc", "ops.fc", "messages.fc")
CONTRACTS = {
    "MultiTrancheVault": (
        "multi_tranche_vault",
        (*SHARED, "vault_storage.fc", "vault_events.fc", "vault_rules.fc", "vault_claims.fc"),
    ),
    "PolicyFactory": ("policy_factory", (*SHARED, "factory_storage.fc", "quote.fc")),
    "BitcoinFloatManager": ("float_manager", SHARED),
}
"""Contract kind -> (name of its file without suffix, the files put before it)."""


def read_source(kind: str, sources: Path = SOURCES) -> str:
    """All FunC of one contract as one text: FunC's own #include reads files from the working directory."""
    name, before = CONTRACTS[kind]
    return "\n".join((sources / file).read_text() for file in (*before, f"{name}.fc"))


def compile_source(source: str) -> bytes:
    """The code cell as a BOC, written by pytoniq-core so that the bytes do not depend on the compiler's writer."""
    code = convert_assembler(func_string_to_asm(source))
    return Cell.one_from_boc(base64.b64decode(code.to_boc())).to_boc()


def compile_all(sources: Mapping[str, str]) -> dict[str, bytes]:
    """Code BOCs by contract kind, each compiled in a process of its own: the FunC compiler keeps global variables
    of one compilation for the next."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return dict(zip(sources, pool.map(compile_source, sources.values()), strict=True))


def write_hashes(layout: str, hashes: Mapping[str, str]) -> str:
    """The layout's text with these hashes in its [code] table."""
    for kind, code_hash in hashes.items():
        layout, found = re.subn(rf'(?m)^{kind} = "[^"]*"$', f'{kind} = "{code_hash}"', layout)
        if found != 1:
            raise SystemExit(f"{LAYOUT}: [code] needs exactly one line for {kind}.")
    return layout


def build(sources: Path) -> dict[Path, bytes]:
    """Every file this tool is responsible for, with the content the sources give."""
    files, hashes = {}, {}
    for kind, boc in compile_all({kind: read_source(kind, sources) for kind in CONTRACTS}).items():
        files[CODE / f"{CONTRACTS[kind][0]}.boc"] = boc
        hashes[kind] = Cell.one_from_boc(boc).hash.hex()
    files[LAYOUT] = write_hashes(LAYOUT.read_text(), hashes).encode()
    return files


def main() -> int:
    """Build, or with --check compare. 0: written or equal, 1: different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 on a difference")
    parser.add_argument("--sources", type=Path, default=SOURCES, help="where the FunC is (default: contracts/)")
    options = parser.parse_args()
    built = build(options.sources)
    stale = [path for path, content in built.items() if not path.exists() or path.read_bytes() != content]
    for path in stale:
        if not options.check:
            path.write_bytes(built[path])
        print(f"{'differs' if options.check else 'written'}: {path.relative_to(ROOT)}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
