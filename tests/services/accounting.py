"""A market whose every message is accounted for: what was sent, what it cost, what stayed and what came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nacl.signing import SigningKey
from pytoniq_core.boc.cell import Cell

from services.street import KEY, Street
from tonsurance.chain import messages
from tonsurance.chain.messages import Op
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.blocks import Block
from tonsurance.localnet.cells import raw_address, read
from tonsurance.localnet.messages import MessageView, TransactionView, read_message, read_transaction
from tonsurance.localnet.store import ChainStore
from tonsurance.localnet.wallets import Transfer, Wallet


@dataclass(frozen=True)
class Made:
    """A transaction of one of the two contracts, as the local chain's own reader sees it."""

    account: str
    view: TransactionView

    @property
    def asked(self) -> MessageView:
        """The message it ran on."""
        assert self.view.in_message is not None
        return read_message(self.view.in_message)

    @property
    def sent(self) -> list[MessageView]:
        """The internal messages it sent."""
        return [one for one in map(read_message, self.view.out_messages) if one.kind == "internal"]


@dataclass
class Flow:
    """Everything that followed from one message to a contract, and what the contracts' balances grew by meanwhile."""

    sender: str
    contract: str
    value: int
    body: Cell
    made: list[Made] = field(default_factory=list)
    grown: dict[str, int] = field(default_factory=dict)

    @property
    def payload_hash(self) -> bytes:
        """The hash it can be looked up by before it is sent."""
        return bytes(self.body.hash)

    @property
    def first(self) -> Made:
        """The transaction of the message itself."""
        return self.made[0]

    @property
    def fees(self) -> int:
        """What the network took of the money on its way; rent is the contracts' own affair."""
        taken = sum(one.view.total_fees - one.view.storage_fee for one in self.made)
        return taken + sum(sent.forward_fee + sent.ihr_fee for one in self.made for sent in one.sent)

    def kept(self, contract: str) -> int:
        """What a contract holds more than before, its rent aside."""
        rent = sum(one.view.storage_fee for one in self.made if one.account == contract)
        return self.grown[contract] + rent

    def paid(self, *, claims: bool) -> dict[str, int]:
        """What went to people: paid claims, or everything else."""
        found: dict[str, int] = {}
        for sent in (sent for one in self.made for sent in one.sent):
            to = raw_address(sent.destination)
            if to not in self.grown and (op_of(sent.body) == Op.CLAIM_PAYMENT) == claims:
                found[to] = found.get(to, 0) + sent.value
        return found


def op_of(body: Cell) -> int | None:
    """The first 32 bits of a body; None of an empty one."""
    data = read(body)
    return data.load_uint(32) if data.remaining_bits >= 32 else None


class Till(Street):
    """A street on which nothing is sent without being accounted for."""

    def __init__(self, store: ChainStore) -> None:
        super().__init__(store)
        self.flows: list[Flow] = []
        self.admin = Wallet("admin", self.chain.seed)
        self._open: Flow | None = None
        self._next_quote = 5_000
        self.chain.on_block.append(self._note)

    @property
    def watched(self) -> tuple[str, str]:
        """The two contracts."""
        return self.contracts.vault, self.contracts.factory

    def wallet(self, name: str) -> Wallet:
        """A person with money."""
        wallet = Wallet(name, self.chain.seed)
        self.chain.airdrop(wallet.address, 10_000 * NANO_PER_TON)
        self.chain.mine_until_idle()
        return wallet

    def _note(self, block: Block) -> None:
        if self._open is not None:
            for stored in block.transactions:
                account = f"{int.from_bytes(stored.account[:1], 'big', signed=True)}:{stored.account[1:].hex()}"
                if account in self.watched:
                    self._open.made.append(Made(account, read_transaction(stored.boc)))

    def follow(self, flow: Flow, *, blocks: int | None = None) -> Flow:
        """Make blocks until nothing is under way, or so many; everything in them belongs to the flow."""
        self._open = flow
        before = {contract: self.chain.balance(contract) for contract in self.watched}
        if blocks is None:
            self.chain.mine_until_idle()
        for _ in range(blocks or 0):
            self.chain.mine()
        for contract in self.watched:
            grown = self.chain.balance(contract) - before[contract]
            flow.grown[contract] = flow.grown.get(contract, 0) + grown
        self._open = None
        return flow

    def send(
        self, sender: Wallet, contract: str, value: int, body: Cell, *, bounce: bool = True, blocks: int | None = None
    ) -> Flow:
        """One message of a wallet, to its end."""
        flow = Flow(sender.address, contract, value, body)
        sender.send(self.chain, Transfer(destination=contract, value=value, body=body, bounce=bounce))
        self.flows.append(self.follow(flow, blocks=blocks))
        return flow

    def quote(self, buyer: str, **changes: Any) -> messages.Quote:
        """Signed by nobody yet."""
        self._next_quote += 1
        terms: dict[str, Any] = {
            "network_id": self.chain.network_id,
            "factory": self.contracts.factory,
            "quote_id": self._next_quote,
            "coverage_type": 0,
            "chain_id": 1,
            "stablecoin_id": 0,
            "coverage_amount": 200 * NANO_PER_TON,
            "premium": 10 * NANO_PER_TON + 7,
            "duration_days": 30,
            "buyer": buyer,
            "deadline": self.chain.now + 500,
        }
        return messages.Quote(**(terms | changes))

    def buy_with(
        self, sender: Wallet, quote: messages.Quote, *, value: int | None = None, key: bytes = KEY, **options: Any
    ) -> Flow:
        """Send a quote with its signature."""
        body = messages.create_policy(quote, messages.sign_quote(quote, SigningKey(key)))
        value = quote.premium + messages.REQUEST_GAS if value is None else value
        return self.send(sender, self.contracts.factory, value, body, **options)
