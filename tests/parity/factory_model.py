"""The factory as a state machine: policies, used quotes, keys, and what it asks of the vault."""

from __future__ import annotations

import msgspec

from parity.wires import UNKNOWN_OP, Effects, Message, Out, Refused, refuse_if
from tonsurance.chain.deployment import DAY_S, FactoryTerms
from tonsurance.chain.messages import Op, Quote
from tonsurance.core.events import (
    EventBody,
    Paused,
    PayoutApproved,
    PayoutCancelled,
    PayoutExecuted,
    PayoutRefused,
    PolicyCreated,
    PolicyExpired,
    PolicyRefused,
    QuoteKeySet,
)

REQUEST_GAS = 100_000_000
RETRY_DELAY_S = 600
QUOTE_VALIDITY_S = 600
PENDING, ACTIVE, CLOSING, PAYING, DUE = 1, 2, 3, 4, 5
INVALID_PRODUCTS = {(1, 5), (2, 5), (3, 5), (1, 6), (2, 6)}


class Sold(msgspec.Struct, frozen=True, kw_only=True):
    """A policy of the factory."""

    state: int
    start: int
    sender: str
    sender_query: int
    flight: int
    tried_at: int
    quote: Quote
    approved: int = 0

    @property
    def end(self) -> int:
        return self.start + self.quote.duration_days * DAY_S


