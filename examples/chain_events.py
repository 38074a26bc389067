"""A contract's events as they happen, and what its vault holds.

    python examples/chain_events.py http://127.0.0.1:8081 CONTRACT [LT]

The first argument is the base URL of a TON API, or several of one network separated by commas: when the first does not
answer, the next is asked. A key goes into TON_API_KEY. With LT only later events are shown. Ctrl-C ends it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tonsurance import log
from tonsurance.chain.urls import split_urls
from tonsurance.core.errors import TonsuranceError
from tonsurance.core.events import ChainEvent, DepositMade, PayoutExecuted, PolicyCreated
from tonsurance.core.units import ton_from_nano
from tonsurance.services.ton_client import TonClient


def describe(event: ChainEvent) -> str:
    """One line about an event."""
    match event.body:
        case PolicyCreated(policy_id=policy_id, coverage_amount=coverage):
            told = f"policy {policy_id} created: {ton_from_nano(coverage):,.2f} TON of cover"
        case PayoutExecuted(policy_id=policy_id, amount=amount):
            told = f"policy {policy_id} paid out: {ton_from_nano(amount):,.2f} TON"
        case DepositMade(tranche_id=tranche_id, amount=amount):
            told = f"deposit into tranche {tranche_id}: {ton_from_nano(amount):,.2f} TON"
        case _:
            told = event.event_type
    return f"{event.lt}/{event.message_index} {told}"


async def run(urls: tuple[str, ...], contract: str, initial_lt: int | None) -> None:
    """The example from its start to its end."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with TonClient(urls, os.environ.get("TON_API_KEY")) as ton:
        state = await ton.get_contract_state(contract)
        print(f"{state.address} is {state.status} and has {ton_from_nano(state.balance_nano):,.2f} TON", flush=True)
        cursor = await ton.events.subscribe(
            contract, initial_lt, 1.0, callback=lambda event: print(describe(event), flush=True), stop=stop
        )
        print(f"Go on with {cursor.lt if cursor else initial_lt}.", flush=True)


if __name__ == "__main__":
    log.configure("warning", process="example")
    match sys.argv[1:]:
        case [api, contract]:
            after = None
        case [api, contract, lt] if lt.isdecimal():
            after = int(lt)
        case _:
            sys.exit(__doc__)
    try:
        asyncio.run(run(split_urls(api), contract, after))
    except TonsuranceError as error:
        sys.exit(str(error))
