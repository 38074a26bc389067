"""`tonsurance events`: what a transaction says, and what contracts say now."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import cyclopts
import msgspec
from cyclopts import Parameter

from tonsurance import app, log
from tonsurance.cli_ledger import note
from tonsurance.cli_targets import resolve_stack
from tonsurance.core.errors import UsageError
from tonsurance.core.events import ChainEvent
from tonsurance.running import run_async, stop_on_signals
from tonsurance.settings import LOCAL_POLL_INTERVAL_S, PUBLIC_POLL_INTERVAL_S, Environment, network_urls

EXIT_WELL, EXIT_UNREACHABLE = 0, 3
LONGEST_S = 7 * 86_400.0

events_cli = cyclopts.App(name="events", help="Contract events.")


@events_cli.command
def decode(
    *,
    transaction: Annotated[str, Parameter(allow_leading_hyphen=True)],
    contract_kind: str,
    layouts: str = "tonsurance",
) -> None:
    """Print the events of a transaction, one JSON object a line.

    Parameters
    ----------
    transaction
        File with the base64 BOC of the transaction, or - for standard input.
    contract_kind
        Kind of the contract it ran on, such as MultiTrancheVault or PolicyFactory.
    layouts
        Name of a shipped layout description (tonsurance, reference-core, reference-first), or a TOML file.
    """
    text = sys.stdin.read() if transaction == "-" else app.read_text(Path(transaction))
    for line in app.decode_events(text, contract_kind=contract_kind, layouts=layouts):
        sys.stdout.write(line + "\n")


@events_cli.command
def watch(
    *,
    duration: float | None = None,
    network: str | None = None,
    vault: str | None = None,
    factory: str | None = None,
    from_lt: int | None = None,
    poll_interval: float | None = None,
    json: bool = False,
) -> int:
    """Show contract events as they happen, straight from the chain; at the end what they come to.

    Parameters
    ----------
    duration
        Seconds to watch; until Ctrl-C when left out.
    network
        mainnet, testnet, or the base URL of a TonCenter API; else the running stack's chain and contracts.
    vault
        Address of a vault contract to watch.
    factory
        Address of a factory contract to watch.
    from_lt
        Begin after this logical time (0: with the first event); from now on when left out.
    poll_interval
        Seconds between looks at the chain (0.1 locally, else 10).
    json
        Print each event as a JSON object.
    """
    env = Environment()
    log.configure(env.get("LOG_LEVEL") or "critical", process="watch")
    if duration is not None and not 0 < duration <= LONGEST_S:
        raise UsageError(f"--duration is above 0 and at most {LONGEST_S:g} seconds, not {duration}.")
    interval = PUBLIC_POLL_INTERVAL_S if network else LOCAL_POLL_INTERVAL_S
    if network is None:
        running = resolve_stack()
        network = running.chain_url
        if vault is None and factory is None:
            vault, factory = running.vault, running.factory
    contracts = [address for address in (vault, factory) if address]
    if not contracts:
        raise UsageError("Nothing to watch.", advice="Give --vault, --factory, or both.")
    poll_s = app.check_poll_interval(poll_interval or interval)
    key = env.get("TON_API_KEY")
    return run_watch(network_urls(network), key, contracts, duration, from_lt, poll_s, as_json=json)


def run_watch(
    urls: tuple[str, ...],
    key: str | None,
    contracts: list[str],
    duration_s: float | None,
    from_lt: int | None,
    poll_s: float,
    *,
    as_json: bool,
) -> int:
    """Watch; the exit code is 3 when the chain could not be read at the end."""
    from tonsurance.services.event_watch import WatchTotals, describe_totals, watch_events
    from tonsurance.services.ton_client import TonClient

    def show(event: ChainEvent) -> None:
        sys.stdout.write((_encode(event) if as_json else _describe(event)) + "\n")
        sys.stdout.flush()

    async def work() -> WatchTotals:
        async with TonClient(urls, key) as ton:
            return await watch_events(
                ton,
                contracts,
                show,
                from_lt=from_lt,
                poll_interval_s=poll_s,
                duration_s=duration_s,
                stop=stop_on_signals(),
            )

    totals = run_async(work())
    note(describe_totals(totals))
    if totals.fault is None:
        return EXIT_WELL
    note(f"The chain cannot be read: {totals.fault.message}")
    return EXIT_UNREACHABLE


def _encode(event: ChainEvent) -> str:
    fields = msgspec.to_builtins(event.body)
    fields.pop("type", None)
    known = {
        "event_type": event.event_type,
        "contract": event.contract,
        "contract_kind": event.contract_kind,
        "logical_time": str(event.lt),
        "message_index": event.message_index,
        "transaction_hash": event.transaction_hash.hex(),
        "block_time": event.block_time,
        "fields": {name: str(value) if isinstance(value, int) else value for name, value in fields.items()},
    }
    return msgspec.json.encode(known).decode()


def _describe(event: ChainEvent) -> str:
    fields = msgspec.to_builtins(event.body)
    shown = " ".join(f"{name}={value}" for name, value in fields.items() if name != "type")
    return f"{event.lt} {event.contract_kind} {event.event_type} {shown}"
