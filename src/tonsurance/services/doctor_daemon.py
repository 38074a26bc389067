"""The checks of `doctor` about the daemon: the documents' troubleshooting cases, and what to do in each."""

from __future__ import annotations

from tonsurance.core.prices import TON, read_price
from tonsurance.db.config import select_newest
from tonsurance.db.diagnosis import select_connections, select_last_reconciliations, select_last_word
from tonsurance.db.prices import select_latest_price
from tonsurance.services.config_rows import build_version
from tonsurance.services.doctor import Check, Diagnosis, Examination, ill, well
from tonsurance.services.price_feed import max_age_s

SILENT_S = 30.0
"""A daemon writes how it is every few seconds."""

MOST_CONNECTIONS = 0.9
"""Part of the server's connections that may be taken before somebody is refused."""


async def check_daemon(examination: Examination) -> Diagnosis | None:
    """Whether a daemon is active, says that it is well, and sees the chain move."""
    assert examination.conn is not None
    word = await select_last_word(examination.conn)
    if word is None:
        return None  # an older daemon, or a library: what it leaves undone is found by the other checks
    name = f"the daemon on {word.host} (pid {word.pid})"
    if word.role == "stopped":
        return ill(
            "daemon", f"{name} was stopped {word.age_s:.0f} s ago", "Start it: systemctl start tonsurance-integration."
        )
    if word.age_s > SILENT_S:
        return ill(
            "daemon",
            f"{name} has said nothing for {word.age_s:.0f} s",
            "systemctl status tonsurance-integration; a standby takes over by itself, else restart it.",
        )
    if word.role != "active":
        return ill(
            "daemon", f"{name} stands by and none is active", "Wait some seconds: it takes over. Else see its log."
        )
    if word.status != "HEALTHY":
        return ill(
            "daemon",
            f"{name} says {word.status}",
            "`tonsurance health` names the task, contract or endpoint. On-chain state that cannot be fetched: set "
            "TON_API_KEY, look less often (--poll-interval), or follow a node of your own.",
        )
    return well("daemon", f"{name} is active and well")


async def check_reconciliation(examination: Examination) -> Diagnosis | None:
    """What the last reconciliation of each vault found."""
    assert examination.conn is not None
    runs = await select_last_reconciliations(examination.conn)
    if not runs:
        return None
    wrong = [run for run in runs if run.status in ("drifted", "failed")]
    if wrong:
        found = "; ".join(f"{run.vault_id or run.contract_address}: {run.status}, {run.finding}" for run in wrong)
        return ill(
            "reconciliation",
            found,
            "`tonsurance sync --no-repair` explains the difference row by row, `tonsurance sync` repairs it from the "
            "chain; failed: mend what it names and run it again.",
        )
    return well("reconciliation", f"{len(runs)} vaults are what the chain says")


async def check_price(examination: Examination) -> Diagnosis | None:
    """Whether there is a TON price of now, where one was ever read."""
    assert examination.conn is not None
    price, now = await select_latest_price(examination.conn, TON)
    if price is None:
        return None
    params = build_version(await select_newest(examination.conn))
    reading = read_price(price, TON, now, max_age_s(params))
    if reading.stale:
        return ill(
            "TON price",
            f"{price.source} gave the last one {reading.age_s or 0.0:.0f} s ago",
            "Figures in dollars have stopped. Is PRICE_URL reachable from the daemon, and within its rate limit?",
        )
    return well("TON price", f"{price.usd:f} USD, {reading.age_s or 0.0:.0f} s old")


async def check_connections(examination: Examination) -> Diagnosis | None:
    """Whether the server has connections left."""
    assert examination.conn is not None
    used, most = await select_connections(examination.conn)
    if used > MOST_CONNECTIONS * most:
        return ill(
            "connections",
            f"{used} of the database's {most} connections are taken",
            "Lower DB_POOL_SIZE of the processes, end sessions nobody needs, or raise max_connections.",
        )
    return well("connections", f"{used} of {most} are taken")


DAEMON_CHECKS: tuple[Check, ...] = (
    ("daemon", True, check_daemon),
    ("reconciliation", True, check_reconciliation),
    ("TON price", True, check_price),
    ("connections", True, check_connections),
)
