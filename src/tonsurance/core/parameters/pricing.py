"""Parameters of prices: the list price of a product and the technical premium. Rates are per year, as fractions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tonsurance.core.parameters.declaration import Kind, Parameter
from tonsurance.core.products import CHAINS, STABLECOINS

_STEP = 2.0
WEIGHT_OF_FACTOR: Mapping[str, str] = MappingProxyType(
    {
        "reserve_quality": "reserve_quality",
        "banking_exposure": "banking_exposure",
        "redemption_velocity": "redemption_velocity",
        "market_illiquidity": "market_depth",
        "regulatory_clarity": "regulatory_clarity",
    }
)
"""The risk factors of a coin, and by which name the weight of each is known."""
RISK_FACTORS: tuple[str, ...] = tuple(WEIGHT_OF_FACTOR)
STRESS_LEVELS: tuple[str, ...] = ("Normal", "Elevated", "High", "Extreme")
"""How stressed the market is, from calm to worst."""

_STRESS_INDEX = (0.0, 0.15, 0.35, 0.75)
_BASE_RATES = {
    "USDC": 0.04,
    "USDT": 0.06,
    "DAI": 0.05,
    "FRAX": 0.08,
    "BUSD": 0.045,
    "USDP": 0.05,
    "USDe": 0.07,
    "sUSDe": 0.075,
    "USDY": 0.055,
    "PYUSD": 0.05,
    "GHO": 0.065,
    "LUSD": 0.055,
    "crvUSD": 0.07,
    "mkUSD": 0.075,
}
_COVERAGE_RATES = {"depeg": 0.008, "smart_contract": 0.015, "oracle": 0.012, "bridge": 0.02, "cex_liquidation": 0.025}
_CHAIN_MULTIPLIERS = {
    "Ethereum": 1.0,
    "Arbitrum": 1.1,
    "Base": 1.1,
    "Polygon": 1.2,
    "Optimism": 1.1,
    "Bitcoin": 0.9,
    "Lightning": 1.3,
    "Solana": 1.4,
    "TON": 1.0,
}
_COIN_ADJUSTMENTS = {
    "USDC": 0.0,
    "USDT": 0.0005,
    "USDP": 0.0001,
    "DAI": 0.0002,
    "FRAX": 0.0003,
    "BUSD": 0.001,
    "USDe": 0.0015,
    "sUSDe": 0.002,
    "USDY": 0.0008,
    "PYUSD": 0.0005,
    "GHO": 0.0004,
    "LUSD": 0.0003,
    "crvUSD": 0.0006,
    "mkUSD": 0.0007,
}
_WEIGHTS = (0.30, 0.25, 0.20, 0.15, -0.10)
_UNMEASURED = (0.1, 0.2, 0.0, 0.2, 0.7)
_FACTORS = {
    "USDC": (0.1, 0.2, 0.15, 0.05, 0.8),
    "USDT": (0.3, 0.35, 0.1, 0.03, 0.4),
    "DAI": (0.15, 0.05, 0.2, 0.1, 0.7),
}


def _number(
    key: str,
    default: float,
    unit: str,
    low: float,
    high: float,
    meaning: str,
    *,
    money: bool = True,
    step: float | None = _STEP,
    most: float | None = None,
) -> Parameter:
    """`step` is the largest factor of one edit; `most`, in its place, the largest difference."""
    return Parameter(
        category="pricing",
        key=key,
        kind=Kind.FLOAT,
        default=default,
        unit=unit,
        low=low,
        high=high,
        meaning=meaning,
        money=money,
        max_factor=step if most is None else None,
        max_step=most,
    )


def _whole(key: str, default: int, unit: str, low: int, high: int, meaning: str) -> Parameter:
    return Parameter(
        category="pricing",
        key=key,
        kind=Kind.INT,
        default=default,
        unit=unit,
        low=low,
        high=high,
        meaning=meaning,
    )


def _factors(coin: str) -> Parameter:
    return Parameter(
        category="pricing",
        key=f"risk_factors_{coin}",
        kind=Kind.JSON,
        default=MappingProxyType(dict(zip(RISK_FACTORS, _FACTORS.get(coin, _UNMEASURED), strict=True))),
        unit="0 to 1",
        low=0.0,
        high=1.0,
        fields=RISK_FACTORS,
        meaning=f"Risk factors of {coin}; 1 is the worst, but for regulatory_clarity, where 1 is the best"
        + ("." if coin in _FACTORS else "; not measured yet, so the row of an unmeasured coin."),
        money=True,
        max_step=0.2,
    )


_LIST_PRICE = (
    *(
        _number(f"coverage_base_rate_{name}", rate, "per year", 0.0, 1.0, f"List rate of {name} cover on Ethereum.")
        for name, rate in _COVERAGE_RATES.items()
    ),
    *(
        _number(
            f"chain_multiplier_{name}",
            _CHAIN_MULTIPLIERS[name],
            "factor",
            0.1,
            10.0,
            f"Factor for {name} on the list rate.",
        )
        for name in CHAINS
    ),
    *(
        _number(
            f"stablecoin_adjustment_{coin}",
            _COIN_ADJUSTMENTS[coin],
            "per year",
            0.0,
            0.5,
            f"Added to the list rate for {coin}.",
            most=0.005,
        )
        for coin in STABLECOINS
    ),
)

_BASE = (
    *(
        _number(
            f"base_rate_{coin}",
            rate,
            "per year",
            0.0,
            1.0,
            f"Base rate of the technical premium for {coin}.",
        )
        for coin, rate in _BASE_RATES.items()
    ),
    _number(
        "base_rate_default",
        0.10,
        "per year",
        0.0,
        1.0,
        "Base rate of the technical premium for any other asset.",
    ),
    *(
        _number(f"risk_weight_{name}", weight, "factor", -1.0, 1.0, f"Weight of the risk factor {name}.", most=0.1)
        for name, weight in zip(WEIGHT_OF_FACTOR.values(), _WEIGHTS, strict=True)
    ),
    *(_factors(coin) for coin in STABLECOINS),
)

_TIERS = tuple(
    parameter
    for tier, size, discount, used, surcharge in (
        (1, 10_000_000.0, 0.80, 0.90, 1.50),
        (2, 1_000_000.0, 0.90, 0.75, 1.25),
        (3, 100_000.0, 0.95, 0.50, 1.10),
    )
    for parameter in (
        _number(
            f"size_discount_tier{tier}_threshold",
            size,
            "USD",
            1.0,
            1e12,
            f"Cover from which size tier {tier} applies.",
            step=10.0,
        ),
        _number(
            f"size_discount_tier{tier}_multiplier",
            discount,
            "factor",
            0.1,
            1.0,
            f"Premium factor of size tier {tier}.",
        ),
        _number(
            f"utilization_tier{tier}_threshold",
            used,
            "0 to 1",
            0.0,
            1.0,
            f"Utilisation above which surcharge {tier} applies.",
        ),
        _number(
            f"utilization_tier{tier}_multiplier",
            surcharge,
            "factor",
            1.0,
            10.0,
            f"Premium factor of utilisation surcharge {tier}.",
        ),
    )
)

_TERMS = (
    _number(
        "duration_base_days", 90.0, "days", 1.0, 365.0, "Shorter cover than this is charged by the square root of time."
    ),
    _number("min_trigger_price", 0.90, "USD", 0.60, 0.97, "Lowest trigger that has a technical price.", most=0.005),
    _number("max_trigger_price", 0.995, "USD", 0.97, 0.995, "Highest trigger that has a technical price.", most=0.005),
    _number("trigger_base_price", 0.97, "USD", 0.90, 0.995, "Trigger price without surcharge or discount."),
    _number(
        "trigger_adjustment_factor", 0.50, "factor", 0.0, 10.0, "Premium change for a trigger one span away.", most=0.25
    ),
    _number("trigger_span", 0.07, "USD", 0.01, 0.5, "Distance of the floor below the trigger."),
    _number("stress_slope", 2.0, "factor", 0.0, 10.0, "Premium factor is 1 + this times the stress index.", most=1.0),
    *(
        _number(
            f"stress_index_{level}", index, "0 to 1", 0.0, 1.0, f"Index of a market whose stress is {level}.", most=0.1
        )
        for level, index in zip(STRESS_LEVELS, _STRESS_INDEX, strict=True)
    ),
    _number(
        "target_loss_ratio", 0.40, "0 to 1", 0.01, 1.0, "Claims over premiums at which the premium stays as it is."
    ),
    _number(
        "claims_adjustment_dampener",
        0.50,
        "factor",
        0.0,
        1.0,
        "How much of a good claims record lowers the premium.",
        most=0.25,
    ),
    _number("claims_cap", 3.0, "factor", 1.0, 10.0, "Largest premium factor a bad claims record leads to."),
    _whole(
        "claims_credibility_count",
        10,
        "claims",
        0,
        10_000,
        "Claims within a year below which the record lowers no premium.",
    ),
    _number("min_premium_absolute", 100.0, "USD", 0.0, 1e6, "Least technical premium.", step=10.0),
    _number("min_premium_rate", 0.01, "per year", 0.0, 1.0, "Least technical premium as a rate on the cover."),
    _number("min_amount_usd", 100.0, "USD", 1.0, 1e6, "Least cover that is quoted.", step=10.0),
    _number("max_amount_usd", 50_000_000.0, "USD", 1_000.0, 1e12, "Largest cover that is quoted.", step=10.0),
    _whole("min_duration_days", 1, "days", 1, 365, "Shortest cover."),
    _whole("max_duration_days", 365, "days", 1, 365, "Longest cover; the contract allows no more than 365."),
    _number(
        "min_executable_premium_ton", 0.1, "TON", 0.1, 1_000.0, "Least premium a quote can be bought for.", step=10.0
    ),
    _whole(
        "quote_validity_s", 300, "s", 30, 600, "How long a quote can be taken; the contract allows no more than 600."
    ),
)

PRICING: tuple[Parameter, ...] = (*_LIST_PRICE, *_BASE, *_TIERS, *_TERMS)
