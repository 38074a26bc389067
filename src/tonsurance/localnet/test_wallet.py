"""Test wallets of the local chain: the live page buys with them as with a wallet application. For development only.

A wallet is named by the browser; the same name on a chain of the same seed is the same wallet. It signs whatever its
caller asks for, so it must never exist on a chain where coins are worth something.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tonsurance.chain.addresses import parse_address
from tonsurance.core.errors import InputError, NotReady
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.cells import address_from, friendly_address
from tonsurance.localnet.chain import MAX_BLOCK_MESSAGES, LocalChain
from tonsurance.localnet.ton_requests import TonTransaction, read_message, read_name, read_transaction
from tonsurance.localnet.wallets import VALIDITY_S, Transfer, Wallet

MAX_WALLETS = 200
MAX_PENDING = 50
"""Orders of one wallet that wait for a block; further ones are refused until it came."""
ALLOWANCE_NANO = 500 * NANO_PER_TON
_FEES_NANO = NANO_PER_TON // 5
_LAST_SECOND = 2**32 - 1
_NAMES_FACT = "test wallets"


class UnknownWallet(InputError):
    """There is no wallet of this name; ask for it by POST first."""


class TooLate(InputError):
    """The transaction cannot be in a block in time; nothing was sent."""


class NamedWallet:
    """One wallet with what it has signed and no block has shown yet."""

    def __init__(self, chain: LocalChain, name: str) -> None:
        self._chain = chain
        self._wallet = Wallet(f"test wallet/{name}", chain.seed)
        self.address = self._wallet.address
        self._arriving: list[tuple[int, int]] = []
        """(block, nanoTON) of given coins on their way."""
        self._pending: list[tuple[int, int]] = []
        """(block, nanoTON) of orders on their way."""

    @property
    def balance_nano(self) -> int:
        """What the last block says."""
        return self._chain.balance(self.address)

    @property
    def arriving_nano(self) -> int:
        """Given coins that come with one of the next blocks."""
        self._forget_arrived()
        return sum(nano for _, nano in self._arriving)

    def fill_up(self) -> None:
        """Ask for what is missing to the allowance when less than half of it is left or on its way."""
        held = self._spendable_nano()
        if held < ALLOWANCE_NANO // 2:
            arrives = self._block_of_next()
            self._chain.airdrop(self.address, ALLOWANCE_NANO - held)
            self._arriving.append((arrives, ALLOWANCE_NANO - held))

    def send(self, transfers: list[Transfer], valid_until: int | None) -> tuple[bytes, int]:
        """Sign and submit one order: the message's hash and the order's number. Orders run as they were asked for.

        Raises TooLate for one that could not arrive in time, InputError for one that could not be paid, NotReady when
        too many wait; then nothing was sent.
        """
        until = self._check_time(valid_until)
        spendable, needed = self._spendable_nano(), sum(transfer.value for transfer in transfers) + _FEES_NANO
        if needed > spendable:
            raise InputError(
                f"The wallet has {_as_ton(spendable)} TON to spend and this needs {_as_ton(needed)} TON with fees."
            )
        if len(self._pending) >= MAX_PENDING:
            raise NotReady(f"{MAX_PENDING} orders of this wallet wait for the next block already.")
        seqno, arrives = self._wallet.seqno(self._chain) + len(self._pending), self._block_of_next()
        message = self._chain.submit_external(self._wallet.order(transfers, seqno=seqno, valid_until=until))
        self._pending.append((arrives, needed))
        return message, seqno

    def _check_time(self, valid_until: int | None) -> int:
        """The order's own last second. The contract refuses what comes later, and nobody would be told."""
        if valid_until is None:
            return min(self._chain.now + VALIDITY_S, _LAST_SECOND)
        pause_s = self._chain.block_seconds * self._chain.speed
        arrives_at = self._chain.now + pause_s * (self._block_of_next() - self._chain.head.seqno)
        if valid_until <= arrives_at:
            raise TooLate(
                f"The transaction is valid until {valid_until}, and could be in a block at {int(arrives_at)} (chain "
                "time, unix seconds): too late. Ask for a new one."
            )
        return min(valid_until, _LAST_SECOND)

    def _spendable_nano(self) -> int:
        self._forget_arrived()
        coming, going = (sum(nano for _, nano in waiting) for waiting in (self._arriving, self._pending))
        return self.balance_nano + coming - going

    def _forget_arrived(self) -> None:
        head = self._chain.head.seqno
        self._arriving = [waiting for waiting in self._arriving if waiting[0] > head]
        self._pending = [waiting for waiting in self._pending if waiting[0] > head]

    def _block_of_next(self) -> int:
        """The block a message submitted now runs in: they are taken in the order they came."""
        return self._chain.head.seqno + 1 + self._chain.waiting // MAX_BLOCK_MESSAGES


class NamedWallets:
    """The wallets of one chain, by name. What a request says is checked here; errors are InputError."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self._wallets = {name: NamedWallet(chain, name) for name in _load_names(chain)}

    async def open(self, values: dict[str, Any]) -> dict[str, Any]:
        """Find or make a wallet, and fill it up."""
        name = read_name(values)
        wallet = self._wallets.get(name)
        if wallet is None:
            if len(self._wallets) >= MAX_WALLETS:
                raise InputError(f"There are {MAX_WALLETS} test wallets already; use one of them.")
            wallet = self._wallets[name] = NamedWallet(self._chain, name)
            self._chain.save_fact(_NAMES_FACT, msgspec.json.encode(sorted(self._wallets)).decode())
        wallet.fill_up()
        return _show(name, wallet)

    async def show(self, values: dict[str, Any]) -> dict[str, Any]:
        """A wallet as it is."""
        name = read_name(values)
        return _show(name, self._find(name))

    async def send(self, values: dict[str, Any]) -> dict[str, Any]:
        """Sign and send a TON Connect transaction."""
        name = read_name(values)
        wallet = self._find(name)
        transaction = read_transaction(values.get("transaction"))
        self._check_sender(wallet, transaction)
        transfers = [read_message(number, one) for number, one in enumerate(transaction.messages)]
        message, seqno = wallet.send(transfers, transaction.valid_until)
        return {"hash": message.hex(), "seqno": seqno, **_show(name, wallet)}

    def _find(self, name: str) -> NamedWallet:
        wallet = self._wallets.get(name)
        if wallet is None:
            raise UnknownWallet
        return wallet

    def _check_sender(self, wallet: NamedWallet, transaction: TonTransaction) -> None:
        here = str(self._chain.network_id)
        if transaction.network not in (None, here):
            raise InputError(f"The transaction is for network {transaction.network}; this is {here}.")
        if transaction.from_ is not None and parse_address(transaction.from_) != wallet.address:
            raise InputError("The transaction is for another wallet to send.")


def _load_names(chain: LocalChain) -> list[str]:
    """The wallets made before the chain was stopped."""
    return msgspec.json.decode(chain.load_fact(_NAMES_FACT) or "[]", type=list[str])


def _show(name: str, wallet: NamedWallet) -> dict[str, Any]:
    return {
        "name": name,
        "address": wallet.address,
        "address_friendly": friendly_address(address_from(wallet.address)),
        "balance_nanoton": str(wallet.balance_nano),
        "arriving_nanoton": str(wallet.arriving_nano),
    }


def _as_ton(nano: int) -> str:
    return f"{nano / NANO_PER_TON:,.3f}"
