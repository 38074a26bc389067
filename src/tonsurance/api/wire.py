"""What the API says, field by field: these structs are the JSON and the OpenAPI document.

Amounts come twice: as decimal TON for people and as a string of whole nanoTON for programs. Numbers that may need
more than 53 bits (nanoTON, logical times, share counts) are strings, because JSON readers round them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TrancheId = Annotated[str, Meta(description="Tranche as shown.", examples=["SURE-SNR"])]
TargetApy = Annotated[
    float | None,
    Meta(
        description="Target APY in percent: the bonding curve at the present utilisation. It is what the tranche aims "
        "to pay, neither what premiums pay now nor what was earned. null when the tranche is insolvent.",
        examples=[8.5474],
    ),
]
FundedApy = Annotated[
    float | None,
    Meta(
        description="What the premiums now being earned pay in a year over the capital, in percent; 0 when none is, "
        "null without capital and while the cover of a new premium is not known yet.",
        examples=[3.2],
    ),
]
RealisedApy = Annotated[
    float | None,
    Meta(
        description="What a share gained over `realised_window_days`, as a percentage a year; null without two "
        "prices a day apart and when shares became void between them.",
        examples=[4.1],
    ),
]
RealisedWindow = Annotated[
    float | None, Meta(description="Days between the two share prices of `realised_apy`.", examples=[30.2])
]
SharePriceNano = Annotated[float | None, Meta(description="nanoTON of a share.", examples=[1.0034])]
UtilizationShown = Annotated[
    float, Meta(description="Cover over capital, 0 to 1, capped at 1; 0 when both are 0.", examples=[0.5], ge=0, le=1)
]
UtilizationRaw = Annotated[
    float | None,
    Meta(description="Cover over capital without the cap; null when there is cover but no capital.", examples=[0.5]),
]
Insolvent = Annotated[bool, Meta(description="There is cover but no capital under it.", examples=[False])]
Ton = Annotated[float, Meta(description="TON, for display.", examples=[1000.5])]
NanoTon = Annotated[str, Meta(description="nanoTON, exact.", examples=["1000500000000"], pattern=r"^-?\d+$")]
Instant = Annotated[str, Meta(description="UTC, ISO 8601.", examples=["2026-11-20T12:00:00.000Z"])]
LogicalTime = Annotated[str, Meta(description="Logical time.", examples=["47000000000001"], pattern=r"^\d+$")]
Stale = Annotated[
    bool, Meta(description="The ledger could not be read for too long: figures are the last known.", examples=[False])
]
Age = Annotated[float | None, Meta(description="Seconds since the ledger was last read.", examples=[0.4])]
ParamsVersion = Annotated[int, Meta(description="Version of the parameters the figures use.", examples=[1])]
LedgerVersion = Annotated[str, Meta(description="Version of the ledger; it grows with every commit.", examples=["42"])]


class Out(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers: frozen, fields by name."""


class AsOf(Out, frozen=True, kw_only=True):
    """The last chain event in a figure: block number (null where the chain reader does not know it), lt, time."""

    seqno: int | None
    lt: LogicalTime
    time: Instant | None


class ApyRange(Out, frozen=True, kw_only=True):
    """Bounds of a tranche's target APY, in percent."""

    min: Annotated[float, Meta(examples=[6.5])]
    max: Annotated[float, Meta(examples=[10.0])]


