"""A vault under test: every operation runs in the TVM and in the mirror, and everything they have is compared."""

from __future__ import annotations

from collections.abc import Mapping

from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell
from pytoniq_core.boc.hashmap.hashmap import HashMap

from contracts.mirror import Mirror, Refused
from contracts.world import ADMIN, STRANGER, Step, World, address
from tonsurance.chain import messages
from tonsurance.chain.deployment import RENT_RESERVE_NANO, Deployment, VaultTerms, vault_deployment
from tonsurance.core.catalog import TRANCHE_IDS, TRANCHES
from tonsurance.core.events import VAULT_KIND, EventBody, LossAbsorbed
from tonsurance.core.ledger import Totals, entries_of, post
from tonsurance.core.units import NANO_PER_TON
from tonsurance.core.waterfall import split

FACTORY = address(0xFA)
BENEFICIARY = address(0xBE)
TON = NANO_PER_TON
FACTORY_ANSWER = 30_000_000
"""What the vault sends with news that the factory did not ask for."""


def vault_data(
    deployment: Deployment, *, tranches: Mapping[int, Cell] | None = None, policies: Mapping[int, Cell] | None = None,
    holders: Mapping[int, Cell] | None = None, claims_due: int = 0,
) -> Cell:  # fmt: skip
    """The vault's storage cell (VaultStorage in contracts/schema.tlb) with these records."""
    data = Builder().store_uint(0, 1).store_uint(0, 32).store_uint(len(policies or {}), 16)
    data.store_uint(len(holders or {}), 16).store_uint(claims_due, 16).store_uint(0, 32).store_coins(0).store_coins(0)
    tables = {1: _holder_table(holders)} if holders else {}
    for key_bits, records in ((8, tranches), (64, policies), (8, tables)):
        table = HashMap(key_bits, value_serializer=lambda value, leaf: leaf.store_cell(value))
        table.map = dict(records or {})
        data.store_dict(table.serialize())
    config = deployment.data.refs[0]
    return data.store_ref(_with_factory(config) if policies else config).end_cell()


def _with_factory(config: Cell) -> Cell:
    """The vault's config as `set_factory` leaves it, which is refused while policies live."""
    terms = config.begin_parse()
    admin, _ = terms.load_address(), terms.load_address()
    rest = terms.load_bits(terms.remaining_bits)
    return Builder().store_address(admin).store_address(Address(FACTORY)).store_bits(rest).end_cell()


def _holder_table(holders: Mapping[int, Cell]) -> Cell:
    """The first tranche's holders, by workchain and account as one number."""
    table = HashMap(264, value_serializer=lambda value, leaf: leaf.store_cell(value))
    table.map = dict(holders)
    return Builder().store_uint(0, 32).store_uint(len(holders), 16).store_dict(table.serialize()).end_cell()


