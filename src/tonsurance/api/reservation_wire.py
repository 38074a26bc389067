"""What the reservations' routes take and say."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tonsurance.api.wire import Instant, LimitOut, LogicalTime, NanoTon, Out, Problem, Ton, TrancheId

DigitsIn = Annotated[str, Meta(pattern=r"^[0-9]{1,20}\Z", examples=["25000000000"])]
CountIn = Annotated[int, Meta(ge=0)]
NameIn = Annotated[str, Meta(max_length=64)]
ReservationStatusOut = Literal["pending", "committed", "released", "expired", "bumped"]


class ReserveBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Room for a cover: of one tranche, or of a policy over all six (`tranche_id` null)."""

    vault_id: Annotated[NameIn, Meta(examples=["main"])] = "main"
    tranche_id: Annotated[NameIn | None, Meta(examples=["SURE-SNR"])] = None
    amount_nanoton: DigitsIn | CountIn
    ttl_s: Annotated[int, Meta(description="Seconds the room is held before its commit.", examples=[60])]
    quote_id: Annotated[
        DigitsIn | CountIn | None,
        Meta(description="The quote that will be bought; by it the policy is recognised on chain.", examples=["1041"]),
    ] = None


class CommitBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is bought with the room that was held."""

    quote_id: Annotated[
        DigitsIn | CountIn | None,
        Meta(description="Needed when the reservation names none, on a vault that follows its chain."),
    ] = None


class PartOut(Out, frozen=True, kw_only=True):
    """What one tranche holds."""

    tranche_id: TrancheId
    amount_nanoton: NanoTon


class ReservationOut(Out, frozen=True, kw_only=True):
    """A reservation as it was answered; a repeated request gets the same."""

    reservation_id: Annotated[str, Meta(examples=["4ce1cbb0-6d7e-4e0a-9a1c-6f1d3c2b8a55"])]
    status: Annotated[ReservationStatusOut, Meta(examples=["pending"])]
    vault_id: Annotated[str, Meta(examples=["main"])]
    tranche_id: Annotated[str | None, Meta(description="null: a policy, over all tranches.", examples=[None])]
    amount_ton: Ton
    amount_nanoton: NanoTon
    split: Annotated[tuple[PartOut, ...], Meta(description="What each tranche holds for it, senior to junior.")]
    quote_id: Annotated[str | None, Meta(examples=["1041"])]
    created_at: Instant
    expires_at: Annotated[Instant, Meta(description="Until then it holds room.")]


class ReservationView(Out, frozen=True, kw_only=True):
    """A reservation as it stands now. (The fields of ReservationOut stand here again, for their order in the JSON.)"""

    reservation_id: Annotated[str, Meta(examples=["4ce1cbb0-6d7e-4e0a-9a1c-6f1d3c2b8a55"])]
    status: Annotated[ReservationStatusOut, Meta(examples=["committed"])]
    holds_room: Annotated[
        bool, Meta(description="Whether room is held beside the cover that was sold.", examples=[True])
    ]
    vault_id: Annotated[str, Meta(examples=["main"])]
    tranche_id: Annotated[str | None, Meta(examples=[None])]
    amount_ton: Ton
    amount_nanoton: NanoTon
    split: tuple[PartOut, ...]
    quote_id: Annotated[str | None, Meta(examples=["1041"])]
    created_at: Instant
    expires_at: Instant
    ended_at: Annotated[Instant | None, Meta(description="null while it holds room.")]
    seen_lt: Annotated[LogicalTime | None, Meta(description="Where the ledger took its cover over; null before.")]


class CapacityProblem(Problem, frozen=True, kw_only=True, omit_defaults=True):
    """No room: every limit with what it leaves, and the one that binds."""

    available_nanoton: NanoTon
    binding_limit: Annotated[str, Meta(examples=["max_utilization"])]
    binding_tranche: str | None = None
    limits: tuple[LimitOut, ...]
