"""A person on the local chain: a wallet that is filled up when it runs low, and orders at most once per block."""

from __future__ import annotations

from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.wallets import Transfer, Wallet

_FEES_NANO = NANO_PER_TON // 5


class Person:
    """One of the actors' wallets. The same name on a chain of the same seed is the same wallet."""

    def __init__(self, chain: LocalChain, name: str, allowance_nano: int) -> None:
        self._chain = chain
        self._wallet = Wallet(name, chain.seed)
        self._allowance = allowance_nano
        self._ordered_at = 0
        self.address = self._wallet.address

    def fill_up(self) -> None:
        """Ask for the allowance when less than half of it is left. It arrives with the next block."""
        if self._chain.balance(self.address) < self._allowance // 2:
            self._chain.airdrop(self.address, self._allowance)

    def order(self, *transfers: Transfer) -> bool:
        """Send these messages with the next block. False when this person ordered already or cannot pay."""
        total = sum(transfer.value for transfer in transfers) + _FEES_NANO
        if self._ordered_at == self._chain.head.seqno or self._chain.balance(self.address) < total:
            return False
        self._wallet.send(self._chain, *transfers)
        self._ordered_at = self._chain.head.seqno
        return True
