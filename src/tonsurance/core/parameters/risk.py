"""Parameters of limits, alerts and the risk engine. Ratios are 0 to 1."""

from __future__ import annotations

from tonsurance.core.parameters.declaration import Kind, Parameter

_RATIO = "0 to 1"


def _number(
    key: str,
    default: float,
    meaning: str,
    *,
    unit: str = _RATIO,
    low: float = 0.0,
    high: float = 1.0,
    awaited_by: str | None = None,
    chain_owned: bool = False,
    money: bool = False,
    factor: float | None = None,
    most: float | None = None,
) -> Parameter:
    """`factor` and `most` are the largest factor and the largest difference of one edit."""
    return Parameter(
        category="risk",
        key=key,
        kind=Kind.FLOAT,
        default=default,
        unit=unit,
        low=low,
        high=high,
        meaning=meaning,
        awaited_by=awaited_by,
        chain_owned=chain_owned,
        money=money,
        max_factor=factor,
        max_step=most,
    )


def _whole(
    key: str,
    default: int,
    unit: str,
    low: int,
    high: int,
    meaning: str,
    *,
    awaited_by: str | None = None,
    chain_owned: bool = False,
) -> Parameter:
    return Parameter(
        category="risk",
        key=key,
        kind=Kind.INT,
        default=default,
        unit=unit,
        low=low,
        high=high,
        meaning=meaning,
        awaited_by=awaited_by,
        chain_owned=chain_owned,
    )


_ENGINE, _COLLATERAL, _TERMS = "risk engine", "collateral manager", "vault terms"

_MEASURES = (
    _number("var_confidence_95", 0.95, "Lower confidence of value at risk.", low=0.5, high=0.9999, awaited_by=_ENGINE),
    _number("var_confidence_99", 0.99, "Higher confidence of value at risk.", low=0.5, high=0.9999, awaited_by=_ENGINE),
    _whole(
        "monte_carlo_simulations",
        10_000,
        "years",
        1_000,
        10_000_000,
        "Simulated years of the risk engine.",
        awaited_by=_ENGINE,
    ),
    _number(
        "historical_data_years",
        5.0,
        "History the intensities are estimated from.",
        unit="years",
        low=0.5,
        high=50.0,
        awaited_by=_ENGINE,
    ),
    _number("risk_free_rate", 0.05, "Rate without risk, per year.", low=-0.05, high=0.5, awaited_by=_ENGINE),
    _number(
        "reserve_multiplier",
        1.5,
        "Capital wanted per unit of worst loss.",
        unit="factor",
        low=1.0,
        high=10.0,
        awaited_by=_COLLATERAL,
    ),
    _number(
        "stress_buffer_multiplier",
        0.5,
        "Part of coverage a stress is assumed to cost.",
        unit="factor",
        high=5.0,
        awaited_by=_COLLATERAL,
    ),
)

_TRACKER = (
    _number("high_utilization", 0.90, "Utilisation of a tranche from which it is warned of.", low=0.1),
    _number(
        "max_utilization", 0.95, "Utilisation above which the vault backs no more cover.", low=0.1, chain_owned=True
    ),
    _number(
        "min_collateralization",
        1.10,
        "Capital over coverage below which an alert opens.",
        unit="factor",
        low=1.0,
        high=10.0,
        money=True,
        most=0.25,
    ),
    _number("webhook_utilization", 0.85, "Utilisation above which webhooks are told.", low=0.1),
    _number(
        "alert_hysteresis",
        0.02,
        "How far beyond its line a figure must go back for an alert to end.",
        high=0.2,
    ),
    _number(
        "alert_update_step",
        0.01,
        "How much worse the figure of an open alert must get to be told of again.",
        low=0.001,
    ),
    _whole(
        "alert_resolve_evaluations",
        2,
        "times",
        1,
        100,
        "Evaluations in a row a figure must be back before an alert ends.",
    ),
    Parameter(
        category="risk",
        key="enforce_min_collateralization",
        kind=Kind.BOOL,
        default=False,
        unit="yes or no",
        meaning="Whether new cover is refused below min_collateralization instead of an alert alone.",
        money=True,
    ),
    _number(
        "reservation_max_share",
        0.05,
        "Largest share of the free capacity that the reservations of one key may hold.",
        low=0.0001,
        money=True,
        factor=2.0,
    ),
    _whole(
        "history_retention_days",
        0,
        "days",
        0,
        36_500,
        "How long every step of the tranches' history is kept before only its days are; 0 keeps it for ever.",
    ),
    _whole(
        "realised_apy_window_days", 30, "days", 1, 3_650, "Time over which the realised APY of a tranche is measured."
    ),
    _whole("reservation_max_ttl_s", 300, "s", 1, 300, "Longest time a reservation holds room before its commit."),
    _whole(
        "reservation_commit_hold_s",
        120,
        "s",
        1,
        3_600,
        "How much longer a committed reservation holds room until its policy is seen on chain.",
    ),
)

