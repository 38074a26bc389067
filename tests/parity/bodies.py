"""Bodies of messages from and to their fields, for the pair under test."""

from __future__ import annotations

import msgspec
from nacl.signing import SigningKey
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell

from tonsurance.chain.messages import Op, Quote, build_cell, quote_cell
from tonsurance.localnet.messages import MessageView

SIGNERS = tuple(SigningKey(bytes(range(start, start + 32))) for start in range(1, 5))
KEYS = tuple(bytes(signer.verify_key) for signer in SIGNERS)

FIELDS: dict[str, tuple[str, ...]] = {
    "deposit": ("uint8",),
    "request_withdraw": ("uint8", "uint128"),
    "withdraw": ("uint8",),
    "back_policy": ("uint64", "coins", "coins", "uint32"),
    "release_coverage": ("uint64",),
    "set_factory": ("address",),
    "pay_claim": ("uint64", "coins", "address"),
    "execute_claim": ("uint64",),
    "override_claim": ("uint64",),
    "cancel_claim": ("uint64",),
    "freeze": ("uint32",),
    "pause": (),
    "unpause": (),
    "top_up": (),
    "expire_policy": ("uint64",),
    "retry_policy": ("uint64",),
    "execute_payout": ("uint64", "coins"),
    "policy_backed": ("uint64",),
    "coverage_released": ("uint64",),
    "claim_settled": ("uint64", "coins"),
    "claim_held": ("uint64",),
    "claim_dropped": ("uint64",),
    "claim_payment": ("uint64",),
    "excesses": (),
    "unheard_of": (),
}


class Sent(msgspec.Struct, frozen=True):
    """A body that was read."""

    name: str
    query_id: int
    args: tuple


def op_of(name: str) -> int:
    """The op-code; an op no contract knows for `unheard_of`."""
    return 0x7EADBEEF if name == "unheard_of" else Op[name.upper()]


NAMES = {op_of(name): name for name in FIELDS if name.upper() in Op.__members__}


def body_of(name: str, args: tuple, query_id: int) -> Cell:
    """The body with these fields."""
    if name == "create_policy":
        return _purchase(*args, query_id=query_id)
    if name == "set_quote_key":
        args = (int.from_bytes(args[0], "big"),)
    kinds = ("uint256",) if name == "set_quote_key" else FIELDS[name]
    return build_cell(("uint32", op_of(name)), ("uint64", query_id), *zip(kinds, args, strict=True))


def _purchase(quote: Quote, tag: int, signer: bytes | None, *, query_id: int) -> Cell:
    """A quote under any tag, signed by one of the keys, or with a signature of something else."""
    cell = quote_cell(quote)
    if tag != Op.QUOTE:
        cell = Builder().store_uint(tag, 32).store_bits(cell.bits[32:]).end_cell()
    if signer is None:
        signature = SIGNERS[0].sign(bytes(32)).signature
    else:
        signature = SIGNERS[KEYS.index(signer)].sign(bytes(cell.hash)).signature
    signed = Builder().store_bytes(bytes(signature)).store_ref(cell).end_cell()
    return build_cell(("uint32", Op.CREATE_POLICY), ("uint64", query_id), refs=(signed,))


def read_body(view: MessageView) -> Sent:
    """The fields of a message a contract sent; all of it must be read."""
    body = view.body.begin_parse()
    name, query_id = NAMES[body.load_uint(32)], body.load_uint(64)
    args = tuple(_read(body, kind) for kind in FIELDS[name])
    assert body.remaining_bits == 0
    return Sent(name, query_id, args)


def _read(body, kind: str) -> int | str:
    if kind == "coins":
        return body.load_coins()
    if kind == "address":
        found = body.load_address()
        return f"{found.wc}:{found.hash_part.hex()}"
    return body.load_uint(int(kind.removeprefix("uint")))
