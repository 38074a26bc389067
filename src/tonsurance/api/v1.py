"""REST, version 1: utilisation, APY and capacity of the tranches, all from memory."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter

from tonsurance.api import render, wire
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.api.etag import answer_unless_known, snapshot_etag
from tonsurance.api.injected import IfNoneMatch, Injected, TrancheInPath
from tonsurance.core.catalog import parse_tranche_id

BAD_INPUT = ResponseSpec(
    wire.Problem,
    generate_examples=False,
    media_type=PROBLEM_JSON,
    description="Bad input; an unknown tranche lists the valid ids.",
)
NOT_READY = ResponseSpec(
    wire.Problem,
    generate_examples=False,
    media_type=PROBLEM_JSON,
    description="There has been no data to answer from yet.",
)
NOT_MODIFIED = ResponseSpec(None, generate_examples=False, description="Nothing changed since the given ETag.")


@get(
    "/api/v1/utilization/dashboard",
    summary="All tranches",
    description="Utilisation, target APY with its range, capital and room of the six tranches, senior to junior.",
    tags=["tranches"],
    responses={304: NOT_MODIFIED, 503: NOT_READY},
)
async def get_utilization_dashboard(
    services: Injected, if_none_match: IfNoneMatch = None
) -> Response[wire.TranchesAnswer | None]:
    """Six tranches, or 304."""
    return answer_tranches(services, if_none_match)


@get(
    "/api/v1/dashboard/vaults",
    summary="All tranches (the vault page's name)",
    description="The same answer as `/api/v1/utilization/dashboard`.",
    tags=["tranches"],
    responses={304: NOT_MODIFIED, 503: NOT_READY},
)
async def get_vault_dashboard(
    services: Injected, if_none_match: IfNoneMatch = None
) -> Response[wire.TranchesAnswer | None]:
    """Six tranches, or 304."""
    return answer_tranches(services, if_none_match)


def answer_tranches(services: Injected, if_none_match: str | None) -> Response[wire.TranchesAnswer | None]:
    """All tranches as one answer with its ETag."""
    snapshot, freshness = services.reads.snapshot, services.reads.freshness
    content: wire.TranchesAnswer | None = render.render_tranches(snapshot, freshness)
    return answer_unless_known(content, snapshot_etag(snapshot, freshness), if_none_match, known=None)


@get(
    "/api/v1/utilization/{tranche_id:str}",
    summary="One tranche",
    description="Where one tranche stands: capital, cover sold, utilisation, target APY.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 503: NOT_READY},
)
async def get_utilization(services: Injected, tranche_id: TrancheInPath) -> wire.UtilizationAnswer:
    """One tranche in full."""
    figures = services.reads.figures(parse_tranche_id(tranche_id))
    return render.render_utilization(figures, services.reads.snapshot, services.reads.freshness)


@get(
    "/api/v1/tranche/{tranche_id:str}/apy",
    summary="Target APY of one tranche",
    description="The target APY now, with the bonding curve as points. With `utilization` the answer is only the curve "
    "at that point and says so (`basis: curve`); `current_apy` stays the tranche's own.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 503: NOT_READY},
)
async def get_tranche_apy(
    services: Injected,
    tranche_id: TrancheInPath,
    utilization: Annotated[
        float | None, QueryParameter(ge=0, le=1, description="Read the curve here instead: a number from 0 to 1.")
    ] = None,
) -> wire.ApyAnswer:
    """The curve at the tranche's utilisation, or at the one asked for."""
    figures = services.reads.figures(parse_tranche_id(tranche_id))
    return render.render_apy(figures, services.reads.snapshot, services.reads.freshness, at=utilization)


@get(
    "/api/v1/tranche/{tranche_id:str}/capacity",
    summary="Room for new cover in one tranche",
    description="Every limit with the room it leaves, and the one that binds. A hint: the vault contract decides.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 503: NOT_READY},
)
async def get_tranche_capacity(services: Injected, tranche_id: TrancheInPath) -> wire.CapacityAnswer:
    """Available capacity and its limits."""
    figures = services.reads.figures(parse_tranche_id(tranche_id))
    return render.render_capacity(figures, services.reads.snapshot, services.reads.freshness)
