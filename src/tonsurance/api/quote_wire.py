"""What the quotes' routes take and say.

Rates and dollars are JSON numbers where the documents have them so, and decimal texts beside them where they are money.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from tonsurance.api.bodies import WRITTEN_AMOUNT
from tonsurance.api.wire import Age, AsOf, Instant, LimitOut, NanoTon, Out, ParamsVersion, Problem, Ton
from tonsurance.chain.ton_connect import ConnectTransaction

NameIn = Annotated[str, Meta(max_length=64)]
AddressIn = Annotated[str, Meta(max_length=100)]
QuoteIdIn = Annotated[str, Meta(pattern=r"^[0-9]{1,19}\Z", examples=["4611686018427387904"])]
AmountIn = Annotated[
    Decimal,
    Meta(
        description="US dollars, as a number or as a text of decimal digits, at most 6 decimals; it is read exactly.",
        examples=[10000],
        extra_json_schema={"extra": WRITTEN_AMOUNT},
    ),
]
Usd = Annotated[str, Meta(description="US dollars, exact.", examples=["19.73"])]
Factor = Annotated[float, Meta(examples=[1.0])]
StaleChain = Annotated[
    bool,
    Meta(
        description="Nobody has read the vault's factory on the chain for longer than `risk/factory_max_age_s`: what "
        "`as_of` says is the last known, and newer events may be missing.",
        examples=[False],
    ),
]
Rate = Annotated[float, Meta(description="A year, as a fraction.", examples=[0.008])]
Reasons = Annotated[tuple[str, ...], Meta(description="Empty when it is sold.", examples=[()])]


class QuoteBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What cover is wanted; with a buyer's address the answer has the transaction that buys it."""

    coverage_type: Annotated[NameIn, Meta(examples=["depeg"])]
    chain: Annotated[NameIn, Meta(examples=["Ethereum"])]
    stablecoin: Annotated[NameIn, Meta(examples=["USDC"])]
    coverage_amount: AmountIn
    duration_days: Annotated[int, Meta(examples=[90])]
    buyer: Annotated[
        AddressIn | None, Meta(description="The wallet that will pay, in any written form. Left out: a price only.")
    ] = None


class PolicyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to buy: a kept quote by its id and the buyer it was made for, or the fields of a new one with its buyer."""

    quote_id: QuoteIdIn | None = None
    coverage_type: Annotated[NameIn | None, Meta(examples=["depeg"])] = None
    chain: Annotated[NameIn | None, Meta(examples=["Ethereum"])] = None
    stablecoin: Annotated[NameIn | None, Meta(examples=["USDC"])] = None
    coverage_amount: AmountIn | None = None
    duration_days: Annotated[int | None, Meta(examples=[90])] = None
    buyer: AddressIn | None = None


class BreakdownOut(Out, frozen=True, kw_only=True):
    """How the list price comes about: amount * (base_rate * chain_multiplier + adjustment) * days / 365."""

    base_rate: Rate
    chain_multiplier: Factor
    stablecoin_adjustment: Annotated[float, Meta(description="A year, added to the rate.", examples=[0.0])]
    total_rate: Rate
    coverage_amount: Annotated[float, Meta(description="US dollars.", examples=[10000.0])]
    coverage_amount_usd: Usd
    duration_days: Annotated[int, Meta(examples=[90])]
    list_premium_nanoton: Annotated[NanoTon, Meta(description="The list price in TON, before it was raised.")]
    minimum_applied: Annotated[
        str | None,
        Meta(description="What the premium in TON was raised to: `min_executable_premium_ton` or `contract_min_rate`."),
    ]


class TonPriceOut(Out, frozen=True, kw_only=True):
    """The TON price by which dollars became TON."""

    usd: Annotated[str, Meta(description="US dollars for one TON, exact.", examples=["5.25"])]
    source: Annotated[str, Meta(examples=["coingecko"])]
    observed_at: Instant
    age_s: Age


class QuoteCapacityOut(Out, frozen=True, kw_only=True):
    """Whether there is room now. A hint: the vault contract decides when the policy is bought."""

    sufficient: bool
    available_ton: Ton
    available_nanoton: NanoTon
    binding_limit: Annotated[str, Meta(examples=["max_policy_percent"])]
    binding_tranche: Annotated[str | None, Meta(examples=["SURE-EQT"])]


class OnSaleOut(Out, frozen=True, kw_only=True):
    """Whether this product is sold now, and if not, why."""

    on_sale: bool
    reasons: Reasons


class RiskOut(Out, frozen=True, kw_only=True):
    """A risk factor of the coin: it adds weight * factor to the risk adjustment."""

    weight: Annotated[float, Meta(examples=[0.3])]
    factor: Annotated[float, Meta(description="0 to 1.", examples=[0.1])]
    part: Annotated[float, Meta(examples=[0.03])]


class FactorsOut(Out, frozen=True, kw_only=True):
    """annual_rate = base_rate * (1 + risk_adjustment) * size * utilization * trigger * stress * claims, a year."""

    base_rate: Annotated[float, Meta(description="Of the coin, a year.", examples=[0.04])]
    risk_adjustment: Annotated[float, Meta(examples=[0.0375])]
    risk: Annotated[dict[str, RiskOut], Meta(description="What the risk adjustment is made of, by the factor's name.")]
    size: Annotated[float, Meta(description="Discount of a large cover.", examples=[1.0])]
    utilization: Annotated[float, Meta(description="Surcharge while the vault is full.", examples=[1.0])]
    trigger: Annotated[float, Meta(description="A higher trigger pays sooner and costs more.", examples=[1.0])]
    stress: Annotated[float, Meta(description="Of the market.", examples=[1.0])]
    claims: Annotated[float, Meta(description="The record of the last 365 days.", examples=[1.0])]
    annual_rate: Annotated[float, Meta(description="All of them, a year.", examples=[0.0415])]
    duration_days: Annotated[
        float, Meta(description="Days that are charged: of a short cover more than it lasts.", examples=[90.0])
    ]


class MarketOut(Out, frozen=True, kw_only=True):
    """What the technical premium took of the market."""

    utilization: Annotated[float, Meta(description="Cover over capital of the vault, 0 to 1.", examples=[0.42])]
    loss_ratio: Annotated[float | None, Meta(description="Claims over premiums; null: none were earned.")]
    claims_count: Annotated[int, Meta(description="Within 365 days.", examples=[3])]
    stress: Annotated[str, Meta(description="Normal, Elevated, High or Extreme.", examples=["Normal"])]


class TechnicalOut(Out, frozen=True, kw_only=True):
    """What the cover should cost by the technical premium, with every factor. It informs; the list price is charged."""

    premium: Annotated[float, Meta(description="US dollars, to the cent.", examples=[102.33])]
    premium_usd: Usd
    floor_applied: Annotated[
        str | None,
        Meta(description="What it was raised to: `min_premium_absolute` or `min_premium_rate`; null: it was not."),
    ]
    trigger_price: Annotated[float, Meta(description="US dollars.", examples=[0.97])]
    floor_price: Annotated[float, Meta(description="US dollars.", examples=[0.9])]
    factors: FactorsOut
    market: MarketOut


class QuoteAnswer(Out, frozen=True, kw_only=True):
    """A cover at a price. Without a buyer it is a price only: `transaction` is null, and nothing is kept."""

    quote_id: Annotated[str, Meta(description="Random; decimal digits.", examples=["4611686018427387904"])]
    coverage_type: Annotated[str, Meta(examples=["depeg"])]
    chain: Annotated[str, Meta(examples=["Ethereum"])]
    stablecoin: Annotated[str, Meta(examples=["USDC"])]
    product_hash: Annotated[str, Meta(description="0x and SHA-256 of `depeg_Ethereum_USDC`.")]
    product_key: Annotated[int, Meta(description="type << 16 | chain << 8 | coin.", examples=[0])]
    premium: Annotated[
        float,
        Meta(description="List price in US dollars, to the cent; what is paid is `charged_usd`.", examples=[19.73]),
    ]
    premium_usd: Annotated[Usd, Meta(description="List price in US dollars, before it was raised to a least premium.")]
    charged_usd: Annotated[
        Usd,
        Meta(
            description="What `premium_nanoton` is worth in US dollars at `ton_price`, half to even at the cent. It is "
            "above `premium_usd` where `breakdown.minimum_applied` names a least premium."
        ),
    ]
    list_premium_nanoton: Annotated[
        NanoTon, Meta(description="The list price in TON, before it was raised; as in the breakdown.")
    ]
    premium_ton: Annotated[Ton, Meta(description="What is charged.")]
    premium_nanoton: Annotated[NanoTon, Meta(description="What is charged.")]
    coverage_ton: Ton
    coverage_nanoton: NanoTon
    breakdown: BreakdownOut
    technical: TechnicalOut
    ton_price: TonPriceOut
    notice: Annotated[str, Meta(description="What a buyer should know of the cover's value in dollars.")]
    trigger_bps: Annotated[int, Meta(description="The cover pays below this part of the peg.", examples=[9700])]
    floor_bps: Annotated[int, Meta(description="At and below it, it pays in full.", examples=[9000])]
    capacity: QuoteCapacityOut
    on_sale: OnSaleOut
    issued_at: Instant
    valid_until: Annotated[Instant, Meta(description="On the chain's clock.")]
    valid_for_s: Annotated[int, Meta(examples=[300])]
    cover_starts_after_s: Annotated[
        int | None, Meta(description="From the purchase to the cover's start; null while the factory was not read.")
    ]
    cover_starts: Annotated[Instant | None, Meta(description="If it is bought now; null as above.")]
    buyer: Annotated[str | None, Meta(description="Raw address; null for a price only.")]
    transaction: Annotated[
        ConnectTransaction | None, Meta(description="For the buyer's wallet, as TON Connect takes it.")
    ]
    payload_hash: Annotated[str | None, Meta(description="Hash of the message's body, 64 hexadecimal digits.")]
    link: Annotated[str | None, Meta(description="The same transaction as a `ton://` link.")]
    value_nanoton: Annotated[NanoTon | None, Meta(description="What the wallet sends: the premium, and gas.")]
    params_version: ParamsVersion
    params_hash: str
    code_version: str
    as_of: AsOf
    stale: StaleChain
    timestamp: Annotated[float, Meta(description="When it was made, unix seconds.", examples=[1790000000.25])]


class TechnicalAnswer(Out, frozen=True, kw_only=True):
    """The technical premium of a cover, with every factor, beside its list price."""

    coverage_type: Annotated[str, Meta(examples=["depeg"])]
    chain: Annotated[str, Meta(examples=["Ethereum"])]
    stablecoin: Annotated[str, Meta(examples=["USDC"])]
    product_hash: Annotated[str, Meta(description="0x and SHA-256 of `depeg_Ethereum_USDC`.")]
    coverage_amount: Annotated[float, Meta(description="US dollars.", examples=[10000.0])]
    coverage_amount_usd: Usd
    duration_days: Annotated[int, Meta(examples=[90])]
    premium: Annotated[float, Meta(description="Technical premium in US dollars, to the cent.", examples=[102.33])]
    premium_usd: Usd
    list_premium_usd: Usd
    technical: TechnicalOut
    params_version: ParamsVersion
    as_of: AsOf
    stale: StaleChain
    timestamp: Annotated[float, Meta(description="Unix seconds.", examples=[1790000000.25])]


class PurchaseAnswer(Out, frozen=True, kw_only=True):
    """What the buyer's wallet has to sign for a quote."""

    quote_id: Annotated[str, Meta(examples=["4611686018427387904"])]
    product_hash: str
    buyer: Annotated[str, Meta(description="Raw address: the only wallet that can buy by this quote.")]
    premium_ton: Ton
    premium_nanoton: NanoTon
    coverage_ton: Ton
    coverage_nanoton: NanoTon
    valid_until: Annotated[Instant, Meta(description="On the chain's clock.")]
    transaction: ConnectTransaction
    payload_hash: Annotated[str, Meta(description="Hash of the message's body, 64 hexadecimal digits.")]
    link: Annotated[str, Meta(description="The same transaction as a `ton://` link.")]
    value_nanoton: NanoTon
    params_version: ParamsVersion


class RefusalProblem(Problem, frozen=True, kw_only=True, omit_defaults=True):
    """Why there is no quote: no such cover; for a buyer also not sold now, with every `reasons`, or no room, with every
    limit and the one that binds."""

    reasons: tuple[str, ...] | None = None
    available_nanoton: NanoTon | None = None
    binding_limit: str | None = None
    binding_tranche: str | None = None
    limits: tuple[LimitOut, ...] | None = None