class TrancheFields(Out, frozen=True, kw_only=True):
    """One tranche in every answer that shows tranches."""

    vault_id: Annotated[str, Meta(examples=["main"])]
    tranche_id: TrancheId
    tranche: TrancheId
    current_apy: TargetApy
    apy: TargetApy
    funded_apy: FundedApy
    realised_apy: RealisedApy
    realised_window_days: RealisedWindow
    share_price_before: SharePriceNano
    share_price: SharePriceNano
    apy_range: ApyRange
    curve: Annotated[str, Meta(description="Shape of the bonding curve.", examples=["LOGARITHMIC"])]
    utilization: UtilizationShown
    utilization_raw: UtilizationRaw
    insolvent: Insolvent
    high_utilization: Annotated[float, Meta(description="From here on a tranche counts as crowded.", examples=[0.9])]
    max_utilization: Annotated[float, Meta(description="Above this no new cover is sold.", examples=[0.95])]
    collateralization: Annotated[
        float | None, Meta(description="Capital over cover; null without cover.", examples=[2.0])
    ]
    total_capital_ton: Ton
    total_capital_nanoton: NanoTon
    tvl_ton: Ton
    coverage_sold_ton: Ton
    coverage_sold_nanoton: NanoTon
    available_capacity_ton: Ton
    available_capacity_nanoton: NanoTon
    unearned_premiums_ton: Ton
    unearned_premiums_nanoton: NanoTon
    absorbed_losses_ton: Annotated[float, Meta(description="Claims this tranche ever paid, in TON.", examples=[0.0])]
    absorbed_losses_nanoton: NanoTon
    last_updated: Annotated[Instant | None, Meta(description="Block time of the last event; null before the first.")]
    as_of: AsOf


class Provenance(Out, frozen=True, kw_only=True):
    """Where figures are from and how old they are."""

    params_version: ParamsVersion
    ledger_version: LedgerVersion
    stale: Stale
    age_s: Age
    timestamp: Instant


class UtilizationAnswer(TrancheFields, frozen=True, kw_only=True):
    """One tranche now. (The fields of Provenance stand here again: structs inherit from one base only.)"""

    params_version: ParamsVersion
    ledger_version: LedgerVersion
    stale: Stale
    age_s: Age
    timestamp: Instant


class TranchesAnswer(Provenance, frozen=True, kw_only=True):
    """All tranches now, senior to junior."""

    tranches: tuple[TrancheFields, ...]
    as_of: AsOf


class Vault(Out, frozen=True, kw_only=True):
    """A vault, and what moves it."""

    vault_id: Annotated[str, Meta(examples=["main"])]
    source: Annotated[
        Literal["chain", "direct"],
        Meta(description="`chain`: events of its contract. `direct`: API calls.", examples=["chain"]),
    ]


class VaultsAnswer(Provenance, frozen=True, kw_only=True):
    """All vaults that have figures, the first one first."""

    vaults: tuple[Vault, ...]


class ApyAnswer(Provenance, frozen=True, kw_only=True):
    """Target APY of a tranche: now, or its bonding curve at a point the caller chose."""

    tranche_id: TrancheId
    tranche: TrancheId
    apy: TargetApy
    current_apy: TargetApy
    funded_apy: FundedApy
    realised_apy: RealisedApy
    realised_window_days: RealisedWindow
    basis: Annotated[
        Literal["current", "curve"],
        Meta(description="`current`: the tranche now. `curve`: only the curve at the utilisation asked for."),
    ]
    kind: Annotated[Literal["target"], Meta(description="This is the target APY.")]
    utilization: UtilizationShown
    utilization_raw: UtilizationRaw
    insolvent: Annotated[bool | None, Meta(description="null when `basis` is `curve`.")]
    apy_range: ApyRange
    curve: Annotated[str, Meta(examples=["LOGARITHMIC"])]
    curve_points: Annotated[
        tuple[tuple[float, float], ...], Meta(description="The curve as [utilisation, APY in percent] pairs.")
    ]
    as_of: Annotated[AsOf | None, Meta(description="null when `basis` is `curve`.")]


class LimitOut(Out, frozen=True, kw_only=True):
    """One limit on new cover and the room it leaves."""

    name: Annotated[str, Meta(examples=["max_utilization"])]
    tranche_id: Annotated[
        str | None, Meta(description="Whose limit it is; null: the whole vault's.", examples=["SURE-SNR"])
    ]
    limit: Annotated[float, Meta(description="The limit itself, as a ratio.", examples=[0.95])]
    headroom_ton: Ton
    headroom_nanoton: NanoTon
    binding: bool