class VaultRun:
    """A deployed vault whose factory is a plain address, and its mirror."""

    def __init__(
        self,
        *,
        with_factory: bool = True,
        rows: Mapping[int, tuple[int, int, int]] | None = None,
        policies: Mapping[int, int] | None = None,
        **terms: int,
    ) -> None:
        """`rows` plants (capital, coverage, shares) of tranches and `policies` cover by policy (added to the rows'),
        for states that only a long history leads to.
        """
        self.terms = VaultTerms(admin=ADMIN, **terms)
        self.world = World()
        self.mirror = Mirror(self.terms)
        self.ledger: Mapping[str, Totals] = {tranche: Totals() for tranche in TRANCHE_IDS}
        self.vault = (
            self._plant(rows, policies or {}) if rows else self.world.deploy(VAULT_KIND, vault_deployment(self.terms))
        )
        if with_factory and not policies:
            [step] = self.world.send(ADMIN, self.vault, messages.SIMPLE_GAS, messages.set_factory(FACTORY))
            assert step.succeeded

    def _plant(self, rows: Mapping[int, tuple[int, int, int]], policies: Mapping[int, int]) -> str:
        deployment = vault_deployment(self.terms)
        self.mirror.policies = dict(policies)
        covers = [split(cover, [t.allocation_percent for t in TRANCHES]) for cover in policies.values()]
        tranches = {}
        for number, (capital, coverage, shares) in rows.items():
            coverage += sum(cover[number - 1] for cover in covers)
            fields = ("coins", capital), ("coins", coverage), ("coins", 0), ("uint64", 0), ("uint128", shares)
            tranches[number] = messages.build_cell(*fields)
            planted = self.mirror.tranches[number - 1]
            planted.capital, planted.coverage, planted.shares = capital, coverage, shares
            name = TRANCHE_IDS[number - 1]
            self.ledger |= {name: Totals(capital=capital, coverage=coverage, shares=shares)}
        backed = {number: messages.build_cell(("coins", cover), ("uint1", 0)) for number, cover in policies.items()}
        data = vault_data(deployment, tranches=tranches, policies=backed)
        return self.world.plant(VAULT_KIND, deployment.code, data, self.mirror.total("capital") + 2 * TON)

    # ---- operations: each returns its one transaction, after every check

    def deposit(self, owner: str, tranche: int, amount: int) -> Step:
        """Deposit this much capital."""
        expected = self._expect("deposit", owner, tranche, amount)
        step = self._send(owner, amount + messages.DEPOSIT_GAS, messages.deposit(tranche, query_id=1))
        return self._check(step, expected, booked=amount)

    def request(self, owner: str, tranche: int, shares: int) -> Step:
        """Announce a withdrawal."""
        expected = self._expect("request", owner, tranche, shares)
        step = self._send(owner, messages.SIMPLE_GAS, messages.request_withdraw(tranche, shares, query_id=2))
        return self._check(step, expected, booked=0)

    def withdraw(self, owner: str, tranche: int) -> Step:
        """Take an announced withdrawal."""
        before = self.mirror.total("capital") + self.mirror.total("unearned")
        expected = self._expect("withdraw", owner, tranche)
        step = self._send(owner, messages.SIMPLE_GAS, messages.withdraw(tranche, query_id=3))
        return self._check(step, expected, booked=self.mirror.total("capital") + self.mirror.total("unearned") - before)

    def back(self, policy_id: int, coverage: int, premium: int, duration_s: int = 30 * 86_400) -> Step:
        """As the factory, have a policy backed; a policy that is backed already costs nothing."""
        known = policy_id in self.mirror.policies
        expected = self._expect("back", policy_id, coverage, premium, duration_s)
        body = messages.back_policy(policy_id, coverage, premium, duration_s, query_id=4)
        step = self._send(FACTORY, premium + messages.REQUEST_GAS, body)
        return self._check(step, expected, booked=0 if known else premium)

    def release(self, policy_id: int) -> Step:
        """As the factory, have a policy's coverage released."""
        expected = self._expect("release", policy_id)
        step = self._send(FACTORY, messages.REQUEST_GAS, messages.release_coverage(policy_id, query_id=5))
        return self._check(step, expected, booked=0)

    def pay(self, policy_id: int, amount: int, beneficiary: str = BENEFICIARY) -> Step:
        """As the factory, have a claim paid: at once, or later if the breaker holds it back."""
        body = messages.pay_claim(policy_id, amount, beneficiary, query_id=6)
        return self._claim("pay", FACTORY, body, policy_id, amount, beneficiary)

    def execute(self, policy_id: int, sender: str = STRANGER) -> Step:
        """As anybody, have a due claim paid."""
        return self._claim("execute", sender, messages.execute_claim(policy_id, query_id=7), policy_id)

    def override(self, policy_id: int) -> Step:
        """As the admin, have a claim paid that is held back."""
        return self._claim("override", ADMIN, messages.override_claim(policy_id, query_id=8), policy_id)

    def cancel(self, policy_id: int) -> Step:
        """As the admin, forget a claim that is held back."""
        return self._claim("cancel", ADMIN, messages.cancel_claim(policy_id, query_id=9), policy_id)

    def freeze(self, until: int) -> Step:
        """As the admin."""
        expected = self._expect("freeze", until)
        return self._check(self._send(ADMIN, messages.SIMPLE_GAS, messages.freeze(until, query_id=10)), expected, 0)

    def _claim(self, operation: str, sender: str, body: Cell, policy_id: int, *args: object) -> Step:
        """Whatever is lost is paid to the beneficiary, to the nano."""
        beneficiary = args[1] if operation == "pay" else self.mirror.claims.get(policy_id, (0, 0, ""))[2]
        expected = self._expect(operation, policy_id, *args)
        step = self._send(sender, messages.REQUEST_GAS, body)
        paid = sum(event.loss_amount for event in step.events if isinstance(event, LossAbsorbed))
        sent = [(payment.destination, payment.value) for payment in step.sent[:-1]]
        wanted = [(beneficiary, paid)] if paid else []
        told = sender != FACTORY and step.succeeded
        assert sent == wanted + ([(FACTORY, FACTORY_ANSWER)] if told else [])
        return self._check(step, expected, booked=-paid)

    def set_paused(self, paused: bool) -> None:
        """As the admin."""
        body = messages.pause() if paused else messages.unpause()
        assert self._send(ADMIN, messages.SIMPLE_GAS, body).succeeded
        self.mirror.paused = paused

    def refuse(self, sender: str, value: int, body: Cell, code: int) -> Step:
        """Send what must be thrown back: nothing changes, and the sender has his value again, less gas."""
        data = self.world.data(self.vault)
        step = self._send(sender, value, body)
        assert step.exit_code == code
        assert not step.succeeded
        assert self.world.data(self.vault) == data
        self._check(step, code, booked=0)
        return step

    def fill(self, amount: int = 1_000 * TON, owner: str = address(0xEE)) -> None:
        """Deposit the same capital into every tranche."""
        for tranche in range(1, 7):
            self.deposit(owner, tranche, amount)

    def pass_time(self, seconds: int) -> None:
        """Let time go by."""
        self.world.now += seconds

    def shares(self, owner: str, tranche: int) -> int:
        """Shares the vault says an owner holds."""
        return self.world.get(self.vault, "get_shares", owner, tranche)[0]

    # ---- checks

    def _expect(self, operation: str, *args: object) -> list[EventBody] | int:
        try:
            return self.mirror.apply(operation, self.world.now, *args)
        except Refused as refusal:
            return refusal.code

    def _send(self, sender: str, value: int, body: Cell) -> Step:
        self._before = self.world.balance(self.vault)
        [step] = self.world.send(sender, self.vault, value, body)
        self._sender = sender
        return step

    def _check(self, step: Step, expected: list[EventBody] | int, booked: int) -> Step:
        if isinstance(expected, int):
            assert (step.exit_code, step.events) == (expected, ())
            booked = 0
        else:
            assert (step.exit_code, step.succeeded, list(step.events)) == (0, True, expected)
        self._check_money(step, booked)
        self._check_state(step)
        return step

    def _check_money(self, step: Step, booked: int) -> None:
        """The balance moves by what was booked and the storage fee, to the nano: everything else came and went."""
        balance = self.world.balance(self.vault)
        assert balance - self._before == booked - step.storage_fee
        assert balance >= self.mirror.total("capital") + self.mirror.total("unearned") + RENT_RESERVE_NANO
        assert not any(payment.bounce for payment in step.sent)
        assert step.sent[-1].destination == self._sender
        spent = step.value - booked - sum(payment.value for payment in step.sent)
        assert 0 < spent < messages.DEPOSIT_GAS

    def _check_state(self, step: Step) -> None:
        world, mirror = self.world, self.mirror
        [rows] = world.get(self.vault, "get_all_tranches")
        assert rows == mirror.rows()
        assert world.get(self.vault, "get_vault_state") == [
            int(mirror.paused), mirror.total("capital"), mirror.total("coverage"), mirror.total("unearned"),
            len(mirror.policies), len(mirror.holders), self.terms.withdraw_delay_s, self.terms.withdraw_window_s,
            mirror.frozen_until, len(mirror.claims),
        ]  # fmt: skip
        assert world.get(self.vault, "get_circuit_breaker") == self._expected_breaker()
        self._check_ledger(step, rows)

    def _expected_breaker(self) -> list[int]:
        window = self.mirror.window
        closes_at = window.opened_at + self.terms.breaker_window_s
        if self.world.now >= closes_at:
            return [0] * 5
        return [window.opened_at, closes_at, window.capital, window.losses, window.limit]

    def _check_ledger(self, step: Step, rows: tuple[tuple[int, ...], ...]) -> None:
        """The ledger, folded from the events alone, is where the vault is."""
        totals = dict(self.ledger)
        for event in step.events:
            for entry in entries_of(event):
                totals[entry.tranche_id] = post(totals[entry.tranche_id], entry)
        self.ledger = totals
        for tranche, row in zip(TRANCHE_IDS, rows, strict=True):
            booked = totals[tranche]
            assert (booked.capital, booked.coverage, booked.unearned, booked.shares) == (*row[1:4], row[6])
