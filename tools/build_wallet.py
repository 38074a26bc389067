"""Compile the local chain's wallet: contracts/wallet.fc -> src/tonsurance/localnet/wallet.boc.

`--check` writes nothing and exits 1 when what is committed is not what the source gives.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tonsurance.localnet.cells import boc_of, cell_from_boc
from tonsurance.localnet.engine import TonpyEngine

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (ROOT / "contracts/stdlib.fc", ROOT / "contracts/wallet.fc")
CODE = ROOT / "src/tonsurance/localnet/wallet.boc"


def build() -> bytes:
    """The code BOC the sources give."""
    return boc_of(cell_from_boc(TonpyEngine().compile_func("\n".join(path.read_text() for path in SOURCES))))


def main() -> int:
    """Build, or with --check compare. 0: written or equal, 1: different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 on a difference")
    if parser.parse_args().check:
        return 0 if CODE.exists() and CODE.read_bytes() == build() else 1
    CODE.write_bytes(build())
    return 0


if __name__ == "__main__":
    sys.exit(main())
