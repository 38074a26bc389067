"""Parameters of the HTTP edge: how many requests are answered, and how long receipts of quotes are kept."""

from __future__ import annotations

from tonsurance.core.parameters.declaration import Kind, Parameter


def _rate(key: str, default: int, meaning: str, awaited_by: str | None = "rate limits") -> Parameter:
    return Parameter(
        category="api",
        key=key,
        kind=Kind.INT,
        default=default,
        unit="requests a minute",
        low=1,
        high=1_000_000,
        meaning=meaning,
        awaited_by=awaited_by,
    )


def _kept_days(key: str, default: int, low: int, meaning: str) -> Parameter:
    return Parameter(
        category="api", key=key, kind=Kind.INT, default=default, unit="days", low=low, high=36_500, meaning=meaning
    )


API: tuple[Parameter, ...] = (
    _rate("admin_rate_limit", 100, "Admin requests of one user.", None),
    _rate("address_rate_limit", 100, "Requests of one address without a key."),
    _rate("key_rate_limit", 500, "Writing requests of one key or token.", None),
    _rate("quote_rate_limit", 60, "Quotes of one address."),
    _rate("policy_rate_limit", 20, "Policy messages built for one address."),
    _rate("claim_rate_limit", 10, "Claims filed by one address."),
    _rate("vault_rate_limit", 30, "Deposit and withdrawal messages built for one address."),
    _kept_days("quote_retention_days", 7, 1, "How long the receipt of an unused quote stays after its deadline."),
    _kept_days(
        "bought_quote_retention_days",
        0,
        0,
        "How long the receipt of a bought quote stays after its policy ended; 0 keeps it for ever.",
    ),
)
