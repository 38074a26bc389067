"""Cells, messages and transactions assembled bit by bit, with none of our code and no library: the other side of the
reference layouts' tests. Bits are text of 0 and 1, so that a test reads like the description of a message."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

ACCOUNT = "0:" + "a7" * 32
USER = "0:ca6effcdd49932daba610ad5ea5fec2e9043a26953b1434351a99544d11ce137"
"""Whose 267 bits begin with the hexadecimal digits 80194ddff9ba, as in the written examples."""
OTHER = "-1:" + "0f" * 32
NOW = 1_760_000_000


@dataclass(frozen=True)
class Node:
    """A cell."""

    bits: str = ""
    refs: tuple[Node, ...] = ()


def uint(value: int, width: int) -> str:
    """An unsigned number."""
    assert 0 <= value < 2**width
    return f"{value:0{width}b}"


def coins(value: int) -> str:
    """Four bits say how many bytes follow."""
    width = (value.bit_length() + 7) // 8
    return uint(width, 4) + (uint(value, 8 * width) if width else "")


def address(raw: str | None) -> str:
    """`10`, no anycast, the workchain, the hash; `00` for none."""
    if raw is None:
        return "00"
    workchain, _, digits = raw.partition(":")
    return "100" + uint(int(workchain) % 256, 8) + uint(int(digits, 16), 256)


def log(number: int, payload: Node, *, width: int = 256, account: str = ACCOUNT) -> Node:
    """An external out-message as the earlier generation sends it: the number is the destination, the body one ref."""
    head = "11" + address(account) + "01" + uint(width, 9) + uint(number, width)
    return Node(head + uint(12_345, 64) + uint(NOW, 32) + "0" + "0", (payload,))


def incoming(
    body: Node, *, value: int = 0, sender: str = USER, bounced: bool = False, inline: bool = True, extra: str = ""
) -> Node:
    """An internal message to the account; `extra` bits follow an inline body."""
    head = "0" + "1" + "1" + ("1" if bounced else "0") + address(sender) + address(ACCOUNT) + coins(value)
    head += "0" + coins(0) + coins(400_000) + uint(12_344, 64) + uint(NOW, 32) + "0"
    return Node(head + "0" + body.bits + extra, body.refs) if inline else Node(head + "1", (body,))


def from_wallet(body: Node) -> Node:
    """An external message to the account."""
    return Node("10" + "00" + address(ACCOUNT) + coins(0) + "0" + "1", (body,))


def transaction(
    outs: Sequence[Node] = (),
    message: Node | None = None,
    *,
    exit_code: int = 0,
    acted: bool = True,
    aborted: bool | None = None,
    account: str = ACCOUNT,
    lt: int = 99_000_001,
) -> Node:
    """An ordinary transaction with these messages."""
    messages = Node(
        ("0" if message is None else "1") + ("1" if outs else "0"),
        (() if message is None else (message,)) + ((_dictionary(list(enumerate(outs)), 15),) if outs else ()),
    )
    failed = exit_code not in (0, 1) or not acted
    described = "0000" + "1" + "0" + "0"  # ordinary, credit first, no storage and no credit phase
    described += "1" + ("1" if exit_code in (0, 1) else "0") + "00" + coins(9_000_000)
    gas = uint(2, 3) + uint(9000, 16) + "000" + "0"
    details = Node(gas + "0" * 8 + uint(exit_code, 32) + "0" + uint(77, 32) + "0" * 512)
    action = Node(("1" if acted else "0") + "10000" + "0" * 32 + "0" + uint(len(outs), 16) + "0" * 48 + "0" * 262)
    described += "1" + ("1" if (failed if aborted is None else aborted) else "0") + "0" + "0"
    root = "0111" + uint(int(account[2:], 16), 256) + uint(lt, 64) + uint(7, 256) + uint(lt - 1, 64)
    root += uint(NOW, 32) + uint(len(outs), 15) + "1010" + coins(5_000_000) + "0"
    return Node(root, (messages, Node(uint(0x72, 8) + "0" * 512), Node(described, (details, action))))


def _dictionary(leaves: list[tuple[int, Node]], width: int) -> Node:
    """Labels in their long form, `10`, or empty, `00`; each leaf holds its message as a ref."""
    keys = [uint(key, width) if width else "" for key, _ in leaves]
    shared = 0
    while shared < width and len({key[: shared + 1] for key in keys}) == 1:
        shared += 1
    label = "10" + uint(shared, width.bit_length()) + keys[0][:shared] if shared else "00"
    if shared == width:
        return Node(label, (leaves[0][1],))
    rest = width - shared - 1
    low = [(key % 2**rest, leaf) for key, leaf in leaves if not key >> rest & 1]
    high = [(key % 2**rest, leaf) for key, leaf in leaves if key >> rest & 1]
    return Node(label, (_dictionary(low, rest), _dictionary(high, rest)))


def data_of(node: Node) -> bytes:
    """The bits as bytes, with a one and zeros behind them where they do not fill the last byte."""
    bits = node.bits if len(node.bits) % 8 == 0 else node.bits + "1" + "0" * (-len(node.bits) % 8 - 1)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def _descriptors(node: Node) -> bytes:
    return bytes((len(node.refs), len(node.bits) // 8 + (len(node.bits) + 7) // 8))


def _depth(node: Node) -> int:
    return max((_depth(ref) + 1 for ref in node.refs), default=0)


def hash_of(node: Node) -> bytes:
    """The representation hash."""
    depths = b"".join(_depth(ref).to_bytes(2, "big") for ref in node.refs)
    return hashlib.sha256(
        _descriptors(node) + data_of(node) + depths + b"".join(hash_of(ref) for ref in node.refs)
    ).digest()


def boc(node: Node) -> bytes:
    """A bag of cells with one root, without index and checksum."""
    order: list[Node] = []
    content = _flatten(node, order)
    head = b"\xb5\xee\x9c\x72" + b"\x02\x03" + len(order).to_bytes(2, "big") + b"\x00\x01" + b"\x00\x00"
    return head + len(content).to_bytes(3, "big") + b"\x00\x00" + content


def _flatten(root: Node, order: list[Node]) -> bytes:
    """Cells level by level, so that refs point forward."""
    order.append(root)
    content, at = b"", 0
    while at < len(order):
        node = order[at]
        content += _descriptors(node) + data_of(node)
        for ref in node.refs:
            content += len(order).to_bytes(2, "big")
            order.append(ref)
        at += 1
    return content


def text_of(node: Node) -> str:
    """The bag as base64 text."""
    return binascii.b2a_base64(boc(node), newline=False).decode()
