"""REST, version 2: the cover in force, by what it is of."""

from __future__ import annotations

import zlib
from typing import Annotated, Any

from litestar import Response, get
from msgspec import Meta

from tonsurance.api import render, wire
from tonsurance.api.etag import answer_unless_known
from tonsurance.api.injected import IfNoneMatch, Injected, VaultInQuery
from tonsurance.api.prices import PriceAnswer, render_price
from tonsurance.api.v1 import NOT_MODIFIED, NOT_READY, NOT_THERE
from tonsurance.core.errors import NotReady
from tonsurance.core.prices import PriceReading, usd_from_micro
from tonsurance.core.units import ton_from_nano
from tonsurance.db.exposure import LastPosted
from tonsurance.services.exposure import Amount, ExposureReport, report_exposure
from tonsurance.services.tranche_reads import Freshness

Usd = Annotated[
    float | None, Meta(description="US dollars, for display; null while the price is stale.", examples=[2700.5])
]
MicroUsd = Annotated[str | None, Meta(description="Millionths of a dollar, exact.", examples=["2700500000"])]
Policies = Annotated[int, Meta(description="Policies in force.", examples=[3])]


class ExposureAmount(wire.Out, frozen=True, kw_only=True):
    """Cover in force."""

    exposure_usd: Usd
    exposure_microusd: MicroUsd
    exposure_ton: wire.Ton
    exposure_nanoton: wire.NanoTon
    policy_count: Policies


class TypeExposure(ExposureAmount, frozen=True, kw_only=True):
    """Of one coverage type."""

    coverage_type: Annotated[str, Meta(examples=["depeg"])]


class ChainExposure(ExposureAmount, frozen=True, kw_only=True):
    """Of one chain."""

    chain: Annotated[str, Meta(examples=["Ethereum"])]


class CoinExposure(ExposureAmount, frozen=True, kw_only=True):
    """Of one stablecoin."""

    stablecoin: Annotated[str, Meta(examples=["USDC"])]


class ProductExposure(ExposureAmount, frozen=True, kw_only=True):
    """Of one product."""

    coverage_type: Annotated[str, Meta(examples=["depeg"])]
    chain: Annotated[str, Meta(examples=["Ethereum"])]
    stablecoin: Annotated[str, Meta(examples=["USDC"])]


class ExposureAnswer(wire.Provenance, frozen=True, kw_only=True):
    """The cover of all policies in force of a vault; each of the first three tables sums up to `total`."""

    vault_id: Annotated[str, Meta(examples=["main"])]
    by_coverage_type: tuple[TypeExposure, ...]
    by_chain: tuple[ChainExposure, ...]
    by_stablecoin: tuple[CoinExposure, ...]
    top_10_products: tuple[ProductExposure, ...]
    total: ExposureAmount
    total_policies: Policies
    price: PriceAnswer
    as_of: wire.AsOf


@get(
    "/api/v2/risk/exposure",
    summary="Cover in force",
    description="The cover of all policies that have not ended, by coverage type, chain and stablecoin, and the ten "
    "products with the most. In dollars at the TON price of `price`; while that is `stale`, dollars are null. "
    "Each product is valued once, to the millionth of a dollar, and all sums are sums of these.",
    tags=["risk"],
    responses={304: NOT_MODIFIED, 404: NOT_THERE, 503: NOT_READY},
)
async def get_exposure(
    services: Injected, if_none_match: IfNoneMatch = None, vault: VaultInQuery = None
) -> Response[ExposureAnswer | None]:
    """The tables, or 304."""
    market = services.market
    if market is None:
        raise NotReady("The cover in force is not read here.")
    vault_id = services.reads.snapshot_of(vault or services.reads.vault_id).vault_id
    report, price = report_exposure(market.cover(vault_id), market.price.usable), market.price
    params_version, freshness = services.reads.params.version, market.freshness
    content: ExposureAnswer | None = render_exposure(report, vault_id, price, freshness, params_version)
    return answer_unless_known(content, _make_etag(report, vault_id, freshness), if_none_match, known=None)


def render_exposure(
    report: ExposureReport, vault_id: str, price: PriceReading, freshness: Freshness, params_version: int
) -> ExposureAnswer:
    """As it is shown."""
    return ExposureAnswer(
        vault_id=vault_id,
        by_coverage_type=tuple(TypeExposure(coverage_type=n, **_fields(one)) for n, one in report.by_coverage_type),
        by_chain=tuple(ChainExposure(chain=name, **_fields(one)) for name, one in report.by_chain),
        by_stablecoin=tuple(CoinExposure(stablecoin=name, **_fields(one)) for name, one in report.by_stablecoin),
        top_10_products=tuple(
            ProductExposure(coverage_type=p.coverage_type, chain=p.chain, stablecoin=p.stablecoin, **_fields(one))
            for p, one in report.top
        ),
        total=ExposureAmount(**_fields(report.total)),
        total_policies=report.total.policies,
        price=render_price(price),
        as_of=_show_last(report.cover.posted),
        params_version=params_version,
        ledger_version=str(report.cover.version),
        stale=freshness.stale,
        age_s=None if freshness.age_s is None else round(freshness.age_s, 3),
        timestamp=render.show_now(),
    )


def _fields(amount: Amount) -> dict[str, Any]:
    return {
        "exposure_usd": None if amount.micro_usd is None else usd_from_micro(amount.micro_usd),
        "exposure_microusd": None if amount.micro_usd is None else str(amount.micro_usd),
        "exposure_ton": ton_from_nano(amount.nano),
        "exposure_nanoton": str(amount.nano),
        "policy_count": amount.policies,
    }


def _show_last(posted: LastPosted | None) -> wire.AsOf:
    if posted is None:
        return wire.AsOf(seqno=None, lt="0", time=None)
    return wire.AsOf(seqno=posted.seqno, lt=str(posted.lt), time=render.show_time(posted.block_time))


def _make_etag(report: ExposureReport, vault_id: str, freshness: Freshness) -> str:
    """Weak, as the time of the answer is in its body. Cover can be counted anew within a version, so it counts too."""
    amounts = [(product.key, amount.nano, amount.policies) for product, amount in report.top]
    inside = zlib.crc32(repr((report.price, report.total, amounts)).encode())
    age = "stale" if freshness.stale else "live"
    return f'W/"{vault_id}-{report.cover.version}-{inside:x}-{age}"'
