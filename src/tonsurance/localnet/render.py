"""Blocks, accounts, transactions and stacks in the JSON of TonCenter's API v2."""

from __future__ import annotations

import base64
from typing import Any

from pytoniq_core.boc.address import Address
from pytoniq_core.boc.cell import Cell
from pytoniq_core.boc.slice import Slice

from tonsurance.localnet.accounts import AccountView
from tonsurance.localnet.cells import boc_of, cell_of, friendly_address, read
from tonsurance.localnet.messages import MessageView, read_message, read_transaction
from tonsurance.localnet.store import BlockHeader, StoredTransaction

MASTERCHAIN_SHARD = "-9223372036854775808"
_COMMENT = 0
_ENCRYPTED_COMMENT = 0x2167DA4B
_TREE_CELLS = 200


def b64(data: bytes) -> str:
    """Bytes in ordinary base64."""
    return base64.b64encode(data).decode("ascii")


def render_block_id(header: BlockHeader) -> dict[str, Any]:
    """The id of a masterchain block."""
    return {
        "@type": "ton.blockIdExt",
        "workchain": -1,
        "shard": MASTERCHAIN_SHARD,
        "seqno": header.seqno,
        "root_hash": b64(header.root_hash),
        "file_hash": b64(header.file_hash),
    }


def render_transaction_id(lt: int, hash_: bytes) -> dict[str, str]:
    """A transaction's logical time, as text, and hash."""
    return {"@type": "internal.transactionId", "lt": str(lt), "hash": b64(hash_)}


def render_account(view: AccountView, header: BlockHeader) -> dict[str, Any]:
    """An account after a block."""
    return {
        "@type": "raw.fullAccountState",
        "balance": str(view.balance),
        "extra_currencies": [],
        "code": b64(view.code) if view.code else "",
        "data": b64(view.data) if view.data else "",
        "last_transaction_id": render_transaction_id(view.last_lt, view.last_hash),
        "block_id": render_block_id(header),
        "frozen_hash": b64(view.frozen_hash) if view.frozen_hash else "",
        "sync_utime": header.utime,
        "state": view.status,
        "suspended": False,
    }


def render_transaction(address: Address, stored: StoredTransaction) -> dict[str, Any]:
    """A transaction. What the JSON leaves out (exit code, aborted) is in `data`."""
    view = read_transaction(stored.boc)
    out_messages = [_render_message(cell) for cell in view.out_messages]
    fee = view.total_fees + sum(int(message["fwd_fee"]) for message in out_messages)
    return {
        "@type": "ext.transaction",
        "address": {"@type": "accountAddress", "account_address": friendly_address(address)},
        "account": f"{address.wc}:{address.hash_part.hex().upper()}",
        "utime": view.now,
        "data": b64(stored.boc),
        "transaction_id": render_transaction_id(view.lt, view.hash),
        "fee": str(fee),
        "storage_fee": str(view.storage_fee),
        "other_fee": str(fee - view.storage_fee),
        "in_msg": _render_message(view.in_message) if view.in_message is not None else None,
        "out_msgs": out_messages,
    }


def _render_message(cell: Cell) -> dict[str, Any]:
    view = read_message(cell)
    data, text = _render_body(view)
    return {
        "@type": "ext.message",
        "hash": b64(bytes(cell.hash)),
        "source": friendly_address(view.source) if view.source else "",
        "destination": friendly_address(view.destination) if view.destination else "",
        "value": str(view.value),
        "extra_currencies": [],
        "fwd_fee": str(view.forward_fee),
        "ihr_fee": str(view.ihr_fee),
        "created_lt": str(view.created_lt),
        "body_hash": b64(bytes(view.body.hash)),
        "msg_data": data,
        "message": text,
    }


