"""What alerting watches in dollars: purchases and payouts above their limits, and the age of the price itself."""

from __future__ import annotations

from tonsurance.core.params import Params
from tonsurance.core.prices import TON, read_price
from tonsurance.core.value_alerts import VALUE_KINDS, read_high_value, read_price_age
from tonsurance.db.pool import Connection
from tonsurance.db.prices import select_high_value, select_latest_price
from tonsurance.services.alerting import Evaluator, Figures
from tonsurance.services.price_feed import max_age_s

TOLD_FOR_S = 86_400.0
"""A purchase is one moment: its alert is over after a day."""


async def read_values(conn: Connection, params: Params) -> Figures:
    """Everything above its limit lately, and the price's age now."""
    rows = await select_high_value(conn, TOLD_FOR_S)
    price, now = await select_latest_price(conn, TON)
    readings = [
        read_high_value(
            row.event_type,
            f"policy {row.policy_id} of {row.contract_address}",
            float(row.value_usd),
            float(row.limit_usd),
            over=row.over,
        )
        for row in rows
    ]
    age = read_price_age(read_price(price, TON, now, max_age_s(params)))
    return Figures(int(now), (*readings, age))


VALUES = Evaluator("values", VALUE_KINDS, read_values)
