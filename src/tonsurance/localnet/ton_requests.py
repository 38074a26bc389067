"""What a test wallet is asked: its name, and a transaction in TON Connect's form. Bad input is InputError."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from pytoniq_core.boc.cell import Cell

from tonsurance.chain.addresses import parse_address, parse_friendly
from tonsurance.core.errors import InputError
from tonsurance.localnet.cells import cell_from_outside
from tonsurance.localnet.parameters import decode_base64
from tonsurance.localnet.wallets import MAX_MESSAGES, Transfer

_MAX_AMOUNT_NANO = 2**63
_NAME = re.compile(r"[a-z0-9-]{1,40}")
_AMOUNT = re.compile(r"[0-9]{1,20}")


class TonMessage(msgspec.Struct, frozen=True, rename="camel"):
    """One message of a TON Connect transaction: nanoTON in decimal; body and state init are bags of cells in base64."""

    address: str
    amount: str
    payload: str | None = None
    state_init: str | None = None


class TonTransaction(msgspec.Struct, frozen=True, rename="camel"):
    """What TON Connect hands a wallet to sign. `valid_until` is in unix seconds of the chain's time."""

    messages: list[TonMessage]
    valid_until: int | None = None
    network: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")


def read_name(values: dict[str, Any]) -> str:
    """The wallet's name."""
    name = values.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError("name: 1 to 40 of the characters a to z, 0 to 9 and -")
    return name


def read_transaction(given: Any) -> TonTransaction:
    """A transaction of as many messages as a wallet sends at once; the messages are not read yet."""
    try:
        transaction = msgspec.convert(given, TonTransaction)
    except msgspec.ValidationError as error:
        raise InputError(f"transaction: {error}") from error
    if not 0 < len(transaction.messages) <= MAX_MESSAGES:
        raise InputError(f"transaction: 1 to {MAX_MESSAGES} messages, not {len(transaction.messages)}")
    return transaction


def read_message(number: int, message: TonMessage) -> Transfer:
    """The `number`th message as a wallet sends it; it bounces unless its address says not to."""
    where = f"messages[{number}]"
    if not _AMOUNT.fullmatch(message.amount) or int(message.amount) >= _MAX_AMOUNT_NANO:
        raise InputError(f"{where}.amount: nanoTON as a decimal string below 2^63")
    raw = ":" in message.address
    return Transfer(
        destination=parse_address(message.address),
        value=int(message.amount),
        body=_read_cell(f"{where}.payload", message.payload),
        state_init=_read_cell(f"{where}.stateInit", message.state_init),
        bounce=raw or parse_friendly(message.address.strip()).bounceable,
    )


def _read_cell(where: str, text: str | None) -> Cell | None:
    if text is None:
        return None
    boc = decode_base64(text)
    if not boc:
        raise InputError(f"{where}: a bag of cells in base64")
    try:
        return cell_from_outside(boc)
    except InputError as error:
        raise InputError(f"{where}: {error.message}") from error
