"""A small TonCenter over real HTTP that can be told to fail or to lie.

`faults` is a queue: each request takes one and suffers it. Lies are attributes that stay until they are unset.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from chain.making import Made
from tonsurance.core.events import GENESIS, Cursor

HTML = b"<html><body>502 Bad Gateway</body></html>"


@dataclass
class Fault:
    """What happens to one request: a status and a body, or one of `hang`, `disconnect`, `truncate`."""

    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = "answer"


RATE_LIMITED = Fault(429, b'{"ok":false,"result":"Ratelimit exceed","code":429}')
LITE_SERVER = Fault(500, b'{"ok":false,"error":"LITE_SERVER_NOTREADY: block is not applied","code":500}')
TONLIB = Fault(542, b'{"ok":false,"error":"internal","code":542}')
GATEWAY = Fault(502, HTML)
HTML_WITH_200 = Fault(200, HTML)
TRUNCATED = Fault(kind="truncate")
HANG = Fault(kind="hang")
DISCONNECT = Fault(kind="disconnect")


def after(seconds: float) -> Fault:
    """A rate refusal that says when to come back."""
    return Fault(429, RATE_LIMITED.body, (("Retry-After", f"{seconds}"),))


class ApiError(Exception):
    """An answer that is not ok."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


@dataclass
class FakeTonCenter:
    """Accounts with their transactions (oldest first), and get-method answers."""

    url: str = ""
    seqno: int = 100
    accounts: dict[str, list[Made]] = field(default_factory=dict)
    codes: dict[str, bytes] = field(default_factory=dict)
    status: str = "active"
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    hide_lts: set[int] = field(default_factory=set)
    swap_hash_of: int | None = None
    heads: deque[Cursor] = field(default_factory=deque)
    pinned_block: int | None = None
    served: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    """By the number a request bears in X-Request: set once it gets no answer."""
    hidden_newest: int = 0

    def head_of(self, address: str) -> Cursor:
        """The newest transaction, or the next lie about it."""
        if self.heads:
            return self.heads.popleft()
        made = self._visible(address)
        return made[-1].cursor if made else GENESIS

    def _visible(self, address: str) -> list[Made]:
        made = self.accounts.get(address, [])
        return made[: len(made) - self.hidden_newest]

    def count(self, method: str) -> int:
        """Requests of this method so far."""
        return sum(name == method for name, _, _ in self.requests)

    def answer(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a method. Raises ApiError."""
        match method:
            case "getMasterchainInfo":
                return {"@type": "blocks.masterchainInfo", "last": self.block(self.seqno)}
            case "getAddressInformation":
                return self.account_information(params)
            case "getTransactions":
                return self.transactions(params)
            case "runGetMethod":
                seqno = self.pinned_block or params.get("seqno", self.seqno)
                return {"gas_used": 1, "exit_code": 0, "block_id": self.block(seqno), **self.methods[params["method"]]}
            case "sendBoc":
                return {"@type": "ok"}
        raise ApiError(404, "Not Found")

    def block(self, seqno: int) -> dict[str, Any]:
        """A block id as the API writes it."""
        return {"workchain": -1, "shard": "-9223372036854775808", "seqno": seqno, "root_hash": "x", "file_hash": "y"}

    def account_information(self, params: dict[str, Any]) -> dict[str, Any]:
        """getAddressInformation."""
        seqno = self.pinned_block or int(params.get("seqno", self.seqno))
        code = self.codes.get(params["address"], b"")
        return {
            "@type": "raw.fullAccountState",
            "balance": "1000",
            "code": base64.b64encode(code).decode(),
            "data": "",
            "state": self.status,
            "last_transaction_id": identity(self.head_of(params["address"])),
            "block_id": self.block(seqno),
            "a_new_field": {"of": "the server"},
        }

    def transactions(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """getTransactions: start inclusive, `to_lt` exclusive, newest first."""
        made = list(reversed(self._visible(params["address"])))
        if "lt" in params:
            wanted = (int(params["lt"]), base64.b64decode(params["hash"]))
            starts = [n for n, item in enumerate(made) if (item.cursor.lt, item.cursor.hash) == wanted]
            if not starts:
                raise ApiError(500, "LITE_SERVER_UNKNOWN: cannot locate transaction in block")
            made = made[starts[0] :]
        made = [item for item in made if item.cursor.lt > int(params.get("to_lt", 0))]
        page = [item for item in made if item.cursor.lt not in self.hide_lts][: int(params.get("limit", 10))]
        return [self.render(item) for item in page]

    def render(self, item: Made) -> dict[str, Any]:
        """One transaction as the API writes it."""
        cursor = Cursor(item.cursor.lt, bytes(32)) if item.cursor.lt == self.swap_hash_of else item.cursor
        return {
            "@type": "ext.transaction",
            "utime": 1,
            "data": base64.b64encode(item.boc).decode(),
            "transaction_id": identity(cursor),
            "out_msgs": [],
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        target = head[0].split(" ")[1]
        headers = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        params = json.loads(body) if body else {name: values[0] for name, values in parse_qs(parts.query).items()}
        method = parts.path.rpartition("/")[2]
        self.requests.append((method, params, headers))
        self.served.set()
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault.kind == "hang":
            self.hangs[headers.get("x-request", "")].set()
            await reader.read()  # until the client gives up
            return False
        if fault is not None and fault.kind == "disconnect":
            return False
        status, content = self._content(method, params, fault)
        extra = "".join(f"{name}: {value}\r\n" for name, value in (fault.headers if fault else ()))
        start = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        writer.write(f"{start}{extra}\r\n".encode() + content)
        await writer.drain()
        return True

    def _content(self, method: str, params: dict[str, Any], fault: Fault | None) -> tuple[int, bytes]:
        if fault is not None and fault.body is not None:
            return fault.status, fault.body
        try:
            status, document = 200, {"ok": True, "result": self.answer(method, params)}
        except ApiError as error:
            status, document = error.status, {"ok": False, "error": str(error), "code": error.status}
        content = json.dumps(document).encode()
        return status, content[: len(content) // 2] if fault is not None and fault.kind == "truncate" else content


def identity(cursor: Cursor) -> dict[str, Any]:
    """A transaction id as the API writes it."""
    return {"@type": "internal.transactionId", "lt": str(cursor.lt), "hash": base64.b64encode(cursor.hash).decode()}


@asynccontextmanager
async def serving(fake: FakeTonCenter) -> AsyncIterator[FakeTonCenter]:
    """Serve on a free loopback port."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        task.add_done_callback(connections.discard)
        await fake.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
