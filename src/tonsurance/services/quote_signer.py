"""Signs quotes, and refuses to sign what should never be: a fault of who asks must not become a policy.

The signer knows nothing of prices or capacity. It holds the keys, knows for which factories on which networks it signs,
and keeps to the rules of contracts/quote.fc by itself. It can live in this process (LocalSigner) or in another one
(services/signer_client.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

import msgspec

from tonsurance.chain.addresses import parse_address
from tonsurance.chain.messages import Quote, quote_hash
from tonsurance.chain.ton_connect import MAINNET_ID
from tonsurance.core.errors import UsageError
from tonsurance.core.products import Product, find_unknown_dimension
from tonsurance.core.quotes import FLOOR_BPS, TRIGGER_BPS, contract_min_premium_nano
from tonsurance.core.sale_errors import SignerUnavailable, SigningRefused
from tonsurance.core.units import DAYS_PER_YEAR
from tonsurance.services.signing_key import SecretKey

MAX_AHEAD_S = 600
"""The factory refuses a quote whose deadline lies further ahead."""
CLOCK_ALLOWANCE_S = 30
"""The clocks of two machines that keep time differ by less. Quotes end so much earlier than the factory takes, and are
signed when they seem to end so much later: the factory itself holds them to MAX_AHEAD_S by the chain's clock."""
_SHOWN = 16


class Addressee(msgspec.Struct, frozen=True):
    """A factory, by its raw address, on a network: -239 is mainnet, -3 testnet."""

    network_id: int
    factory: str


class KeysInForce(Protocol):
    """What a factory accepts, as read from it: db/factory_state.py has it."""

    @property
    def public_key(self) -> bytes:
        """The key in force."""
        ...

    @property
    def previous_key(self) -> bytes | None:
        """The one before."""
        ...

    @property
    def previous_until(self) -> int:
        """When quotes signed by the one before end to be accepted, in unix seconds."""
        ...


class Signer(Protocol):
    """Whoever holds the quote keys."""

    async def public_keys(self) -> tuple[bytes, ...]:
        """The keys that are held. Raises SignerUnavailable."""
        ...

    async def sign(self, quote: Quote, public_key: bytes) -> bytes:
        """The 64 bytes of signature by this key. Raises SignerUnavailable when it is not held or the signer cannot be
        reached, SigningRefused for a quote that must not be signed."""
        ...

    async def close(self) -> None:
        """Let go of what it holds open."""
        ...


class LocalSigner:
    """The keys in this process: one, or two while they are exchanged.

    `addressees` are the only ones it signs for; None: for any, when who asks has them from a source that is trusted as
    much as the key's own machine. `clock` tells unix seconds; None: deadlines are not held against any, for a chain
    whose clock is not ours. Raises UsageError for that where mainnet is signed for.
    """

    def __init__(
        self,
        keys: Sequence[SecretKey],
        addressees: Collection[Addressee] | None = None,
        *,
        clock: Callable[[], float] | None = time.time,
    ) -> None:
        self._keys = {key.public_key: key for key in keys}
        known = None if addressees is None else frozenset(addressees)
        if clock is None and (known is None or any(one.network_id == MAINNET_ID for one in known)):
            raise UsageError("Deadlines are held against the clock on mainnet.", advice="It is for local chains only.")
        self._addressees = known
        self._clock = clock

    async def public_keys(self) -> tuple[bytes, ...]:
        """The keys that are held, the first one first."""
        return tuple(self._keys)

    async def sign(self, quote: Quote, public_key: bytes) -> bytes:
        """The 64 bytes of signature."""
        key = self._keys.get(public_key)
        if key is None:
            raise missing_key(public_key, tuple(self._keys))
        faults = tuple(self._find_faults(quote))
        if faults:
            raise SigningRefused(f"This quote is not signed: {'; '.join(faults)}.")
        return key.sign(quote_hash(quote))

    async def close(self) -> None:
        """Nothing is open."""

    def _find_faults(self, quote: Quote) -> Iterator[str]:
        addressee = Addressee(quote.network_id, parse_address(quote.factory))
        if self._addressees is not None and addressee not in self._addressees:
            yield f"its factory {addressee.factory} on network {addressee.network_id} is none of this signer's"
        yield from self._find_deadline_faults(quote.deadline)
        yield from find_term_faults(quote)

    def _find_deadline_faults(self, deadline: int) -> Iterator[str]:
        if self._clock is None:
            return
        now, most = self._clock(), MAX_AHEAD_S + CLOCK_ALLOWANCE_S
        if not now < deadline <= now + most:
            yield f"its deadline is {deadline - int(now)} s ahead, not above 0 and at most {most}"


def find_term_faults(quote: Quote) -> Iterator[str]:
    """Every rule of the factory contract for terms that this quote breaks, whoever asks and whenever."""
    ids = quote.coverage_type, quote.chain_id, quote.stablecoin_id
    reason = find_unknown_dimension(*ids) or Product(*ids).invalid_reason
    if reason is not None:
        yield f"there is no such product: {reason}"
    if (quote.trigger_bps, quote.floor_bps) != (TRIGGER_BPS, FLOOR_BPS):
        yield f"trigger and floor are {TRIGGER_BPS} and {FLOOR_BPS}, not {quote.trigger_bps} and {quote.floor_bps}"
    if not 1 <= quote.duration_days <= DAYS_PER_YEAR:
        yield f"the cover lasts 1 to {DAYS_PER_YEAR} days, not {quote.duration_days}"
    if quote.coverage_amount <= 0:
        yield "there is no cover"
    elif quote.premium < contract_min_premium_nano(quote.coverage_amount, max(1, quote.duration_days)):
        yield "the premium is below the least rate at which the factory sells"


def missing_key(public_key: bytes, held: Sequence[bytes]) -> SignerUnavailable:
    """The factory accepts a key that is not held: what to do about it."""
    holds = ", ".join(key.hex()[:_SHOWN] for key in held) or "none"
    return SignerUnavailable(
        f"The factory accepts quotes of key {public_key.hex()[:_SHOWN]}...; the signer holds {holds}.",
        advice="Give the signer the key's seed as QUOTE_KEY or QUOTE_KEY_NEXT, or set the held key on chain as admin.",
    )


def accepts_key(accepted: KeysInForce, public_key: bytes, deadline: int) -> bool:
    """Whether a quote that this key signed is accepted until `deadline`."""
    if public_key == accepted.public_key:
        return True
    return public_key == accepted.previous_key and deadline < accepted.previous_until


def choose_key(accepted: KeysInForce, held: Sequence[bytes], deadline: int) -> bytes:
    """The held key by which a quote until `deadline` is accepted: the one in force; else the one before, when it stays
    good until then. Raises SignerUnavailable when there is none."""
    if accepted.public_key in held:
        return accepted.public_key
    previous = accepted.previous_key
    if previous is not None and previous in held and accepts_key(accepted, previous, deadline):
        return previous
    raise missing_key(accepted.public_key, held)


async def sign_for(signer: Signer, quote: Quote, accepted: KeysInForce) -> bytes:
    """The signature by the key that the quote's factory accepts. Raises SignerUnavailable, SigningRefused."""
    return await signer.sign(quote, choose_key(accepted, await signer.public_keys(), quote.deadline))
