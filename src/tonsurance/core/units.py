"""Money is an integer of nanoTON; ratios are floats; they meet only here."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow

NANO_PER_TON = 1_000_000_000
WHOLE_PERCENT = 100
"""A whole in percent."""
PARTS_PER_MILLION = 1_000_000
DAY_S = 86_400
DAYS_PER_YEAR = 365
YEAR_S = 365 * DAY_S
CENTS_PER_USD = 100
CENT = Decimal("0.01")
USD_DECIMALS = 6
SMALLEST_USD = Decimal((0, (1,), -USD_DECIMALS))
"""Dollars are kept to the millionth."""
EXACT = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""How decimals are calculated: given to each operation, so that no thread's own context has a say in a price."""
RESULT = Context(prec=40, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""How many digits a result keeps: those that no division on the way has blurred. So half a cent is one."""
BIGINT_MAX = 2**63 - 1
"""Largest amount the database can hold in one row (9.22e9 TON, 1.8 times all TON there is)."""


def nano_from_ton(ton: int | str | Decimal) -> int:
    """Whole nanoTON from an exact amount of TON.

    Raises ValueError when the amount has more than nine decimals: rounding money is the caller's decision.
    Floats are not taken, because 0.1 is not a tenth.
    """
    nano = Decimal(ton) * NANO_PER_TON
    if not nano.is_finite() or nano != nano.to_integral_value():
        raise ValueError(f"{ton!r} TON is not a whole number of nanoTON")
    return int(nano)


def ton_from_nano(nano: int) -> float:
    """TON for display only: a float is exact up to 9,007,199 TON."""
    return nano / NANO_PER_TON


def ratio(part: int, whole: int) -> float | None:
    """part / whole as a float; None when whole is 0 (the caller says what that means)."""
    return None if whole == 0 else part / whole
