"""What the builders' routes take and say."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from tonsurance.api.bodies import WRITTEN_AMOUNT
from tonsurance.api.wire import Age, Instant, NanoTon, Out, Stale, Ton
from tonsurance.chain.ton_connect import ConnectTransaction

NameIn = Annotated[str, Meta(max_length=64)]
AddressIn = Annotated[str, Meta(max_length=100)]
DigitsIn = Annotated[str, Meta(pattern=r"^[0-9]{1,39}\Z", examples=["25000000000"])]
CountIn = Annotated[int, Meta(ge=0)]
TrancheIn = Annotated[NameIn, Meta(examples=["SURE-SNR"])]
VaultIn = Annotated[NameIn | None, Meta(description="Left out: the first one.", examples=["main"])]
SenderIn = Annotated[
    AddressIn | None,
    Meta(description="The wallet that will send it, in any written form; then no other wallet takes the request."),
]


class DepositBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much into which tranche: one of the two amounts."""

    tranche_id: TrancheIn
    amount_ton: Annotated[
        Decimal | None,
        Meta(
            description="A number or a text of decimal digits, at most 9 decimals; it is read exactly.",
            examples=["12.5"],
            extra_json_schema={"extra": {**WRITTEN_AMOUNT, "type": ["number", "string", "null"]}},
        ),
    ] = None
    amount_nanoton: DigitsIn | CountIn | None = None
    vault_id: VaultIn = None
    sender: SenderIn = None


class WithdrawRequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many shares of which tranche."""

    tranche_id: TrancheIn
    shares: DigitsIn | CountIn
    vault_id: VaultIn = None
    sender: SenderIn = None


class WithdrawBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which tranche."""

    tranche_id: TrancheIn
    vault_id: VaultIn = None
    sender: SenderIn = None


class ExpireBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which vault, by which wallet; both may be left out."""

    vault_id: VaultIn = None
    sender: SenderIn = None


class BuilderAnswer(Out, frozen=True, kw_only=True):
    """What to hand to a wallet, and what it does."""

    transaction: Annotated[ConnectTransaction, Meta(description="TON Connect's request, as a wallet takes it.")]
    link: Annotated[str, Meta(description="The same for a wallet on this device or for a QR code.")]
    payload_hash: Annotated[
        str,
        Meta(
            description="Hash of the message's body, hex: by it the transaction is recognised. No two answers have the "
            "same."
        ),
    ]
    action: Annotated[str, Meta(description="What it does, in words.")]
    returns: Annotated[str, Meta(description="What comes back, in words.")]
    value_ton: Ton
    value_nanoton: Annotated[NanoTon, Meta(description="What the message carries, gas included.")]
    minimum_value_nanoton: Annotated[NanoTon, Meta(description="What such a message has to carry at least.")]
    vault_id: Annotated[str, Meta(examples=["main"])]
    contract: Annotated[str, Meta(description="Where it goes, raw.")]
    network_id: Annotated[int, Meta(description="-239 is mainnet, -3 testnet.", examples=[-3])]
    valid_until: Instant
    read_at: Annotated[Instant, Meta(description="When the contracts were read that this was made from.")]
    stale: Stale
    data_age_seconds: Age
    timestamp: Instant
