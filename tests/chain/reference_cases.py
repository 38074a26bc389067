"""Every message of the earlier generation's layouts, assembled from its description, and what it must be shown as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chain.hand import NOW, OTHER, USER, Node, address, coins, incoming, log, uint

VAULT, FACTORY, ROUTER = "MultiTrancheVault", "PolicyFactory", "PolicyRouter"
SHARD, TREASURY, TOKEN = "PolicyShard", "Treasury", "TrancheToken"
BIG = 2**64 - 1
MANY = 2**120 - 1
SIGNATURE = "ab" * 64


@dataclass(frozen=True)
class Case:
    """One message of a kind of contract: its number (a log's destination, a request's op) and payload, and its event.

    `body` is what follows the op, or the payload of a log. `named` are the ids it has here, by the layout's fields.
    """

    kind: str
    number: int
    name: str
    body: Node
    fields: dict[str, Any]
    named: dict[str, int] = field(default_factory=dict)
    canonical: str | None = None
    filled: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """How a test is called."""
        return f"{self.kind}-{self.number:#x}-{self.name}"

    def shown(self) -> dict[str, Any]:
        """What the command shows of it, beside its identity."""
        shown: dict[str, Any] = {"event_type": self.name, "fields": self.fields, "canonical": self.canonical}
        if self.named:
            shown["mapped"] = self.named
        if self.canonical:
            shown |= {"canonical_fields": self.filled, "canonical_missing": list(self.missing)}
        return shown


def as_log(case: Case, body: Node | None = None, *, number: int | None = None) -> Node:
    """The external message of a case, or of another payload."""
    return log(case.number if number is None else number, case.body if body is None else body)


def as_incoming(case: Case, body: Node | None = None, *, number: int | None = None, **how: Any) -> Node:
    """The incoming message of a case, of five TON, or of another body."""
    body = case.body if body is None else body
    op = uint(case.number if number is None else number, 32)
    return incoming(Node(op + body.bits, body.refs), **({"value": 5 * 10**9} | how))


PRODUCT = uint(3, 8) + uint(4, 8) + uint(13, 8)
"""bridge, Bitcoin, mkUSD in the earlier generation's numbers."""
QUOTE = Node(PRODUCT + coins(10**12) + uint(90, 16) + address(USER) + coins(1_972_602_739) + uint(1_760_000_300, 32))

LOGS = (
    Case(
        VAULT, 0x90, "TransactionRetried", Node(uint(BIG, 64) + uint(3, 8) + uint(60, 16) + uint(0x595F07BC, 32)),
        {"tx_id": str(BIG), "retry": 3, "backoff_s": 60, "op": 0x595F07BC},
    ),
    Case(
        VAULT, 0x95, "DepositRolledBack", Node(uint(1, 64) + uint(6, 8) + coins(10**9) + address(USER)),
        {"tx_id": "1", "tranche": 6, "amount": "1000000000", "user": USER}, {"tranche": 6},
    ),
    Case(
        VAULT, 0x96, "WithdrawalRolledBack", Node(uint(1, 64) + uint(1, 8) + coins(0) + address(OTHER)),
        {"tx_id": "1", "tranche": 1, "tokens": "0", "user": OTHER}, {"tranche": 1},
    ),
    Case(
        ROUTER, 0x54, "PolicyRoutedToShard",
        Node(
            uint(516, 64) + uint(4, 8) + address(USER) + PRODUCT + coins(10**12) + uint(180, 16) + coins(3_550_684_931)
        ),
        {
            "policy_id": "516", "shard_id": 4, "user": USER, "type": 3, "chain": 4, "coin": 13,
            "coverage": "1000000000000", "days": 180, "premium": "3550684931",
        },
        {"type": 3, "chain": 5, "coin": 13},
    ),
    Case(
        ROUTER, 0x55, "ShardRegistered", Node(uint(255, 8) + address(USER)), {"shard_id": 255, "address": USER},
    ),
    Case(
        ROUTER, 0x56, "ShardOverridden", Node(uint(0, 8) + address(None)), {"shard_id": 0, "address": None},
    ),
    Case(ROUTER, 0x57, "BatchRegistered", Node(uint(64, 8)), {"count": 64}),
    Case(ROUTER, 0x58, "RouterPaused", Node("1"), {"paused": True}, {}, "Paused", {"paused": True}),
    Case(
        ROUTER, 0x59, "CreateBounced", Node(uint(516, 64) + uint(0x60, 32) + coins(0)),
        {"tx_id": "516", "op": 0x60, "amount": "0"},
    ),
    Case(
        ROUTER, 0x5A, "OtherBounced", Node(uint(1, 32) + coins(MANY)), {"op": 1, "amount": str(MANY)},
    ),
    Case(
        SHARD, 0x51, "PolicyCreatedInShard",
        Node(
            uint(BIG, 64) + uint(255, 8) + address(USER) + PRODUCT + coins(10**12) + uint(90, 16)
            + uint(3 << 16 | 4 << 8 | 13, 32)
        ),
        {
            "policy_id": str(BIG), "shard_id": 255, "user": USER, "type": 3, "chain": 4, "coin": 13,
            "coverage": "1000000000000", "days": 90, "product_hash": 197_645,
        },
        {"type": 3, "chain": 5, "coin": 13},
        "PolicyCreated",
        {
            "policy_id": str(BIG), "buyer": USER, "coverage_type": 3, "chain_id": 5, "stablecoin_id": 13,
            "coverage_amount": "1000000000000",
        },
        ("quote_id", "premium", "start", "end", "trigger_bps", "floor_bps"),
    ),
    Case(
        SHARD, 0x52, "PolicyClaimed", Node(uint(513, 64) + uint(1, 8) + coins(10**12)),
        {"policy_id": "513", "shard_id": 1, "coverage": "1000000000000"},
    ),
    Case(
        SHARD, 0x53, "ShardPaused", Node(uint(1, 8) + "0"), {"shard_id": 1, "paused": False}, {}, "Paused",
        {"paused": False},
    ),
    Case(
        TREASURY, 0x50, "PremiumReceived",
        Node(uint(7, 64) + coins(1000) + coins(700) + coins(200) + coins(100) + coins(2**53 + 1)),
        {
            "policy_id": "7", "amount": "1000", "vault": "700", "stakers": "200", "reserve": "100",
            "total_collected": "9007199254740993",
        },
    ),
    Case(
        TREASURY, 0x51, "YieldConfirmed", Node(uint(2, 8) + coins(5)), {"tranche": 2, "yield": "5"}, {"tranche": 2},
    ),
    Case(
        TREASURY, 0x53, "PayoutExecuted", Node(address(OTHER) + coins(10**11) + coins(10**12)),
        {"recipient": OTHER, "amount": "100000000000", "total_payouts": "1000000000000"}, {}, "PayoutExecuted",
        {"beneficiary": OTHER, "amount": "100000000000"}, ("policy_id",),
    ),
    Case(
        TOKEN, 0x82, "TokensMinted", Node(address(USER) + coins(5) + uint(2**32 - 1, 32) + coins(10)),
        {"to": USER, "amount": "5", "unlock": 2**32 - 1, "supply": "10"},
    ),
    Case(
        TOKEN, 0x83, "TokensBurned", Node(address(USER) + coins(5) + coins(0)),
        {"from": USER, "amount": "5", "supply": "0"},
    ),
)  # fmt: skip

