"""All prices at once are those of one at a time."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from core.test_premium import any_amount, days_sold, markets, triggers
from tonsurance.core.errors import InputError
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params
from tonsurance.core.premium import MarketInputs, price_technical
from tonsurance.core.premium_matrix import PriceMatrix, read_matrix
from tonsurance.core.products import VALID_PRODUCTS
from tonsurance.core.quotes import Terms, price_list, read_list_rates
from tonsurance.core.technical_rates import read_technical_rates

OTHER = build_params(
    {("pricing", "coverage_base_rate_oracle"): 0.0173, ("pricing", "chain_multiplier_Solana"): 1.7,
     ("pricing", "stablecoin_adjustment_GHO"): 0.0021, ("pricing", "base_rate_GHO"): 0.031,
     ("pricing", "risk_weight_market_depth"): 0.21, ("pricing", "min_premium_rate"): 0.04}, version=2,
)  # fmt: skip


@settings(max_examples=25)
@given(any_amount, days_sold, triggers, markets)
def test_every_price_of_the_matrix_is_the_scalar_one(
    amount: Decimal, days: int, trigger: Decimal, inputs: MarketInputs
) -> None:
    for params in (DEFAULT_PARAMS, OTHER):
        check_matrix(params, amount, days, trigger, inputs)


def check_matrix(params: Params, amount: Decimal, days: int, trigger: Decimal, inputs: MarketInputs) -> None:
    """Both kinds of price, all 560, relative to the exact ones."""
    matrix, listed, technical = PriceMatrix(params), read_list_rates(params), read_technical_rates(params)
    all_terms = [Terms(product=product, amount_usd=amount, days=days) for product in VALID_PRODUCTS]
    scalar = [float(Fraction(*price_list(terms, listed).exact)) for terms in all_terms]
    np.testing.assert_allclose(matrix.list_premiums(amount, days), scalar, rtol=1e-12)
    scalar = [float(price_technical(terms, trigger, inputs, technical).exact) for terms in all_terms]
    np.testing.assert_allclose(matrix.technical_premiums(amount, days, trigger, inputs), scalar, rtol=1e-12)


def test_the_matrix_is_made_once_for_each_version() -> None:
    assert read_matrix(OTHER) is read_matrix(OTHER)
    assert len(read_matrix(OTHER).list_rates) == len(VALID_PRODUCTS) == 560


def test_the_matrix_refuses_what_the_scalar_price_refuses() -> None:
    inputs = MarketInputs(utilization=Decimal(0), loss_ratio=None, claims_count=0, stress="Normal")
    with pytest.raises(InputError, match="trigger_price"):
        read_matrix(OTHER).technical_premiums(Decimal(10_000), 90, Decimal("0.5"), inputs)
