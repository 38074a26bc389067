"""What the API says of transactions: these structs are the JSON and the OpenAPI document, and how they are filled."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from msgspec import Meta

from tonsurance.api import wire
from tonsurance.api.render import render_event, show_now, show_time
from tonsurance.chain.messages import Op
from tonsurance.core.units import ton_from_nano
from tonsurance.db.transactions import IssuedQuote, TransactionRow
from tonsurance.services.transaction_reads import Answer, Lookup, PolicyLink

Hash = Annotated[str, Meta(description="64 hexadecimal digits.", examples=["ab" * 32])]
OpHex = Annotated[str | None, Meta(description="First 32 bits of the message's body.", examples=["0x0a4f4df4"])]
OpName = Annotated[
    str | None, Meta(description="The operation's name; null when the contracts have none.", examples=["create_policy"])
]
TransactionStatus = Annotated[
    Literal["pending", "confirmed", "failed"],
    Meta(
        description="`pending`: wait and ask again. `confirmed` and `failed` do not change any more for a transaction; "
        "for a payload they do when it is sent again."
    ),
]


class ReasonOut(wire.Out, frozen=True, kw_only=True):
    """Why something was refused."""

    code: Annotated[
        int | None, Meta(description="Exit code of the compute phase; null when it did not run.", examples=[135])
    ]
    action_code: Annotated[int | None, Meta(description="Result code of the action phase; null when it did not run.")]
    name: Annotated[str, Meta(examples=["quote_expired"])]
    sentence: Annotated[str, Meta(examples=["The quote is not valid any more."])]
    by: Annotated[Literal["contract", "vault"] | None, Meta(description="Who refused; null: nobody was asked.")]


class PolicyLinkOut(wire.Out, frozen=True, kw_only=True):
    """A policy the transaction is about."""

    policy_id: Annotated[str, Meta(examples=["41"])]
    factory: str
    href: Annotated[str, Meta(examples=["/api/v2/policies/41"])]


class VaultAnswerOut(wire.Out, frozen=True, kw_only=True):
    """The transaction in which the factory learned what the vault did about a purchase."""

    hash: Hash
    lt: wire.LogicalTime
    time: wire.Instant


class IssuedQuoteOut(wire.Out, frozen=True, kw_only=True):
    """The quote whose payload this is."""

    quote_id: str
    factory: str
    deadline: wire.Instant


class TransactionAnswer(wire.Out, frozen=True, kw_only=True):
    """What became of a message to a contract of ours. Fields of the transaction are null while none was seen."""

    status: TransactionStatus
    stage: Annotated[
        Literal["done", "backed", "awaited", "awaiting_vault", "refused", "refused_by_vault", "expired"],
        Meta(
            description="`awaited`: a quote of ours that was not used yet. `awaiting_vault`: the factory took the "
            "quote and asked the vault. `backed`: the policy is in force. `refused`: by the contract, its value went "
            "back. `refused_by_vault`: the vault has no room, the buyer got the value back. `expired`: not used in "
            "time. `done`: anything else that succeeded."
        ),
    ]
    matched_by: Annotated[
        Literal["transaction", "message", "payload"], Meta(description="What the hash asked for is the hash of.")
    ]
    hash: Hash | None
    message_hash: Hash | None
    payload_hash: Hash | None
    contract: str | None
    contract_kind: Annotated[str | None, Meta(examples=["PolicyFactory"])]
    vault_id: str | None
    lt: wire.LogicalTime | None
    time: wire.Instant | None
    op: OpHex
    op_name: OpName
    bounced: Annotated[bool, Meta(description="The message was one of the contract's own that came back refused.")]
    query_id: str | None
    sender: str | None
    value_ton: wire.Ton | None
    value_nanoton: wire.NanoTon | None
    exit_code: Annotated[int | None, Meta(description="Of this transaction's compute phase; 0 and 1 are good.")]
    action_code: Annotated[int | None, Meta(description="Of this transaction's action phase; 0 is good.")]
    reason: Annotated[ReasonOut | None, Meta(description="null unless it failed.")]
    refunded_ton: wire.Ton | None
    refunded_nanoton: Annotated[
        wire.NanoTon | None,
        Meta(description="What went back of the value, here or with the vault's answer; null when it cannot be told."),
    ]
    refunded_to: str | None
    vault_answer: Annotated[VaultAnswerOut | None, Meta(description="Of a purchase; null until it came.")]
    policy: PolicyLinkOut | None
    quote: IssuedQuoteOut | None
    events: Annotated[
        tuple[wire.EventOut, ...], Meta(description="Of this transaction, then what the answer made of a purchase.")
    ]
    other_transactions: Annotated[
        tuple[str, ...],
        Meta(description="Hashes of others with the same payload, at most nine; only the sender's where one is named."),
    ]
    ambiguous: Annotated[
        bool,
        Meta(
            description="Several wallets sent this payload and nothing says whose is meant: this is the newest, which "
            "may be a stranger's. Name the `sender`."
        ),
    ]
    followed_until: Annotated[
        wire.Instant | None, Meta(description="While pending: the chain's time up to which everything is known.")
    ]
    timestamp: wire.Instant


def render_lookup(found: Lookup, asked: bytes) -> TransactionAnswer:
    """What became of it, as it is shown; `asked` is the hash it was found by."""
    return TransactionAnswer(
        status=found.status,
        stage=found.stage,
        reason=_render_reason(found),
        **_show_row(found.row, asked),
        **show_amount("refunded", found.refunded),
        refunded_to=found.refunded_to if found.refunded else None,
        vault_answer=_render_answer(found.answer),
        policy=_render_policy(found.policy),
        quote=_render_quote(found.quote),
        events=tuple(render_event(event) for event in found.events),
        other_transactions=tuple(other.hex() for other in found.others),
        ambiguous=found.ambiguous,
        followed_until=None if found.followed_until is None else show_time(found.followed_until),
        timestamp=show_now(),
    )


_OF_TRANSACTION = (
    "hash", "message_hash", "contract", "contract_kind", "vault_id", "lt", "time", "op", "op_name", "query_id",
    "sender", "value_ton", "value_nanoton", "exit_code", "action_code",
)  # fmt: skip


def _show_row(row: TransactionRow | None, asked: bytes) -> dict[str, Any]:
    """The fields that say what the transaction was."""
    if row is None:
        unseen = {"matched_by": "payload", "payload_hash": asked.hex(), "bounced": False}
        return unseen | dict.fromkeys(_OF_TRANSACTION)
    return {
        "matched_by": row.matched,
        "hash": row.hash.hex(),
        "message_hash": _show_hash(row.in_msg_hash),
        "payload_hash": _show_hash(row.body_hash),
        "contract": row.contract_address,
        "contract_kind": row.contract_type,
        "vault_id": row.vault_id,
        "lt": str(row.logical_time),
        "time": show_time(row.block_time.timestamp()),
        "op": None if row.op is None else f"{row.op:#010x}",
        "op_name": name_op(row),
        "bounced": row.bounced,
        "query_id": None if row.query_id is None else str(row.query_id),
        "sender": row.sender,
        **show_amount("value", row.value_nano),
        "exit_code": row.exit_code,
        "action_code": row.action_code,
    }


def name_op(row: TransactionRow) -> str | None:
    """The operation by its name in the contracts."""
    if row.op is not None:
        with suppress(ValueError):
            return Op(row.op).name.lower()
    return None


def show_amount(name: str, nano: int | None) -> dict[str, Any]:
    """An amount in both units."""
    shown = (None, None) if nano is None else (ton_from_nano(nano), str(nano))
    return {f"{name}_ton": shown[0], f"{name}_nanoton": shown[1]}


def _show_hash(hash_: bytes | None) -> str | None:
    return None if hash_ is None else hash_.hex()


def _render_reason(found: Lookup) -> ReasonOut | None:
    if found.reason is None:
        return None
    by: Literal["contract", "vault"] = "vault" if found.stage == "refused_by_vault" else "contract"
    return ReasonOut(
        code=found.exit_code,
        action_code=found.action_code,
        name=found.reason.name,
        sentence=found.reason.sentence,
        by=None if found.row is None else by,
    )


def _render_answer(answer: Answer | None) -> VaultAnswerOut | None:
    if answer is None:
        return None
    time = show_time(answer.block_time.timestamp())
    return VaultAnswerOut(hash=answer.hash.hex(), lt=str(answer.lt), time=time)


def _render_policy(link: PolicyLink | None) -> PolicyLinkOut | None:
    if link is None:
        return None
    href = f"/api/v2/policies/{link.policy_id}?factory={link.factory}"
    return PolicyLinkOut(policy_id=str(link.policy_id), factory=link.factory, href=href)


def _render_quote(quote: IssuedQuote | None) -> IssuedQuoteOut | None:
    if quote is None:
        return None
    return IssuedQuoteOut(quote_id=str(quote.quote_id), factory=quote.factory, deadline=show_time(quote.deadline))
