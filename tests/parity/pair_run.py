"""Vault and factory in the TVM beside their models: every message runs in both, and everything is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.cell import Cell

from contracts.world import ADMIN, World
from parity.bodies import Sent, body_of, read_body
from parity.factory_model import FactoryModel
from parity.vault_model import Row, VaultModel
from parity.wires import Effects, Message, Out, Refused
from tonsurance.chain.deployment import (
    RENT_RESERVE_NANO,
    Deployment,
    FactoryTerms,
    VaultTerms,
    factory_deployment,
    vault_deployment,
)
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND, EventBody
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.localnet.accounts import open_account
from tonsurance.localnet.messages import (
    MessageView,
    address_of,
    internal_message,
    read_message,
    read_transaction,
    state_init_of,
)

VAULT, FACTORY = "vault", "factory"
ALL = 99
"""Hops: whatever is in flight."""
DEPLOY_NANO = 20 * RENT_RESERVE_NANO


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a sequence: wait, let somebody send a message, then deliver `hops` of what is in flight."""

    name: str
    to: str = VAULT
    sender: str = ADMIN
    args: tuple = ()
    value: int = 0
    wait: int = 0
    hops: int = ALL
    pick: int = 0

    def __str__(self) -> str:
        who = self.sender[-4:] if self.sender else ""
        flight = "" if self.hops == ALL else f" hops={self.hops}"
        return f"+{self.wait}s {who} -> {self.to} {self.name}{self.args} value={self.value}{flight}"


class Mismatch(AssertionError):
    """Contract and model differ."""


