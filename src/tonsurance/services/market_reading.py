"""One look into the database at what quotes are made of; what did not move since the last look is kept from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from tonsurance.core.limits import InForce
from tonsurance.core.prices import TON, Price
from tonsurance.core.products import Product
from tonsurance.core.units import YEAR_S
from tonsurance.db.exposure import (
    ExposureRow,
    LastPosted,
    RecordRow,
    select_exposure,
    select_last_posted,
    select_records,
)
from tonsurance.db.factory_state import FactoryState, select_factory_states
from tonsurance.db.ledger import select_ledger_version
from tonsurance.db.pool import Connection
from tonsurance.db.prices import select_latest_price

RECORD_KEPT_S = 10.0
"""The record of a year moves slowly and costs more to read."""
RECOUNT_AFTER_S = 60.0
"""Cover in force and the record are read again after this time even when no new version of the ledger says so."""


class Cover(msgspec.Struct, frozen=True):
    """Policies in force: their cover in nanoTON, and how many they are."""

    nano: int = 0
    policies: int = 0


class CoverInForce(msgspec.Struct, frozen=True, kw_only=True):
    """The cover in force of one vault as of one ledger version: by product (those that have any), and by chain id.

    `posted` is the last event in the vault's tranches at that version; None before the first.
    """

    version: int
    products: Mapping[Product, Cover]
    chains: Mapping[int, int]
    posted: LastPosted | None = None

    def of(self, product: Product) -> InForce:
        """What counts against the caps of a product."""
        return InForce(self.products.get(product, _NONE).nano, self.chains.get(product.chain_id, 0))


_NONE = Cover()


class ClaimsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a vault paid and earned within the last 365 days of block times: claims paid, what they cost the tranches
    and the premium that these earned, in nanoTON."""

    claims: int
    paid_nano: int
    earned_nano: int

    @property
    def loss_ratio(self) -> float | None:
        """Paid over earned; None when nothing was earned."""
        return self.paid_nano / self.earned_nano if self.earned_nano > 0 else None


class MarketReading(msgspec.Struct, frozen=True, kw_only=True):
    """What one look into the database found, and when by our clock each part of it was read."""

    read_at: float
    version: int
    price: Price | None
    price_age_s: float | None
    factories: Mapping[str, FactoryState]
    cover: Mapping[str, CoverInForce]
    cover_at: float
    records: Mapping[str, ClaimsRecord]
    record_at: float
    record_version: int

    def cover_of(self, vault_id: str) -> CoverInForce:
        """A vault's cover; none in force is none, not unknown."""
        found = self.cover.get(vault_id)
        return found or CoverInForce(version=self.version, products=_EMPTY, chains=_NO_CHAINS)

    def record_of(self, vault_id: str) -> ClaimsRecord:
        """A vault's record; without an event nothing was paid or earned."""
        return self.records.get(vault_id) or ClaimsRecord(claims=0, paid_nano=0, earned_nano=0)


_EMPTY: Mapping[Product, Cover] = MappingProxyType({})
_NO_CHAINS: Mapping[int, int] = MappingProxyType({})


async def read_market(conn: Connection, last: MarketReading | None, started: float) -> MarketReading:
    """Everything of one moment, in the transaction that is open. `started` is our clock when it began.

    Raises what the driver raises.
    """
    version = await select_ledger_version(conn)
    price, now = await select_latest_price(conn, TON)
    factories = await select_factory_states(conn)
    cover, cover_at = await _read_cover(conn, last, version, started)
    records, record_at, record_version = await _read_records(conn, last, version, started)
    return MarketReading(
        read_at=started,
        version=version,
        price=price,
        price_age_s=None if price is None else max(0.0, now - price.observed_at),
        factories=_choose_factories(factories),
        cover=cover,
        cover_at=cover_at,
        records=records,
        record_at=record_at,
        record_version=record_version,
    )


async def _read_cover(
    conn: Connection, last: MarketReading | None, version: int, started: float
) -> tuple[Mapping[str, CoverInForce], float]:
    if last is not None and last.version == version and started - last.cover_at < RECOUNT_AFTER_S:
        return last.cover, last.cover_at
    rows, posted = await select_exposure(conn), await select_last_posted(conn)
    return _group_cover(rows, posted, version), started


async def _read_records(
    conn: Connection, last: MarketReading | None, version: int, started: float
) -> tuple[Mapping[str, ClaimsRecord], float, int]:
    if last is not None:
        kept_s = RECORD_KEPT_S if last.record_version != version else RECOUNT_AFTER_S
        if started - last.record_at < kept_s:
            return last.records, last.record_at, last.record_version
    rows = await select_records(conn, YEAR_S)
    return {row.vault_id: _show_record(row) for row in rows}, started, version


def _choose_factories(states: Iterable[FactoryState]) -> Mapping[str, FactoryState]:
    """The factory that each vault takes policies from; where it takes them from none that is followed, the first."""
    chosen: dict[str, FactoryState] = {}
    for state in states:
        if state.vault_id not in chosen or state.vault_factory == state.factory_address:
            chosen[state.vault_id] = state
    return chosen


def _group_cover(rows: Iterable[ExposureRow], posted: Iterable[LastPosted], version: int) -> Mapping[str, CoverInForce]:
    last = {one.vault_id: one for one in posted}
    products: dict[str, dict[Product, Cover]] = {vault_id: {} for vault_id in last}
    chains: dict[str, dict[int, int]] = {vault_id: {} for vault_id in last}
    for row in rows:
        product = Product(row.coverage_type, row.chain_id, row.stablecoin_id)
        products.setdefault(row.vault_id, {})[product] = Cover(row.total_coverage, row.policy_count)
        mine = chains.setdefault(row.vault_id, {})
        mine[row.chain_id] = mine.get(row.chain_id, 0) + row.total_coverage
    return {
        vault_id: CoverInForce(
            version=version,
            products=MappingProxyType(found),
            chains=MappingProxyType(chains[vault_id]),
            posted=last.get(vault_id),
        )
        for vault_id, found in products.items()
    }


def _show_record(row: RecordRow) -> ClaimsRecord:
    return ClaimsRecord(claims=row.claims, paid_nano=row.paid, earned_nano=row.earned)
