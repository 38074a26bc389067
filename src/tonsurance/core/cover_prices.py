"""All prices of a cover at once, from its terms, a TON price, the market and the parameters. Pure."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tonsurance.core.errors import BadField
from tonsurance.core.params import Params
from tonsurance.core.premium import MarketInputs, TechnicalPrice, price_technical
from tonsurance.core.products import find_product
from tonsurance.core.quotes import (
    SOLD_TRIGGER,
    ListPrice,
    Terms,
    TonTerms,
    check_terms,
    convert_to_ton,
    price_list,
    read_list_rates,
)
from tonsurance.core.technical_rates import read_technical_rates

MAX_AMOUNT_DIGITS = 28
"""More digits are not a sum of money, and the decimal context would round them."""


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """What a cover costs under one version of the parameters at one TON price."""

    list_price: ListPrice
    ton: TonTerms
    technical: TechnicalPrice


def price_cover(terms: Terms, ton_usd: Decimal, inputs: MarketInputs, params: Params) -> Prices:
    """All prices of a cover: by the list, in TON and technical. The same input gives the same to the nano."""
    rates = read_list_rates(params)
    listed = price_list(terms, rates)
    return Prices(
        list_price=listed,
        ton=convert_to_ton(terms, listed, ton_usd, rates),
        technical=price_technical(terms, SOLD_TRIGGER, inputs, read_technical_rates(params)),
    )


def read_terms(
    coverage_type: str, chain: str, stablecoin: str, amount_usd: Decimal, days: int, params: Params
) -> Terms:
    """The terms by their names. Raises BadField naming the field, InvalidProduct with the reason."""
    product = find_product(coverage_type, chain, stablecoin)
    if len(amount_usd.as_tuple().digits) > MAX_AMOUNT_DIGITS:
        raise BadField("coverage_amount", f"coverage_amount has at most {MAX_AMOUNT_DIGITS} digits.")
    return check_terms(product, amount_usd, days, read_list_rates(params))
