"""TonCenter's API v3 over a local chain: `/transactions`, the second source of an account's history.

Facts about the shape: the public server's answers and sources. What it does not tell (the destination of an external
out-message, the transaction's own bytes) is not told here either.
"""

from __future__ import annotations

import asyncio

from pytoniq_core.boc.address import Address

from tonsurance.core.errors import InputError, InvalidAddress
from tonsurance.localnet.cells import address_from
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.http import Answer, ApiError, Request
from tonsurance.localnet.parameters import MAX_LT, Parameters
from tonsurance.localnet.render_v3 import TransactionRenderer
from tonsurance.localnet.store import StoredTransaction

PREFIX = "/api/v3/"
DEFAULT_PAGE, MAX_PAGE = 10, 1_000
MAX_OFFSET = 1_000_000
MAX_ACCOUNTS = 100
MAX_SCANNED = 100_000
"""Transactions that one request looks through; beyond, it must say more exactly what it wants."""
_RENDERED_AT_ONCE = 20
"""Then others have their turn: a long page takes as long as several blocks."""
_NOT_SERVED = (
    "workchain", "shard", "seqno", "exclude_account", "start_utime", "end_utime", "direction", "msg_hash", "source",
    "destination", "body_hash", "opcode",
)  # fmt: skip
"""Filters of the public server that this one lacks: refused, for one that is not applied would give wrong answers."""


class ApiV3:
    """Answers what comes under /api/v3/."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self._renderer = TransactionRenderer(chain)

    async def handle(self, request: Request) -> Answer:
        """Answer one request; refusals are ApiErrors."""
        if request.path.removeprefix(PREFIX) != "transactions":
            raise ApiError(404, f"Cannot {request.method} {request.path}")
        if request.method not in ("GET", "HEAD"):
            raise ApiError(405, "Method Not Allowed")
        page = self._find_page(request)
        shown = []
        for number, (address, stored) in enumerate(page, start=1):
            shown.append(self._renderer.render(address, stored))
            if number % _RENDERED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return Answer(200, {"transactions": shown, "address_book": self._renderer.render_book(shown)})

    def _find_page(self, request: Request) -> list[tuple[Address, StoredTransaction]]:
        parameters = Parameters(request.parameters)
        for name in _NOT_SERVED:
            if name in request.parameters:
                raise ApiError(422, f"{name}: the local chain has no such filter")
        limit = parameters.integer("limit", low=1, high=MAX_PAGE) or DEFAULT_PAGE
        offset = parameters.integer("offset", low=0, high=MAX_OFFSET) or 0
        newest_first = _read_sort(parameters)
        hashes = [Parameters({"hash": text}).hash("hash") for text in request.texts("hash")]
        found = self._find(request, parameters, offset + limit if newest_first and not hashes else MAX_SCANNED)
        if hashes:
            found = [item for item in found if item[1].hash in hashes]
        found.sort(key=lambda item: item[1].account)
        found.sort(key=lambda item: item[1].lt, reverse=newest_first)
        return found[offset : offset + limit]

    def _find(self, request: Request, parameters: Parameters, limit: int) -> list[tuple[Address, StoredTransaction]]:
        """At most `limit` of each account, newest first."""
        accounts = _read_accounts(request)
        seqno = parameters.integer("mc_seqno", low=0, high=2**31 - 1)
        first, last = _read_range(parameters)
        if seqno is not None:
            found = [item for item in self._read_block(seqno) if first <= item[1].lt <= last]
            return [item for item in found if not accounts or item[0] in accounts]
        if not accounts:
            raise ApiError(422, "account or mc_seqno is required: the local chain has no other index")
        return [item for account in accounts for item in self._read_account(account, first, last, limit)]

    def _read_account(
        self, account: Address, first: int, last: int, limit: int
    ) -> list[tuple[Address, StoredTransaction]]:
        found = self._chain.transactions(account, until_lt=last, after_lt=first - 1, limit=limit)
        if len(found) >= MAX_SCANNED:
            raise ApiError(422, f"more than {MAX_SCANNED} transactions match: give start_lt or end_lt")
        return [(account, stored) for stored in found]

    def _read_block(self, seqno: int) -> list[tuple[Address, StoredTransaction]]:
        try:
            block = self._chain.block(seqno)
        except InputError:
            return []
        return [(account_address(stored.account), stored) for stored in block.transactions]


def account_address(key: bytes) -> Address:
    """The address of an account as it is stored: one byte of workchain, 32 of address."""
    return Address((int.from_bytes(key[:1], "big", signed=True), key[1:]))


def _read_accounts(request: Request) -> list[Address]:
    given = request.texts("account")
    if len(given) > MAX_ACCOUNTS:
        raise ApiError(422, f"account: at most {MAX_ACCOUNTS} can be given")
    try:
        return list(dict.fromkeys(address_from(text) for text in given))
    except InvalidAddress as error:
        raise ApiError(422, f"account: {error.message}") from error


def _read_range(parameters: Parameters) -> tuple[int, int]:
    """The least and the largest logical time, both inclusive."""
    lt = parameters.integer("lt", low=0, high=MAX_LT)
    if lt is not None:
        return lt, lt
    first = parameters.integer("start_lt", low=0, high=MAX_LT)
    last = parameters.integer("end_lt", low=0, high=MAX_LT)
    return max(1, first or 0), MAX_LT if last is None else last


def _read_sort(parameters: Parameters) -> bool:
    """Whether the newest come first."""
    given = (parameters.text("sort") or "desc").lower()
    if given not in ("asc", "desc"):
        raise ApiError(422, "sort: value must be asc or desc")
    return given == "desc"
