"""A small chain in memory: the real TVM, our contracts, and addresses without code that pay and are paid."""

from __future__ import annotations

from collections import deque

import msgspec
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell

from tonsurance.chain import messages
from tonsurance.chain.decode import Decoder
from tonsurance.chain.deployment import Deployment
from tonsurance.chain.layout import load_layout
from tonsurance.core.events import EventBody
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.accounts import view_account
from tonsurance.localnet.engine import TonpyEngine
from tonsurance.localnet.messages import internal_message, read_message, read_transaction

LT_STEP = 1_000_000
START = 1_790_000_000
LAYOUT = load_layout()


def address(number: int, workchain: int = 0) -> str:
    """A plain address to play a person or another contract."""
    return f"{workchain}:{number:064x}"


ADMIN, ALICE, BOB, CAROL, CLAIMS, STRANGER = (address(0xA0 + n) for n in range(6))


class Payment(msgspec.Struct, frozen=True):
    """A message that left for an address without code, or that waits for a contract."""

    source: str
    destination: str
    value: int
    op: int | None
    query_id: int | None
    bounced: bool
    bounce: bool


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction of a contract."""

    account: str
    exit_code: int | None
    succeeded: bool
    events: tuple[EventBody, ...]
    sent: tuple[Payment, ...]
    value: int
    storage_fee: int
    fees: int
    boc: bytes


class World:
    """Blocks are not modelled: time stands until it is moved, and messages run one hop after another."""

    def __init__(self) -> None:
        self.engine = TonpyEngine()
        self.now = START
        self.lt = 50 * LT_STEP
        self.accounts: dict[str, bytes] = {}
        self.decoders: dict[str, Decoder] = {}
        self.queue: deque[tuple[str, Cell]] = deque()
        self.paid: list[Payment] = []

    def deploy(self, kind: str, deployment: Deployment, balance: int = 2 * NANO_PER_TON) -> str:
        """Deploy as anyone would: with a top-up of the rent reserve."""
        at = deployment.address
        self.decoders[at] = Decoder(LAYOUT, contract=at, kind=kind)
        self.accounts[at] = b""
        steps = self.send(ADMIN, at, balance, messages.top_up(), init=deployment.state_init)
        assert [step.exit_code for step in steps] == [0]
        return at

    def plant(self, kind: str, code: Cell, data: Cell, balance: int) -> str:
        """A contract in a state that messages cannot bring it to (here: quickly, or at all)."""
        init = Builder().store_uint(0b00110, 5).store_ref(code).store_ref(data).end_cell()
        at = f"0:{bytes(init.hash).hex()}"
        # Account (block.tlb): address; 1 cell, 1 bit used, no extra, last paid now, nothing due; lt, balance, active
        account = Builder().store_bit_int(1).store_address(Address(at))
        account.store_uint(1, 3).store_uint(1, 8).store_uint(1, 3).store_uint(1, 8).store_uint(0, 3)
        account.store_uint(self.now, 32).store_bit_int(0).store_uint(self.lt, 64).store_coins(balance).store_bit_int(0)
        account.store_bit_int(1).store_cell(init)
        shard = Builder().store_ref(account.end_cell()).store_uint(0, 256).store_uint(self.lt - 1, 64).end_cell()
        self.accounts[at] = bytes(shard.to_boc())
        self.decoders[at] = Decoder(LAYOUT, contract=at, kind=kind)
        return at

    def post(
        self, source: str, to: str, value: int, body: Cell, *, init: Cell | None = None, bounce: bool = True
    ) -> None:
        """Queue a message without running anything."""
        self.lt += LT_STEP
        message = internal_message(
            Address(source), Address(to), value, body, state_init=init, bounce=bounce, lt=self.lt, at=self.now
        )
        self.queue.append((to, message))

    def send(self, source: str, to: str, value: int, body: Cell, *, init: Cell | None = None) -> list[Step]:
        """Send a message and run everything that follows from it."""
        self.post(source, to, value, body, init=init)
        return self.run()

    def run(self) -> list[Step]:
        """Deliver until nothing is queued."""
        steps = []
        while self.queue:
            steps.append(self.hop())
        return steps

    def hop(self) -> Step:
        """Deliver the oldest message to its contract."""
        to, message = self.queue.popleft()
        self.lt += LT_STEP
        result = self.engine.run_transaction(
            self.accounts[to] or None, bytes(message.to_boc()), now=self.now, lt=self.lt, seed=bytes(32)
        )
        assert result is not None
        self.accounts[to] = result.account_boc
        transaction = read_transaction(result.transaction_boc)
        decoded = self.decoders[to].decode(result.transaction_boc)
        assert decoded.undecoded == ()
        return Step(
            account=to,
            exit_code=transaction.exit_code,
            succeeded=transaction.succeeded,
            events=tuple(event.body for event in decoded.events),
            sent=tuple(self._route(cell) for cell in transaction.out_messages if self._is_internal(cell)),
            value=read_message(message).value,
            storage_fee=transaction.storage_fee,
            fees=transaction.total_fees,
            boc=result.transaction_boc,
        )

    @staticmethod
    def _is_internal(cell: Cell) -> bool:
        return read_message(cell).kind == "internal"

    def _route(self, cell: Cell) -> Payment:
        message = read_message(cell)
        assert message.source is not None
        assert message.destination is not None
        source, to = (f"{who.wc}:{who.hash_part.hex()}" for who in (message.source, message.destination))
        body = message.body.begin_parse()
        known = body.remaining_bits >= 96
        payment = Payment(
            source=source,
            destination=to,
            value=message.value,
            op=body.load_uint(32) if known else None,
            query_id=body.load_uint(64) if known else None,
            bounced=message.bounced,
            bounce=message.bounce,
        )
        if to in self.accounts:
            self.queue.append((to, cell))
        else:
            self.paid.append(payment)
        return payment

    def get(self, contract: str, method: str, *args: object) -> list:
        """The stack a get-method leaves. Fails on an exit code."""
        exit_code, stack = self.try_get(contract, method, *args)
        assert exit_code == 0, f"{method}: exit code {exit_code}"
        return stack

    def try_get(self, contract: str, method: str, *args: object) -> tuple[int, list]:
        """Exit code and stack of a get-method."""
        values = [Address(arg) if isinstance(arg, str) else arg for arg in args]
        result = self.engine.run_get_method(
            self.accounts[contract], Address(contract), method, values, now=self.now, lt=self.lt
        )
        return result.exit_code, result.stack

    def balance(self, contract: str) -> int:
        """nanoTON on the account."""
        return view_account(self.accounts[contract]).balance

    def data(self, contract: str) -> bytes:
        """The contract's storage, as BOC."""
        data = view_account(self.accounts[contract]).data
        assert data is not None
        return data


def read_address(part) -> str | None:
    """The raw form of an address that a get-method returned as a slice."""
    found = part.load_address()
    return None if found is None else f"{found.wc}:{found.hash_part.hex()}"
