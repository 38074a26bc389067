"""What a wallet is asked to send, as TON Connect's transaction request and as a ton:// link.

Contracts are addressed bounceable: what a contract refuses comes back. Outside of mainnet addresses carry the flag of
test networks, so that no wallet sends there by mistake.
"""

from __future__ import annotations

import base64
from typing import TypeAlias
from urllib.parse import urlencode

import msgspec
from pytoniq_core.boc.cell import Cell

from tonsurance.chain.addresses import format_friendly, parse_address
from tonsurance.chain.messages import boc_of
from tonsurance.core.errors import InputError
from tonsurance.core.units import BIGINT_MAX

Body: TypeAlias = Cell
"""A message's body, as chain/messages.py makes them."""
MAINNET_ID = -239
_LAST_MOMENT = 2**32


class ConnectMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message: a friendly address, nanoTON as decimal digits, and the body as a bag of cells in base64."""

    address: str
    amount: str
    payload: str


class ConnectTransaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A transaction request. Wallets refuse it on another network, after `validUntil` (unix seconds), and from another
    account than `from`, when that is named."""

    valid_until: int = msgspec.field(name="validUntil")
    network: str
    sender: str | None = msgspec.field(name="from", default=None)
    messages: tuple[ConnectMessage, ...]


class WalletRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction request, the same as a link, and the hash of the body by which the transaction is recognised."""

    transaction: ConnectTransaction
    link: str
    payload_hash: str


def request_message(
    contract: str, value_nano: int, body: Body, *, network_id: int, valid_until: int, sender: str | None = None
) -> WalletRequest:
    """Ask a wallet to send one message to a contract. Raises InputError for what cannot be sent, InvalidAddress."""
    return request_boc(
        contract,
        value_nano,
        boc_of(body),
        bytes(body.hash).hex(),
        network_id=network_id,
        valid_until=valid_until,
        sender=sender,
    )


def request_boc(
    contract: str,
    value_nano: int,
    boc: bytes,
    payload_hash: str,
    *,
    network_id: int,
    valid_until: int,
    sender: str | None = None,
) -> WalletRequest:
    """The same for a body that is a bag of cells already, whose hash is known."""
    if not 0 < value_nano <= BIGINT_MAX:
        raise InputError(f"A message carries 1 to {BIGINT_MAX} nanoTON, not {value_nano}.")
    if not 0 < valid_until < _LAST_MOMENT:
        raise InputError(f"{valid_until} is no time in unix seconds.")
    address = show_contract(contract, network_id)
    message = ConnectMessage(address=address, amount=str(value_nano), payload=base64.b64encode(boc).decode())
    return WalletRequest(
        transaction=ConnectTransaction(
            valid_until=valid_until,
            network=str(network_id),
            sender=None if sender is None else parse_address(sender),
            messages=(message,),
        ),
        link=_make_link(address, value_nano, boc, valid_until),
        payload_hash=payload_hash,
    )


def show_contract(address: str, network_id: int) -> str:
    """A contract's address as wallets take it: friendly, bounceable, and for test networks only outside of mainnet."""
    return format_friendly(address, bounceable=True, test_only=network_id != MAINNET_ID)


def _make_link(address: str, value_nano: int, boc: bytes, valid_until: int) -> str:
    query = {
        "amount": value_nano,
        "bin": base64.urlsafe_b64encode(boc).rstrip(b"=").decode(),
        "exp": valid_until,
    }
    return f"ton://transfer/{address}?{urlencode(query)}"
