"""A real TVM, and chains on it that are driven by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ports
from localnet.probe import PROBE
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.store import ChainStore


@pytest.fixture(scope="session")
def engine() -> TonpyEngine:
    return TonpyEngine()


@pytest.fixture(scope="session")
def probe_code(engine: TonpyEngine) -> bytes:
    return engine.compile_func(PROBE)


@pytest.fixture
def store() -> Iterator[ChainStore]:
    """In memory."""
    store = ChainStore()
    yield store
    store.close()


@pytest.fixture
def chain(engine: TonpyEngine, store: ChainStore) -> LocalChain:
    """In memory, without a clock: nothing happens until the test makes a block."""
    return LocalChain(engine, store, seed=1)


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on right now."""
    return ports.free_port()
