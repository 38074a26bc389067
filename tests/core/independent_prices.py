"""The prices once more, by another way: tables typed from the field's own documents, fractions, and no product code."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from itertools import product
from math import isqrt

RATE = {"depeg": "0.8", "smart_contract": "1.5", "oracle": "1.2", "bridge": "2", "cex_liquidation": "2.5"}
"""Percent a year, in the order of the ids."""
TIMES = {
    "Ethereum": "1", "Arbitrum": "1.1", "Base": "1.1", "Polygon": "1.2", "Optimism": "1.1", "Bitcoin": "0.9",
    "Lightning": "1.3", "Solana": "1.4", "TON": "1",
}  # fmt: skip
PLUS = {
    "USDC": 0, "USDT": 5, "USDP": 1, "DAI": 2, "FRAX": 3, "BUSD": 10, "USDe": 15, "sUSDe": 20, "USDY": 8, "PYUSD": 5,
    "GHO": 4, "LUSD": 3, "crvUSD": 6, "mkUSD": 7,
}  # fmt: skip
"""Basis points a year."""
NO_CONTRACTS = "no smart-contract layer"
NO_ORACLES = "no oracle-dependent contracts"
NO_BRIDGE = "bridged Bitcoin is covered on the chain it is bridged through (Lightning)"
REFUSED = {
    "smart_contract on Bitcoin": NO_CONTRACTS,
    "smart_contract on Lightning": NO_CONTRACTS,
    "oracle on Bitcoin": NO_ORACLES,
    "oracle on Lightning": NO_ORACLES,
    "bridge on Bitcoin": NO_BRIDGE,
}
BASE = {
    "USDC": "4", "USDT": "6", "USDP": "5", "DAI": "5", "FRAX": "8", "BUSD": "4.5", "USDe": "7", "sUSDe": "7.5",
    "USDY": "5.5", "PYUSD": "5", "GHO": "6.5", "LUSD": "5.5", "crvUSD": "7", "mkUSD": "7.5",
}  # fmt: skip
"""Percent a year, of the technical price."""
WEIGHTS = (30, 25, 20, 15, -10)
FACTORS = {"USDC": (10, 20, 15, 5, 80), "USDT": (30, 35, 10, 3, 40), "DAI": (15, 5, 20, 10, 70)}
UNMEASURED = (10, 20, 0, 20, 70)
"""Both in percent: reserves, banks, redemptions, illiquidity, regulation."""
STRESS = {"Normal": 0, "Elevated": 15, "High": 35, "Extreme": 75}
NAMES = list(product(RATE, TIMES, PLUS))
"""All 630, as their keys are ordered."""
_DIGITS = 10**80


def invalid_reason(coverage_type: str, chain: str) -> str | None:
    """Why there is no such cover, None when there is."""
    return REFUSED.get(f"{coverage_type} on {chain}")


def product_key(coverage_type: str, chain: str, coin: str) -> int:
    """A byte for each of the three, after one another."""
    places = [list(RATE).index(coverage_type), list(TIMES).index(chain), list(PLUS).index(coin)]
    return int.from_bytes(bytes(places), "big")


def product_hash(coverage_type: str, chain: str, coin: str) -> str:
    """Of the three names with underscores."""
    digest = hashlib.new("sha256")
    digest.update("_".join((coverage_type, chain, coin)).encode("ascii"))
    return "0x" + digest.digest().hex()


def list_rate(coverage_type: str, chain: str, coin: str) -> Fraction:
    """A year's part of the cover."""
    return Fraction(RATE[coverage_type]) / 100 * Fraction(TIMES[chain]) + Fraction(PLUS[coin], 10_000)


def list_premium(coverage_type: str, chain: str, coin: str, amount: str, days: int) -> Fraction:
    """Dollars, exactly."""
    return Fraction(amount) * list_rate(coverage_type, chain, coin) * Fraction(days, 365)


