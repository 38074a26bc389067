"""What a buyer's wallet sends for a quote: its terms as the factory contract takes them, signed, and as a request."""

from __future__ import annotations

import msgspec

from tonsurance.chain import messages
from tonsurance.chain.messages import REQUEST_GAS
from tonsurance.chain.ton_connect import WalletRequest, request_boc
from tonsurance.core.quotes import FLOOR_BPS, TRIGGER_BPS
from tonsurance.db.factory_state import FactoryState
from tonsurance.services.quote_signer import CLOCK_ALLOWANCE_S, MAX_AHEAD_S, Signer, accepts_key, choose_key
from tonsurance.services.quote_values import Purchase, Quote

LONGEST_S = MAX_AHEAD_S - CLOCK_ALLOWANCE_S
"""No quote is valid for longer: by a clock that is behind ours its deadline must still be what the factory takes."""


def stretch_validity(validity_s: int, speed: float) -> int:
    """So many of our seconds in the chain's, as far as the factory takes them whosever clock is right: on a local chain
    that runs fast, 300 s may be over in one of ours."""
    return min(int(validity_s * speed), LONGEST_S)


def make_payload(made: Quote, factory: FactoryState, buyer: str) -> messages.Quote:
    """The terms as the factory contract takes them."""
    product = made.terms.product
    return messages.Quote(
        network_id=factory.network_id,
        factory=factory.factory_address,
        quote_id=made.quote_id,
        coverage_type=product.coverage_type_id,
        chain_id=product.chain_id,
        stablecoin_id=product.stablecoin_id,
        coverage_amount=made.ton.coverage_nano,
        premium=made.ton.premium_nano,
        duration_days=made.terms.days,
        buyer=buyer,
        deadline=made.valid_until,
        trigger_bps=TRIGGER_BPS,
        floor_bps=FLOOR_BPS,
    )


async def sign_purchase(made: Quote, factory: FactoryState, buyer: str, signer: Signer) -> Quote:
    """The same quote with its signed purchase. Raises SignerUnavailable, SigningRefused."""
    payload = make_payload(made, factory, buyer)
    key = choose_key(factory, await signer.public_keys(), made.valid_until)
    signature = await signer.sign(payload, key)
    body = messages.create_policy(payload, signature)
    purchase = Purchase(
        buyer=buyer,
        network_id=factory.network_id,
        factory=factory.factory_address,
        signature=signature,
        public_key=key,
        body=messages.boc_of(body),
        payload_hash=bytes(body.hash).hex(),
        value_nano=made.ton.premium_nano + REQUEST_GAS,
    )
    return msgspec.structs.replace(made, purchase=purchase)


def is_accepted(quote: Quote, factory: FactoryState) -> bool:
    """Whether this factory, as it was read last, accepts the quote's key until the quote ends."""
    purchase = quote.purchase
    if purchase is None or purchase.factory != factory.factory_address:
        return False
    return accepts_key(factory, purchase.public_key, quote.valid_until)


def request_purchase(quote: Quote) -> WalletRequest | None:
    """What the buyer's wallet is asked to send; None for a price only."""
    purchase = quote.purchase
    if purchase is None:
        return None
    return request_boc(
        purchase.factory,
        purchase.value_nano,
        purchase.body,
        purchase.payload_hash,
        network_id=purchase.network_id,
        valid_until=quote.valid_until,
        sender=purchase.buyer,
    )
