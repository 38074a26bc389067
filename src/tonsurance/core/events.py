"""What happened on chain, as values.

An event's identity is (contract, logical time of its transaction, message index in the transaction's
out-messages): the same identity is the same event however often it is delivered. Addresses are raw and lower case
(`0:<64 hex>`), amounts are nanoTON, times are unix seconds of the block.
"""

from __future__ import annotations

import msgspec

from tonsurance.core.errors import DecodeError

VAULT_KIND = "MultiTrancheVault"
FACTORY_KIND = "PolicyFactory"
FLOAT_KIND = "BitcoinFloatManager"
DIRECT_KIND = "DirectVault"
"""A vault that no contract moves: its updates are events of the pseudo-contract `direct:<vault id>`."""

VAULT_KINDS = (VAULT_KIND, DIRECT_KIND)
"""The kinds whose events move tranches; a vault has one contract of these kinds."""


class DepositMade(msgspec.Struct, frozen=True, tag=True):
    """Capital came in. `shares` went to the depositor, `locked_shares` to nobody (first deposit of an epoch)."""

    tranche_id: int
    depositor: str
    amount: int
    shares: int
    locked_shares: int


class WithdrawalRequested(msgspec.Struct, frozen=True, tag=True):
    """A holder announced a withdrawal; it may be taken from `available_at` to `expires_at`."""

    tranche_id: int
    withdrawer: str
    shares: int
    available_at: int
    expires_at: int


class WithdrawalMade(msgspec.Struct, frozen=True, tag=True):
    """Capital went out to a holder, whose shares were burned."""

    tranche_id: int
    withdrawer: str
    amount: int
    shares: int


class PremiumsDistributed(msgspec.Struct, frozen=True, tag=True):
    """A premium came in; its six parts (senior to junior) are earned over the cover's life."""

    premium_amount: int
    policy_id: int
    parts: tuple[int, ...]


class PremiumsEarned(msgspec.Struct, frozen=True, tag=True):
    """Premium became capital of a tranche."""

    tranche_id: int
    amount: int


class CoverageChanged(msgspec.Struct, frozen=True, tag=True):
    """Cover was backed (positive parts) or released (negative), senior to junior."""

    policy_id: int
    parts: tuple[int, ...]


class LossAbsorbed(msgspec.Struct, frozen=True, tag=True):
    """A tranche paid this much of a policy's claim."""

    tranche_id: int
    loss_amount: int
    policy_id: int


class EpochStarted(msgspec.Struct, frozen=True, tag=True):
    """A loss left so little behind a tranche's shares that all of them are void; what capital is left is nobody's."""

    tranche_id: int
    epoch: int
    voided_shares: int


class ClaimDeferred(msgspec.Struct, frozen=True, tag=True):
    """The circuit breaker holds a claim back; from `due_at` on anyone may have it paid."""

    policy_id: int
    amount: int
    due_at: int


class ClaimCancelled(msgspec.Struct, frozen=True, tag=True):
    """The vault's admin took a deferred claim back; its coverage stays locked."""

    policy_id: int


class ShortfallReported(msgspec.Struct, frozen=True, tag=True):
    """This much of a policy's claim no tranche could bear."""

    policy_id: int
    amount: int


class Frozen(msgspec.Struct, frozen=True, tag=True):
    """The vault pays nothing out before `until` (a time in the past: it pays again)."""

    until: int


class Paused(msgspec.Struct, frozen=True, tag=True):
    """A contract stopped (true) or resumed (false) taking deposits or policies."""

    paused: bool


class FactorySet(msgspec.Struct, frozen=True, tag=True):
    """The vault takes policies from this factory now."""

    factory: str


class PolicyCreated(msgspec.Struct, frozen=True, tag=True):
    """The vault backs this policy; cover runs from `start` to `end`. Prices in basis points of the peg."""

    policy_id: int
    quote_id: int
    buyer: str
    coverage_type: int
    chain_id: int
    stablecoin_id: int
    coverage_amount: int
    premium: int
    start: int
    end: int
    trigger_bps: int
    floor_bps: int


class PolicyRefused(msgspec.Struct, frozen=True, tag=True):
    """The vault did not back this quote; the buyer got the value back. `reason` is the op-code that bounced."""

    policy_id: int
    quote_id: int
    buyer: str
    reason: int


class PolicyExpired(msgspec.Struct, frozen=True, tag=True):
    """The cover ended without a claim and its coverage was released."""

    policy_id: int


class PayoutApproved(msgspec.Struct, frozen=True, tag=True):
    """The claims role approved a payout and the vault was asked to pay it."""

    policy_id: int
    amount: int


class PayoutExecuted(msgspec.Struct, frozen=True, tag=True):
    """The vault paid `amount` to the beneficiary; the policy has ended."""

    policy_id: int
    beneficiary: str
    amount: int


class PayoutCancelled(msgspec.Struct, frozen=True, tag=True):
    """A deferred payout was cancelled; the policy is active again."""

    policy_id: int


class PayoutRefused(msgspec.Struct, frozen=True, tag=True):
    """The vault refused `op` (an op-code: a payout or an expiry); the policy is active as before."""

    policy_id: int
    op: int


class QuoteKeySet(msgspec.Struct, frozen=True, tag=True):
    """The factory accepts quotes of this Ed25519 key; the one before stays valid for a short time."""

    public_key: str


