"""The get-methods of a BitcoinFloatManager as typed reads."""

from __future__ import annotations

from tonsurance.chain.answers import MethodResult
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.contracts import read_struct
from tonsurance.core.errors import ChainDataError
from tonsurance.core.float_manager import Action, FloatState, TradeSignal


class FloatReader:
    """Reads one float manager. `seqno` pins a read to a masterchain block; without one it is the newest."""

    def __init__(self, client: TonCenterClient, address: str) -> None:
        self._client = client
        self._address = address

    async def float_state(self, seqno: int | None = None) -> FloatState:
        """The float as it is stored."""
        result = await self._client.run_get_method(self._address, "get_float_state", seqno=seqno)
        return read_struct(FloatState, result.stack, "get_float_state")

    async def trade_signal(self, btc_price: int, seqno: int | None = None) -> TradeSignal:
        """What the contract asks for at a price (cents). Raises GetMethodFailed for a price of 0."""
        action, amount = await self._read_numbers("get_trade_signal", (btc_price,), 2, seqno)
        try:
            return TradeSignal(Action(action), amount)
        except ValueError as error:
            raise ChainDataError(f"get_trade_signal of {self._address} knows an action {action}.") from error

    async def btc_float_sats(self, seqno: int | None = None) -> int:
        """The bitcoin held, in satoshi."""
        return (await self._read_numbers("get_btc_float_sats", (), 1, seqno))[0]

    async def unrealized_pnl(self, btc_price: int, seqno: int | None = None) -> int:
        """Cents that selling all of it at this price would make; negative for a loss."""
        return (await self._read_numbers("get_unrealized_pnl", (btc_price,), 1, seqno))[0]

    async def _read_numbers(self, method: str, stack: tuple[int, ...], count: int, seqno: int | None) -> list[int]:
        result: MethodResult = await self._client.run_get_method(self._address, method, stack, seqno)
        numbers = [value for value in result.stack if isinstance(value, int)]
        if len(numbers) != count or len(result.stack) != count:
            raise ChainDataError(f"{method} of {self._address} did not return {count} numbers.")
        return numbers
