"""What the receipts' routes say. Decimals are text and large whole numbers too: what is shown can be computed again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from tonsurance.api.wire import Instant, LimitOut, NanoTon, Out, ParamsVersion

QuoteId = Annotated[str, Meta(description="Decimal digits.", examples=["4611686018427387904"])]
Usd = Annotated[str, Meta(description="US dollars, exact.", examples=["19.73"])]
Rate = Annotated[str, Meta(description="A year, exact.", examples=["0.008"])]
Count = Annotated[int, Meta(ge=0, examples=[12])]
ConversionRatio = Annotated[
    float | None, Meta(description="Bought over issued; null when none was issued.", examples=[0.25])
]
Unix = Annotated[float, Meta(description="Unix seconds, to the last bit.", examples=[1790000000.25])]


class ListPriceOut(Out, frozen=True, kw_only=True):
    """The list price: amount * (base_rate * chain_multiplier + stablecoin_adjustment) * days / 365."""

    base_rate: Rate
    chain_multiplier: Annotated[str, Meta(examples=["1.0"])]
    stablecoin_adjustment: Rate
    total_rate: Rate
    premium_usd: Usd
    exact: Annotated[str, Meta(description="The premium before it is rounded, as a fraction.", examples=["7200/365"])]


class TonPriceStamp(Out, frozen=True, kw_only=True):
    """The price by which dollars became TON."""

    asset: Annotated[str, Meta(examples=["TON"])]
    usd: Usd
    source: Annotated[str, Meta(examples=["coingecko"])]
    observed_at: Instant
    observed_unix: Unix


class RoomOut(Out, frozen=True, kw_only=True):
    """The room there was for such a policy when the quote was made."""

    sufficient: bool
    available_nanoton: NanoTon
    binding_limit: Annotated[str, Meta(examples=["max_policy_percent"])]
    binding_tranche: str | None
    limits: tuple[LimitOut, ...]


class SeenOut(Out, frozen=True, kw_only=True):
    """Up to where the ledger had been read."""

    ledger_version: str
    lt: str
    seqno: int | None
    time: Instant | None
    stale: bool


class ReceiptAnswer(Out, frozen=True, kw_only=True):
    """A quote that was handed to a buyer: all it was made of, and what became of it. The buyer is not shown, nor what
    the wallet was asked to sign."""

    quote_id: QuoteId
    status: Annotated[
        Literal["issued", "expired", "bought", "refused_by_vault"],
        Meta(
            description="`bought`: it became a policy. `refused_by_vault`: the value went back to the buyer. "
            "`expired`: the deadline has passed; a purchase in time that was not read yet still makes it `bought`."
        ),
    ]
    policy_id: Annotated[str | None, Meta(description="The policy it became.", examples=["17"])]
    policy_status: Annotated[str | None, Meta(examples=["active"])]
    transaction: Annotated[
        str | None, Meta(description="Hash of the transaction in which the factory told of the policy or the refusal.")
    ]
    refusal_reason: Annotated[int | None, Meta(description="The op-code that bounced.")]
    buyer: Annotated[None, Meta(description="Hidden.")] = None
    network_id: Annotated[int, Meta(description="-239 is mainnet, -3 testnet.", examples=[-239])]
    factory: Annotated[str, Meta(description="Raw address.")]
    coverage_type: Annotated[str, Meta(examples=["depeg"])]
    chain: Annotated[str, Meta(examples=["Ethereum"])]
    stablecoin: Annotated[str, Meta(examples=["USDC"])]
    product_hash: Annotated[str, Meta(description="0x and SHA-256 of `depeg_Ethereum_USDC`.")]
    coverage_amount_usd: Usd
    duration_days: Annotated[int, Meta(examples=[90])]
    trigger_bps: Annotated[int, Meta(examples=[9700])]
    floor_bps: Annotated[int, Meta(examples=[9000])]
    list_price: ListPriceOut
    list_premium_nanoton: NanoTon
    premium_nanoton: NanoTon
    minimum_applied: Annotated[str | None, Meta(description="What the premium was raised to; null: it is the list's.")]
    coverage_nanoton: NanoTon
    value_nanoton: Annotated[NanoTon, Meta(description="What the wallet sends: the premium, and gas.")]
    technical: Annotated[dict[str, Any], Meta(description="The technical price with every factor; decimals as text.")]
    market: Annotated[dict[str, Any], Meta(description="What the technical price took of the market.")]
    ton_price: TonPriceStamp
    capacity: RoomOut
    as_of: SeenOut
    params_version: ParamsVersion
    params_hash: str
    code_version: str
    issued_at: Instant
    issued_unix: Unix
    chain_offset_s: Annotated[float, Meta(description="So far ahead of ours the chain's clock was.", examples=[0.0])]
    valid_until: Annotated[Instant, Meta(description="On the chain's clock.")]


class DifferenceOut(Out, frozen=True, kw_only=True):
    """A field that does not come out the same; where the values would show the buyer both are `hidden`."""

    field: Annotated[str, Meta(examples=["premium_nano"])]
    stored: str
    recomputed: str


class VerificationAnswer(Out, frozen=True, kw_only=True):
    """What came out when the receipt was computed again, to the nano and the byte."""

    quote_id: QuoteId
    equal: bool
    differences: tuple[DifferenceOut, ...]
    params_version: ParamsVersion
    params_hash: str
    code_version: Annotated[str, Meta(description="The code that made it.")]
    verified_by: Annotated[str, Meta(description="The code that computed it again.")]
    same_code: bool
    timestamp: Instant


class ConversionDay(Out, frozen=True, kw_only=True):
    """Quotes with a buyer issued on a day (UTC) for a coverage type and a chain."""

    day: Annotated[str, Meta(examples=["2026-11-20"])]
    coverage_type: Annotated[str, Meta(examples=["depeg"])]
    chain: Annotated[str, Meta(examples=["Ethereum"])]
    issued: Count
    bought: Count
    refused: Annotated[int, Meta(description="By the vault.", ge=0)]
    conversion: ConversionRatio


class ConversionAnswer(Out, frozen=True, kw_only=True):
    """How many quotes with a buyer became policies."""

    first: Annotated[str, Meta(description="The first day (UTC).", examples=["2026-11-14"])]
    last: Annotated[str, Meta(description="The last day, included.", examples=["2026-11-20"])]
    issued: Count
    bought: Count
    refused: Count
    conversion: ConversionRatio
    days: tuple[ConversionDay, ...]
    timestamp: Instant
