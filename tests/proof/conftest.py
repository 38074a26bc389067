"""A real TVM for the proofs that need a chain with our contracts on it."""

from __future__ import annotations

import pytest

from tonsurance.localnet.engine import TonpyEngine


@pytest.fixture(scope="session")
def engine() -> TonpyEngine:
    return TonpyEngine()
