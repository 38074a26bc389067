"""REST, version 1: utilisation, APY and capacity of the tranches, all from memory."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter

from tonsurance.api import render, wire
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.api.etag import answer_unless_known, snapshot_etag
from tonsurance.api.injected import IfNoneMatch, Injected, TrancheInPath, VaultInQuery
from tonsurance.core.catalog import parse_tranche_id
from tonsurance.core.errors import BeforeHistory
from tonsurance.core.moments import parse_moment
from tonsurance.services.tranche_reads import Freshness

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
NOT_THERE = ResponseSpec(
    wire.Problem,
    generate_examples=False,
    media_type=PROBLEM_JSON,
    description="There is no such vault, or `as_of` is before its first event.",
)
IN_THE_FUTURE = ResponseSpec(
    wire.Problem,
    generate_examples=False,
    media_type=PROBLEM_JSON,
    description="`as_of` is later than what the ledger holds.",
)
AsOfQuery = Annotated[
    str | None,
    QueryParameter(
        description="Figures as they were then, from the ledger's history: after everything up to and including an "
        "RFC 3339 time (`2026-11-20T12:00:00Z`; write `+` as `%2B`), a logical time of the vault (`lt:47000000000001`) "
        "or a version of the ledger (`version:42`). Their `as_of` names the last event in them.",
        max_length=100,
    ),
]
READ_NOW = Freshness(0.0, False)
"""History is read for the answer itself."""
NOT_MODIFIED = ResponseSpec(None, generate_examples=False, description="Nothing changed since the given ETag.")


@get(
    "/api/v1/utilization/dashboard",
    summary="All tranches",
    description="Utilisation, target APY with its range, capital and room of the six tranches, senior to junior. With "
    "`as_of` those tranches that had an event until then, and no ETag.",
    tags=["tranches"],
    responses={304: NOT_MODIFIED, 400: BAD_INPUT, 404: NOT_THERE, 422: IN_THE_FUTURE, 503: NOT_READY},
)
async def get_utilization_dashboard(
    services: Injected, if_none_match: IfNoneMatch = None, as_of: AsOfQuery = None, vault: VaultInQuery = None
) -> Response[wire.TranchesAnswer | None]:
    """Six tranches, or 304; or the tranches as of a moment."""
    if as_of is None:
        return answer_tranches(services, if_none_match, vault)
    snapshot = await services.reads.read_at(parse_moment(as_of), vault)
    return Response(render.render_tranches(snapshot, READ_NOW), headers={"Cache-Control": "no-cache"})


@get(
    "/api/v1/dashboard/vaults",
    summary="All tranches (the vault page's name)",
    description="The same answer as `/api/v1/utilization/dashboard`.",
    tags=["tranches"],
    responses={304: NOT_MODIFIED, 404: NOT_THERE, 503: NOT_READY},
)
async def get_vault_dashboard(
    services: Injected, if_none_match: IfNoneMatch = None, vault: VaultInQuery = None
) -> Response[wire.TranchesAnswer | None]:
    """Six tranches, or 304."""
    return answer_tranches(services, if_none_match, vault)


def answer_tranches(
    services: Injected, if_none_match: str | None, vault: str | None = None
) -> Response[wire.TranchesAnswer | None]:
    """All tranches of a vault as one answer with its ETag."""
    reads = services.reads
    snapshot, freshness = reads.snapshot_of(vault or reads.vault_id), reads.freshness
    content: wire.TranchesAnswer | None = render.render_tranches(snapshot, freshness)
    return answer_unless_known(content, snapshot_etag(snapshot, freshness), if_none_match, known=None)


@get(
    "/api/v1/vaults",
    summary="All vaults",
    description="Every vault with figures: the first is meant where `vault_id` is left out. `chain` vaults follow "
    "their contract, `direct` ones are moved by API calls.",
    tags=["tranches"],
    responses={503: NOT_READY},
)
async def get_vaults(services: Injected) -> wire.VaultsAnswer:
    """The vaults there are."""
    return render.render_vaults(services.reads)


@get(
    "/api/v1/utilization/{tranche_id:str}",
    summary="One tranche",
    description="Where one tranche stands, or stood at `as_of`: capital, cover sold, losses, utilisation, target APY.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 404: NOT_THERE, 422: IN_THE_FUTURE, 503: NOT_READY},
)
async def get_utilization(
    services: Injected, tranche_id: TrancheInPath, as_of: AsOfQuery = None, vault: VaultInQuery = None
) -> wire.UtilizationAnswer:
    """One tranche in full."""
    wanted = parse_tranche_id(tranche_id)
    if as_of is None:
        figures, snapshot = services.reads.find(wanted, vault)
        return render.render_utilization(figures, snapshot, services.reads.freshness)
    snapshot = await services.reads.read_at(parse_moment(as_of), vault)
    for figures in snapshot.tranches:
        if figures.totals.tranche_id == wanted:
            return render.render_utilization(figures, snapshot, READ_NOW)
    raise BeforeHistory(f"{wanted} had no event until then.")


@get(
    "/api/v1/tranche/{tranche_id:str}/apy",
    summary="Target APY of one tranche",
    description="The target APY now, with the bonding curve as points. With `utilization` the answer is only the curve "
    "at that point and says so (`basis: curve`); `current_apy` stays the tranche's own.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 404: NOT_THERE, 503: NOT_READY},
)
async def get_tranche_apy(
    services: Injected,
    tranche_id: TrancheInPath,
    utilization: Annotated[
        float | None, QueryParameter(ge=0, le=1, description="Read the curve here instead: a number from 0 to 1.")
    ] = None,
    vault: VaultInQuery = None,
) -> wire.ApyAnswer:
    """The curve at the tranche's utilisation, or at the one asked for."""
    figures, snapshot = services.reads.find(parse_tranche_id(tranche_id), vault)
    return render.render_apy(figures, snapshot, services.reads.freshness, at=utilization)


@get(
    "/api/v1/tranche/{tranche_id:str}/capacity",
    summary="Room for new cover in one tranche",
    description="Every limit with the room it leaves, and the one that binds. A hint: the vault contract decides.",
    tags=["tranches"],
    responses={400: BAD_INPUT, 404: NOT_THERE, 503: NOT_READY},
)
async def get_tranche_capacity(
    services: Injected, tranche_id: TrancheInPath, vault: VaultInQuery = None
) -> wire.CapacityAnswer:
    """Available capacity and its limits."""
    figures, snapshot = services.reads.find(parse_tranche_id(tranche_id), vault)
    return render.render_capacity(figures, snapshot, services.reads.freshness)
