"""REST, version 2: how many policies there are in each status."""

from __future__ import annotations

from litestar import get

from tonsurance.api import wire
from tonsurance.api.injected import Injected
from tonsurance.api.render import show_now
from tonsurance.api.v2 import NO_LEDGER


@get(
    "/api/v2/policies/counts",
    summary="Policies by status",
    description="`approved` ones have a claim the vault was asked to pay and has not paid yet.",
    tags=["policies"],
    responses={503: NO_LEDGER},
)
async def get_policy_counts(services: Injected) -> wire.PolicyCountsAnswer:
    """Four numbers."""
    counts = await services.ledger.read_policy_counts()
    return wire.PolicyCountsAnswer(
        active=counts.active,
        approved=counts.approved,
        claimed=counts.claimed,
        expired=counts.expired,
        timestamp=show_now(),
    )