_LIMITS = tuple(
    _number(f"{name}_{level}", value, f"{what}: {level} from here.", high=high, awaited_by=_COLLATERAL)
    for name, what, warning, critical, high in (
        ("ltv", "Coverage over effective capital", 0.70, 0.75, 2.0),
        ("reserve_ratio", "USD reserves over capital", 0.20, 0.15, 1.0),
        ("concentration", "Share of one stablecoin in all coverage", 0.25, 0.30, 1.0),
        ("correlation", "Mean correlation of the stablecoins", 0.70, 0.85, 1.0),
        ("var99_capital", "99 % value at risk over capital", 0.20, 0.50, 1.0),
    )
    for level, value in (("warning", warning), ("critical", critical))
)

_BOOK = (
    _number("stress_loss_critical", 0.50, "Worst named stress over capital: critical from here.", awaited_by=_ENGINE),
    _number(
        "product_cap",
        0.25,
        "Largest share of capital one product may cover.",
        low=0.001,
        money=True,
        factor=2.0,
    ),
    _number(
        "chain_cap",
        0.60,
        "Largest share of capital the products of one chain may cover.",
        low=0.001,
        money=True,
        factor=2.0,
    ),
    _number(
        "high_value_policy_usd",
        100_000.0,
        "Cover above which a purchase is told of.",
        unit="USD",
        high=1e12,
    ),
    _number("high_value_payout_usd", 50_000.0, "Payout above which it is told of.", unit="USD", high=1e12),
    _number(
        "price_max_age_s",
        300.0,
        "Age from which a price is none any more; figures in dollars stop there.",
        unit="s",
        low=1.0,
        high=86_400.0,
    ),
    _number(
        "factory_max_age_s",
        60.0,
        "Age from which what the factory said of itself is no reason to sell any more.",
        unit="s",
        low=1.0,
        high=86_400.0,
    ),
    _number("hedge_ratio", 0.20, "Part of the cover in force that is to be hedged.", money=True, most=0.1),
    _number(
        "drift_warning_pct",
        5.0,
        "Difference of chain and ledger from which a warning opens.",
        unit="%",
        high=100.0,
    ),
    _number(
        "drift_critical_pct",
        10.0,
        "Difference of chain and ledger from which it is critical.",
        unit="%",
        high=100.0,
    ),
    _whole(
        "sync_errors_per_hour",
        5,
        "errors",
        1,
        10_000,
        "Sync errors within an hour above which it is critical.",
    ),
    _whole("vault_sync_interval_s", 300, "s", 5, 86_400, "Time between two reconciliations of vault and ledger."),
)

_DAEMON = (
    _whole("health_interval_s", 300, "s", 1, 86_400, "Time between two health summaries in the daemon's log."),
    _whole("head_stall_s", 60, "s", 1, 86_400, "Time without a new masterchain block from which it is critical."),
    _whole("chain_away_s", 60, "s", 1, 86_400, "Time without an answer of the TON API from which it is critical."),
    _whole("database_away_s", 10, "s", 1, 86_400, "Time without the database from which it is critical."),
    _whole("no_events_s", 300, "s", 10, 86_400, "Time a contract is not brought up to its head before it is critical."),
    _whole("task_well_s", 60, "s", 1, 86_400, "Time a crashed task must run before it is well again."),
)

_ON_CHAIN = (
    _whole(
        "max_policy_percent",
        5,
        "% of capital",
        1,
        100,
        "Largest policy the vault backs.",
        chain_owned=True,
    ),
    _whole(
        "breaker_percent",
        10,
        "% of capital",
        1,
        100,
        "Losses within one window above which payouts wait.",
        chain_owned=True,
    ),
    _whole(
        "breaker_window_s",
        86_400,
        "s",
        1,
        31_536_000,
        "Length of the circuit breaker's window.",
        chain_owned=True,
        awaited_by=_TERMS,
    ),
    _whole(
        "claim_delay_s",
        86_400,
        "s",
        1,
        31_536_000,
        "How long a payout waits that the breaker holds back.",
        chain_owned=True,
        awaited_by=_TERMS,
    ),
    _whole(
        "max_freeze_s",
        259_200,
        "s",
        1,
        31_536_000,
        "Longest time one freeze may last.",
        chain_owned=True,
        awaited_by=_TERMS,
    ),
    _whole(
        "withdraw_delay_s", 604_800, "s", 1, 31_536_000, "Time from the announcement to a withdrawal.", chain_owned=True
    ),
    _whole(
        "withdraw_window_s",
        172_800,
        "s",
        1,
        31_536_000,
        "How long an announced withdrawal may be taken.",
        chain_owned=True,
    ),
    _whole(
        "waiting_period_s",
        86_400,
        "s",
        0,
        31_536_000,
        "Time from the purchase to the start of cover.",
        chain_owned=True,
    ),
    _whole(
        "claim_grace_s",
        604_800,
        "s",
        0,
        31_536_000,
        "Time after the end of cover in which a claim may be paid.",
        chain_owned=True,
    ),
    _whole(
        "locked_shares",
        100_000_000,
        "shares",
        0,
        2**53,
        "Shares of an epoch's first deposit that belong to nobody.",
        chain_owned=True,
    ),
)

RISK: tuple[Parameter, ...] = (*_MEASURES, *_TRACKER, *_LIMITS, *_BOOK, *_DAEMON, *_ON_CHAIN)
