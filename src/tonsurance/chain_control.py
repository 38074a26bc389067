"""Commands for a running local chain: thin calls to its control address, with the input checked first."""

from __future__ import annotations

import base64
import binascii
import math
from decimal import Decimal, InvalidOperation

import httpx
import msgspec

from tonsurance.chain.addresses import parse_address
from tonsurance.core.errors import ChainUnavailable, InputError, UsageError
from tonsurance.core.units import ton_from_nano

MOST_BLOCKS = 10_000
MOST_SPEED = 100_000.0
MOST_AIRDROP_TON = 1_000_000_000
_TIMEOUT_S = 120.0


class FaultState(msgspec.Struct, frozen=True):
    """A fault that is on: whom it strikes, for how long still, and how often it did."""

    name: str
    rate: float
    seconds_left: float
    struck: int


class FaultList(msgspec.Struct, frozen=True):
    """The faults that are on, how often each struck since the start, and the names there are."""

    active: list[FaultState]
    struck: dict[str, int]
    names: list[str]


def mine(chain_url: str, blocks: int) -> str:
    """Produce blocks at once. Returns a line to show."""
    if not 1 <= blocks <= MOST_BLOCKS:
        raise UsageError(f"Between 1 and {MOST_BLOCKS} blocks can be mined at once, not {blocks}.")
    answer = call(chain_url, "mine", {"n": blocks})
    return f"Mined {blocks}; the chain is at block {answer.get('seqno')}."


def airdrop(chain_url: str, address: str, amount_ton: str) -> str:
    """Give an address test money. Returns a line to show."""
    raw = parse_address(address)
    try:
        nano = Decimal(amount_ton) * 1_000_000_000
        whole = nano == nano.to_integral_value() and 0 < nano <= MOST_AIRDROP_TON * 1_000_000_000
    except InvalidOperation:
        whole = False
    if not whole:
        raise UsageError(f"The amount is in TON, above 0 and with at most nine decimals, not {amount_ton[:40]}.")
    call(chain_url, "airdrop", {"address": raw, "amount_nano": int(nano)})
    return f"Sent {ton_from_nano(int(nano))} TON to {raw}; it arrives with the next block."


def send(chain_url: str, boc: str) -> str:
    """Send an external message. Returns a line to show."""
    try:
        base64.b64decode(boc.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("The message must be a base64 BOC.") from error
    answer = call(chain_url, "send", {"boc": boc.strip()})
    return f"Queued message {answer.get('hash')}."


def check_speed(speed: float) -> float:
    """The speed itself. Raises UsageError when no chain's clock can run like that."""
    if not (math.isfinite(speed) and 0 < speed <= MOST_SPEED):
        raise UsageError(f"The speed is above 0 and at most {MOST_SPEED:.0f}, not {speed}.")
    return speed


def set_speed(chain_url: str, speed: float) -> str:
    """Change how fast the chain's clock runs. Returns a line to show."""
    check_speed(speed)
    call(chain_url, "speed", {"speed": speed})
    return f"The chain's clock now runs {speed:g} times faster than real time."


def inject_fault(chain_url: str, name: str, *, rate: float, seconds: float, seed: int) -> str:
    """Let the chain's API fail in one way for a while. Returns a line to show."""
    if not math.isfinite(rate) or not math.isfinite(seconds):
        raise UsageError("The rate is a number from 0 to 1, and the seconds a number above 0.")
    call(chain_url, "fault", {"name": name, "rate": rate, "seconds": seconds, "seed": seed})
    return f"The chain's API now fails with {name}: {rate:.0%} of its answers, for {seconds:g} s."


def show_faults(chain_url: str) -> str:
    """Which faults are on, what they did, and which there are, in lines to show."""
    shown = msgspec.convert(call(chain_url, "fault"), FaultList)
    active = [f"{on.name}: rate {on.rate:g}, {on.seconds_left:.1f} s left, struck {on.struck}" for on in shown.active]
    struck = ", ".join(f"{name} {count}" for name, count in shown.struck.items()) or "none"
    return "\n".join(
        [*(active or ["No fault is on."]), f"Struck since the start: {struck}", f"Names: {', '.join(shown.names)}"]
    )


def clear_faults(chain_url: str) -> str:
    """Switch all faults off. Returns a line to show."""
    count = call(chain_url, "fault/clear", {}).get("cleared")
    return f"Faults switched off: {count}." if count else "No fault was on."


def call(chain_url: str, action: str, body: dict[str, object] | None = None) -> dict[str, object]:
    """POST to the control address, or GET without a body. Raises InputError for what the chain refuses,
    ChainUnavailable when it is away."""
    try:
        url = f"{chain_url}/_localnet/{action}"
        answer = httpx.request("GET" if body is None else "POST", url, json=body, timeout=_TIMEOUT_S)
        content = msgspec.json.decode(answer.content, type=dict[str, object])
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise ChainUnavailable(f"The local chain at {chain_url} does not answer: {error}") from error
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise ChainUnavailable(f"The local chain failed: {content.get('error')}")
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise InputError(f"The local chain refuses it: {content.get('error')}")
    return content