class FactoryModel:
    """`handle` takes one message: its effects, or Refused and nothing changed."""

    def __init__(self, terms: FactoryTerms, address: str) -> None:
        self.terms = terms
        self.address = address
        self.paused = False
        self.next_policy = self.next_flight = 1
        self.policies: dict[int, Sold] = {}
        self.used: dict[tuple[int, int], None] = {}
        self.keys: tuple[bytes, bytes | None, int] = (terms.public_key, None, 0)
        self.now = 0
        self.events: list[EventBody] = []

    def handle(self, now: int, message: Message) -> Effects:
        """Run one message."""
        saved = {**self.__dict__, "policies": {**self.policies}, "used": {**self.used}}
        self.now, self.events = now, []
        handler = getattr(self, f"_do_{message.name}", None)
        try:
            if message.bounced:
                outs = self._take_bounce(message)
            else:
                refuse_if(handler is None, UNKNOWN_OP)
                assert handler is not None
                outs = handler(message, *message.args)
        except Refused:
            self.__dict__ = saved
            raise
        return Effects(events=tuple(self.events), outs=outs, booked=0 if outs else None)

    # ---- parts of handlers

    def _ask(self, message: Message, policy_id: int, sold: Sold, name: str, *args: int | str) -> tuple[Out, ...]:
        flight = self.next_flight
        self.next_flight += 1
        self.policies[policy_id] = msgspec.structs.replace(
            sold, sender=message.source, sender_query=message.query_id, flight=flight, tried_at=self.now
        )
        return (Out(to=self.terms.vault, name=name, query_id=flight, args=(policy_id, *args), bounce=True),)

    def _ask_to_back(self, message: Message, policy_id: int, sold: Sold) -> tuple[Out, ...]:
        quote = sold.quote
        terms = quote.coverage_amount, quote.premium, quote.duration_days * DAY_S
        return self._ask(message, policy_id, sold, "back_policy", *terms)

    def _ask_to_pay(self, message: Message, policy_id: int, sold: Sold) -> tuple[Out, ...]:
        return self._ask(message, policy_id, sold, "pay_claim", sold.approved, sold.quote.buyer)

    def _excess(self, message: Message) -> tuple[Out, ...]:
        return (Out(to=message.source, name="excesses", query_id=message.query_id),)

    def _give_back(self, sold: Sold, flight: int) -> tuple[Out, ...]:
        """The value of an answer goes to who asked last, or to the buyer."""
        if flight == sold.flight:
            return (Out(to=sold.sender, name="excesses", query_id=sold.sender_query),)
        return (Out(to=sold.quote.buyer, name="excesses", query_id=0),)

    def _find(self, policy_id: int) -> Sold:
        refuse_if(policy_id not in self.policies, 150)
        return self.policies[policy_id]

    def _move(self, policy_id: int, state: int) -> None:
        """Into a state; back in the active one nothing is approved."""
        sold = self.policies[policy_id]
        approved = 0 if state == ACTIVE else sold.approved
        self.policies[policy_id] = msgspec.structs.replace(sold, state=state, approved=approved)

    # ---- sale

    def _do_create_policy(self, message: Message, quote: Quote, tag: int, signer: bytes | None) -> tuple[Out, ...]:
        refuse_if(self.paused, 100)
        self._check_signer(signer)
        refuse_if(tag != Op.QUOTE, 131)
        refuse_if(quote.network_id != self.terms.network_id, 132)
        refuse_if(quote.factory != self.address, 133)
        refuse_if(quote.buyer != message.source, 134)
        refuse_if(self.now >= quote.deadline, 135)
        refuse_if(quote.deadline > self.now + QUOTE_VALIDITY_S, 136)
        self._use(quote)
        check_terms(quote)
        refuse_if(message.value < quote.premium + REQUEST_GAS, 104)
        refuse_if(len(self.policies) >= self.terms.max_policies, 105)
        policy_id = self.next_policy
        self.next_policy += 1
        start = self.now + self.terms.waiting_period_s
        sold = Sold(
            state=PENDING, start=start, sender=message.source, sender_query=0, flight=0, tried_at=0, quote=quote
        )
        return self._ask_to_back(message, policy_id, sold)

    def _check_signer(self, signer: bytes | None) -> None:
        key, previous, until = self.keys
        refuse_if(signer is None, 130)
        refuse_if(signer != key and (signer != previous or self.now >= until), 130)

    def _use(self, quote: Quote) -> None:
        key = (quote.deadline, quote.quote_id)
        refuse_if(key in self.used, 137)
        for _ in range(2):
            oldest = min(self.used, default=None)
            if oldest is not None and oldest[0] <= self.now:
                del self.used[oldest]
        refuse_if(len(self.used) >= self.terms.max_quotes, 138)
        self.used[key] = None

    def _do_policy_backed(self, message: Message, policy_id: int) -> tuple[Out, ...]:
        refuse_if(message.source != self.terms.vault, 103)
        sold = self.policies.get(policy_id)
        if sold is None:
            return ()
        if sold.state == PENDING:
            self._move(policy_id, ACTIVE)
            self.events.append(created(policy_id, sold))
        return self._give_back(sold, message.query_id)

    # ---- end

    def _do_expire_policy(self, message: Message, policy_id: int) -> tuple[Out, ...]:
        refuse_if(self.paused, 100)
        sold = self._find(policy_id)
        refuse_if(sold.state != ACTIVE, 151)
        refuse_if(self.now < sold.end + self.terms.claim_grace_s, 152)
        refuse_if(message.value < REQUEST_GAS, 104)
        return self._ask(message, policy_id, msgspec.structs.replace(sold, state=CLOSING), "release_coverage")

    def _do_coverage_released(self, message: Message, policy_id: int) -> tuple[Out, ...]:
        refuse_if(message.source != self.terms.vault, 103)
        sold = self.policies.get(policy_id)
        if sold is None:
            return ()
        if sold.state == CLOSING:
            del self.policies[policy_id]
            self.events.append(PolicyExpired(policy_id))
        return self._give_back(sold, message.query_id)

    def _do_retry_policy(self, message: Message, policy_id: int) -> tuple[Out, ...]:
        sold = self._find(policy_id)
        refuse_if(sold.state in (ACTIVE, DUE), 151)
        refuse_if(self.now < sold.tried_at + RETRY_DELAY_S, 153)
        premium = sold.quote.premium if sold.state == PENDING else 0
        refuse_if(message.value < premium + REQUEST_GAS, 104)
        if sold.state == PENDING:
            return self._ask_to_back(message, policy_id, sold)
        if sold.state == CLOSING:
            return self._ask(message, policy_id, sold, "release_coverage")
        return self._ask_to_pay(message, policy_id, sold)

    # ---- claims

    def _do_execute_payout(self, message: Message, policy_id: int, amount: int) -> tuple[Out, ...]:
        refuse_if(message.source != self.terms.claims, 154)
        sold = self._find(policy_id)
        refuse_if(sold.state != ACTIVE, 151)
        refuse_if(self.now < sold.start, 155)
        refuse_if(not 0 < amount <= sold.quote.coverage_amount, 156)
        refuse_if(message.value < REQUEST_GAS, 104)
        self.events.append(PayoutApproved(policy_id, amount))
        return self._ask_to_pay(message, policy_id, msgspec.structs.replace(sold, state=PAYING, approved=amount))

    def _do_claim_settled(self, message: Message, policy_id: int, paid: int) -> tuple[Out, ...]:
        refuse_if(message.source != self.terms.vault, 103)
        sold = self.policies.get(policy_id)
        if sold is None:
            return ()
        if sold.state != PENDING:
            del self.policies[policy_id]
            self.events.append(PayoutExecuted(policy_id, sold.quote.buyer, paid))
        return self._give_back(sold, message.query_id)

    def _do_claim_held(self, message: Message, policy_id: int) -> tuple[Out, ...]:
        refuse_if(message.source != self.terms.vault, 103)
        sold = self.policies.get(policy_id)
        if sold is None:
            return ()
        if sold.state in (ACTIVE, PAYING):
            self._move(policy_id, DUE)
        return self._give_back(sold, message.query_id)

    def _do_claim_dropped(self, message: Message, policy_id: int) -> tuple[Out, ...]:
        refuse_if(message.source != self.terms.vault, 103)
        sold = self.policies.get(policy_id)
        if sold is None:
            return ()
        if sold.state in (PAYING, DUE):
            self._move(policy_id, ACTIVE)
            self.events.append(PayoutCancelled(policy_id))
        return self._give_back(sold, message.query_id)

    # ---- refusals of the vault

    def _take_bounce(self, message: Message) -> tuple[Out, ...]:
        [policy_id] = message.args
        assert isinstance(policy_id, int)
        sold = self.policies.get(policy_id)
        if sold is None:
            return ()
        if message.query_id == sold.flight:
            self._undo(policy_id, sold, message.name)
        return self._give_back(sold, message.query_id)

    def _undo(self, policy_id: int, sold: Sold, name: str) -> None:
        op = Op[name.upper()]
        if (name, sold.state) == ("back_policy", PENDING):
            del self.policies[policy_id]
            self.events.append(PolicyRefused(policy_id, sold.quote.quote_id, sold.quote.buyer, op))
        if (name, sold.state) in (("release_coverage", CLOSING), ("pay_claim", PAYING)):
            self._move(policy_id, ACTIVE)
            self.events.append(PayoutRefused(policy_id, op))

    # ---- admin and rent

    def _check_admin(self, message: Message) -> None:
        refuse_if(message.source != self.terms.admin, 101)

    def _do_pause(self, message: Message) -> tuple[Out, ...]:
        return self._set_paused(message, True)

    def _do_unpause(self, message: Message) -> tuple[Out, ...]:
        return self._set_paused(message, False)

    def _set_paused(self, message: Message, paused: bool) -> tuple[Out, ...]:
        self._check_admin(message)
        self.paused = paused
        self.events.append(Paused(paused))
        return self._excess(message)

    def _do_set_quote_key(self, message: Message, key: bytes) -> tuple[Out, ...]:
        self._check_admin(message)
        self.keys = (key, self.keys[0], self.now + self.terms.key_overlap_s)
        self.events.append(QuoteKeySet(key.hex()))
        return self._excess(message)

    def _do_top_up(self, message: Message) -> tuple[Out, ...]:
        return ()