class FloatRebalanced(msgspec.Struct, frozen=True, tag=True):
    """The float was traded back to its target: `action` 1 bought for `amount` US cents, 2 sold `amount` satoshi, at
    `btc_price` cents for one bitcoin; the rest is what the float holds after it (dollars in cents)."""

    action: int
    amount: int
    btc_price: int
    btc_float_sats: int
    btc_cost_basis: int
    usd_reserves: int


class TrancheUpdated(msgspec.Struct, frozen=True, tag=True):
    """A caller moved a tranche of a direct vault by these amounts, either may be negative."""

    tranche_id: int
    capital: int
    coverage: int


class LedgerAdjusted(msgspec.Struct, frozen=True, tag=True):
    """What no event explains: a reconciliation moved a tranche by these amounts, any may be negative."""

    tranche_id: int
    capital: int
    coverage: int
    unearned: int
    shares: int


VaultEvent = (
    DepositMade
    | WithdrawalRequested
    | WithdrawalMade
    | PremiumsDistributed
    | PremiumsEarned
    | CoverageChanged
    | LossAbsorbed
    | EpochStarted
    | ClaimDeferred
    | ClaimCancelled
    | ShortfallReported
    | Frozen
    | Paused
    | FactorySet
)
FactoryEvent = (
    PolicyCreated
    | PolicyRefused
    | PolicyExpired
    | PayoutApproved
    | PayoutExecuted
    | PayoutCancelled
    | PayoutRefused
    | QuoteKeySet
)
EventBody = VaultEvent | FactoryEvent | FloatRebalanced | TrancheUpdated | LedgerAdjusted

EVENT_TYPES: dict[str, type[EventBody]] = {
    cls.__name__: cls
    for cls in (
        DepositMade,
        WithdrawalRequested,
        WithdrawalMade,
        PremiumsDistributed,
        PremiumsEarned,
        CoverageChanged,
        LossAbsorbed,
        EpochStarted,
        ClaimDeferred,
        ClaimCancelled,
        ShortfallReported,
        Frozen,
        Paused,
        FactorySet,
        PolicyCreated,
        PolicyRefused,
        PolicyExpired,
        PayoutApproved,
        PayoutExecuted,
        PayoutCancelled,
        PayoutRefused,
        QuoteKeySet,
        FloatRebalanced,
    )
}
"""What contracts can report, by name."""

POSTED_TYPES = (*EVENT_TYPES, TrancheUpdated.__name__, LedgerAdjusted.__name__)
"""Every type the event log may hold."""


def build_event(event_type: str, fields: dict[str, object]) -> EventBody:
    """The typed event from a layout's name and fields. Raises DecodeError when they do not fit."""
    cls = EVENT_TYPES.get(event_type)
    if cls is None:
        raise DecodeError(f"No event type is called {event_type}.")
    try:
        return msgspec.convert(fields, cls)
    except msgspec.ValidationError as error:
        raise DecodeError(f"{event_type}: {error}") from error


class Cursor(msgspec.Struct, frozen=True, order=True):
    """The last transaction of a contract that was applied. (0, 32 zero bytes) is before the first."""

    lt: int
    hash: bytes


GENESIS = Cursor(0, bytes(32))


class ChainEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One decoded event with its identity and provenance."""

    contract: str
    contract_kind: str
    lt: int
    message_index: int
    transaction_hash: bytes
    block_time: int
    decoder: str
    body: EventBody
    raw_body: bytes

    @property
    def event_type(self) -> str:
        """The name of the event's type, as stored and shown."""
        return type(self.body).__name__


class Undecoded(msgspec.Struct, frozen=True, kw_only=True):
    """An out-message of one of our contracts that no layout explains, or that is of a product nobody knows: kept,
    counted, decoded again later. `policy_id` where it could be read."""

    message_index: int
    reason: str
    raw_body: bytes
    policy_id: int | None = None


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """A message the layout knows under this name, which is none of our event types: nothing follows from it."""

    message_index: int
    name: str


class TransactionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the message a transaction ran on asked, and how it ended; None where that cannot be told.

    Amounts in nanoTON, hashes of 32 bytes. `body_hash` is the representation hash of the message's body. `bounced`: the
    message is one of the contract's own that came back; `op`, `query_id` and `policy_id` are then those it had asked
    with. `refunded` went back to `refunded_to`, None: to the sender.
    """

    in_msg_hash: bytes | None = None
    body_hash: bytes | None = None
    op: int | None = None
    query_id: int | None = None
    sender: str | None = None
    value: int | None = None
    bounced: bool = False
    exit_code: int | None = None
    action_code: int | None = None
    refunded: int | None = None
    refunded_to: str | None = None
    policy_id: int | None = None


NO_FACTS = TransactionFacts()


class DecodedTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction of a followed contract. A failed one has no events but still moves the cursor."""

    cursor: Cursor
    block_time: int
    succeeded: bool
    facts: TransactionFacts = NO_FACTS
    events: tuple[ChainEvent, ...] = ()
    undecoded: tuple[Undecoded, ...] = ()
    noted: tuple[Noted, ...] = ()


class ContractBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive transactions of one contract, oldest first, each linked to the one before it.

    `after` is the cursor the first of them follows; posting the batch moves it to the last one's.
    """

    contract: str
    contract_kind: str
    after: Cursor
    transactions: tuple[DecodedTransaction, ...]

    @property
    def until(self) -> Cursor:
        """The cursor after this batch."""
        return self.transactions[-1].cursor if self.transactions else self.after
