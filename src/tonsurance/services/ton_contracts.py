"""Our contracts for programs: typed reads, and the messages a wallet has to send to act.

Amounts are nanoTON, tranches go by their number on chain (1 the most senior), `seqno` pins a read to a masterchain
block; without one it is the newest. Nothing here holds a wallet's key or sends anything.
"""

from __future__ import annotations

import msgspec

from tonsurance.chain import messages
from tonsurance.chain.addresses import parse_address
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import (
    CircuitBreaker,
    Claim,
    FactoryConfig,
    FactoryReader,
    PolicyData,
    Shares,
    TranchesReading,
    TrancheState,
    VaultReader,
    VaultState,
)
from tonsurance.chain.float_manager import FloatReader
from tonsurance.chain.messages import boc_of
from tonsurance.core.errors import InputError
from tonsurance.core.float_manager import FloatState, TradeSignal


class OutgoingMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An internal message for a wallet to send, bounceable; `body` is a bag of cells."""

    destination: str
    value_nano: int
    body: bytes


class MultiTrancheVault:
    """One vault: deposits, withdrawals, capital."""

    def __init__(self, client: TonCenterClient, address: str) -> None:
        """The address in any form. Raises InvalidAddress."""
        self.address = parse_address(address)
        self._client = client
        self._reader = VaultReader(client, self.address)

    async def get_all_tranches(self, seqno: int | None = None) -> TranchesReading:
        """The six tranches, all at one block."""
        block = (await self._client.get_masterchain_info()).last.seqno if seqno is None else seqno
        return await self._reader.all_tranches(block)

    async def get_tranche(self, tranche_id: int, seqno: int | None = None) -> TrancheState:
        """One tranche. Raises GetMethodFailed for an unknown number."""
        return await self._reader.tranche_state(tranche_id, seqno)

    async def get_tranche_capital(self, tranche_id: int, seqno: int | None = None) -> int:
        """The capital of one tranche."""
        return (await self.get_tranche(tranche_id, seqno)).capital

    async def get_total_capital(self, seqno: int | None = None) -> int:
        """The capital of all tranches."""
        return (await self.get_vault_state(seqno)).total_capital

    async def get_vault_state(self, seqno: int | None = None) -> VaultState:
        """The vault's own figures."""
        return await self._reader.vault_state(seqno)

    async def get_shares(self, owner: str, tranche_id: int, seqno: int | None = None) -> Shares:
        """What an owner has in a tranche."""
        return await self._reader.shares(parse_address(owner), tranche_id, seqno)

    async def get_policy_coverage(self, policy_id: int, seqno: int | None = None) -> int:
        """The coverage of a policy that is backed; 0 for one that is not."""
        return await self._reader.policy_coverage(policy_id, seqno)

    async def get_claim(self, policy_id: int, seqno: int | None = None) -> Claim:
        """The claim of a policy that is held back."""
        return await self._reader.claim(policy_id, seqno)

    async def get_circuit_breaker(self, seqno: int | None = None) -> CircuitBreaker:
        """The window of losses."""
        return await self._reader.circuit_breaker(seqno)

    def deposit(self, tranche_id: int, amount_nano: int, *, query_id: int = 0) -> OutgoingMessage:
        """Put this much into a tranche; gas goes on top, and what is not used comes back."""
        value = _check_amount(amount_nano) + messages.DEPOSIT_GAS
        return self._message(value, boc_of(messages.deposit(tranche_id, query_id=query_id)))

    def request_withdraw(self, tranche_id: int, shares: int, *, query_id: int = 0) -> OutgoingMessage:
        """Announce a withdrawal of shares."""
        body = messages.request_withdraw(tranche_id, _check_amount(shares), query_id=query_id)
        return self._message(messages.SIMPLE_GAS, boc_of(body))

    def withdraw(self, tranche_id: int, *, query_id: int = 0) -> OutgoingMessage:
        """Take the announced withdrawal."""
        return self._message(messages.SIMPLE_GAS, boc_of(messages.withdraw(tranche_id, query_id=query_id)))

    def _message(self, value_nano: int, body: bytes) -> OutgoingMessage:
        return OutgoingMessage(destination=self.address, value_nano=value_nano, body=body)


