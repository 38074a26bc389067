"""TonCenter's API v2 over a local chain: the methods that public clients and our own use.

Facts about the shapes: docs of the public server and its sources. Where the two public servers differ (`@type` of
transactions, largest page), this one follows the newer for names and the older for limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pytoniq_core.boc.address import Address

from tonsurance.core.errors import InputError, NotReady
from tonsurance.localnet.cells import cell_from_outside
from tonsurance.localnet.chain import FIRST_SEQNO, LocalChain
from tonsurance.localnet.http import Answer, ApiError, Request, refuse
from tonsurance.localnet.messages import normalized_hash
from tonsurance.localnet.parameters import MAX_LT, Parameters
from tonsurance.localnet.render import (
    b64,
    render_account,
    render_block_id,
    render_stack,
    render_transaction,
    render_transaction_id,
)
from tonsurance.localnet.store import BlockHeader

PREFIX = "/api/v2/"
DEFAULT_PAGE, MAX_PAGE = 10, 100
_POST_ONLY = {"runGetMethod", "sendBoc", "sendBocReturnHash", "jsonRPC"}
_VERBS = {"GET", "HEAD", "POST"}

Method = Callable[[Parameters], Any]


class TonCenter:
    """Answers the methods under /api/v2/."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self._methods: dict[str, Method] = {
            "getMasterchainInfo": self._get_masterchain_info,
            "getAddressInformation": self._get_address_information,
            "getAddressBalance": self._get_address_balance,
            "getAddressState": self._get_address_state,
            "getTransactions": self._get_transactions,
            "getConfigAll": self._get_config_all,
            "runGetMethod": self._run_get_method,
            "sendBoc": self._send_boc,
            "sendBocReturnHash": self._send_boc_return_hash,
        }

    async def handle(self, request: Request) -> Answer:
        """Answer one request; every refusal has the server's shape."""
        name = request.path.removeprefix(PREFIX)
        if request.method not in _VERBS or (name in _POST_ONLY and request.method != "POST"):
            raise ApiError(405, "Method Not Allowed")
        if name == "jsonRPC":
            return self._answer_rpc(request.parameters)
        return self._answer(name, request.parameters)

    def _answer(self, name: str, values: dict[str, Any]) -> Answer:
        method = self._methods.get(name)
        if method is None:
            raise ApiError(404, "Not Found")
        try:
            result = method(Parameters(values))
        except NotReady as error:
            raise ApiError(503, f"LITE_SERVER_NOTREADY: {error.message}") from error
        return Answer(200, {"ok": True, "result": result, "@extra": f"{time.time()}:0:0.0"})

    def _answer_rpc(self, values: dict[str, Any]) -> Answer:
        """The same methods with their name and parameters in the body."""
        name, parameters = values.get("method"), values.get("params", {})
        if not isinstance(name, str) or not isinstance(parameters, dict):
            raise ApiError(422, "method must be a string and params an object")
        try:
            answer = self._answer(name, parameters)
        except ApiError as error:
            answer = refuse(error.status, error.message)
        return Answer(answer.status, {**answer.content, "id": values.get("id"), "jsonrpc": "2.0"})

    def _block(self, parameters: Parameters) -> BlockHeader:
        """The block named by `seqno`, else the last."""
        seqno = parameters.integer("seqno", low=0, high=2**31 - 1)
        try:
            return self._chain.header(seqno)
        except InputError as error:
            raise ApiError(500, "LITE_SERVER_UNKNOWN: cannot find block: seqno not in db") from error

    # --- blocks and accounts

    def _get_masterchain_info(self, _: Parameters) -> dict[str, Any]:
        head, first = self._chain.head, self._chain.header(FIRST_SEQNO)
        return {
            "@type": "blocks.masterchainInfo",
            "last": render_block_id(head),
            "state_root_hash": b64(head.root_hash),
            "init": render_block_id(first),
        }

    def _get_address_information(self, parameters: Parameters) -> dict[str, Any]:
        header = self._block(parameters)
        return render_account(self._chain.account(parameters.address(), header.seqno), header)

    def _get_address_balance(self, parameters: Parameters) -> str:
        return str(self._chain.balance(parameters.address(), self._block(parameters).seqno))

    def _get_address_state(self, parameters: Parameters) -> str:
        return self._chain.account(parameters.address(), self._block(parameters).seqno).status

    def _get_config_all(self, _: Parameters) -> dict[str, Any]:
        return {"@type": "configInfo", "config": {"@type": "tvm.cell", "bytes": self._chain.engine.config_boc_b64}}

    # --- transactions

    def _get_transactions(self, parameters: Parameters) -> list[dict[str, Any]]:
        address = parameters.address()
        limit = parameters.integer("limit", low=1, high=MAX_PAGE) or DEFAULT_PAGE
        to_lt = parameters.integer("to_lt", low=0, high=MAX_LT) or 0
        lt = self._start_of_page(address, parameters)
        stored = self._chain.transactions(address, until_lt=lt, after_lt=to_lt, limit=limit)
        return [render_transaction(address, transaction) for transaction in stored]

    def _start_of_page(self, address: Address, parameters: Parameters) -> int | None:
        """The logical time to start at, which must be that of a transaction with the hash given; None: the newest."""
        lt, hash_ = parameters.integer("lt", low=0, high=MAX_LT), parameters.hash("hash")
        if bool(lt) != (hash_ is not None):
            raise ApiError(422, "lt and hash must be provided together")
        if not lt:
            return None
        first = self._chain.transaction(address, lt)
        if first is None:
            raise ApiError(500, "LITE_SERVER_UNKNOWN: cannot locate transaction in block with specified logical time")
        if first.hash != hash_:
            raise ApiError(500, "LITE_SERVER_UNKNOWN: transaction hash mismatch")
        return lt

    # --- contracts

    def _run_get_method(self, parameters: Parameters) -> dict[str, Any]:
        address, method, stack = parameters.address(), parameters.method(), parameters.stack()
        header = self._block(parameters)
        result = self._chain.get_method(address, method, stack, header.seqno)
        view = self._chain.account(address, header.seqno)
        return {
            "@type": "smc.runResult",
            "gas_used": result.gas_used,
            "stack": render_stack(result.stack),
            "exit_code": result.exit_code,
            "block_id": render_block_id(header),
            "last_transaction_id": render_transaction_id(view.last_lt, view.last_hash),
        }

    def _send_boc(self, parameters: Parameters) -> dict[str, str]:
        self._submit(parameters)
        return {"@type": "ok"}

    def _send_boc_return_hash(self, parameters: Parameters) -> dict[str, str]:
        boc = self._submit(parameters)
        message = cell_from_outside(boc)
        return {
            "@type": "raw.extMessageInfo",
            "hash": b64(bytes(message.hash)),
            "hash_norm": b64(normalized_hash(message)),
        }

    def _submit(self, parameters: Parameters) -> bytes:
        boc = parameters.boc()
        try:
            self._chain.submit_external(boc)
        except InputError as error:
            raise ApiError(500, f"LITE_SERVER_UNKNOWN: cannot apply external message: {error.message}") from error
        return boc