class CapacityAnswer(Provenance, frozen=True, kw_only=True):
    """Room for new cover in one tranche. A hint: the vault contract decides when a policy is bought."""

    tranche_id: TrancheId
    tranche: TrancheId
    available_ton: Ton
    available_nanoton: NanoTon
    binding_limit: Annotated[str, Meta(examples=["max_utilization"])]
    limits: tuple[LimitOut, ...]
    total_capital_ton: Ton
    total_capital_nanoton: NanoTon
    coverage_sold_ton: Ton
    coverage_sold_nanoton: NanoTon
    reserved_ton: Annotated[float, Meta(description="Held by open reservations, in TON.", examples=[12.5])]
    reserved_nanoton: NanoTon
    utilization: UtilizationShown
    utilization_raw: UtilizationRaw
    insolvent: Insolvent
    as_of: AsOf


class PolicyCapacityAnswer(Provenance, frozen=True, kw_only=True):
    """The largest policy the vault can back now, every part within its tranche. A hint, as above."""

    vault_id: Annotated[str, Meta(examples=["main"])]
    coverage_type: Annotated[str | None, Meta(description="null when no product was named.", examples=["depeg"])]
    chain: Annotated[str | None, Meta(examples=["Ethereum"])]
    stablecoin: Annotated[str | None, Meta(examples=["USDC"])]
    available_ton: Ton
    available_nanoton: NanoTon
    binding_limit: Annotated[str, Meta(examples=["max_policy_percent"])]
    binding_tranche: Annotated[
        str | None, Meta(description="null when a limit of the vault binds.", examples=["SURE-EQT"])
    ]
    limits: Annotated[
        tuple[LimitOut, ...], Meta(description="Head-room as the policy that would use it up, also of one tranche.")
    ]
    as_of: AsOf


class EventOut(Out, frozen=True, kw_only=True):
    """One event of the audit log."""

    event_id: Annotated[str, Meta(description="Cursor of this event; it only grows.", examples=["1041"])]
    event_type: Annotated[str, Meta(examples=["DepositMade"])]
    contract: Annotated[str, Meta(description="Raw address.")]
    contract_kind: Annotated[str, Meta(examples=["MultiTrancheVault"])]
    transaction_hash: Annotated[str, Meta(description="64 hexadecimal digits.")]
    lt: LogicalTime
    message_index: Annotated[int, Meta(description="Place among the transaction's outgoing messages.", examples=[0])]
    block_time: Instant
    fields: Annotated[
        dict[str, object],
        Meta(
            description="The event's own fields; amounts in nanoTON and ids are strings, tranches come with their id.",
            examples=[{"tranche": "SURE-SNR", "tranche_id": 2, "amount": "1000000000"}],
        ),
    ]


class EventsAnswer(Out, frozen=True, kw_only=True):
    """One page of the audit log."""

    events: tuple[EventOut, ...]
    order: Literal["asc", "desc"]
    next_after: Annotated[
        str | None, Meta(description="Pass as `after` for the next page; null when this page is empty.")
    ]
    timestamp: Instant


class EntryOut(Out, frozen=True, kw_only=True):
    """What one event did to one tranche: changes, so amounts may be negative."""

    entry_id: Annotated[str, Meta(description="Cursor of this entry; it only grows.", examples=["3120"])]
    tranche_id: TrancheId
    tranche: TrancheId
    event_id: Annotated[str, Meta(description="The event in the audit log.", examples=["1041"])]
    event_type: Annotated[str, Meta(examples=["LossAbsorbed"])]
    policy_id: Annotated[str | None, Meta(description="null when the event names no policy.", examples=["41"])]
    capital_delta_nanoton: NanoTon
    coverage_delta_nanoton: NanoTon
    unearned_delta_nanoton: NanoTon
    loss_delta_nanoton: Annotated[NanoTon, Meta(description="What the tranche paid of a claim.", examples=["0"])]
    shares_delta: Annotated[str, Meta(description="Shares of the tranche.", examples=["-5"], pattern=r"^-?\d+$")]
    transaction_hash: Annotated[str, Meta(description="64 hexadecimal digits.")]
    logical_time: LogicalTime
    message_index: Annotated[int, Meta(description="Place among the transaction's outgoing messages.", examples=[0])]
    block_time: Instant


