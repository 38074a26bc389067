"""REST, version 2: policies, one by one and in pages."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from litestar import Router, get
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter, SkipValidation
from msgspec import Meta

from tonsurance.api import wire
from tonsurance.api.bodies import ID_SCHEMA, read_id
from tonsurance.api.errors import PROBLEM_JSON
from tonsurance.api.render import show_now, show_time
from tonsurance.api.transaction_wire import Hash, OpName, name_op, show_amount
from tonsurance.api.v1 import BAD_INPUT
from tonsurance.api.v2 import NO_LEDGER
from tonsurance.chain.addresses import parse_address
from tonsurance.core.errors import InputError
from tonsurance.core.products import Product
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.policy_lists import Place, PolicyRow
from tonsurance.db.transactions import TransactionRow
from tonsurance.services.policy_reads import PolicyQuery, PolicyReads, PolicyStory

MAX_POLICIES = 200
UNKNOWN = ResponseSpec(
    wire.Problem,
    generate_examples=False,
    media_type=PROBLEM_JSON,
    description="There is no such policy in force or over; of a purchase the vault has not backed, its transaction.",
)
_PLACE = re.compile(r"(\d{1,19})\.(\d{1,19})\.((?:-1|0):[0-9a-f]{64})", re.ASCII)

PolicyStatus = Literal["active", "approved", "claimed", "expired"]
Reads = NamedDependency[SkipValidation[PolicyReads]]
FactoryInQuery = Annotated[
    str | None,
    QueryParameter(
        description="The policy of this factory, where several have one of this id; any address form.", max_length=100
    ),
]


class PolicyOut(wire.Out, frozen=True, kw_only=True):
    """One policy the vault backed."""

    policy_id: Annotated[str, Meta(description="Unique within its factory.", examples=["41"])]
    factory: Annotated[str, Meta(description="Raw address.")]
    vault_id: Annotated[str, Meta(examples=["main"])]
    quote_id: Annotated[str, Meta(description="The quote it was bought with.")]
    status: Annotated[
        PolicyStatus,
        Meta(
            description="`approved`: the vault was asked to pay a claim and has not paid yet. `claimed` and `expired` "
            "are its end. One that is over stays `active` until somebody has it expired."
        ),
    ]
    coverage_type: Annotated[str, Meta(examples=["depeg"])]
    chain: Annotated[str, Meta(examples=["Ethereum"])]
    stablecoin: Annotated[str, Meta(examples=["USDC"])]
    buyer: str
    beneficiary: str
    coverage_ton: wire.Ton
    coverage_nanoton: wire.NanoTon
    premium_ton: wire.Ton
    premium_nanoton: wire.NanoTon
    approved_ton: Annotated[float | None, Meta(description="Of a claim that was approved, in TON.")]
    approved_nanoton: wire.NanoTon | None
    payout_ton: wire.Ton
    payout_nanoton: wire.NanoTon
    trigger_bps: Annotated[int, Meta(description="Basis points of the peg.", examples=[9700])]
    floor_bps: Annotated[int, Meta(examples=[9000])]
    start: wire.Instant
    end: wire.Instant
    claims_end: Annotated[
        wire.Instant | None,
        Meta(description="From then on anybody may have it expired; null while the factory's terms were not read."),
    ]
    created_at: Annotated[str, Meta(description="Block time of the event that put it in force.")]
    closed_at: wire.Instant | None


class PolicyTransactionOut(wire.Out, frozen=True, kw_only=True):
    """Something factory or vault did about a policy, or refused each other."""

    hash: Hash
    href: str
    contract: str
    contract_kind: str | None
    lt: wire.LogicalTime
    time: wire.Instant
    op_name: OpName
    bounced: bool
    succeeded: bool
    exit_code: int | None


class PolicyAnswer(PolicyOut, frozen=True, kw_only=True):
    """One policy with its transactions, oldest first, at most 50."""

    transactions: tuple[PolicyTransactionOut, ...]
    timestamp: wire.Instant


class PoliciesAnswer(wire.Out, frozen=True, kw_only=True):
    """One page of policies, newest first."""

    policies: tuple[PolicyOut, ...]
    next_after: Annotated[
        str | None, Meta(description="Pass as `after` for the next page; null when this one is not full.")
    ]
    timestamp: wire.Instant


@get(
    "/{policy_id:str}",
    summary="One policy",
    description="As its factory's events tell it, with what factory and vault did about it.",
    tags=["policies"],
    responses={400: BAD_INPUT, 404: UNKNOWN, 503: NO_LEDGER},
)
async def get_policy(
    policy_id: Annotated[str, PathParameter(schema_extra=ID_SCHEMA, description="Its id within the factory.")],
    policy_reads: Reads,
    factory: FactoryInQuery = None,
) -> PolicyAnswer:
    """The policy."""
    number = read_id("policy_id", policy_id)
    story = await policy_reads.find(number, None if factory is None else parse_address(factory))
    return render_story(story)


@get(
    "/",
    summary="Policies",
    description="Newest first. `next_after` of one page is `after` of the next.",
    tags=["policies"],
    responses={400: BAD_INPUT, 503: NO_LEDGER},
)
async def get_policies(
    policy_reads: Reads,
    buyer: Annotated[
        str | None, QueryParameter(description="Only this buyer's; any address form.", max_length=100)
    ] = None,
    status: Annotated[PolicyStatus | None, QueryParameter(description="Only those in this status.")] = None,
    after: Annotated[
        str | None, QueryParameter(description="Continue after this: `next_after` of a page.", max_length=150)
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_POLICIES, description="Policies on the page.")] = 50,
) -> PoliciesAnswer:
    """One page."""
    query = PolicyQuery(
        buyer=None if buyer is None else parse_address(buyer),
        status=status,
        after=None if after is None else read_place(after),
        limit=limit,
    )
    rows = await policy_reads.list(query)
    return PoliciesAnswer(
        policies=tuple(PolicyOut(**_policy_fields(row)) for row in rows),
        next_after=_show_place(rows[-1].place) if len(rows) == limit else None,
        timestamp=show_now(),
    )


def read_place(text: str) -> Place:
    """The place a page named. Raises InputError."""
    match = _PLACE.fullmatch(text)
    if match is None or max(int(match[1]), int(match[2])) > BIGINT_MAX:
        raise InputError("`after` is not the `next_after` of a page of policies.")
    return Place(int(match[1]), int(match[2]), match[3])


def _show_place(place: Place) -> str:
    return f"{place.created_lt}.{place.policy_id}.{place.factory}"


def render_story(story: PolicyStory) -> PolicyAnswer:
    """A policy with its transactions."""
    return PolicyAnswer(
        **_policy_fields(story.policy),
        transactions=tuple(_render_transaction(row) for row in story.transactions),
        timestamp=show_now(),
    )


def _policy_fields(row: PolicyRow) -> dict[str, Any]:
    product = Product(row.coverage_type, row.chain_id, row.stablecoin_id)
    grace = row.claim_grace_s
    claims_end = None if grace is None else _show(row.expiry_time + timedelta(seconds=grace))
    return {
        "policy_id": str(row.policy_id),
        "factory": row.contract_address,
        "vault_id": row.vault_id,
        "quote_id": str(row.quote_id),
        "status": row.status,
        "coverage_type": product.coverage_type,
        "chain": product.chain,
        "stablecoin": product.stablecoin,
        "buyer": row.buyer_address,
        "beneficiary": row.beneficiary_address,
        **show_amount("coverage", row.coverage_amount_nanoton),
        **show_amount("premium", row.premium_nanoton),
        **show_amount("approved", row.approved_nanoton),
        **show_amount("payout", row.payout_nanoton),
        "trigger_bps": row.trigger_bps,
        "floor_bps": row.floor_bps,
        "start": _show(row.start_time),
        "end": _show(row.expiry_time),
        "claims_end": claims_end,
        "created_at": _show(row.created_at),
        "closed_at": None if row.closed_at is None else _show(row.closed_at),
    }


def _show(moment: datetime) -> str:
    return show_time(moment.timestamp())


def _render_transaction(row: TransactionRow) -> PolicyTransactionOut:
    return PolicyTransactionOut(
        hash=row.hash.hex(),
        href=f"/api/v2/transactions/{row.hash.hex()}",
        contract=row.contract_address,
        contract_kind=row.contract_type,
        lt=str(row.logical_time),
        time=_show(row.block_time),
        op_name=name_op(row),
        bounced=row.bounced,
        succeeded=row.succeeded,
        exit_code=row.exit_code,
    )


def make_policy_router(reads: PolicyReads, *beside: HTTPRouteHandler) -> Router:
    """The reads, given what they read from, and what others have at the same path."""

    def provide_reads() -> PolicyReads:
        return reads

    return Router(
        path="/api/v2/policies",
        route_handlers=[get_policy, get_policies, *beside],
        dependencies={"policy_reads": Provide(provide_reads, sync_to_thread=False)},
    )
