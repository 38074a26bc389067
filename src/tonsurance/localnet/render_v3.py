"""Transactions and messages in the JSON of TonCenter's API v3, which its stream uses too (TL-B: block.tlb)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.cell import Cell
from tonpy import Cell as TvmCell

from tonsurance.localnet.accounts import NO_ACCOUNT_BOC, native_cell, open_account
from tonsurance.localnet.cells import boc_of, cell_from_boc, friendly_address, read
from tonsurance.localnet.chain import LocalChain
from tonsurance.localnet.messages import MessageView, TransactionView, normalized_hash, read_message, read_transaction
from tonsurance.localnet.render import b64
from tonsurance.localnet.store import StoredTransaction

SHARD = "8000000000000000"
_STATUSES = ("uninit", "frozen", "active", "nonexist")
_SHORT_STATUSES = {"uninitialized": "uninit"}
_SKIP_REASONS = ("no_state", "bad_state", "no_gas", "suspended")
_MAX_DEPTH = 64
_MAX_TRACES = 4_096
_UNKNOWN_STATE = ("balance", "extra_currencies", "account_status", "frozen_hash", "data_hash", "code_hash")


class Trace(msgspec.Struct, frozen=True):
    """What set a transaction off: the first transaction, its message, and that message's normalized hash."""

    transaction_hash: bytes
    message_hash: bytes
    normalized_hash: bytes


