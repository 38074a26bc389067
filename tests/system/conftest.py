"""One running stack for all system tests that only look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from system.running import Running, running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("stack") / "home") as started:
        yield started