class EntriesAnswer(Out, frozen=True, kw_only=True):
    """One page of the ledger's entries."""

    entries: tuple[EntryOut, ...]
    order: Literal["newest", "oldest"]
    next_after: Annotated[
        str | None, Meta(description="Pass as `after` for the next page; null when this page is empty.")
    ]
    timestamp: Instant


class PolicyCountsAnswer(Out, frozen=True, kw_only=True):
    """How many policies are in each status, over all factories."""

    active: Annotated[int, Meta(ge=0, examples=[96])]
    approved: Annotated[int, Meta(ge=0, description="Approved to be paid, and not paid yet.", examples=[2])]
    claimed: Annotated[int, Meta(ge=0, description="Ended by a payout.", examples=[41])]
    expired: Annotated[int, Meta(ge=0, description="Ended without one.", examples=[350])]
    timestamp: Instant


class ComponentOut(Out, frozen=True, kw_only=True):
    """One part of the system and whether it is well."""

    name: Annotated[str, Meta(examples=["database"])]
    status: Literal["ok", "degraded", "down"]
    reason: str | None = None


class ContractOut(Out, frozen=True, kw_only=True):
    """How a followed contract stands."""

    contract: str
    contract_kind: str
    status: Annotated[str, Meta(description="active, paused or error", examples=["active"])]
    last_synced_lt: LogicalTime
    lag_lt: Annotated[str | None, Meta(description="Logical time from the cursor to the head; null when unknown.")]
    age_s: Annotated[float | None, Meta(description="Seconds since the head was last looked at; null when never.")]


class AlertHealthOut(Out, frozen=True, kw_only=True):
    """How many alerts are open. They say nothing of the service: it may be well while a tranche is not."""

    open: Annotated[int, Meta(ge=0, examples=[2])]
    critical: Annotated[int, Meta(ge=0, examples=[0])]


class HealthAnswer(Out, frozen=True, kw_only=True):
    """How the service is, with a reason for everything that is not well."""

    status: Literal["healthy", "degraded", "unhealthy"]
    service: Annotated[str, Meta(examples=["tonsurance-api"])]
    version: Annotated[str, Meta(examples=["0.1.0"])]
    reasons: tuple[str, ...]
    components: tuple[ComponentOut, ...]
    contracts: tuple[ContractOut, ...]
    snapshot_age_s: Age
    stale: Stale
    ledger_version: LedgerVersion | None
    alerts: Annotated[AlertHealthOut | None, Meta(description="null when alerts could not be read.")]
    timestamp: Instant


class ReadyAnswer(Out, frozen=True, kw_only=True):
    """Whether this instance should get traffic."""

    ready: bool
    reasons: tuple[str, ...]
    timestamp: Instant


class LiveAnswer(Out, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["alive"]
    timestamp: Instant


class FieldError(Out, frozen=True, kw_only=True):
    """One thing that is wrong with the input."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as problem details (RFC 9457). `error` repeats the message for clients of the first API."""

    type: Annotated[str, Meta(examples=["urn:tonsurance:problem:unknown_tranche"])]
    title: Annotated[str, Meta(examples=["Bad Request"])]
    status: Annotated[int, Meta(examples=[400])]
    detail: Annotated[str, Meta(examples=["Unknown tranche: SURE-XXX"])]
    error: Annotated[str, Meta(examples=["Unknown tranche: SURE-XXX"])]
    code: Annotated[str, Meta(examples=["unknown_tranche"])]
    valid_ids: tuple[str, ...] | None = None
    errors: tuple[FieldError, ...] | None = None
    request_id: str | None = None
