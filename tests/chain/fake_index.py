"""A small TonCenter v3 over real HTTP: an index that has its own rows, and may have wrong ones."""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from chain.fake_toncenter import ApiError, FakeTonCenter
from chain.making import Made

FIRST_SEQNO = 1000


@dataclass
class FakeIndex(FakeTonCenter):
    """`/api/v3/transactions` over rows that a test may change."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    page_cap: int = 1000
    raw: deque[bytes] = field(default_factory=deque)

    def _content(self, method: str, params: dict[str, Any], fault: Any) -> tuple[int, bytes]:
        if method == "transactions" and fault is None and self.raw:
            return 200, self.raw.popleft()
        status, content = super()._content(method, params, fault)
        prefix, suffix = b'{"ok": true, "result": ', b"}"
        if content.startswith(prefix):
            content = content.removeprefix(prefix).removesuffix(suffix)
        return status, content

    def answer(self, method: str, params: dict[str, Any]) -> Any:
        """The page, in the shape of v3."""
        if method != "transactions":
            raise ApiError(404, "Not Found")
        low, high = int(params.get("start_lt", 0)), int(params.get("end_lt", 2**64))
        rows = [row for row in self.rows if low <= int(row["lt"]) <= high]
        rows.sort(key=lambda row: int(row["lt"]), reverse=params.get("sort") == "desc")
        start = int(params.get("offset", 0))
        count = min(int(params.get("limit", 10)), self.page_cap)
        return {"transactions": rows[start : start + count], "address_book": {}}


def index_row(item: Made, account: str, seqno: int | None) -> dict[str, Any]:
    """A transaction as v3 writes it."""
    return {
        "account": account.upper(),
        "hash": b64(item.cursor.hash),
        "lt": str(item.cursor.lt),
        "now": 1_700_000_000,
        "mc_block_seqno": seqno,
        "prev_trans_hash": b64(item.previous.hash),
        "prev_trans_lt": str(item.previous.lt),
        "description": {
            "type": "ord",
            "aborted": False,
            "compute_ph": {"skipped": False, "success": True, "exit_code": 0, "gas_used": "5"},
            "action": {"success": True, "result_code": 0},
        },
        "in_msg": None,
        "out_msgs": [],
        "finality": "finalized",
        "emulated": False,
    }


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
