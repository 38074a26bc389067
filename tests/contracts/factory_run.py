"""A factory under test, with a real vault behind it or a plain address that plays one."""

from __future__ import annotations

import msgspec
from nacl.signing import SigningKey
from pytoniq_core.boc.address import Address
from pytoniq_core.boc.builder import Builder
from pytoniq_core.boc.cell import Cell

from contracts.world import ADMIN, ALICE, CLAIMS, Payment, Step, World, address
from tonsurance.chain import messages
from tonsurance.chain.deployment import (
    RENT_RESERVE_NANO,
    FactoryTerms,
    VaultTerms,
    factory_deployment,
    vault_deployment,
)
from tonsurance.chain.messages import Op, Quote
from tonsurance.core.events import FACTORY_KIND, VAULT_KIND
from tonsurance.core.units import NANO_PER_TON

TON = NANO_PER_TON
NETWORK = -3
KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(range(1, 33)))
PLAYED_VAULT = address(0x7A)


class FactoryRun:
    """A deployed pair; the vault holds 1,000 TON in each tranche."""

    def __init__(self, *, real_vault: bool = True, vault_terms: VaultTerms | None = None, **terms: int) -> None:
        self.world = World()
        self.vault = PLAYED_VAULT
        if real_vault:
            self.vault = self.world.deploy(VAULT_KIND, vault_deployment(vault_terms or VaultTerms(admin=ADMIN)))
        self.terms = FactoryTerms(
            network_id=NETWORK, vault=self.vault, admin=ADMIN, claims=CLAIMS, public_key=bytes(KEY.verify_key), **terms
        )
        self.factory = self.world.deploy(FACTORY_KIND, factory_deployment(self.terms))
        self.next_quote = 100
        if real_vault:
            self._open_vault()

    def _open_vault(self) -> None:
        steps = self.world.send(ADMIN, self.vault, messages.SIMPLE_GAS, messages.set_factory(self.factory))
        for tranche in range(1, 7):
            body = messages.deposit(tranche)
            steps += self.world.send(address(0xEE), self.vault, 1_000 * TON + messages.DEPOSIT_GAS, body)
        assert all(step.succeeded for step in steps)

    def quote(self, **changes: object) -> Quote:
        """A quote that may be taken now, unless the changes spoil it."""
        self.next_quote += 1
        fair = Quote(
            network_id=NETWORK, factory=self.factory, quote_id=self.next_quote, coverage_type=0, chain_id=0,
            stablecoin_id=0, coverage_amount=100 * TON, premium=TON, duration_days=90, buyer=ALICE,
            deadline=self.world.now + 300,
        )  # fmt: skip
        return msgspec.structs.replace(fair, **changes)

    def body(self, quote: Quote, *, key: SigningKey = KEY, query_id: int = 77) -> Cell:
        """The purchase of a quote."""
        return messages.create_policy(quote, messages.sign_quote(quote, key), query_id=query_id)

    def buy(self, quote: Quote | None = None, *, sender: str = ALICE, key: SigningKey = KEY) -> list[Step]:
        """Buy, and let everything that follows happen."""
        quote = quote or self.quote()
        return self.world.send(sender, self.factory, quote.premium + messages.REQUEST_GAS, self.body(quote, key=key))

    def buy_asked(self) -> None:
        """Buy from a factory whose vault is played: the request waits for an answer."""
        [step] = self.buy()
        assert step.succeeded

    def expire(self, policy_id: int, *, sender: str = CLAIMS, value: int = messages.REQUEST_GAS) -> list[Step]:
        """Ask for a policy's end."""
        return self.world.send(sender, self.factory, value, messages.expire_policy(policy_id, query_id=78))

    def pay(
        self, policy_id: int, amount: int, *, sender: str = CLAIMS, value: int = messages.REQUEST_GAS
    ) -> list[Step]:
        """As the claims role, have a claim paid."""
        return self.world.send(sender, self.factory, value, messages.execute_payout(policy_id, amount, query_id=80))

    def retry(self, policy_id: int, *, sender: str, value: int) -> list[Step]:
        """Ask the vault again."""
        return self.world.send(sender, self.factory, value, messages.retry_policy(policy_id, query_id=79))

    def play_answer(self, op: Op, flight: int, policy_id: int, value: int = TON) -> Step:
        """What the played vault says."""
        body = messages.build_cell(("uint32", op), ("uint64", flight), ("uint64", policy_id))
        [step] = self.world.send(self.vault, self.factory, value, body)
        return step

    def play_settled(self, flight: int, policy_id: int, paid: int, value: int = TON) -> Step:
        """The played vault has paid."""
        fields = ("uint32", Op.CLAIM_SETTLED), ("uint64", flight), ("uint64", policy_id), ("coins", paid)
        [step] = self.world.send(self.vault, self.factory, value, messages.build_cell(*fields))
        return step

    def play_bounce(self, op: Op, flight: int, policy_id: int, value: int = TON) -> Step:
        """What the chain returns when the played vault refuses: 32 ones, then the request's first 256 bits."""
        body = Builder().store_uint(0xFFFFFFFF, 32).store_uint(op, 32).store_uint(flight, 64).store_uint(policy_id, 64)
        body.store_uint(0, 96)
        header = Builder().store_uint(0b0101, 4).store_address(Address(self.vault)).store_address(Address(self.factory))
        header.store_coins(value).store_bit_int(0).store_coins(0).store_coins(0).store_uint(0, 64 + 32)
        self.world.queue.append((self.factory, header.store_uint(1, 2).store_ref(body.end_cell()).end_cell()))
        return self.world.hop()

    def state(self, policy_id: int) -> int | None:
        """1 pending, 2 active, 3 closing, 4 paying, 5 due, None gone."""
        exit_code, stack = self.world.try_get(self.factory, "get_policy", policy_id)
        if exit_code == 150:
            return None
        assert exit_code == 0
        return int(stack[0])

    def flight(self, policy_id: int) -> int:
        """Under which number the vault was asked last."""
        return int(self.world.get(self.factory, "get_policy", policy_id)[13])

    def counts(self) -> tuple[int, int]:
        """(policies, used quotes)."""
        config = self.world.get(self.factory, "get_factory_config")
        return config[11], config[13]

    def refuse(self, sender: str, value: int, body: Cell, code: int) -> None:
        """Send what must be thrown back: nothing changes, and the sender has his value again, less gas."""
        data, before = self.world.data(self.factory), self.world.balance(self.factory)
        [step] = self.world.send(sender, self.factory, value, body)
        assert (step.exit_code, step.succeeded) == (code, False)
        assert self.world.data(self.factory) == data
        assert self.world.balance(self.factory) == before - step.storage_fee
        [back] = step.sent
        assert (back.destination, back.bounced) == (sender, True)
        assert value - messages.REQUEST_GAS < back.value < value

    def check_money(self) -> None:
        """Nobody's money is in the factory, everyone's is in the vault."""
        assert self.world.balance(self.factory) >= RENT_RESERVE_NANO
        state = self.world.get(self.vault, "get_vault_state")
        assert self.world.balance(self.vault) >= state[1] + state[3] + RENT_RESERVE_NANO


def excess(steps: list[Step]) -> Payment:
    """The one message that left for a person."""
    payments = [payment for step in steps for payment in step.sent if payment.op == Op.EXCESSES]
    [payment] = payments
    assert not payment.bounce
    return payment
