"""Wallets of the local chain's own people. They really sign: an order with a wrong signature is not accepted.

The contract is contracts/wallet.fc. It is for local chains only; public wallets work here as well, by their own code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources

import msgspec
from nacl.signing import SigningKey
from pytoniq_core.boc.cell import Cell

from tonsurance.core.errors import InputError
from tonsurance.localnet.cells import address_from, boc_of, builder, cell_from_boc, raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.messages import address_of, external_message, internal_message, state_init_of

WALLET_ID = 0x746F6E73
MAX_MESSAGES = 4
VALIDITY_S = 365 * 86_400
_SEND_MODE = 3
"""Pay the forward fees from the balance beside the value, and do not fail for one message."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One message a wallet sends: nanoTON and a body; with a state init it deploys."""

    destination: str
    value: int
    body: Cell | None = None
    state_init: Cell | None = None
    bounce: bool = True


class Wallet:
    """One wallet: its key, its address, and the orders it signs."""

    def __init__(self, name: str, seed: int) -> None:
        """The same name and seed are the same wallet."""
        self.name = name
        self._key = SigningKey(hashlib.sha256(f"tonsurance local wallet/{seed}/{name}".encode()).digest())
        data = builder().store_uint(0, 32).store_uint(WALLET_ID, 32).store_bytes(bytes(self._key.verify_key))
        self.state_init = state_init_of(wallet_code(), data.end_cell())
        self.address = raw_address(address_of(self.state_init))

    def order(self, transfers: Sequence[Transfer], *, seqno: int, valid_until: int) -> bytes:
        """A signed external message that sends up to four messages. The first order also deploys the wallet."""
        if not 0 < len(transfers) <= MAX_MESSAGES:
            raise InputError(f"A wallet sends 1 to {MAX_MESSAGES} messages at once, not {len(transfers)}.")
        order = builder().store_uint(WALLET_ID, 32).store_uint(valid_until, 32).store_uint(seqno, 32)
        for transfer in transfers:
            order.store_uint(_SEND_MODE, 8).store_ref(_message(transfer))
        unsigned = order.end_cell()
        signature = self._key.sign(bytes(unsigned.hash)).signature
        body = builder().store_bytes(signature).store_cell(unsigned).end_cell()
        state_init = None if seqno else self.state_init
        return boc_of(external_message(address_from(self.address), body, state_init=state_init))

    def send(self, chain: LocalChain, *transfers: Transfer) -> bytes:
        """Sign with the wallet's present seqno and submit; the message's hash. One order per block."""
        order = self.order(transfers, seqno=self.seqno(chain), valid_until=min(chain.now + VALIDITY_S, 2**32 - 1))
        return chain.submit_external(order)

    def seqno(self, chain: LocalChain) -> int:
        """The number of the next order; 0 while the wallet is not deployed."""
        result = chain.get_method(self.address, "seqno")
        return int(result.stack[0]) if result.succeeded else 0


def wallet_code() -> Cell:
    """The wallet contract's code."""
    return cell_from_boc(resources.files(__package__).joinpath("wallet.boc").read_bytes())


def _message(transfer: Transfer) -> Cell:
    """The message without its source, which the TVM fills in."""
    return internal_message(
        None,
        address_from(transfer.destination),
        transfer.value,
        transfer.body,
        state_init=transfer.state_init,
        bounce=transfer.bounce,
    )
