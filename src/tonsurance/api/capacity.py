"""REST, version 1: the largest policy the vault can back, over all six tranches and every limit."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from tonsurance.api import render, wire
from tonsurance.api.injected import Injected
from tonsurance.api.v1 import BAD_INPUT, NOT_READY
from tonsurance.core.capacity import Capacity
from tonsurance.core.errors import InputError
from tonsurance.core.products import CHAINS, COVERAGE_TYPES, STABLECOINS
from tonsurance.core.units import ton_from_nano
from tonsurance.services.tranche_reads import Freshness, Snapshot, vault_room

_DIMENSIONS = (("coverage_type", COVERAGE_TYPES), ("chain", CHAINS), ("stablecoin", STABLECOINS))

Product = tuple[str, str, str]
"""Coverage type, chain, stablecoin."""


def _one_of(names: tuple[str, ...]) -> QueryParameter:
    return QueryParameter(description=f"One of {', '.join(names)}.", max_length=100)


@get(
    "/api/v1/capacity/policy",
    summary="Room for one new policy",
    description="The largest policy of which every part fits its tranche, within the vault's own limits, with what "
    "reservations hold taken off. With a product (all three of its names) the caps of the product and of its chain "
    "count too, from the policies in force. A hint: the vault contract decides.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 503: NOT_READY},
)
async def get_policy_capacity(
    services: Injected,
    coverage_type: Annotated[str | None, _one_of(COVERAGE_TYPES)] = None,
    chain: Annotated[str | None, _one_of(CHAINS)] = None,
    stablecoin: Annotated[str | None, _one_of(STABLECOINS)] = None,
    vault_id: Annotated[str | None, QueryParameter(description="Else the first vault.", max_length=64)] = None,
) -> wire.PolicyCapacityAnswer:
    """All limits, and the one that binds."""
    product = check_product(coverage_type, chain, stablecoin)
    reads = services.reads
    snapshot = reads.snapshot if vault_id is None else reads.snapshot_of(vault_id)
    in_force = None
    if product is not None:
        numbers = (names.index(name) for name, (_, names) in zip(product, _DIMENSIONS, strict=True))
        in_force = await services.ledger.read_cover_in_force(snapshot.vault_id, *numbers)
    return _render(vault_room(snapshot, reads.params, in_force), snapshot, reads.freshness, product)


def check_product(*given: str | None) -> Product | None:
    """The product asked for, None when none was. Raises InputError naming what is missing or unknown."""
    if given == (None, None, None):
        return None
    wrong = [
        f"{name} is one of {', '.join(names)}"
        for value, (name, names) in zip(given, _DIMENSIONS, strict=True)
        if value not in names
    ]
    if wrong:
        raise InputError(f"A product has three names: {'; '.join(wrong)}.")
    coverage_type, chain, stablecoin = (str(value) for value in given)
    return coverage_type, chain, stablecoin


def _render(
    room: Capacity, snapshot: Snapshot, freshness: Freshness, product: Product | None
) -> wire.PolicyCapacityAnswer:
    coverage_type, chain, stablecoin = product or (None, None, None)
    return wire.PolicyCapacityAnswer(
        vault_id=snapshot.vault_id,
        coverage_type=coverage_type,
        chain=chain,
        stablecoin=stablecoin,
        available_ton=ton_from_nano(room.available_nano),
        available_nanoton=str(room.available_nano),
        binding_limit=room.binding_limit,
        binding_tranche=room.binding_tranche,
        limits=render.render_limits(room),
        as_of=render.render_as_of(snapshot.latest),
        **render.provenance(snapshot, freshness),
    )