def _render_body(view: MessageView) -> tuple[dict[str, str], str]:
    """`msg_data` and `message`. A comment comes as text and without its cell, as the public server gives it."""
    bits = read(view.body)
    op = bits.load_uint(32) if bits.remaining_bits >= 32 else None
    if op in (_COMMENT, _ENCRYPTED_COMMENT):
        text = _read_snake(bits)
        if text is not None:
            kind = "msg.dataText" if op == _COMMENT else "msg.dataEncryptedText"
            return {"@type": kind, "text": b64(text)}, text.decode("utf-8", "replace") if op == _COMMENT else b64(text)
    raw = {
        "@type": "msg.dataRaw",
        "body": b64(boc_of(view.body)),
        "init_state": b64(boc_of(view.init)) if view.init is not None else "",
    }
    content = read(view.body).bits.tobytes()
    return raw, base64.encodebytes(content).decode("ascii") if content else ""


def _read_snake(bits: Any) -> bytes | None:
    """Text that goes on in the first ref of each cell; None when it is no whole number of bytes."""
    parts: list[bytes] = []
    while True:
        if bits.remaining_bits % 8:
            return None
        parts.append(bits.load_bytes(bits.remaining_bits // 8))
        if not bits.remaining_refs:
            return b"".join(parts)
        bits = read(bits.load_ref())


def render_stack(values: list[Any]) -> list[list[Any]]:
    """A get-method's stack: here numbers are hexadecimal, and slices come as cells."""
    return [_render_entry(value) for value in values]


def _render_entry(value: Any) -> list[Any]:
    if isinstance(value, int):
        return ["num", hex(value)]
    if isinstance(value, Cell | Slice):
        return ["cell", _render_cell(value)]
    if _is_list(value):
        return ["list", {"@type": "tvm.list", "elements": _list_elements(value)}]
    if isinstance(value, tuple):
        return ["tuple", {"@type": "tvm.tuple", "elements": [_render_element(item) for item in value]}]
    return ["unsupported", {"@type": "tvm.stackEntryUnsupported"}]


def _render_element(value: Any) -> dict[str, Any]:
    """An entry of a tuple: here numbers are decimal, and slices are slices."""
    if isinstance(value, int):
        return {"@type": "tvm.stackEntryNumber", "number": {"@type": "tvm.numberDecimal", "number": str(value)}}
    if isinstance(value, Cell):
        return {"@type": "tvm.stackEntryCell", "cell": {"@type": "tvm.cell", "bytes": b64(boc_of(value))}}
    if isinstance(value, Slice):
        content = b64(boc_of(cell_of(value)))
        return {"@type": "tvm.stackEntrySlice", "slice": {"@type": "tvm.slice", "bytes": content}}
    if _is_list(value):
        return {"@type": "tvm.stackEntryList", "list": {"@type": "tvm.list", "elements": _list_elements(value)}}
    if isinstance(value, tuple):
        elements = [_render_element(item) for item in value]
        return {"@type": "tvm.stackEntryTuple", "tuple": {"@type": "tvm.tuple", "elements": elements}}
    return {"@type": "tvm.stackEntryUnsupported"}


def _is_list(value: Any) -> bool:
    """Null, or a pair whose second is a list: the public server shows these as lists, not as tuples."""
    while isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    return value is None


def _list_elements(value: Any) -> list[dict[str, Any]]:
    elements: list[dict[str, Any]] = []
    while value is not None:
        head, value = value
        elements.append(_render_element(head))
    return elements


def _render_cell(value: Cell | Slice) -> dict[str, Any]:
    """A cell as a bag and, unless it is large, also as a tree: old clients read that."""
    cell = value if isinstance(value, Cell) else cell_of(value)
    rendered: dict[str, Any] = {"bytes": b64(boc_of(cell))}
    if _is_small(cell):
        rendered["object"] = _render_tree(cell)
    return rendered


def _is_small(cell: Cell) -> bool:
    """Whether the tree has few cells, shared ones counted as often as they appear."""
    pending, count = [cell], 0
    while pending and count <= _TREE_CELLS:
        pending.extend(pending.pop().refs)
        count += 1
    return not pending


def _render_tree(cell: Cell) -> dict[str, Any]:
    data = {"b64": b64(cell.bits.tobytes()), "len": len(cell.bits)}
    return {"data": data, "refs": [_render_tree(ref) for ref in cell.refs], "special": cell.type_ != -1}