def created(policy_id: int, sold: Sold) -> PolicyCreated:
    """The event of a policy that the vault backs."""
    quote = sold.quote
    return PolicyCreated(
        policy_id=policy_id, quote_id=quote.quote_id, buyer=quote.buyer, coverage_type=quote.coverage_type,
        chain_id=quote.chain_id, stablecoin_id=quote.stablecoin_id, coverage_amount=quote.coverage_amount,
        premium=quote.premium, start=sold.start, end=sold.end, trigger_bps=quote.trigger_bps, floor_bps=quote.floor_bps,
    )  # fmt: skip


def check_terms(quote: Quote) -> None:
    """Every rule a quote has to meet whoever signed it."""
    refuse_if(quote.coverage_type >= 5, 139)
    refuse_if(quote.chain_id >= 9, 140)
    refuse_if(quote.stablecoin_id >= 14, 141)
    refuse_if((quote.coverage_type, quote.chain_id) in INVALID_PRODUCTS, 142)
    refuse_if(not 1 <= quote.duration_days <= 365, 143)
    refuse_if(quote.coverage_amount == 0, 144)
    refuse_if(quote.premium * 365 * 10_000 < quote.coverage_amount * quote.duration_days * 50, 145)
    refuse_if((quote.trigger_bps, quote.floor_bps) != (9700, 9000), 146)