class TransactionRenderer:
    """Shows transactions of one chain. It remembers the traces it showed last."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self._traces: OrderedDict[bytes, Trace] = OrderedDict()
        """By the hash of a message that goes on with the trace."""

    def render(self, address: Address, stored: StoredTransaction) -> dict[str, Any]:
        """A transaction of this account."""
        return self.render_with_trace(address, stored)[0]

    def render_with_trace(self, address: Address, stored: StoredTransaction) -> tuple[dict[str, Any], Trace]:
        """A transaction of this account, and what set it off."""
        view, cell = read_transaction(stored.boc), cell_from_boc(stored.boc)
        trace = self.find_trace(view)
        statuses = _read_statuses(cell)
        before, after = _read_state_hashes(cell)
        shown = {
            "account": raw_address_v3(address),
            "hash": b64(view.hash),
            "lt": str(view.lt),
            "now": view.now,
            "mc_block_seqno": stored.seqno,
            "trace_id": b64(trace.transaction_hash),
            "trace_external_hash": b64(trace.message_hash),
            "prev_trans_hash": b64(view.prev_hash),
            "prev_trans_lt": str(view.prev_lt),
            "orig_status": statuses[0],
            "end_status": statuses[1],
            "total_fees": str(view.total_fees),
            "total_fees_extra_currencies": {},
            "description": _render_description(read(cell.refs[-1])),
            "block_ref": {"workchain": address.wc, "shard": SHARD, "seqno": stored.seqno},
            "in_msg": render_message(view.in_message) if view.in_message is not None else None,
            "out_msgs": [render_message(message) for message in view.out_messages],
            "account_state_before": {"hash": before, **dict.fromkeys(_UNKNOWN_STATE)},
            "account_state_after": {"hash": after, **dict.fromkeys(_UNKNOWN_STATE)},
            "emulated": False,
            "finality": "finalized",
        }
        return shown, trace

    def render_book(self, shown: list[dict[str, Any]]) -> dict[str, Any]:
        """The address book: each address of these transactions in its friendly form."""
        found: set[str] = set()
        for transaction in shown:
            found.add(transaction["account"])
            for message in (transaction["in_msg"] or {}, *transaction["out_msgs"]):
                found.update(text for text in (message.get("source"), message.get("destination")) if text)
        return {text: {"user_friendly": friendly_address(Address(text)), "domain": None} for text in sorted(found)}

    def find_trace(self, view: TransactionView) -> Trace:
        """Walk from message to the transaction that sent it, up to the one that no transaction of the chain set off."""
        root, met = view, [view]
        trace = self._recall(root)
        while trace is None and len(met) < _MAX_DEPTH:
            sender = self._find_sender(root)
            if sender is None:
                break
            root = sender
            met.append(root)
            trace = self._recall(root)
        trace = trace or _start_trace(root)
        for known in met:
            self._remember(known, trace)
        return trace

    def _recall(self, view: TransactionView) -> Trace | None:
        return self._traces.get(bytes(view.in_message.hash)) if view.in_message is not None else None

    def _remember(self, view: TransactionView, trace: Trace) -> None:
        for message in view.out_messages:
            self._traces[bytes(message.hash)] = trace
        while len(self._traces) > _MAX_TRACES:
            self._traces.popitem(last=False)

    def _find_sender(self, view: TransactionView) -> TransactionView | None:
        """The transaction that sent the message which set this one off; None for one from outside, or given."""
        if view.in_message is None:
            return None
        message = read_message(view.in_message)
        if message.source is None or not message.created_lt:
            return None
        found = self._chain.transactions(message.source, until_lt=message.created_lt, limit=1)
        sender = read_transaction(found[0].boc) if found else None
        wanted = view.in_message.hash
        if sender is None or all(sent.hash != wanted for sent in sender.out_messages):
            return None
        return sender


def _start_trace(root: TransactionView) -> Trace:
    if root.in_message is None:
        return Trace(root.hash, root.hash, root.hash)
    hash_ = bytes(root.in_message.hash)
    external = read_message(root.in_message).kind == "external_in"
    return Trace(root.hash, hash_, normalized_hash(root.in_message) if external else hash_)


def raw_address_v3(address: Address) -> str:
    """`0:<64 HEX>`, upper case."""
    return f"{address.wc}:{address.hash_part.hex().upper()}"


def render_account_state(account_boc: bytes | None) -> dict[str, Any]:
    """An account as a stream shows it: not its code and data, but their hashes."""
    account = open_account(account_boc)
    shard = native_cell(account_boc or NO_ACCOUNT_BOC).begin_parse()
    return {
        "hash": _hash_of(shard.load_ref()),
        "balance": str(account.view.balance),
        "account_status": _SHORT_STATUSES.get(account.view.status, account.view.status),
        "data_hash": _hash_of(account.data),
        "code_hash": _hash_of(account.code),
    }


def _hash_of(cell: TvmCell | None) -> str | None:
    return None if cell is None else b64(bytes.fromhex(cell.get_hash()))


# --- messages


def render_message(cell: Cell) -> dict[str, Any]:
    """A message. Value, fees and flags are null where its kind has none; so is the destination of an external one."""
    view = read_message(cell)
    internal, outside = view.kind == "internal", view.kind == "external_in"
    shown = {
        "hash": b64(bytes(cell.hash)),
        "source": raw_address_v3(view.source) if view.source else None,
        "destination": raw_address_v3(view.destination) if view.destination else None,
        "value": str(view.value) if internal else None,
        "value_extra_currencies": {} if internal else None,
        "fwd_fee": str(view.forward_fee) if internal else None,
        "ihr_fee": str(view.ihr_fee) if internal else None,
        "extra_flags": str(view.ihr_fee) if internal else None,
        "created_lt": None if outside else str(view.created_lt),
        "created_at": None if outside else str(view.created_at),
        "opcode": _read_opcode(view),
        "decoded_opcode": None,
        "ihr_disabled": _is_ihr_disabled(cell) if internal else None,
        "bounce": view.bounce if internal else None,
        "bounced": view.bounced if internal else None,
        "import_fee": "0" if outside else None,
        "message_content": {**_render_cell(view.body), "decoded": None},
        "init_state": _render_cell(view.init) if view.init is not None else None,
    }
    return shown | ({"hash_norm": b64(normalized_hash(cell))} if outside else {})


def _render_cell(cell: Cell) -> dict[str, Any]:
    return {"hash": b64(bytes(cell.hash)), "body": b64(boc_of(cell))}


def _read_opcode(view: MessageView) -> str | None:
    body = read(view.body)
    return f"0x{body.load_uint(32):08x}" if body.remaining_bits >= 32 else None


def _is_ihr_disabled(cell: Cell) -> bool:
    bits = read(cell)
    bits.load_bit()
    return bool(bits.load_bool())


# --- what the transaction says of itself


def _read_statuses(cell: Cell) -> tuple[str, str]:
    data = read(cell)
    data.load_bits(4 + 256 + 64 + 256 + 64 + 32 + 15)
    return _STATUSES[data.load_uint(2)], _STATUSES[data.load_uint(2)]


def _read_state_hashes(cell: Cell) -> tuple[str, str]:
    """Of the account before and after: the last reference but one holds them."""
    update = read(cell.refs[-2])
    update.load_uint(8)
    return b64(update.load_bytes(32)), b64(update.load_bytes(32))


def _render_description(data: Any) -> dict[str, Any]:
    """An ordinary transaction; the local chain makes no others."""
    data.load_uint(4)
    shown: dict[str, Any] = {"type": "ord", "credit_first": data.load_bool()}
    if data.load_bool():
        shown["storage_ph"] = _render_storage_phase(data)
    if data.load_bool():
        shown["credit_ph"] = _render_credit_phase(data)
    shown["compute_ph"] = _render_compute_phase(data)
    action = data.load_maybe_ref()
    if action is not None:
        shown["action"] = _render_action_phase(read(action))
    shown["aborted"] = data.load_bool()
    if data.load_bool():
        shown["bounce"] = _render_bounce_phase(data)
    shown["destroyed"] = data.load_bool()
    return shown


def _render_storage_phase(data: Any) -> dict[str, Any]:
    shown = {"storage_fees_collected": str(data.load_coins())}
    if data.load_bool():
        shown["storage_fees_due"] = str(data.load_coins())
    return shown | {"status_change": _read_status_change(data)}


def _render_credit_phase(data: Any) -> dict[str, Any]:
    shown = {"due_fees_collected": str(data.load_coins())} if data.load_bool() else {}
    shown["credit"] = str(data.load_coins())
    data.load_maybe_ref()  # extra currencies: none here
    return shown


def _render_compute_phase(data: Any) -> dict[str, Any]:
    if not data.load_bool():
        reason = data.load_uint(2)
        if reason == 3:
            data.load_bit()
        return {"skipped": True, "reason": _SKIP_REASONS[reason]}
    flags = {name: data.load_bool() for name in ("success", "msg_state_used", "account_activated")}
    shown: dict[str, Any] = {"skipped": False, **flags, "gas_fees": str(data.load_coins())}
    details = read(data.load_ref())
    shown["gas_used"] = str(details.load_var_uint(3) or 0)
    shown["gas_limit"] = str(details.load_var_uint(3) or 0)
    if details.load_bool():
        shown["gas_credit"] = str(details.load_var_uint(2) or 0)
    shown["mode"], shown["exit_code"] = details.load_int(8), details.load_int(32)
    if details.load_bool():
        shown["exit_arg"] = details.load_int(32)
    shown["vm_steps"] = details.load_uint(32)
    shown["vm_init_state_hash"] = b64(details.load_bytes(32))
    shown["vm_final_state_hash"] = b64(details.load_bytes(32))
    return shown


def _render_action_phase(data: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {name: data.load_bool() for name in ("success", "valid", "no_funds")}
    shown["status_change"] = _read_status_change(data)
    for name in ("total_fwd_fees", "total_action_fees"):
        if data.load_bool():
            shown[name] = str(data.load_coins())
    shown["result_code"] = data.load_int(32)
    if data.load_bool():
        shown["result_arg"] = data.load_int(32)
    for name in ("tot_actions", "spec_actions", "skipped_actions", "msgs_created"):
        shown[name] = data.load_uint(16)
    shown["action_list_hash"] = b64(data.load_bytes(32))
    return shown | {"tot_msg_size": _render_size(data)}


def _render_bounce_phase(data: Any) -> dict[str, Any]:
    if data.load_bool():
        size = _render_size(data)
        return {"type": "ok", "msg_size": size, "msg_fees": str(data.load_coins()), "fwd_fees": str(data.load_coins())}
    if not data.load_bool():
        return {"type": "negfunds"}
    return {"type": "nofunds", "msg_size": _render_size(data), "req_fwd_fees": str(data.load_coins())}


def _render_size(data: Any) -> dict[str, str]:
    return {"cells": str(data.load_var_uint(3) or 0), "bits": str(data.load_var_uint(3) or 0)}


def _read_status_change(data: Any) -> str:
    if not data.load_bool():
        return "unchanged"
    return "deleted" if data.load_bool() else "frozen"