REQUESTS = (
    Case(
        VAULT, 0x01, "DepositMade", Node(uint(2, 8)), {"sender": USER, "amount": "5000000000", "tranche": 2},
        {"tranche": 2}, "DepositMade", {"tranche_id": 2, "depositor": USER, "amount": "5000000000"},
        ("shares", "locked_shares"),
    ),
    Case(
        VAULT, 0x02, "WithdrawalMade", Node(uint(6, 8) + coins(10**18)),
        {"sender": USER, "tranche": 6, "tokens": "1000000000000000000"}, {"tranche": 6}, "WithdrawalMade",
        {"tranche_id": 6, "withdrawer": USER, "shares": "1000000000000000000"}, ("amount",),
    ),
    Case(
        VAULT, 0x03, "PremiumsDistributed", Node(coins(1)), {"amount": "1"}, {}, "PremiumsDistributed",
        {"premium_amount": "1"}, ("policy_id", "parts"),
    ),
    Case(
        VAULT, 0x04, "LossAbsorbed", Node(coins(15 * 10**9)), {"amount": "15000000000"}, {}, "LossAbsorbed",
        {"loss_amount": "15000000000"}, ("tranche_id", "policy_id"),
    ),
    Case(VAULT, 0x10, "Paused", Node(), {}, {}, "Paused", {"paused": True}),
    Case(VAULT, 0x11, "Unpaused", Node(), {}, {}, "Paused", {"paused": False}),
    Case(
        FACTORY, 0x01, "PolicyCreated", Node("", (Node(uint(int(SIGNATURE, 16), 512), (QUOTE,)),)),
        {
            "signature": SIGNATURE, "coverage_type": 3, "chain_id": 4, "stablecoin_id": 13,
            "coverage_amount": "1000000000000", "duration_days": 90, "user": USER, "premium": "1972602739",
            "deadline": 1_760_000_300,
        },
        {"coverage_type": 3, "chain_id": 5, "stablecoin_id": 13}, "PolicyCreated",
        {
            "buyer": USER, "coverage_type": 3, "chain_id": 5, "stablecoin_id": 13, "coverage_amount": "1000000000000",
            "premium": "1972602739", "start": NOW, "end": NOW + 90 * 86_400,
        },
        ("policy_id", "quote_id", "trigger_bps", "floor_bps"),
    ),
    Case(FACTORY, 0x10, "Paused", Node(), {}, {}, "Paused", {"paused": True}),
    Case(FACTORY, 0x11, "Unpaused", Node(), {}, {}, "Paused", {"paused": False}),
    Case(
        FACTORY, 0x14, "OracleKeySet", Node(uint(0xEA4A, 256)), {"key": "0" * 60 + "ea4a"}, {}, "QuoteKeySet",
        {"public_key": "0" * 60 + "ea4a"},
    ),
    Case(SHARD, 0x62, "PolicyDeactivated", Node(uint(513, 64)), {"policy_id": "513"}),
)  # fmt: skip
