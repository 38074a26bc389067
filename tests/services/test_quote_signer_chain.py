"""The factory on a real TVM accepts what the signer signs, also while keys are exchanged and nothing is restarted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from services.factory_reading import Reading, reading
from services.signing import NEXT_SEED, SEED, asking, key_of, running_signer, serving
from tonsurance.chain import messages
from tonsurance.chain.messages import Quote
from tonsurance.core.sale_errors import SignerUnavailable, SigningRefused
from tonsurance.core.units import NANO_PER_TON
from tonsurance.localnet.wallets import Transfer
from tonsurance.services.quote_signer import Addressee, LocalSigner, Signer, sign_for
from tonsurance.services.signing_key import SecretKey


class Buying:
    """A factory whose key is SEED's, and one who buys by whatever is signed."""

    def __init__(self, parts: Reading) -> None:
        self.parts = parts
        self.chain = parts.street.chain
        self.factory = parts.street.contracts.factory
        self._quote_id = 0

    def signer(self, *seeds: bytes) -> LocalSigner:
        """By the chain's time, for this factory alone."""
        told = [Addressee(self.chain.network_id, self.factory)]
        return LocalSigner([SecretKey(seed) for seed in seeds], told, clock=lambda: self.chain.now)

    def quote(self, ahead_s: int = 500) -> Quote:
        """New each time."""
        self._quote_id += 1
        return Quote(
            network_id=self.chain.network_id, factory=self.factory, quote_id=self._quote_id, coverage_type=0,
            chain_id=1, stablecoin_id=0, coverage_amount=10 * NANO_PER_TON, premium=NANO_PER_TON, duration_days=30,
            buyer=self.parts.street.alice.address, deadline=self.chain.now + ahead_s,
        )  # fmt: skip

    def buy(self, quote: Quote, signature: bytes) -> bool:
        """Whether a policy came of it."""
        before = self._next_id()
        body = messages.create_policy(quote, signature)
        order = Transfer(destination=self.factory, value=quote.premium + messages.REQUEST_GAS, body=body)
        self.parts.street.alice.send(self.chain, order)
        self.chain.mine_until_idle()
        return self._next_id() == before + 1

    def _next_id(self) -> int:
        number: int = self.chain.get_method(self.factory, "get_next_policy_id").stack[0]
        return number

    def set_key(self, seed: bytes) -> None:
        """The admin has another key accepted."""
        self.parts.order(self.factory, messages.set_quote_key(key_of(seed)))


@asynccontextmanager
async def _here(signer: LocalSigner, _path: Path) -> AsyncIterator[Signer]:
    yield signer


@asynccontextmanager
async def _behind_a_socket(signer: LocalSigner, path: Path) -> AsyncIterator[Signer]:
    async with serving(signer, path), asking(path) as far:
        yield far


@pytest.fixture
async def buying(database: str) -> AsyncIterator[Buying]:
    async with reading(database) as parts:
        parts.street.fill()
        yield Buying(parts)


@pytest.mark.parametrize("reach", [_here, _behind_a_socket])
async def test_the_factory_accepts_what_is_signed_and_nothing_that_was_changed(
    buying: Buying, tmp_path: Path, reach: Callable[..., object]
) -> None:
    state = await buying.parts.read()
    async with reach(buying.signer(SEED), tmp_path / "s") as signer:  # type: ignore[attr-defined]
        quote = buying.quote()
        signature = await sign_for(signer, quote, state)
        assert not buying.buy(msgspec.structs.replace(quote, premium=quote.premium - 1), signature)
        assert buying.buy(quote, signature)
        assert not buying.buy(quote, signature), "a quote buys once"


async def test_the_factory_of_a_chain_that_is_ahead_accepts_what_the_signers_process_signs(
    buying: Buying, tmp_path: Path
) -> None:
    buying.chain.advance_time(max(0, int(time.time()) - buying.chain.now) + 40_000)
    state, quote = await buying.parts.read(), buying.quote()
    async with running_signer(tmp_path / "s", SEED, buying.factory) as signer:
        with pytest.raises(SigningRefused, match="deadline"):
            await sign_for(signer, quote, state)
    async with running_signer(tmp_path / "s", SEED, buying.factory, "--any-clock") as signer:
        assert buying.buy(quote, await sign_for(signer, quote, state))
        too_far = buying.quote(ahead_s=700)
        assert not buying.buy(too_far, await sign_for(signer, too_far, state)), "the contract bounds it itself"


@pytest.mark.parametrize("reach", [_here, _behind_a_socket])
async def test_keys_are_exchanged_without_a_restart_and_old_quotes_stay_good_for_the_overlap(
    buying: Buying, tmp_path: Path, reach: Callable[..., object]
) -> None:
    async with reach(buying.signer(SEED, NEXT_SEED), tmp_path / "s") as signer:  # type: ignore[attr-defined]
        before = await buying.parts.read()
        assert before.public_key == key_of(SEED)
        old = [(quote, await sign_for(signer, quote, before)) for quote in (buying.quote(599), buying.quote(599))]
        buying.set_key(NEXT_SEED)
        quote = buying.quote()
        assert buying.buy(quote, await sign_for(signer, quote, before)), "read before the exchange, used after it"
        state = await buying.parts.read()
        assert (state.public_key, state.previous_key) == (key_of(NEXT_SEED), key_of(SEED))
        quote = buying.quote()
        signature = await sign_for(signer, quote, state)
        assert signature == await signer.sign(quote, key_of(NEXT_SEED))
        assert buying.buy(quote, signature)
        assert buying.buy(*old[0]), "within the overlap"
        buying.chain.advance_time(state.key_overlap_s)
        assert state.previous_until <= buying.chain.now < old[1][0].deadline
        assert not buying.buy(*old[1]), "after the overlap"
        quote = buying.quote()
        assert buying.buy(quote, await sign_for(signer, quote, state))


async def test_a_signer_that_missed_the_exchange_signs_until_the_overlap_ends_and_then_says_what_to_do(
    buying: Buying,
) -> None:
    signer = buying.signer(SEED)
    buying.set_key(NEXT_SEED)
    state = await buying.parts.read()
    soon = buying.quote(ahead_s=state.key_overlap_s // 2)
    assert buying.buy(soon, await sign_for(signer, soon, state))
    with pytest.raises(SignerUnavailable, match="QUOTE_KEY_NEXT"):
        await sign_for(signer, buying.quote(ahead_s=599), state)


async def test_what_was_signed_before_its_key_was_set_is_refused_until_then(buying: Buying) -> None:
    signer, quote = buying.signer(SEED, NEXT_SEED), buying.quote()
    early = await signer.sign(quote, key_of(NEXT_SEED))
    assert not buying.buy(quote, early)
    buying.set_key(NEXT_SEED)
    assert buying.buy(quote, early)
