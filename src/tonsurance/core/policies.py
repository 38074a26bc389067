"""The life of a policy as its factory's events tell it: active, perhaps approved, then claimed or expired."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tonsurance.core.errors import LedgerRefused
from tonsurance.core.events import (
    EventBody,
    PayoutApproved,
    PayoutCancelled,
    PayoutExecuted,
    PayoutRefused,
    PolicyCreated,
    PolicyExpired,
)

PAY_CLAIM_OP = 0x0618211E
"""The op-code of the vault's pay_claim: a PayoutRefused that names another op leaves the policy as it was."""


class PolicyStatus(StrEnum):
    """Where a policy is in its life; the last two are its end."""

    ACTIVE = "active"
    APPROVED = "approved"
    CLAIMED = "claimed"
    EXPIRED = "expired"


class PolicyState(msgspec.Struct, frozen=True, kw_only=True):
    """A policy between two events. Amounts in nanoTON; `approved` is None while no payout is or was under way."""

    status: PolicyStatus
    coverage: int
    beneficiary: str
    approved: int | None = None
    payout: int = 0

    @property
    def ended(self) -> bool:
        """Whether no further event of this policy is possible."""
        return self.status in (PolicyStatus.CLAIMED, PolicyStatus.EXPIRED)


def policy_of(body: EventBody) -> int | None:
    """The id of the policy whose life the event moves; None when it moves none."""
    match body:
        case PayoutRefused():
            return body.policy_id if body.op == PAY_CLAIM_OP else None
        case PolicyCreated() | PolicyExpired() | PayoutApproved() | PayoutExecuted() | PayoutCancelled():
            return body.policy_id
        case _:
            return None


def move_policy(state: PolicyState | None, body: EventBody) -> PolicyState:
    """The policy after an event that moves it; None is a policy nobody has heard of.

    Raises LedgerRefused when the event cannot follow on this state, or pays more than the cover.
    """
    if isinstance(body, PolicyCreated):
        if state is not None:
            raise LedgerRefused(f"the policy is {state.status} already.")
        return PolicyState(status=PolicyStatus.ACTIVE, coverage=body.coverage_amount, beneficiary=body.buyer)
    if state is None:
        raise LedgerRefused("the policy is unknown.")
    match body, state.status:
        case PolicyExpired(), PolicyStatus.ACTIVE:
            return msgspec.structs.replace(state, status=PolicyStatus.EXPIRED)
        case PayoutApproved(amount=amount), PolicyStatus.ACTIVE:
            _check_amount(amount, 1, state.coverage)
            return msgspec.structs.replace(state, status=PolicyStatus.APPROVED, approved=amount)
        case PayoutExecuted(amount=amount), PolicyStatus.ACTIVE | PolicyStatus.APPROVED:
            _check_amount(amount, 0, state.coverage)
            paid = PolicyStatus.CLAIMED
            return msgspec.structs.replace(state, status=paid, payout=amount, beneficiary=body.beneficiary)
        case PayoutRefused() | PayoutCancelled(), PolicyStatus.APPROVED:
            return msgspec.structs.replace(state, status=PolicyStatus.ACTIVE, approved=None)
    raise LedgerRefused(f"the policy is {state.status}.")


def _check_amount(amount: int, low: int, coverage: int) -> None:
    if not low <= amount <= coverage:
        raise LedgerRefused(f"{amount} nanoTON are not from {low} to the policy's cover of {coverage}.")
