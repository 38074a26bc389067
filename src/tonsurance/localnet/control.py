"""Controls of the local chain, under /_localnet/: what a public server does not have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tonsurance.core.errors import InputError, NotReady
from tonsurance.localnet.cells import raw_address
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.deploy import Contracts
from tonsurance.localnet.fault_kinds import Fault
from tonsurance.localnet.faults import Faults
from tonsurance.localnet.http import Answer, ApiError, Request
from tonsurance.localnet.parameters import Parameters
from tonsurance.localnet.store import BlockHeader
from tonsurance.localnet.test_wallet import NamedWallets, TooLate, UnknownWallet

PREFIX = "/_localnet/"
WALLET_PATH = f"{PREFIX}wallet"
MAX_MINED = 10_000
MAX_AIRDROP_NANO = 10**18
SHOWN_BLOCKS = 50

Action = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Control:
    """Answers what comes under /_localnet/. `step` makes one block; `contracts` says what is deployed, if it is."""

    def __init__(
        self, chain: LocalChain, step: Callable[[], object], contracts: Callable[[], Contracts | None], faults: Faults
    ) -> None:
        self._chain = chain
        self._step = step
        self._contracts = contracts
        self._faults = faults
        self._wallets = NamedWallets(chain)

    async def handle(self, request: Request) -> Answer:
        """Answer one request."""
        name = request.path.removeprefix(PREFIX)
        if name == "status":
            return Answer(200, self._status())
        try:
            return Answer(200, {"ok": True, **await self._find(request.method, name)(request.parameters)})
        except UnknownWallet as error:
            raise ApiError(404, str(error)) from error
        except TooLate as error:
            raise ApiError(410, str(error)) from error
        except InputError as error:
            raise ApiError(422, str(error)) from error
        except NotReady as error:
            raise ApiError(503, str(error)) from error

    def _find(self, method: str, name: str) -> Action:
        """What does it. Raises ApiError when nothing does."""
        readers: dict[str, Action] = {"fault": self._show_faults, "wallet": self._wallets.show}
        if method == "GET" and name in readers:
            return readers[name]
        actions: dict[str, Action] = {
            "mine": self._mine,
            "airdrop": self._airdrop,
            "send": self._send,
            "speed": self._set_speed,
            "fault": self._inject,
            "fault/clear": self._clear,
            "wallet": self._wallets.open,
            "wallet/send": self._wallets.send,
        }
        if name not in actions:
            raise ApiError(404, "Not Found")
        if method != "POST":
            raise ApiError(405, "Method Not Allowed")
        return actions[name]

    def _status(self) -> dict[str, Any]:
        chain, contracts = self._chain, self._contracts()
        return {
            "ready": contracts is not None,
            "seqno": chain.head.seqno,
            "utime": chain.now,
            "vault": contracts.vault if contracts else None,
            "factory": contracts.factory if contracts else None,
            "network_id": chain.network_id,
            "seed": chain.seed,
            "speed": chain.speed,
            "waiting": chain.waiting,
            "rejected": chain.rejected,
            "faults": dict(self._faults.struck),
            **self._claims(),
            "blocks": [_show_block(header) for header in chain.last_headers(SHOWN_BLOCKS)],
        }

    def _claims(self) -> dict[str, Any]:
        """What keeps the vault from paying: a time in unix seconds, and how many claims wait. None: not deployed."""
        contracts = self._contracts()
        if contracts is None:
            return {"frozen_until": None, "claims_due": None}
        result = self._chain.get_method(contracts.vault, "get_vault_state")
        if not result.succeeded:
            raise ApiError(500, f"get_vault_state ended with {result.exit_code}")
        *_, frozen_until, claims_due = result.stack
        return {"frozen_until": frozen_until, "claims_due": claims_due}

    async def _mine(self, values: dict[str, Any]) -> dict[str, Any]:
        """Blocks at once, beside those of the clock. Other requests are answered between them."""
        count = Parameters(values).integer("n", low=1, high=MAX_MINED) or 1
        for _ in range(count):
            self._step()
            await asyncio.sleep(0)
        return {"mined": count, "seqno": self._chain.head.seqno}

    async def _airdrop(self, values: dict[str, Any]) -> dict[str, Any]:
        parameters = Parameters(values)
        nano = parameters.integer("amount_nano", low=1, high=MAX_AIRDROP_NANO)
        if nano is None:
            raise ApiError(422, "amount_nano: field required")
        address = parameters.address()
        self._chain.airdrop(address, nano)
        return {"address": raw_address(address), "amount_nano": nano}

    async def _send(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"hash": self._chain.submit_external(Parameters(values).boc()).hex()}

    async def _set_speed(self, values: dict[str, Any]) -> dict[str, Any]:
        speed = values.get("speed")
        if not isinstance(speed, int | float) or isinstance(speed, bool):
            raise ApiError(422, "speed: value must be a number")
        self._chain.speed = float(speed)
        return {"speed": self._chain.speed}

    async def _show_faults(self, _: dict[str, Any]) -> dict[str, Any]:
        return self._faults.show()

    async def _inject(self, values: dict[str, Any]) -> dict[str, Any]:
        try:
            fault = msgspec.convert(values, Fault)
        except msgspec.ValidationError as error:
            raise ApiError(422, f"fault: {error}") from error
        self._faults.inject(fault)
        return self._faults.show()

    async def _clear(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"cleared": self._faults.clear(), **self._faults.show()}


def _show_block(header: BlockHeader) -> dict[str, Any]:
    """A block with its range of logical time; `mined_at` is our clock's, unix seconds."""
    return {
        "seqno": header.seqno,
        "utime": header.utime,
        "start_lt": str(header.start_lt),
        "end_lt": str(header.end_lt),
        "mined_at": header.mined_at,
    }
