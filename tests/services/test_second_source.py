"""A second source confirms what was followed, contradicts a forged history, and may be away."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from chain.patience import IMPATIENT, QUICK, ThreeTries
from services.street import Street
from tonsurance.chain.answers import RawTransaction
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.v3 import V3Source
from tonsurance.core.errors import SourcesDisagree
from tonsurance.core.events import Cursor
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.second_source import SecondSource


@pytest.fixture
def street() -> Street:
    with contextlib.closing(ChainStore()) as store:
        made = Street(store)
        made.fill()
        yield made


@pytest.fixture
async def url(street: Street) -> AsyncIterator[str]:
    async with running(street.chain) as address:
        yield address


class Forger(TonCenterClient):
    """A first source that tells another hash for one transaction."""

    async def get_transactions(self, address: str, **options: object) -> tuple[RawTransaction, ...]:
        found = await super().get_transactions(address, **options)  # type: ignore[arg-type]
        changed = msgspec.structs.replace(found[2], cursor=Cursor(found[2].cursor.lt, b"\x01" * 32))
        return (*found[:2], changed, *found[3:])


def contracts_of(street: Street) -> Sequence[str]:
    return (street.contracts.vault, street.contracts.factory)


async def test_both_contracts_are_confirmed(url: str, street: Street) -> None:
    async with TonCenterClient(url, retry=QUICK) as client, V3Source(url, retry=QUICK) as index:
        second = SecondSource(client, index, lambda: contracts_of(street))
        assert await second.confirm_all() == 2
        assert second.unavailable is None


async def test_another_history_is_named(url: str, street: Street) -> None:
    async with Forger(url, retry=QUICK) as client, V3Source(url, retry=QUICK) as index:
        with pytest.raises(SourcesDisagree) as quarrel:
            await SecondSource(client, index, lambda: contracts_of(street)[:1]).confirm_all()
        newest = await client.get_transactions(street.contracts.vault)
        assert quarrel.value.lt == newest[2].cursor.lt


async def test_a_second_source_that_is_away_is_said_and_is_no_quarrel(url: str, street: Street) -> None:
    nowhere = V3Source("http://127.0.0.1:9", retry=IMPATIENT, rng=ThreeTries())
    async with TonCenterClient(url, retry=QUICK) as client, nowhere as away:
        second = SecondSource(client, away, lambda: contracts_of(street))
        assert await second.confirm_all() == 0
        assert second.unavailable is not None
