"""A shop in memory: what the live page reads of products, quotes, transactions and policies, on a real server.

It answers over the same socket as the API it is laid around. Prices are by the list: amount * rate * days / 365.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from api.ledger_fake import FakeLedger
from api.running import RunningApi
from tonsurance.api.server import ApiParts, bind_socket, run_api
from tonsurance.api.settings import ApiSettings
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.core.products import PRODUCTS, Product, find_product

PAYLOAD = "te6ccgEBAQEAAgAAAA=="
"""An empty cell."""
PAYLOAD_HASH = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
FACTORY = "0QAREREREREREREREREREREREREREREREREREREREREREQBc"
"""In the form that keeps what is sent there, although there is no contract."""
OWNED = ("/api/v2/products", "/api/v2/quote/", "/api/v2/transactions/", "/api/v2/policies/")


AWAITED: dict[str, Any] = {"status": "pending", "stage": "awaited", "hash": None, "policy": None, "reason": None}
"""Nobody saw the transaction yet. The other dictionaries are what may become of it."""
TAKEN = {**AWAITED, "stage": "awaiting_vault", "hash": "ab" * 32}
BACKED = {
    **TAKEN, "status": "confirmed", "stage": "backed",
    "policy": {"policy_id": "12", "factory": "0:" + "11" * 32, "href": f"/api/v2/policies/12?factory=0:{'11' * 32}"},
}  # fmt: skip
REFUSED = {
    **TAKEN, "status": "failed", "stage": "refused", "refunded_nanoton": None,
    "reason": {"code": 135, "action_code": None, "name": "quote_expired", "by": "contract",
               "sentence": "The quote is not valid any more."},
}  # fmt: skip
NOT_BACKED = {
    **TAKEN, "status": "failed", "stage": "refused_by_vault", "refunded_nanoton": "6700000000",
    "reason": {"code": 121, "action_code": None, "name": "policy_too_large",
               "sentence": "The policy is larger than the vault backs in one piece.", "by": "vault"},
}  # fmt: skip
POLICY = {
    "policy_id": "12", "status": "active", "coverage_nanoton": "3333333333333", "start": "2026-11-22T10:00:00Z",
    "end": "2027-02-20T10:00:00Z",
}  # fmt: skip
TECHNICAL = {
    "premium_usd": "102.33", "floor_applied": None,
    "factors": {
        "base_rate": 0.04, "risk_adjustment": 0.0375,
        "risk": {
            name: {"weight": 0.15, "factor": 0.25, "part": 0.0375}
            for name in ("liquidity", "volatility", "collateral_quality", "regulatory_clarity")
        },
        "size": 1.0, "utilization": 1.0, "trigger": 1.05, "stress": 1.15, "claims": 1.0, "annual_rate": 0.0415,
        "duration_days": 90.0,
    },
    "market": {"utilization": 0.42, "loss_ratio": None, "claims_count": 3, "stress": "Normal"},
}  # fmt: skip


class Refusal(Exception):
    """A problem the shop answers with."""

    def __init__(self, status: int, code: str, detail: str, **more: object) -> None:
        self.status = status
        self.content = {"status": status, "code": code, "detail": detail, **more}
        super().__init__(detail)


class FakeShop:
    """ASGI layer. A test changes the price of TON, the room, refusals, when quotes end, what becomes of a purchase."""

    def __init__(self) -> None:
        self.ton_usd = 3.0
        self.room_ton = 50_000
        self.binding = ("max_policy_percent", None)
        self.off_sale: dict[str, str] = {}
        """Reasons by the name of a product."""
        self.refusal: Refusal | None = None
        """What is answered to whoever asks for a price."""
        self.refusal_of_products: Refusal | None = None
        self.refusal_of_buyers: Refusal | None = None
        self.dearer_for_buyers = 1.0
        self.valid_s = 300.0
        self.raised_to: str | None = None
        self.least_ton = 0.0
        self.stale = False
        self.hold: asyncio.Event | None = None
        """While it is set and not done, answers to the amount 1 wait for it."""
        self.asked: list[dict[str, Any]] = []
        self.transaction: dict[str, Any] = AWAITED
        self.outage: Refusal | None = None
        """What is answered to whoever asks for a transaction."""
        self.deadline: int | None = None
        self._app: ASGIApp | None = None

    def around(self, app: ASGIApp) -> FakeShop:
        """Itself, before `app`."""
        self._app = app
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        assert self._app is not None
        path = str(scope.get("path", ""))
        if scope["type"] != "http" or not path.startswith(OWNED) or path.endswith("/counts"):
            await self._app(scope, receive, send)
            return
        try:
            status, content = 200, await self._answer(path, await read_body(receive))
        except Refusal as refusal:
            status, content = refusal.status, refusal.content
        body = msgspec.json.encode(content)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.startswith("/api/v2/products"):
            if self.refusal_of_products:
                raise self.refusal_of_products
            return {"products": [self._show_product(product) for product in PRODUCTS]}
        if path.startswith("/api/v2/quote/"):
            return await self._quote(msgspec.json.decode(body))
        if path.startswith("/api/v2/transactions/"):
            if self.outage:
                raise self.outage
            return self.transaction
        return POLICY

    def _show_product(self, product: Product) -> dict[str, Any]:
        reason, off = product.invalid_reason, self.off_sale.get(product.name)
        return {
            "coverage_type": product.coverage_type, "chain": product.chain, "stablecoin": product.stablecoin,
            "key": product.key, "hash": product.hash, "valid": reason is None, "reason": reason,
            "on_sale": reason is None and off is None, "on_sale_reasons": [off] if off else [], "rate": 0.008,
        }  # fmt: skip

    async def _quote(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(asked)
        amount, days, buyer = asked["coverage_amount"], asked["duration_days"], asked.get("buyer")
        if self.hold is not None and amount == 1:
            await self.hold.wait()
        if refusal := (self.refusal or (self.refusal_of_buyers if buyer else None)):
            raise refusal
        if not 1 <= days <= 365:
            raise Refusal(400, "bad_input", "duration_days is a whole number from 1 to 365.")
        product = find_product(asked["coverage_type"], asked["chain"], asked["stablecoin"])
        premium = amount * 0.008 * days / 365
        by_list = premium / self.ton_usd * (self.dearer_for_buyers if buyer else 1)
        premium_ton = max(by_list, self.least_ton)
        return {**self._terms(product, asked, premium, premium_ton), **self._request(buyer, premium_ton)}

    def _terms(self, product: Product, asked: dict[str, Any], usd: float, ton: float) -> dict[str, Any]:
        amount, off = asked["coverage_amount"], self.off_sale.get(product.name)
        cover_ton = amount / self.ton_usd
        limit, tranche = self.binding
        return {
            "premium": round(usd, 2), "premium_usd": f"{usd:.2f}",
            "charged_usd": f"{ton * self.ton_usd:.2f}", "premium_ton": ton, "coverage_ton": cover_ton,
            "premium_nanoton": str(round(ton * 10**9)), "coverage_nanoton": str(round(cover_ton * 10**9)),
            "breakdown": {
                "base_rate": 0.008, "chain_multiplier": 1.0, "stablecoin_adjustment": 0.0, "total_rate": 0.008,
                "coverage_amount": amount, "duration_days": asked["duration_days"], "list_premium_nanoton": "7",
                "minimum_applied": "min_executable_premium_ton" if ton == self.least_ton else self.raised_to,
            },
            "technical": TECHNICAL, "cover_starts_after_s": 86400, "valid_for_s": self.valid_s,
            "stale": self.stale,
            "product_hash": product.hash, "coverage_type": product.coverage_type, "chain": product.chain,
            "stablecoin": product.stablecoin, "timestamp": time.time(), "quote_id": "4611686018427387904",
            "valid_until": iso(time.time() + self.valid_s), "params_version": 1,
            "ton_price": {"usd": f"{self.ton_usd}", "source": "local market", "age_s": 4.0,
                          "observed_at": iso(time.time() - 4)},
            "capacity": {
                "sufficient": cover_ton <= self.room_ton, "available_nanoton": str(self.room_ton * 10**9),
                "binding_limit": limit, "binding_tranche": tranche,
            },
            "on_sale": {"on_sale": off is None, "reasons": [off] if off else []},
        }  # fmt: skip

    def _request(self, buyer: str | None, premium_ton: float) -> dict[str, Any]:
        if buyer is None:
            return {"transaction": None, "payload_hash": None, "link": None}
        amount = str(round((premium_ton + 0.3) * 10**9))
        transaction = {"messages": [{"address": FACTORY, "amount": amount, "payload": PAYLOAD}], "network": "-3"}
        if self.deadline is not None:
            transaction["validUntil"] = self.deadline
        link = f"ton://transfer/{FACTORY}?amount={amount}&bin={PAYLOAD}"
        return {"transaction": transaction, "payload_hash": PAYLOAD_HASH, "link": link}


def iso(seconds: float) -> str:
    """As the API writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def read_body(receive: Receive) -> bytes:
    """All of a request's body."""
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")  # type: ignore[union-attr]
        if not event.get("more_body", False):
            return body


@asynccontextmanager
async def running_shop(ledger: FakeLedger, shop: FakeShop, wallet_url: str | None = None) -> AsyncIterator[RunningApi]:
    """The API with the shop around it, on a free port, until the block ends."""
    settings = ApiSettings(port=0, poll_interval_s=0.05, stale_after_s=2.0, test_wallet_url=wallet_url)
    listener = bind_socket(settings)
    stop, wake = asyncio.Event(), asyncio.Event()
    parts = ApiParts(ledger, settings, DEFAULT_PARAMS)
    parts.app = shop.around(parts.app)  # type: ignore[assignment,arg-type]
    await parts.feed.refresh()
    port: int = listener.getsockname()[1]
    task = asyncio.create_task(run_api(parts, listener, stop=stop, wake=wake))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield RunningApi(parts, port, wake, http)
    finally:
        stop.set()
        await task
        listener.close()
