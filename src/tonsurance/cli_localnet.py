"""`tonsurance localnet`: serve a local chain, or drive the one that runs."""

from __future__ import annotations

import sys
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from rich.console import Console

from tonsurance import app, chain_control, log, stack
from tonsurance.cli_targets import resolve_stack
from tonsurance.settings import Environment, home_dir

DEFAULT_SPEED = 300.0
"""A one-day policy lives for 288 real seconds, and a quote, valid for 600 chain seconds, for five blocks."""

localnet_cli = cyclopts.App(name="localnet", help="The local TON chain: serve it, or drive one that runs.")
fault_cli = cyclopts.App(name="fault", help="What goes wrong with the chain's API, never with the chain.")
localnet_cli.command(fault_cli)


def say(line: str) -> None:
    """One line for the person who started the command."""
    Console(highlight=False, soft_wrap=True).print(line, markup=False)


@localnet_cli.default
def localnet(
    *,
    port: int | None = None,
    speed: float | None = None,
    seed: int = 1,
    actors: bool = True,
) -> None:
    """Serve a local TON chain with our contracts on it, in the shape of a TonCenter API.

    Without --port, and with --speed, it changes the speed of the chain of the running stack.

    Parameters
    ----------
    port
        Port to listen on; a free one is chosen and printed when left out.
    speed
        How many times faster than real time the chain's clock runs.
    seed
        Seed of a new chain.
    actors
        Let simulated depositors and buyers act.
    """
    env = Environment()
    if port is None and speed is not None and stack.read_status(home_dir(env)) is not None:
        say(chain_control.set_speed(resolve_stack().chain_url, speed))
        return
    log.configure(env.get("LOG_LEVEL") or "info", process="localnet")
    port = port or stack.free_port()
    app.serve_localnet(
        home_dir(env),
        env,
        port=port,
        speed=chain_control.check_speed(DEFAULT_SPEED if speed is None else speed),
        seed=seed,
        actors=actors,
        say=say,
    )


@localnet_cli.command
def mine(blocks: int = 1) -> None:
    """Make the running local chain produce blocks at once.

    Parameters
    ----------
    blocks
        How many, 1 to 10,000.
    """
    say(chain_control.mine(resolve_stack().chain_url, blocks))


@localnet_cli.command
def airdrop(address: str, amount: str) -> None:
    """Give an address test money on the running local chain.

    Parameters
    ----------
    address
        Raw or user-friendly address.
    amount
        Amount in TON.
    """
    say(chain_control.airdrop(resolve_stack().chain_url, address, amount))


@localnet_cli.command
def send(boc: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Send an external message to the running local chain.

    Parameters
    ----------
    boc
        The message as a base64 BOC, or - for standard input.
    """
    say(chain_control.send(resolve_stack().chain_url, sys.stdin.read() if boc == "-" else boc))


@fault_cli.default
def fault(name: str, *, rate: float = 1.0, seconds: float = 30.0, seed: int = 1) -> None:
    """Let the running local chain's API fail in one way for a while; several ways can be on at once.

    Parameters
    ----------
    name
        429, 500, 542, hang, drop, html, truncated, slow, lagging, pruned, lying, rollback, or for streams lost,
        duplicated, reordered.
    rate
        How many requests it strikes, from 0 to 1.
    seconds
        How long, in real seconds.
    seed
        The same seed strikes the same requests.
    """
    say(chain_control.inject_fault(resolve_stack().chain_url, name, rate=rate, seconds=seconds, seed=seed))


@fault_cli.command(name="list")
def list_faults() -> None:
    """Show which faults are on, how often each struck so far, and the names there are."""
    say(chain_control.show_faults(resolve_stack().chain_url))


@fault_cli.command
def clear() -> None:
    """Switch all faults off."""
    say(chain_control.clear_faults(resolve_stack().chain_url))
