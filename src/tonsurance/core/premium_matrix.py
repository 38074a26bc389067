"""The prices of all products at once, as arrays of floats for comparing and showing; what is sold is priced exactly."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tonsurance.core.params import Params
from tonsurance.core.premium import MarketInputs, least_premiums, make_charge, scale_of
from tonsurance.core.products import VALID_PRODUCTS
from tonsurance.core.quotes import add_rates, read_list_rates
from tonsurance.core.technical_rates import read_technical_rates
from tonsurance.core.units import DAYS_PER_YEAR, EXACT

Premiums: TypeAlias = NDArray[np.float64]
"""US dollars, one for each of VALID_PRODUCTS, in their order."""
_VERSIONS_KEPT = 16


class PriceMatrix:
    """The rates of all valid products under one version of the parameters, and what covers cost by them.

    Relative to the exact prices the floats are off by less than 1e-12. Not to the cent: nothing is rounded.
    """

    def __init__(self, params: Params) -> None:
        listed, technical = read_list_rates(params), read_technical_rates(params)
        self._technical = technical
        coins = {
            coin: EXACT.multiply(base, EXACT.add(Decimal(1), technical.risk_adjustment[coin]))
            for coin, base in technical.base.items()
        }
        self.list_rates: Premiums = np.array([float(add_rates(product, listed)) for product in VALID_PRODUCTS])
        self.technical_rates: Premiums = np.array([float(coins[product.stablecoin]) for product in VALID_PRODUCTS])

    def list_premiums(self, amount_usd: Decimal, days: int) -> Premiums:
        """What each product costs by the list."""
        return self.list_rates * (float(amount_usd) * days / DAYS_PER_YEAR)

    def technical_premiums(
        self, amount_usd: Decimal, days: int, trigger_price: Decimal, inputs: MarketInputs
    ) -> Premiums:
        """The technical price of each product. Raises InputError, InvalidUtilization, as price_technical does."""
        scale = scale_of(make_charge(amount_usd, days, trigger_price, inputs, self._technical))
        floor = max(least_premiums(amount_usd, days, self._technical))
        return np.maximum(self.technical_rates * float(scale), float(floor))


@lru_cache(maxsize=_VERSIONS_KEPT)
def read_matrix(params: Params) -> PriceMatrix:
    """The matrix of these parameters; made once for each version of them."""
    return PriceMatrix(params)
