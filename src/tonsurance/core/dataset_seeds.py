"""The depegs and scenarios every installation starts with. Seeded once; people change them by the admin API."""

from __future__ import annotations

from datetime import UTC, datetime

from tonsurance.core.datasets import Depeg, Scenario


def _depeg(
    asset: str, day: tuple[int, int, int], min_price: float, hours: tuple[int, int], source: str, name: str
) -> Depeg:
    """An event from its day, and the hours it lasted and took to recover."""
    return Depeg(
        asset=asset,
        min_price=min_price,
        timestamp=datetime(*day, tzinfo=UTC),
        duration_seconds=hours[0] * 3600,
        recovery_time_seconds=hours[1] * 3600,
        source=source,
        verified=True,
        event_name=name,
    )


SEED_DEPEGS: tuple[Depeg, ...] = (
    _depeg("USDC", (2023, 3, 10), 0.88, (48, 72), "coingecko", "SVB Banking Crisis"),
    _depeg("USDC", (2022, 5, 1), 0.96, (4, 8), "coingecko", "Minor Depeg - May 2022"),
    _depeg("USDT", (2022, 5, 12), 0.95, (24, 48), "coingecko", "UST Collapse Contagion"),
    _depeg("USDT", (2021, 12, 31), 0.97, (2, 6), "coingecko", "Minor Depeg - Dec 2021"),
    _depeg("DAI", (2020, 3, 12), 0.96, (12, 24), "chainlink", "COVID-19 Black Thursday"),
    _depeg("USDP", (2023, 2, 7), 0.98, (8, 12), "coingecko", "Paxos Regulatory Scrutiny"),
    _depeg("FRAX", (2022, 5, 10), 0.88, (72, 120), "coingecko", "Terra UST Collapse Contagion"),
    _depeg("FRAX", (2023, 3, 10), 0.95, (24, 48), "coingecko", "SVB Crisis Impact"),
    _depeg("BUSD", (2023, 2, 12), 0.98, (48, 72), "coingecko", "Paxos Phase-Out Announcement"),
    _depeg("PYUSD", (2023, 8, 9), 0.98, (4, 6), "coingecko", "Launch Day Depeg"),
    _depeg("GHO", (2023, 7, 20), 0.96, (720, 1440), "chainlink", "Prolonged Launch Depeg"),
    _depeg("LUSD", (2022, 5, 11), 0.97, (12, 24), "chainlink", "Terra Collapse Contagion"),
    _depeg("crvUSD", (2023, 5, 16), 0.97, (6, 12), "chainlink", "Launch Day Depeg"),
    _depeg("mkUSD", (2024, 1, 1), 0.98, (5, 8), "coingecko", "Market Volatility Depeg"),
)
"""Fourteen events of eleven coins."""

SEED_SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        scenario_name="Banking Crisis (SVB)",
        description="A bank with reserves fails over a weekend: coins backed by deposits fall, money goes to BTC.",
        scenario_type="banking",
        asset_impacts={
            "USDC": 0.88,
            "USDT": 1.02,
            "DAI": 1.01,
            "USDP": 0.85,
            "BUSD": 0.9,
            "FRAX": 0.92,
            "USDe": 0.95,
            "sUSDe": 0.95,
            "USDY": 0.9,
            "PYUSD": 0.93,
            "GHO": 0.98,
            "LUSD": 0.99,
            "crvUSD": 0.97,
            "mkUSD": 0.96,
        },
        btc_impact=0.27,
        correlation_shift=-0.3,
        probability_annual=0.02,
        severity_level="high",
    ),
    Scenario(
        scenario_name="Crypto Crash",
        description="Crypto prices halve within days: collateral is sold, coins backed by it or by hedges fall most.",
        scenario_type="crypto_crash",
        asset_impacts={
            "USDC": 0.98,
            "USDT": 0.97,
            "DAI": 0.96,
            "USDP": 0.98,
            "BUSD": 0.97,
            "FRAX": 0.93,
            "USDe": 0.9,
            "sUSDe": 0.88,
            "USDY": 0.97,
            "PYUSD": 0.97,
            "GHO": 0.94,
            "LUSD": 0.96,
            "crvUSD": 0.95,
            "mkUSD": 0.93,
        },
        btc_impact=-0.5,
        correlation_shift=0.5,
        probability_annual=0.05,
        severity_level="high",
    ),
    Scenario(
        scenario_name="Regulatory Shutdown",
        description="An authority stops issuers of dollar coins: redemption ends, and the market prices the wait.",
        scenario_type="regulatory",
        asset_impacts={
            "USDC": 0.8,
            "USDT": 0.85,
            "DAI": 0.9,
            "USDP": 0.78,
            "BUSD": 0.75,
            "FRAX": 0.88,
            "USDe": 0.92,
            "sUSDe": 0.9,
            "USDY": 0.82,
            "PYUSD": 0.8,
            "GHO": 0.93,
            "LUSD": 0.95,
            "crvUSD": 0.92,
            "mkUSD": 0.91,
        },
        btc_impact=-0.3,
        correlation_shift=0.0,
        probability_annual=0.01,
        severity_level="extreme",
    ),
    Scenario(
        scenario_name="Multiple Stablecoin Failure",
        description="Several issuers fail one after the other: every coin is sold, correlations go to one.",
        scenario_type="black_swan",
        asset_impacts={
            "USDC": 0.75,
            "USDT": 0.75,
            "DAI": 0.8,
            "USDP": 0.7,
            "BUSD": 0.72,
            "FRAX": 0.65,
            "USDe": 0.78,
            "sUSDe": 0.75,
            "USDY": 0.82,
            "PYUSD": 0.73,
            "GHO": 0.77,
            "LUSD": 0.85,
            "crvUSD": 0.8,
            "mkUSD": 0.76,
        },
        btc_impact=0.5,
        correlation_shift=0.8,
        probability_annual=0.005,
        severity_level="extreme",
    ),
)
"""Impacts are the prices under stress."""
