"""Random actions for the pair, biased by the state of the model so that everything rare happens often.

An action is usually one that should succeed; a share of them is spoiled in one way, so that every refusal is met.
Each moment that decides something (a due time, a window's end, a deadline) is aimed at: one second before, at, after.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

import msgspec
from pytoniq_core.boc.cell import Cell

from contracts.world import ADMIN, CLAIMS, address
from parity.bodies import KEYS
from parity.factory_model import ACTIVE, PENDING, REQUEST_GAS
from parity.pair_run import ALL, FACTORY, VAULT, Action, PairRun
from parity.vault_model import COVERS, MAX_UTILIZATION, Backed
from tonsurance.chain.deployment import DAY_S, VaultTerms
from tonsurance.chain.messages import DEPOSIT_GAS, SIMPLE_GAS, Op, Quote
from tonsurance.core.claims import window_at
from tonsurance.core.limits import coverage_cap_nano
from tonsurance.core.units import NANO_PER_TON
from tonsurance.core.waterfall import earn

TON = NANO_PER_TON
replace = msgspec.structs.replace
NETWORK = -3
PLAYED = address(0xFA)
STRANGER = address(0x57)
OWNERS = (address(0xD0), address(0xD1), address(0xD2), address(0xD3), address(0xD0, -1))
BUYERS = (address(0xB0), address(0xB1, -1), OWNERS[0])
ENOUGH = REQUEST_GAS + 60_000_000


class Generator:
    """Chooses actions for one run from one seed."""

    def __init__(self, seed: int, codes: Mapping[str, Cell] | None = None) -> None:
        self.codes = codes
        self.random = random.Random(seed)
        self.next_quote = self.storm = 0
        self.used: list[Quote] = []
        self.crowded = False
        self.script: list[Callable[[PairRun], Action]] = []
        self.next: Callable[[PairRun], Action] | None = None
        self.kinds = self._weigh()

    def _weigh(self) -> tuple[list[Callable[[PairRun], Action]], list[int]]:
        weights = {
            self.deposit: 12, self.request: 8, self.withdraw: 12, self.buy: 18, self.expire: 9, self.retry: 6,
            self.payout: 16, self.execute: 6, self.override: 3, self.cancel: 3, self.freeze: 3, self.pause: 4,
            self.set_key: 2, self.top_up: 1, self.set_factory: 3, self.forge: 3, self.play_factory: 2, self.drain: 3,
        }  # fmt: skip
        return list(weights), list(weights.values())

    # ---- the run

    def deploy(self) -> PairRun:
        """A pair with terms of its own."""
        roll = self.random
        self.crowded = roll.random() < 0.06
        low = roll.random() < 0.4 and not self.crowded
        terms = VaultTerms(
            admin=ADMIN,
            withdraw_delay_s=roll.choice([3_600, 2 * DAY_S, 7 * DAY_S]),
            withdraw_window_s=roll.choice([600, DAY_S, 2 * DAY_S]),
            max_policies=roll.choice([2, 4]) if low else 10_000,
            max_owners=roll.choice([6, 8]) if roll.random() < 0.4 else 10_000,
        )
        factory = {
            "network_id": NETWORK, "admin": ADMIN, "claims": CLAIMS, "public_key": KEYS[0],
            "waiting_period_s": roll.choice([0, 600, DAY_S]), "claim_grace_s": roll.choice([0, 3_600, 7 * DAY_S]),
            "max_policies": roll.choice([3, 6]) if not low and not self.crowded and roll.random() < 0.5 else 10_000,
            "max_quotes": roll.choice([2, 4]) if roll.random() < 0.3 and not self.crowded else 2_000,
        }  # fmt: skip
        return PairRun(terms, factory, self.codes)

    def opening(self, run: PairRun) -> Iterator[Action]:
        """The first actions: not counted among those of a sequence."""
        roll = self.random
        if self.crowded:
            yield from self._crowd(run)
            return
        factory = PLAYED if roll.random() < 0.08 else run.factory.address
        yield Action(name="set_factory", args=(factory,), value=SIMPLE_GAS)
        scale = int(10 ** roll.uniform(10.5, 14))
        balanced = roll.random() < 0.6
        for tranche, percent in enumerate(COVERS, 1):
            share = percent * roll.uniform(0.9, 1.2) / 20 if balanced else roll.uniform(0.1, 1.5)
            if tranche == 6 and roll.random() < 0.4:
                share /= 8
            yield self._deposit(roll.choice(OWNERS), tranche, max(TON, int(scale * share)))

    def _crowd(self, run: PairRun) -> Iterator[Action]:
        """Full of cover but for the most senior tranche; two claims later the vault has less to spare than that one."""
        yield Action(name="set_factory", args=(run.factory.address,), value=SIMPLE_GAS)
        for tranche, percent in enumerate(COVERS, 1):
            yield self._deposit(OWNERS[0], tranche, percent * 100 * TON * (2 if tranche == 1 else 1))
        while run.vault.coverage < 9_000 * TON:
            coverage = min(min(self._rooms(run)), run.vault.capital * 5 // 100)
            yield replace(self._purchase(run, self._fair(run, coverage, coverage // 500, 30)), wait=11)
        self.script = [self.request, self._pay_all, self._pay_all]

    def _pay_all(self, run: PairRun) -> Action:
        """The claim of the first policy, in full."""
        policy, sold = min(run.factory.policies.items())
        return Action(
            name="execute_payout", to=FACTORY, sender=CLAIMS, args=(policy, sold.quote.coverage_amount), value=ENOUGH,
            wait=max(0, sold.start - run.now),
        )  # fmt: skip

    def choose(self, run: PairRun) -> Action:
        """The next action."""
        kinds, weights = self.kinds
        if self.script:
            return self.script.pop()(run)
        kind, self.next = self.next or self._storm(run) or self.random.choices(kinds, weights)[0], None
        if run.vault.factory == PLAYED and self.random.random() < 0.3:
            kind = self.play_factory
        if (run.vault.paused or run.factory.paused) and self.random.random() < 0.3:
            kind = self.pause
        action = kind(run)
        if self.random.random() < 0.08 and action.name != "nothing":
            action = self._spoil(run, action)
        return self._time(run, action)

    def _storm(self, run: PairRun) -> Callable[[PairRun], Action] | None:
        """From time to time several claims come at once: that is what the breaker is for."""
        roll = self.random
        if self.storm == 0:
            self.storm = roll.randint(8, 20) if roll.random() < 0.06 else 0
            return None
        self.storm -= 1
        active = sum(sold.state == ACTIVE for sold in run.factory.policies.values())
        if active < 5 and not run.vault.claims_due and roll.random() < 0.5:
            return self.buy
        claims = [self.execute, self.override, self.cancel] if run.vault.claims_due else [self.payout]
        return roll.choice([self.payout] * 6 + claims * 2 + [self.withdraw, self.request, self.deposit])

    def _time(self, run: PairRun, action: Action) -> Action:
        """How long before it, and how much of what follows is delivered at once."""
        roll, wait = self.random, action.wait
        if wait == 0 and (self.storm or action.name in ("create_policy", "withdraw")):
            wait = roll.choice([0, 0, 0, 1, 5])
        elif wait == 0:
            wait = roll.choices(
                [0, roll.randint(1, 9), roll.randint(60, 7_200), roll.randint(DAY_S // 4, 3 * DAY_S), self._aim(run)],
                [55, 20, 10, 8, 7],
            )[0]
        held = 0.6 if run.flying else 0.12
        hops = roll.randint(0, 1) if roll.random() < held and action.name != "nothing" else ALL
        if hops < ALL and action.name in ("create_policy", "expire_policy", "execute_payout") and roll.random() < 0.4:
            hops, self.next = 0, self.retry
        return replace(action, wait=wait, hops=hops, pick=roll.randint(0, 3))

    def _aim(self, run: PairRun) -> int:
        """Until a moment that decides something, or a second beside it."""
        vault, factory = run.vault, run.factory
        moments = [vault.frozen_until]
        moments += [at for held in vault.holders.values() if held.requested for at in (
            held.available_at, held.available_at + vault.terms.withdraw_window_s)]  # fmt: skip
        moments += [row.stream.end for row in vault.rows]
        moments += [backed.claim.due_at for backed in vault.policies.values() if backed.claim]
        moments += [sold.start for sold in factory.policies.values()]
        moments.append(vault.window.opened_at + vault.terms.breaker_window_s)
        ahead = [at for at in moments if run.now < at < run.now + 40 * DAY_S]
        return self._until(run, self.random.choice(ahead)) if ahead else 0

    def _until(self, run: PairRun, moment: int) -> int:
        return max(0, moment + self.random.choice([-1, 0, 0, 0, 1]) - run.now)

    def _spoil(self, run: PairRun, action: Action) -> Action:
        match self.random.randint(0, 4):
            case 0:
                return replace(action, sender=STRANGER)
            case 1:
                return replace(action, name="unheard_of", args=())
            case 2 if action.name == "create_policy":
                return replace(action, value=action.args[0].premium + REQUEST_GAS - 1)
            case 2 if action.name in LOW_VALUE:
                return replace(action, value=LOW_VALUE[action.name])
            case 3 if action.name in ("deposit", "request_withdraw", "withdraw"):
                return replace(action, args=(self.random.choice([0, 7, 255]), *action.args[1:]))
            case _:
                return replace(action, to=FACTORY if action.to == VAULT else VAULT)

    # ---- depositors

    def _deposit(self, owner: str, tranche: int, amount: int) -> Action:
        return Action(name="deposit", sender=owner, args=(tranche,), value=amount + DEPOSIT_GAS)

    def deposit(self, run: PairRun) -> Action:
        roll = self.random
        empty = [number for number, row in enumerate(run.vault.rows, 1) if row.shares == 0]
        tranche = roll.choice(empty) if empty and roll.random() < 0.5 else roll.randint(1, 6)
        scale = max(TON, run.vault.capital // 6)
        amount = roll.choice([TON, TON - 1, roll.randint(TON, 3 * TON), int(scale * roll.uniform(0.01, 0.8))])
        return self._deposit(roll.choice(OWNERS), tranche, amount)

    def request(self, run: PairRun) -> Action:
        roll = self.random
        held = sorted(run.vault.holders)
        if not held:
            return self.deposit(run)
        daring = self._too_much(run) if roll.random() < 0.6 else None
        if daring:
            return daring
        tranche, owner = roll.choice(held)
        shares = run.vault.holders[tranche, owner].shares
        wanted = roll.choice([shares, shares, shares // 2, shares // 9, int(shares * roll.random()), 1, shares + 1, 0])
        return self._ask(owner, tranche, wanted, patience=0.35)

    def _too_much(self, run: PairRun) -> Action | None:
        """More than the whole vault can spare, although the tranche could: after a loss, junior cover leans on it."""
        vault = run.vault
        spare = vault.capital - vault.coverage * 100 // 95
        for (tranche, owner), held in sorted(vault.holders.items()):
            row = vault.rows[tranche - 1]
            most = min(row.capital - row.coverage * 100 // 95, held.shares * row.capital // row.shares)
            if spare * 101 // 100 + TON < most:
                shares = (spare + most) // 2 * row.shares // row.capital
                return self._ask(owner, tranche, shares, patience=1)
        return None

    def _ask(self, owner: str, tranche: int, shares: int, *, patience: float) -> Action:
        """Announce; with some patience the next action is to take it."""
        if self.random.random() < patience:
            self.next = lambda run: self._take(run, owner, tranche)
        return Action(name="request_withdraw", sender=owner, args=(tranche, shares), value=SIMPLE_GAS)

    def _take(self, run: PairRun, owner: str, tranche: int) -> Action:
        """At the first second, the last, or one beside them."""
        held = run.vault.holders.get((tranche, owner))
        opens = held.available_at if held else 0
        moment = self.random.choice([opens, opens, opens + run.vault.terms.withdraw_window_s])
        wait = self._until(run, moment) if self.random.random() < 0.9 else 0
        return Action(name="withdraw", sender=owner, args=(tranche,), value=SIMPLE_GAS, wait=wait)

    def withdraw(self, run: PairRun) -> Action:
        roll, vault = self.random, run.vault
        asked = sorted(key for key, held in vault.holders.items() if held.requested)
        window = vault.terms.withdraw_window_s
        open_yet = [key for key in asked if run.now <= vault.holders[key].available_at + window]
        asked = asked if roll.random() < 0.1 else open_yet
        if not asked and roll.random() < 0.9:
            return self.request(run)
        if not asked or roll.random() < 0.03:
            owner, tranche = roll.choice(OWNERS), roll.randint(1, 6)
            return Action(name="withdraw", sender=owner, args=(tranche,), value=SIMPLE_GAS)
        tranche, owner = roll.choice(asked)
        return self._take(run, owner, tranche)

    # ---- buyers

    def buy(self, run: PairRun) -> Action:
        roll = self.random
        if self.used and roll.random() < 0.04:
            return self._purchase(run, self.used[-1])
        rooms = self._rooms(run)
        if min(rooms) * 50 < run.vault.capital and roll.random() < 0.65:
            return self._fill(run, rooms.index(min(rooms)) + 1)
        coverage = self._coverage(run)
        days = roll.choice([1, 1, 2, 7, 30, 365])
        least = -(-coverage * days * 50 // 3_650_000)
        premium = max(least, int(coverage * roll.choice([0.0, 0.001, 0.01, 0.1, 0.5])), 1)
        quote = self._fair(run, coverage, premium, days)
        quote = replace(quote, **self._flaw(run, quote)) if roll.random() < 0.13 else quote
        self.used.append(quote)
        return self._purchase(run, quote)

    def _fair(self, run: PairRun, coverage: int, premium: int, days: int) -> Quote:
        roll = self.random
        self.next_quote += 1
        return Quote(
            network_id=NETWORK, factory=run.factory.address, quote_id=self.next_quote,
            coverage_type=roll.choice([0, 4]), chain_id=roll.randrange(9), stablecoin_id=roll.randrange(14),
            coverage_amount=coverage, premium=premium, duration_days=days, buyer=roll.choice(BUYERS),
            deadline=run.now + roll.choice([12, 300, 300, 599]),
        )  # fmt: skip

    def _purchase(self, run: PairRun, quote: Quote) -> Action:
        roll = self.random
        key, previous, _ = run.factory.keys
        signer = roll.choice([key] * 50 + [previous or key] * 3 + [None, KEYS[3]])
        tag = Op.QUOTE if roll.random() < 0.98 else 1
        value = quote.premium + roll.choice([ENOUGH, ENOUGH, REQUEST_GAS, TON])
        wait = roll.choice([0] * 20 + [max(0, quote.deadline - run.now + roll.choice([-1, 0]))])
        return Action(
            name="create_policy", to=FACTORY, sender=quote.buyer, args=(quote, int(tag), signer), value=value, wait=wait
        )

    def _flaw(self, run: PairRun, quote: Quote) -> dict[str, object]:
        return self.random.choice([
            {"network_id": -239}, {"factory": PLAYED}, {"deadline": run.now}, {"deadline": run.now + 20_000},
            {"coverage_type": 5}, {"chain_id": 9}, {"stablecoin_id": 14}, {"coverage_type": 2, "chain_id": 6},
            {"duration_days": 0}, {"duration_days": 366}, {"coverage_amount": 0},
            {"premium": max(0, -(-quote.coverage_amount * quote.duration_days * 50 // 3_650_000) - 1)},
            {"trigger_bps": 9699}, {"floor_bps": 8999},
        ])  # fmt: skip

    def _rooms(self, run: PairRun) -> list[int]:
        """The largest policy each tranche has room for."""
        return [
            max(0, coverage_cap_nano(row.capital, MAX_UTILIZATION) - row.coverage) * 100 // percent
            for row, percent in zip(run.vault.rows, COVERS, strict=True)
        ]

    def _fill(self, run: PairRun, tranche: int) -> Action:
        """Capital for a tranche that cannot take more cover."""
        row = run.vault.rows[tranche - 1]
        wanted = run.vault.capital * COVERS[tranche - 1] // 100 + row.coverage - row.capital
        return self._deposit(self.random.choice(OWNERS), tranche, max(TON, int(wanted * self.random.uniform(0.5, 1.2))))

    def _coverage(self, run: PairRun) -> int:
        """Up to what the vault can still take; sometimes exactly that, or a nano more."""
        roll, vault = self.random, run.vault
        room, largest = min(self._rooms(run)), vault.capital * 5 // 100
        limit = max(1, min(room, largest))
        return max(1, roll.choice([
            *[limit] * 6, limit + 1, largest + 1, max(1, room), int(limit * roll.uniform(0.3, 1)),
            int(limit * roll.uniform(0.3, 1)), int(limit * roll.uniform(0.8, 1)), roll.randint(1, 200),
        ]))  # fmt: skip

    def expire(self, run: PairRun) -> Action:
        roll = self.random
        known = sorted(p for p, sold in run.factory.policies.items() if sold.state == ACTIVE)
        if not known or roll.random() < 0.1:
            return self._about(roll.randint(1, run.factory.next_policy), "expire_policy", roll.choice(BUYERS))
        policy = roll.choice(known)
        ended = run.factory.policies[policy].end + run.factory.terms.claim_grace_s
        wait = self._until(run, ended) if ended - run.now < 12 * DAY_S or roll.random() < 0.3 else 0
        return self._about(policy, "expire_policy", roll.choice(BUYERS), wait=wait)

    def retry(self, run: PairRun) -> Action:
        roll = self.random
        known = sorted(p for p, sold in run.factory.policies.items() if sold.state != ACTIVE)
        if not known:
            action = self.buy(run)
            return replace(action, value=action.value + TON)
        policy = roll.choice(known)
        sold = run.factory.policies[policy]
        value = ENOUGH + (sold.quote.premium if sold.state == PENDING else 0)
        if roll.random() < 0.05:
            value -= ENOUGH - REQUEST_GAS + 1
        wait = self._until(run, sold.tried_at + 600) if roll.random() < 0.8 else 0
        return self._about(policy, "retry_policy", roll.choice(BUYERS), value=value, wait=wait)

    def _about(self, policy: int, name: str, sender: str, *, value: int = ENOUGH, wait: int = 0) -> Action:
        return Action(name=name, to=FACTORY, sender=sender, args=(policy,), value=value, wait=wait)

    # ---- claims

    def payout(self, run: PairRun) -> Action:
        roll, policies = self.random, run.factory.policies
        known = sorted(p for p, sold in policies.items() if sold.state == ACTIVE or roll.random() < 0.1)
        if not known:
            return self.buy(run)
        policy = roll.choice(known)
        sold = policies[policy]
        cover = sold.quote.coverage_amount
        if roll.random() < 0.04:
            policy = run.factory.next_policy + 3
        wait = self._until(run, sold.start) if run.now < sold.start and roll.random() < 0.9 else 0
        amount = roll.choice([cover, cover, cover, int(cover * roll.random()), 1, cover])
        edges = self._edges(run, run.now + wait, cover) if roll.random() < 0.3 else []
        if edges:
            amount = roll.choice(edges)
        if roll.random() < 0.06:
            amount = roll.choice([0, cover + 1])
        return Action(name="execute_payout", to=FACTORY, sender=CLAIMS, args=(policy, amount), value=ENOUGH, wait=wait)

    def _edges(self, run: PairRun, at: int, cover: int) -> list[int]:
        """Claims just at, or a nano beside, what wipes a tranche or trips the breaker."""
        edges, total = [], 0
        for row in reversed(run.vault.rows):
            total += row.capital + earn(row.stream, at)[1]
            edges += [total, total - row.shares // 1000, total - row.shares // 1000 - 1, total - row.shares // 1000 + 1]
        window = window_at(run.vault.window, total, at, run.vault.terms.breaker_window_s)
        limit = window.limit - window.losses
        return [edge for edge in (*edges, limit, limit + 1) if 0 < edge <= cover]

    def _noted(self, run: PairRun) -> tuple[int, Backed] | None:
        noted = sorted(p for p, backed in run.vault.policies.items() if backed.claim)
        if not noted:
            return None
        policy = self.random.choice(noted)
        return policy, run.vault.policies[policy]

    def _claim(self, run: PairRun, name: str, sender: str) -> Action:
        noted = self._noted(run)
        if noted is None:
            if self.random.random() < 0.85:
                return self.payout(run)
            policy = self.random.randint(1, run.factory.next_policy)
            return Action(name=name, sender=sender, args=(policy,), value=ENOUGH)
        policy, backed = noted
        assert backed.claim is not None
        wait = self._until(run, backed.claim.due_at) if name == "execute_claim" and self.random.random() < 0.8 else 0
        return Action(name=name, sender=sender, args=(policy,), value=ENOUGH, wait=wait)

    def execute(self, run: PairRun) -> Action:
        return self._claim(run, "execute_claim", self.random.choice(BUYERS))

    def override(self, run: PairRun) -> Action:
        return self._claim(run, "override_claim", ADMIN)

    def cancel(self, run: PairRun) -> Action:
        return self._claim(run, "cancel_claim", ADMIN)

    # ---- admin and others

    def freeze(self, run: PairRun) -> Action:
        roll, most = self.random, run.vault.terms.max_freeze_s
        until = 0 if run.now < run.vault.frozen_until and roll.random() < 0.5 else run.now + roll.choice(
            [5, 600, 3_600, DAY_S, most, most + 1]
        )  # fmt: skip
        return Action(name="freeze", sender=ADMIN, args=(until,), value=SIMPLE_GAS)

    def pause(self, run: PairRun) -> Action:
        stopped = [VAULT] * run.vault.paused + [FACTORY] * run.factory.paused
        to = self.random.choice(stopped or [VAULT, FACTORY])
        name = "unpause" if stopped or self.random.random() < 0.2 else "pause"
        return Action(name=name, to=to, sender=ADMIN, value=SIMPLE_GAS)

    def set_key(self, run: PairRun) -> Action:
        key = self.random.choice(KEYS[:3])
        return Action(name="set_quote_key", to=FACTORY, sender=ADMIN, args=(key,), value=SIMPLE_GAS)

    def top_up(self, run: PairRun) -> Action:
        to = self.random.choice([VAULT, FACTORY])
        return Action(name="top_up", to=to, sender=STRANGER, value=self.random.randint(1, 5) * TON)

    def set_factory(self, run: PairRun) -> Action:
        other = PLAYED if self.random.random() < 0.2 else run.factory.address
        return Action(name="set_factory", sender=ADMIN, args=(other,), value=SIMPLE_GAS)

    def forge(self, run: PairRun) -> Action:
        """Somebody plays the other contract, or the vault's factory is somebody."""
        roll = self.random
        policy = roll.randint(1, run.factory.next_policy)
        name = roll.choice(["policy_backed", "coverage_released", "claim_settled", "claim_held", "claim_dropped"])
        args = (policy, TON) if name == "claim_settled" else (policy,)
        return Action(name=name, to=FACTORY, sender=STRANGER, args=args, value=TON)

    def play_factory(self, run: PairRun) -> Action:
        """As the vault's factory where that is a person, else as a stranger."""
        roll = self.random
        policy = roll.choice([*sorted(run.vault.policies), 900 + roll.randint(0, 3)])
        coverage = self._coverage(run)
        name = roll.choice(["back_policy", "back_policy", "release_coverage", "pay_claim", "pay_claim"])
        args = {
            "back_policy": (policy, coverage, coverage // 50, roll.choice([0, DAY_S, 30 * DAY_S])),
            "release_coverage": (policy,),
            "pay_claim": (policy, roll.choice([coverage, 0, 1]), roll.choice(BUYERS)),
        }[name]
        value = (args[2] if name == "back_policy" else 0) + roll.choice([ENOUGH, ENOUGH, 40_000_000])
        return Action(name=name, sender=PLAYED, args=args, value=value)

    def drain(self, run: PairRun) -> Action:
        """Nobody sends anything: what is in flight arrives."""
        return Action(name="nothing", sender="")


LOW_VALUE = {
    "expire_policy": REQUEST_GAS - 1, "execute_payout": REQUEST_GAS - 1, "execute_claim": 40_000_000,
    "override_claim": 40_000_000, "cancel_claim": 29_000_000, "retry_policy": REQUEST_GAS - 1,
}  # fmt: skip
