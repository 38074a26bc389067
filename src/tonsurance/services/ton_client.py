"""The chain for programs: contract states, get-methods, transactions, events, and our contracts by their own names.

    async with TonClient("https://toncenter.com", api_key) as ton:
        capital = await ton.vault("EQ...").get_total_capital()
        await ton.events.subscribe("EQ...", callback=print, stop=stop)

Every call ends with a checked value or a typed error of core/errors.py; an outage is never an empty answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tonsurance.chain.addresses import parse_address
from tonsurance.chain.answers import AccountState, MethodResult, RawTransaction
from tonsurance.chain.breaker import BreakerPolicy
from tonsurance.chain.cells import Cell
from tonsurance.chain.client import MAX_PAGE, TonCenterClient
from tonsurance.chain.endpoint import EndpointStatus
from tonsurance.chain.layout import Layout, load_layout
from tonsurance.chain.retry import RetryPolicy
from tonsurance.core.errors import UsageError
from tonsurance.services.ton_contracts import BitcoinFloatManager, MultiTrancheVault, OutgoingMessage, PolicyFactory
from tonsurance.services.ton_events import EventCallback, Events, Subscription

__all__ = [
    "BitcoinFloatManager",
    "EventCallback",
    "Events",
    "MultiTrancheVault",
    "OutgoingMessage",
    "PolicyFactory",
    "Subscription",
    "TonClient",
]


class TonClient:
    """One network. Close it, or use `async with`; a client that was given is left open."""

    Events = Events

    def __init__(
        self,
        api: str | Sequence[str] | TonCenterClient,
        api_key: str | Mapping[str, str] | None = None,
        *,
        rps: float | None = None,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        layout: Layout | None = None,
    ) -> None:
        """`api` is a base URL, several of one network in the order they are asked in, or a client to share."""
        self._owned = not isinstance(api, TonCenterClient)
        self.api = (
            api
            if isinstance(api, TonCenterClient)
            else TonCenterClient(api, api_key, rps=rps, retry=retry, breaker=breaker)
        )
        self.events = Events(self.api, layout or load_layout())

    async def __aenter__(self) -> TonClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._owned:
            await self.api.close()

    @property
    def endpoints(self) -> tuple[EndpointStatus, ...]:
        """How each endpoint is doing."""
        return self.api.endpoints

    async def get_contract_state(self, address: str, seqno: int | None = None) -> AccountState:
        """An account in any form of its address: balance, code, data, last transaction; at a block, or now."""
        return await self.api.get_address_information(parse_address(address), seqno)

    async def call_get_method(
        self, address: str, method: str, params: Sequence[int | Cell] = (), seqno: int | None = None
    ) -> MethodResult:
        """Run a get-method at a block, or now. Raises GetMethodFailed when it ends with an exit code."""
        return await self.api.run_get_method(parse_address(address), method, params, seqno)

    async def get_transactions(
        self,
        address: str,
        limit: int = MAX_PAGE,
        *,
        lt: int | None = None,
        hash: bytes | None = None,
        to_lt: int | None = None,
    ) -> tuple[RawTransaction, ...]:
        """Transactions newest first, from (lt, hash) on, that one included, down to those after `to_lt`; each proved
        to have its announced hash."""
        if type(limit) is not int or not 0 < limit <= MAX_PAGE:
            raise UsageError(f"A page has 1 to {MAX_PAGE} transactions, not {limit}.")
        return await self.api.get_transactions(parse_address(address), limit=limit, lt=lt, hash=hash, to_lt=to_lt)

    async def send_boc(self, boc: bytes) -> None:
        """Send a wallet's signed external message, once: after an error look before sending again."""
        await self.api.send_boc(boc)

    def vault(self, address: str) -> MultiTrancheVault:
        """The vault at an address."""
        return MultiTrancheVault(self.api, address)

    def factory(self, address: str) -> PolicyFactory:
        """The factory at an address."""
        return PolicyFactory(self.api, address)

    def float_manager(self, address: str) -> BitcoinFloatManager:
        """The manager of the Bitcoin float at an address."""
        return BitcoinFloatManager(self.api, address)
