"""A policy goes from event to event only where its factory can take it."""

from __future__ import annotations

import pytest

from tonsurance.chain.messages import Op
from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import (
    EventBody,
    PayoutApproved,
    PayoutCancelled,
    PayoutExecuted,
    PayoutRefused,
    PolicyCreated,
    PolicyExpired,
    QuoteKeySet,
)
from tonsurance.core.policies import PAY_CLAIM_OP, PolicyState, PolicyStatus, move_policy, policy_of

BUYER, HEIR = "0:" + "11" * 32, "0:" + "22" * 32
CREATED = PolicyCreated(7, 1, BUYER, 0, 1, 2, 100, 5, 10, 20, 9700, 9000)
APPROVED, EXPIRED = PayoutApproved(7, 60), PolicyExpired(7)
PAID, CANCELLED, REFUSED = PayoutExecuted(7, HEIR, 60), PayoutCancelled(7), PayoutRefused(7, PAY_CLAIM_OP)


def live(*bodies: EventBody) -> PolicyState:
    """The policy after these events."""
    state = None
    for body in bodies:
        state = move_policy(state, body)
    assert state is not None
    return state


def test_a_claim_goes_from_approval_to_payment() -> None:
    approved = live(CREATED, APPROVED)
    assert (approved.status, approved.approved, approved.payout, approved.ended) == ("approved", 60, 0, False)
    paid = live(CREATED, APPROVED, PayoutExecuted(7, HEIR, 59))
    assert (paid.status, paid.approved, paid.payout, paid.beneficiary, paid.ended) == ("claimed", 60, 59, HEIR, True)


@pytest.mark.parametrize("back", [CANCELLED, REFUSED])
def test_a_payout_that_comes_to_nothing_leaves_an_active_policy(back: EventBody) -> None:
    assert live(CREATED, APPROVED, back) == live(CREATED)
    assert live(CREATED, APPROVED, back, APPROVED) == live(CREATED, APPROVED)
    assert live(CREATED, APPROVED, back, EXPIRED).status == PolicyStatus.EXPIRED


def test_a_payment_whose_approval_was_cancelled_at_once_is_taken() -> None:
    assert live(CREATED, PAID).payout == 60


@pytest.mark.parametrize(
    "bodies",
    [
        (EXPIRED,),
        (APPROVED,),
        (PAID,),
        (CANCELLED,),
        (REFUSED,),
        (CREATED, CREATED),
        (CREATED, CANCELLED),
        (CREATED, REFUSED),
        (CREATED, APPROVED, APPROVED),
        (CREATED, APPROVED, EXPIRED),
        (CREATED, APPROVED, CREATED),
        (CREATED, EXPIRED, APPROVED),
        (CREATED, EXPIRED, PAID),
        (CREATED, PAID, PAID),
        (CREATED, PAID, CANCELLED),
        (CREATED, PayoutApproved(7, 0)),
        (CREATED, PayoutApproved(7, 101)),
        (CREATED, PayoutExecuted(7, HEIR, 101)),
        (CREATED, PayoutExecuted(7, HEIR, -1)),
        (CREATED, APPROVED, PayoutExecuted(7, HEIR, 101)),
    ],
)
def test_an_impossible_move_is_refused(bodies: tuple[EventBody, ...]) -> None:
    before = live(*bodies[:-1]) if len(bodies) > 1 else None
    with pytest.raises(LedgerRefused):
        move_policy(before, bodies[-1])


def test_only_events_of_a_policys_life_move_it() -> None:
    assert [policy_of(body) for body in (CREATED, APPROVED, PAID, CANCELLED, REFUSED, EXPIRED)] == [7] * 6
    assert policy_of(PayoutRefused(7, int(Op.RELEASE_COVERAGE))) is None
    assert policy_of(QuoteKeySet("00")) is None


def test_the_op_is_the_contracts() -> None:
    assert int(Op.PAY_CLAIM) == PAY_CLAIM_OP
