"""REST, version 2: the products, each with its price, its exposure, its room and whether it is sold."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import MediaType, Response, get
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter
from msgspec import Meta

from tonsurance.api import render, wire
from tonsurance.api.etag import matches
from tonsurance.api.injected import IfNoneMatch, Injected
from tonsurance.api.prices import PriceAnswer, render_price
from tonsurance.api.v1 import BAD_INPUT, NOT_MODIFIED, NOT_READY
from tonsurance.core.errors import InputError, NotReady
from tonsurance.core.products import CHAINS, COVERAGE_TYPES, STABLECOINS
from tonsurance.services.product_list import Filter, ListedProducts, ProductRow
from tonsurance.services.tranche_reads import Freshness

_encoder = msgspec.json.Encoder()


class ProductsAnswer(wire.Provenance, frozen=True, kw_only=True):
    """The products asked for, in the order of their keys."""

    vault_id: Annotated[str, Meta(examples=["main"])]
    count: Annotated[int, Meta(description="Products in this answer.", examples=[630])]
    price: PriceAnswer
    as_of: wire.AsOf
    products: tuple[ProductRow, ...]


class _Envelope(wire.Provenance, frozen=True, kw_only=True):
    """ProductsAnswer around products that are JSON already."""

    vault_id: str
    count: int
    price: PriceAnswer
    as_of: wire.AsOf
    products: msgspec.Raw


def _one_of(names: tuple[str, ...]) -> QueryParameter:
    return QueryParameter(description=f"Only of this one: {', '.join(names)}.", max_length=100)


@get(
    "/api/v2/products",
    summary="All products",
    description="The 630 combinations of coverage type, chain and stablecoin. `valid`: there is such cover, else "
    "`reason` says why not. `on_sale`: it is sold now, else `on_sale_reasons` say why not. `rate` is the list's for a "
    "year. `exposure_*` is the cover in force; in dollars it is null while the price is `stale`. `capacity_nanoton` is "
    "the largest policy there is room for, `binding_limit` what limits it: a hint, the vault contract decides.",
    tags=["products"],
    responses={
        200: ResponseSpec(ProductsAnswer, generate_examples=False, description="The products, or those asked for."),
        304: NOT_MODIFIED,
        400: BAD_INPUT,
        503: NOT_READY,
    },
)
async def get_products(
    services: Injected,
    valid: Annotated[bool | None, QueryParameter(description="Only those that exist, or only the others.")] = None,
    on_sale: Annotated[bool | None, QueryParameter(description="Only those sold now, or only the others.")] = None,
    coverage_type: Annotated[str | None, _one_of(COVERAGE_TYPES)] = None,
    chain: Annotated[str | None, _one_of(CHAINS)] = None,
    stablecoin: Annotated[str | None, _one_of(STABLECOINS)] = None,
    if_none_match: IfNoneMatch = None,
) -> Response[bytes]:
    """Those asked for, or 304."""
    for what, given, known in (
        ("coverage_type", coverage_type, COVERAGE_TYPES),
        ("chain", chain, CHAINS),
        ("stablecoin", stablecoin, STABLECOINS),
    ):
        check_name(what, given, known)
    if services.products is None:
        raise NotReady("Products are not listed here.")
    listed, freshness = services.products.read(), services.products.freshness
    etag = f'W/"{listed.tag}-{"stale" if freshness.stale else "live"}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if matches(if_none_match, etag):
        return Response(b"", status_code=304, headers=headers)
    chosen = Filter(valid=valid, on_sale=on_sale, coverage_type=coverage_type, chain=chain, stablecoin=stablecoin)
    return Response(_encode(listed, chosen, freshness), media_type=MediaType.JSON, headers=headers)


def check_name(what: str, given: str | None, known: tuple[str, ...]) -> None:
    """Raises InputError with the names there are for a name that is none of them."""
    if given is not None and given not in known:
        raise InputError(f"{what} is one of {', '.join(known)}.")


def _encode(listed: ListedProducts, chosen: Filter, freshness: Freshness) -> bytes:
    products, count = listed.encode(chosen)
    envelope = _Envelope(
        vault_id=listed.snapshot.vault_id,
        count=count,
        price=render_price(listed.price),
        as_of=render.render_as_of(listed.snapshot.latest),
        products=msgspec.Raw(products),
        **render.provenance(listed.snapshot, freshness),
    )
    return _encoder.encode(envelope)