def to_cents(dollars: Fraction) -> str:
    """To the cent, a half to the even one, as text."""
    cents, rest = divmod(dollars.numerator * 100, dollars.denominator)
    if 2 * rest > dollars.denominator or (2 * rest == dollars.denominator and cents % 2 == 1):
        cents += 1
    return f"{cents // 100}.{cents % 100:02}"


def cover_nano(amount: str, ton_usd: str) -> int:
    """NanoTON of a cover at a TON price: what is less than a nano is dropped."""
    nano = Fraction(amount) / Fraction(ton_usd) * 10**9
    return nano.numerator // nano.denominator


def premium_nano(dollars: Fraction, ton_usd: str) -> int:
    """NanoTON of a premium by the list: what is less than a nano is a whole one."""
    nano = dollars / Fraction(ton_usd) * 10**9
    whole, rest = divmod(nano.numerator, nano.denominator)
    return whole + (rest > 0)


def charged_nano(dollars: Fraction, amount: str, days: int, ton_usd: str) -> int:
    """NanoTON a quote asks for: never below a tenth of a TON, nor below what the contract takes (0.5 % a year)."""
    least = -(-cover_nano(amount, ton_usd) * days * 50 // 3_650_000)
    return max(premium_nano(dollars, ton_usd), 100_000_000, least)


def technical_rate(coin: str) -> Fraction:
    """A year's part of the cover, when nothing else is to be regarded."""
    factors = FACTORS.get(coin, UNMEASURED)
    risk = sum(Fraction(weight * factor, 10_000) for weight, factor in zip(WEIGHTS, factors, strict=True))
    return Fraction(BASE[coin]) / 100 * (1 + risk)


def charged_size(amount: Fraction) -> Fraction:
    """Dollars that cost the full rate."""
    if amount < 100_000:
        return amount
    if amount < 1_000_000:
        return max(Fraction(100_000), amount * 95 / 100)
    if amount < 10_000_000:
        return max(Fraction(950_000), amount * 90 / 100)
    return max(Fraction(9_000_000), amount * 80 / 100)


def surcharge(utilization: Fraction) -> Fraction:
    """Of a vault that is used so far."""
    for above, factor in ((90, 150), (75, 125), (50, 110)):
        if utilization * 100 > above:
            return Fraction(factor, 100)
    return Fraction(1)


def claims_factor(loss_ratio: Fraction | None, count: int) -> Fraction:
    """Of a record of claims; 40 % is the target."""
    if loss_ratio is None:
        return Fraction(1)
    if loss_ratio > Fraction(2, 5):
        return min(loss_ratio * 5 / 2, Fraction(3))
    return Fraction(1, 2) + loss_ratio * 5 / 4 if count >= 10 else Fraction(1)


def charged_days(days: int) -> Fraction:
    """Days, or the root of 90 times the days when that is more."""
    return max(Fraction(days), Fraction(isqrt(90 * days * _DIGITS**2), _DIGITS))


def technical_premium(
    coin: str,
    amount: str,
    days: int,
    *,
    trigger: str = "0.97",
    utilization: str = "0",
    loss_ratio: str | None = None,
    claims: int = 0,
    stress: str = "Normal",
) -> Fraction:
    """Dollars, to 80 digits."""
    record = None if loss_ratio is None else Fraction(loss_ratio)
    market = (1 + 2 * Fraction(STRESS[stress], 100)) * surcharge(Fraction(utilization)) * claims_factor(record, claims)
    market *= 1 + (Fraction(trigger) - Fraction("0.97")) / Fraction("0.07") / 2
    premium = charged_size(Fraction(amount)) * technical_rate(coin) * market * charged_days(days) / 365
    return max(premium, Fraction(100), Fraction(amount) / 100 * Fraction(days, 365))


def payout(price: str, trigger: str, floor: str) -> Fraction:
    """The part of a cover that a depeg pays."""
    part = (Fraction(trigger) - Fraction(price)) / (Fraction(trigger) - Fraction(floor))
    return min(max(part, Fraction(0)), Fraction(1))