class PolicyFactory:
    """One factory: policies and quotes."""

    def __init__(self, client: TonCenterClient, address: str) -> None:
        """The address in any form. Raises InvalidAddress."""
        self.address = parse_address(address)
        self._reader = FactoryReader(client, self.address)

    async def get_policy(self, policy_id: int, seqno: int | None = None) -> PolicyData:
        """A living policy. Raises GetMethodFailed for one that is unknown, refused or ended."""
        return await self._reader.policy(policy_id, seqno)

    async def get_next_policy_id(self, seqno: int | None = None) -> int:
        """The id the next policy gets."""
        return await self._reader.next_policy_id(seqno)

    async def get_config(self, seqno: int | None = None) -> FactoryConfig:
        """The factory's configuration and counters."""
        return await self._reader.config(seqno)

    async def is_quote_used(self, deadline: int, quote_id: int, seqno: int | None = None) -> bool:
        """Whether a quote was bought."""
        return await self._reader.is_quote_used(deadline, quote_id, seqno)

    def create_policy(self, quote: messages.Quote, signature: bytes, *, query_id: int = 0) -> OutgoingMessage:
        """Buy against a signed quote, from its buyer's wallet. Raises InputError for a quote of another factory."""
        if parse_address(quote.factory) != self.address:
            raise InputError(f"The quote is of the factory {quote.factory}, not of {self.address}.")
        body = messages.create_policy(quote, signature, query_id=query_id)
        return self._message(_check_amount(quote.premium) + messages.REQUEST_GAS, boc_of(body))

    def expire_policy(self, policy_id: int, *, query_id: int = 0) -> OutgoingMessage:
        """End a policy whose time to claim is over."""
        return self._message(messages.REQUEST_GAS, boc_of(messages.expire_policy(policy_id, query_id=query_id)))

    def execute_payout(self, policy_id: int, amount_nano: int, *, query_id: int = 0) -> OutgoingMessage:
        """Have a claim paid to the policy's buyer; from the wallet of the claims role."""
        body = messages.execute_payout(policy_id, _check_amount(amount_nano), query_id=query_id)
        return self._message(messages.REQUEST_GAS, boc_of(body))

    def _message(self, value_nano: int, body: bytes) -> OutgoingMessage:
        return OutgoingMessage(destination=self.address, value_nano=value_nano, body=body)


class BitcoinFloatManager:
    """One float of bitcoin. Prices are US cents for one bitcoin, dollars are cents, bitcoin is satoshi.

    Nothing here trades or rebalances by itself: `rebalance` is the message with which an operator books what he did.
    """

    def __init__(self, client: TonCenterClient, address: str) -> None:
        """The address in any form. Raises InvalidAddress."""
        self.address = parse_address(address)
        self._reader = FloatReader(client, self.address)

    async def get_float_state(self, seqno: int | None = None) -> FloatState:
        """The float as it is stored."""
        return await self._reader.float_state(seqno)

    async def get_trade_signal(self, btc_price: int, seqno: int | None = None) -> TradeSignal:
        """What the contract asks for at this price."""
        return await self._reader.trade_signal(btc_price, seqno)

    async def get_btc_float_sats(self, seqno: int | None = None) -> int:
        """The bitcoin held."""
        return await self._reader.btc_float_sats(seqno)

    async def get_unrealized_pnl(self, btc_price: int, seqno: int | None = None) -> int:
        """What selling all of it at this price would make; negative for a loss."""
        return await self._reader.unrealized_pnl(btc_price, seqno)

    def rebalance(self, btc_price: int, *, query_id: int = 0) -> OutgoingMessage:
        """Book the trade the signal asks for, done at this price; from the operator's wallet."""
        body = messages.rebalance(_check_amount(btc_price), query_id=query_id)
        return self._message(boc_of(body))

    def emergency_pause(self, *, query_id: int = 0) -> OutgoingMessage:
        """Stop rebalancing; from the operator's or the admin's wallet."""
        return self._message(boc_of(messages.emergency_pause(query_id=query_id)))

    def _message(self, body: bytes) -> OutgoingMessage:
        return OutgoingMessage(destination=self.address, value_nano=messages.SIMPLE_GAS, body=body)


def _check_amount(amount: int) -> int:
    if amount <= 0:
        raise InputError(f"The amount must be more than 0, not {amount}.")
    return amount
