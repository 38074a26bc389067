"""All products with what holds of each now, made once for each state of the market and then given as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from tonsurance import metrics
from tonsurance.core.limits import cap_limits, find_tightest, read_rules
from tonsurance.core.prices import Price, PriceReading, usd_from_micro
from tonsurance.core.products import PRODUCTS, Product
from tonsurance.core.quotes import ListRates, add_rates, read_list_rates
from tonsurance.core.sale import Obstacle
from tonsurance.core.units import EXACT, ton_from_nano
from tonsurance.services.exposure import value_cover
from tonsurance.services.market_reading import Cover, CoverInForce
from tonsurance.services.market_view import MarketView
from tonsurance.services.policies import PolicyChecks
from tonsurance.services.tranche_reads import Freshness, Snapshot, TrancheReads, vault_room

_TAG_BYTES = 8
_NO_COVER = Cover()
_encoder = msgspec.json.Encoder()


class ProductRow(msgspec.Struct, frozen=True, kw_only=True):
    """One product now. `valid`: there is such cover (else `reason` says why not). `rate`: the list's for a year, as an
    exact decimal. `exposure_*`: cover in force, in dollars null without a price of now. `capacity_nanoton`: the largest
    policy there is room for, and the limit that binds. What does not exist has neither rate nor capacity."""

    key: int
    hash: str
    name: str
    coverage_type: str
    coverage_type_id: int
    chain: str
    chain_id: int
    stablecoin: str
    stablecoin_id: int
    valid: bool
    reason: str | None
    on_sale: bool
    on_sale_reasons: tuple[Obstacle, ...]
    rate: str | None
    exposure_ton: float
    exposure_nanoton: str
    exposure_usd: float | None
    policy_count: int
    capacity_ton: float | None
    capacity_nanoton: str | None
    binding_limit: str | None
    binding_tranche: str | None


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which products; None: all of that dimension."""

    valid: bool | None = None
    on_sale: bool | None = None
    coverage_type: str | None = None
    chain: str | None = None
    stablecoin: str | None = None

    def admits(self, row: ProductRow) -> bool:
        """Whether the product is one of these."""
        return (
            self.valid in (None, row.valid)
            and self.on_sale in (None, row.on_sale)
            and self.coverage_type in (None, row.coverage_type)
            and self.chain in (None, row.chain)
            and self.stablecoin in (None, row.stablecoin)
        )


class ListedProducts(msgspec.Struct, frozen=True, kw_only=True):
    """The list as of one state of the market: rows in the order of their keys, each with its JSON. `tag` is equal for
    equal lists at the same price."""

    snapshot: Snapshot
    price: PriceReading
    rows: tuple[ProductRow, ...]
    encoded: tuple[bytes, ...]
    whole: bytes
    tag: str

    def encode(self, chosen: Filter) -> tuple[bytes, int]:
        """The JSON of the chosen products, and how many they are."""
        if chosen == _EVERYTHING:
            return self.whole, len(self.rows)
        found = [text for row, text in zip(self.rows, self.encoded, strict=True) if chosen.admits(row)]
        return _join(found), len(found)


_EVERYTHING = Filter()


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """All that the list is made of; equal states have equal lists."""

    ledger: tuple[str, int, int, tuple[int, ...]]
    cover: CoverInForce
    price: Price | None
    obstacles: tuple[tuple[Obstacle, ...], ...]


class ProductList:
    """The list of one vault's products, kept until something in it changes."""

    def __init__(self, market: MarketView, reads: TrancheReads, checks: PolicyChecks) -> None:
        self._market = market
        self._reads = reads
        self._checks = checks
        self._kept: tuple[_State, ListedProducts] | None = None

    @property
    def freshness(self) -> Freshness:
        """Of the older of the two things the list is made of: tranches, and what `MarketView` reads."""
        both = (self._reads.freshness, self._market.freshness)
        return max(both, key=lambda one: float("inf") if one.age_s is None else one.age_s)

    def read(self) -> ListedProducts:
        """The list as of now, from memory. Raises NotReady before the first reading."""
        snapshot, price = self._reads.snapshot, self._market.price
        state = _State(
            ledger=(
                snapshot.vault_id,
                snapshot.state.version,
                snapshot.params_version,
                tuple(figures.totals.held_nano for figures in snapshot.tranches),
            ),
            cover=self._market.cover(),
            price=price.usable,
            obstacles=self._checks.list_all_obstacles(PRODUCTS),
        )
        if self._kept is None or self._kept[0] != state:
            metrics.PRODUCT_LISTS.inc()
            self._kept = state, self._make(state, snapshot, price)
        return self._kept[1]

    def _make(self, state: _State, snapshot: Snapshot, price: PriceReading) -> ListedProducts:
        rows = tuple(self._make_rows(state, snapshot))
        encoded = tuple(map(_encoder.encode, rows))
        whole = _join(encoded)
        tag = hashlib.blake2b(whole, digest_size=_TAG_BYTES)
        tag.update(repr((state.ledger, state.price)).encode())
        return ListedProducts(
            snapshot=snapshot, price=price, rows=rows, encoded=encoded, whole=whole, tag=tag.hexdigest()
        )

    def _make_rows(self, state: _State, snapshot: Snapshot) -> Iterable[ProductRow]:
        params = self._reads.params
        rules, rates, room = read_rules(params), read_list_rates(params), vault_room(snapshot, params)
        capital = sum(figures.totals.capital_nano for figures in snapshot.tranches)
        for product, obstacles in zip(PRODUCTS, state.obstacles, strict=True):
            limit = find_tightest(room, cap_limits(capital, state.cover.of(product), rules))
            valid = product.invalid_reason is None
            yield _make_row(
                product,
                obstacles,
                state,
                rate=_show_rate(product, rates) if valid else None,
                room=(limit.headroom_nano, limit.name, limit.tranche_id) if valid else None,
            )


def _make_row(
    product: Product,
    obstacles: tuple[Obstacle, ...],
    state: _State,
    *,
    rate: str | None,
    room: tuple[int, str, str | None] | None,
) -> ProductRow:
    amount = value_cover(state.cover.products.get(product, _NO_COVER), state.price)
    capacity_nano, binding_limit, binding_tranche = room or (None, None, None)
    return ProductRow(
        key=product.key,
        hash=product.hash,
        name=product.name,
        coverage_type=product.coverage_type,
        coverage_type_id=product.coverage_type_id,
        chain=product.chain,
        chain_id=product.chain_id,
        stablecoin=product.stablecoin,
        stablecoin_id=product.stablecoin_id,
        valid=rate is not None,
        reason=product.invalid_reason,
        on_sale=not obstacles,
        on_sale_reasons=obstacles,
        rate=rate,
        exposure_ton=ton_from_nano(amount.nano),
        exposure_nanoton=str(amount.nano),
        exposure_usd=None if amount.micro_usd is None else usd_from_micro(amount.micro_usd),
        policy_count=amount.policies,
        capacity_ton=None if capacity_nano is None else ton_from_nano(capacity_nano),
        capacity_nanoton=None if capacity_nano is None else str(capacity_nano),
        binding_limit=binding_limit,
        binding_tranche=binding_tranche,
    )


def _show_rate(product: Product, rates: ListRates) -> str:
    return f"{EXACT.normalize(add_rates(product, rates)):f}"


def _join(texts: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(texts) + b"]"