def same(what: str, chain: object, model: object) -> None:
    """Fail with both when they differ."""
    if chain != model:
        raise Mismatch(f"{what}:\n  contract {chain}\n  model    {model}")


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction as the chain has it."""

    exit_code: int | None
    succeeded: bool
    events: tuple[EventBody, ...]
    outs: tuple[tuple[MessageView, Cell], ...]
    storage_fee: int
    fees: int
    before: int
    after: int


class PairRun:
    """A deployed pair (the vault's factory is still the admin) and its models, compared after every message."""

    def __init__(
        self, vault_terms: VaultTerms, factory_terms: Mapping[str, object], codes: Mapping[str, Cell] | None = None
    ) -> None:
        """`codes` replaces the compiled code of a contract kind (for planted faults)."""
        self.world = World()
        vault = self._deploy(VAULT_KIND, vault_deployment(vault_terms), codes or {})
        terms = FactoryTerms(vault=vault, **factory_terms)  # type: ignore[arg-type]
        factory = self._deploy(FACTORY_KIND, factory_deployment(terms), codes or {})
        self.vault, self.factory = VaultModel(vault_terms, vault), FactoryModel(terms, factory)
        self.models: dict[str, VaultModel | FactoryModel] = {vault: self.vault, factory: self.factory}
        self.ledger: dict[str, Totals] = {tranche: Totals() for tranche in TRANCHE_IDS}
        self.flying: list[tuple[Message, str, Cell]] = []
        self.wallets: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._seen: dict[str, bytes] = {}
        self._rows: list[Row] = []

    @property
    def now(self) -> int:
        return self.world.now

    def _deploy(self, kind: str, deployment: Deployment, codes: Mapping[str, Cell]) -> str:
        if kind in codes:
            code = codes[kind]
            at = raw(address_of(state_init_of(code, deployment.data)))
            deployment = Deployment(address=at, code=code, data=deployment.data)
        return self.world.deploy(kind, deployment, DEPLOY_NANO)

    # ---- steps

    def act(self, action: Action) -> None:
        """Run one action and compare."""
        self.world.now += action.wait
        if action.name != "nothing":
            self.counts[f"op {action.name}"] += 1
            self._send(action)
        for hop in range(action.hops):
            if not self.flying:
                break
            self._deliver(*self.flying.pop(self._choose(action.pick + hop)))
        self.check_state()

    def _send(self, action: Action) -> None:
        to = {VAULT: self.vault.address, FACTORY: self.factory.address}[action.to]
        self.wallets[action.sender] -= action.value
        message = Message(source=action.sender, name=action.name, query_id=7, args=action.args, value=action.value)
        body = body_of(action.name, action.args, message.query_id)
        self.world.lt += 1_000_000
        cell = internal_message(
            Address(action.sender), Address(to), action.value, body, lt=self.world.lt, at=self.world.now
        )
        self._deliver(message, to, cell)

    def _choose(self, pick: int) -> int:
        """Messages of one contract to another keep their order; between the two directions anything may be first."""
        heads: dict[tuple[str, str], int] = {}
        for place, (message, to, _) in enumerate(self.flying):
            heads.setdefault((message.source, to), place)
        return list(heads.values())[pick % len(heads)]

    def _deliver(self, message: Message, to: str, cell: Cell) -> None:
        hop = self._run(to, cell)
        done = self._name(message)
        try:
            effects = self.models[to].handle(self.now, message)
        except Refused as refusal:
            self.counts[f"{self._kind(to)} refused {refusal.code}"] += 1
            same("exit code", hop.exit_code, refusal.code)
            self._check_refusal(hop, message, cell)
            return
        self.counts[f"done {done}"] += 1
        same("exit code", (hop.exit_code, hop.succeeded), (0, True))
        same("events", hop.events, effects.events)
        self._check_money(hop, message, effects)
        self._check_outs(hop, effects.outs)
        self._post(hop.events)
        self._check_invariants(message)

    def _name(self, message: Message) -> str:
        """For the counts: what it is, and the state of the policy that is asked for again."""
        if message.bounced:
            return f"bounce of {message.name}"
        if message.name == "retry_policy" and message.args[0] in self.factory.policies:
            return f"retry_policy in state {self.factory.policies[message.args[0]].state}"
        return message.name

    def _kind(self, address: str) -> str:
        return VAULT if address == self.vault.address else FACTORY

    def _run(self, to: str, cell: Cell) -> Hop:
        world = self.world
        world.lt += 1_000_000
        before = open_account(world.accounts[to]).view.balance
        result = world.engine.run_transaction(
            world.accounts[to], bytes(cell.to_boc()), now=world.now, lt=world.lt, seed=bytes(32)
        )
        assert result is not None
        world.accounts[to] = result.account_boc
        transaction = read_transaction(result.transaction_boc)
        decoded = world.decoders[to].decode(result.transaction_boc)
        assert decoded.undecoded == ()
        outs = ((read_message(out), out) for out in transaction.out_messages)
        return Hop(
            exit_code=transaction.exit_code,
            succeeded=transaction.succeeded,
            events=tuple(event.body for event in decoded.events),
            outs=tuple((view, out) for view, out in outs if view.kind == "internal"),
            storage_fee=transaction.storage_fee,
            fees=transaction.total_fees,
            before=before,
            after=open_account(result.account_boc).view.balance,
        )

    # ---- checks of one message

    def _check_refusal(self, hop: Hop, message: Message, cell: Cell) -> None:
        same("refused", (hop.succeeded, hop.events), (False, ()))
        bounce = read_message(cell).bounce
        same("bounces", len(hop.outs), int(bounce))
        for view, out in hop.outs:
            same("bounced to", (raw(view.destination), view.bounced), (message.source, True))
            same("balance", hop.after - hop.before, -hop.storage_fee)
            same("conservation", hop.before + message.value, hop.after + view.value + view.forward_fee + hop.fees)
            self._route(view, out, Sent(message.name, message.query_id, message.args[:1]))

    def _check_money(self, hop: Hop, message: Message, effects: Effects) -> None:
        sent = sum(view.value + view.forward_fee for view, _ in hop.outs)
        same("conservation", hop.before + message.value, hop.after + sent + hop.fees)
        booked = message.value - hop.fees + hop.storage_fee if effects.booked is None else effects.booked
        same("balance", hop.after - hop.before, booked - hop.storage_fee)

    def _check_outs(self, hop: Hop, expected: tuple[Out, ...]) -> None:
        same("messages", len(hop.outs), len(expected))
        for (view, out), model in zip(hop.outs, expected, strict=True):
            sent = read_body(view)
            chain = Out(
                to=raw(view.destination), name=sent.name, query_id=sent.query_id, args=sent.args, bounce=view.bounce,
                value=None if model.value is None else view.value,
            )  # fmt: skip
            same("message", chain, model)
            self._route(view, out, sent)

    def _route(self, view: MessageView, cell: Cell, sent: Sent) -> None:
        to = raw(view.destination)
        if to in self.models:
            message = Message(
                source=raw(view.source), name=sent.name, query_id=sent.query_id, args=sent.args, value=view.value,
                bounced=view.bounced,
            )  # fmt: skip
            self.flying.append((message, to, cell))
        else:
            self.wallets[to] += view.value

    def _post(self, events: tuple[EventBody, ...]) -> None:
        for event in events:
            self.counts[f"event {type(event).__name__}"] += 1
            for entry in entries_of(event):
                self.ledger[entry.tranche_id] = post(self.ledger[entry.tranche_id], entry)

    def _check_invariants(self, message: Message) -> None:
        vault = self.vault
        for number, row in enumerate(vault.rows, 1):
            held = sum(holder.shares for (tranche, _), holder in vault.holders.items() if tranche == number)
            same(f"shares of {number}", held + row.nobody, row.shares)
            booked = self.ledger[TRANCHE_IDS[number - 1]]
            same(
                f"ledger of {number}",
                (booked.capital, booked.coverage, booked.unearned, booked.shares),
                (row.capital, row.coverage, row.stream.unearned, row.shares),
            )
        if message.name in ("withdraw", "back_policy") and vault.capital < vault.coverage:
            raise Mismatch(f"capital {vault.capital} below coverage {vault.coverage} after {message.name}")
        balance = self.balance(vault.address)
        if balance < vault.capital + vault.unearned + RENT_RESERVE_NANO:
            raise Mismatch(f"balance {balance} below {vault.capital} + {vault.unearned} + reserve")
        if self.balance(self.factory.address) < RENT_RESERVE_NANO:
            raise Mismatch("the factory's reserve is used up")

    def balance(self, address: str) -> int:
        """nanoTON on a contract."""
        return open_account(self.world.accounts[address]).view.balance

    # ---- checks of the whole state, when it changed

    def check_state(self) -> None:
        """Compare every getter of a contract whose data changed since the last time."""
        for address, check in ((self.vault.address, self._check_vault), (self.factory.address, self._check_factory)):
            data = open_account(self.world.accounts[address]).data
            assert data is not None
            mark = data.get_hash()
            if mark != self._seen.get(address):
                self._seen[address] = mark
                check()

    def _get(self, address: str, method: str, *args: object) -> list:
        return self.world.get(address, method, *args)

    def _check_vault(self) -> None:
        vault, at = self.vault, self.vault.address
        [rows] = self._get(at, "get_all_tranches")
        same("tranches", rows, tuple(row.seen(number) for number, row in enumerate(vault.rows, 1)))
        same("vault", self._get(at, "get_vault_state"), [
            int(vault.paused), vault.capital, vault.coverage, vault.unearned, len(vault.policies), len(vault.holders),
            vault.terms.withdraw_delay_s, vault.terms.withdraw_window_s, vault.frozen_until, vault.claims_due,
        ])  # fmt: skip
        same("breaker", self._get(at, "get_circuit_breaker"), vault.breaker_seen(self.now))
        for number, row in enumerate(vault.rows, 1):
            same(f"epoch of {number}", self._get(at, "get_epoch", number), [row.epoch])
        for number, owner in vault.holders:
            held = vault.holders[number, owner]
            closes = held.available_at + vault.terms.withdraw_window_s if held.requested else 0
            chain = self._get(at, "get_shares", owner, number)
            same(f"shares of {owner} in {number}", chain, [held.shares, held.requested, held.available_at, closes])
        for policy_id, backed in vault.policies.items():
            same(f"coverage of {policy_id}", self._get(at, "get_policy_coverage", policy_id), [backed.coverage])
            claim = [backed.claim.amount, backed.claim.due_at] if backed.claim else [0, 0]
            same(f"claim of {policy_id}", self._get(at, "get_claim", policy_id), claim)

    def _check_factory(self) -> None:
        model, at = self.factory, self.factory.address
        same("next policy", self._get(at, "get_next_policy_id"), [model.next_policy])
        config = self._get(at, "get_factory_config")
        key, previous, until = model.keys
        keys = [int.from_bytes(key, "big"), int.from_bytes(previous or b"", "big"), until]
        same("factory", [config[0], *config[5:8], config[11], config[13]],
             [int(model.paused), *keys, len(model.policies), len(model.used)])  # fmt: skip
        for policy_id, sold in model.policies.items():
            quote = sold.quote
            chain = self._get(at, "get_policy", policy_id)
            chain[2], chain[12] = chain[2].load_address(), chain[12].load_address()
            same(f"policy {policy_id}", [raw(c) if isinstance(c, Address) else c for c in chain], [
                sold.state, quote.quote_id, quote.buyer, quote.coverage_type, quote.chain_id, quote.stablecoin_id,
                quote.coverage_amount, quote.premium, sold.start, sold.end, quote.trigger_bps, quote.floor_bps,
                sold.sender, sold.flight, sold.tried_at, sold.approved,
            ])  # fmt: skip


def raw(address: Address | None) -> str:
    """`0:<64 hex>`."""
    assert address is not None
    return f"{address.wc}:{address.hash_part.hex()}"
