"""The local market's price: the same for the same seed, and what can be done to it."""

from __future__ import annotations

import pytest

from tonsurance.core.errors import InputError
from tonsurance.localnet.prices import MODES, PriceMarket


def test_the_price_is_a_function_of_seed_and_time() -> None:
    times = [1_700_000_000 + 37 * step for step in range(200)]
    one, same, other = (
        [market.price_at(at) for at in times] for market in (PriceMarket(1), PriceMarket(1), PriceMarket(2))
    )
    assert one == same
    assert one != other
    assert len(set(one)) > 150, "it moves"
    assert 4 < min(one) <= max(one) < 6.5


@pytest.mark.parametrize("usd", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_price_that_is_none_is_refused(usd: float) -> None:
    with pytest.raises(InputError):
        PriceMarket(1).set_price(usd, None)


def test_an_unknown_mode_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError) as error:
        PriceMarket(1).set_price(None, "sideways")
    assert all(mode in error.value.message for mode in MODES)
