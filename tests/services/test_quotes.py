"""The quote desk without HTTP: the figures a quote is of, who signs it, and the chain's time its deadline is in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest
from nacl.signing import SigningKey

from services.market_story import MarketStory, open_factory
from tonsurance.chain.addresses import format_friendly
from tonsurance.core.cover_prices import price_cover, read_terms
from tonsurance.core.errors import BadField, DatabaseUnavailable
from tonsurance.core.params import DEFAULT_PARAMS, build_params
from tonsurance.core.products import VALID_PRODUCTS
from tonsurance.core.quotes import FLOOR_BPS, TRIGGER_BPS
from tonsurance.core.sale_errors import QuoteExpired, QuoteIdTaken, QuoteUsed, UnknownQuote
from tonsurance.services.chain_clock import ChainClock
from tonsurance.services.policies import PolicyChecks
from tonsurance.services.quote_purchases import is_accepted, request_purchase, stretch_validity
from tonsurance.services.quote_rooms import QuoteRooms
from tonsurance.services.quote_signer import CLOCK_ALLOWANCE_S, MAX_AHEAD_S, LocalSigner
from tonsurance.services.quote_values import Quote
from tonsurance.services.quotes import QuoteDesk, read_inputs
from tonsurance.services.receipts import Receipt, Receipts
from tonsurance.services.signing_key import SecretKey

SEED = bytes(range(32))
PUBLIC_KEY = bytes(SigningKey(SEED).verify_key)
BUYER = "0:" + "5e" * 32
ASKED = ("depeg", "Ethereum", "USDC", Decimal(10_000), 90)


class Shelf(Receipts):
    """Receipts in memory, which say what they are told to."""

    def __init__(self) -> None:
        self.asked: list[Quote] = []
        self.kept: list[Quote] = []
        self.errors: list[Exception] = []
        self.status = "issued"

    async def keep(self, quote: Quote) -> None:
        self.asked.append(quote)
        if self.errors:
            raise self.errors.pop(0)
        self.kept.append(quote)

    async def read(self, quote_id: int) -> Receipt:
        for quote in self.kept:
            if quote.quote_id == quote_id:
                return Receipt(
                    quote=quote,
                    trigger_bps=TRIGGER_BPS,
                    floor_bps=FLOOR_BPS,
                    status=self.status,
                    policy_id=None,
                    policy_status=None,
                    transaction=None,
                    refusal_reason=None,
                )
        raise UnknownQuote


@pytest.fixture
async def story(database: str) -> AsyncIterator[MarketStory]:
    running = MarketStory(database)
    await running.start(100_000)
    await running.see_price("2.50")
    await running.see_factory(public_key=PUBLIC_KEY)
    await running.look()
    yield running
    await running.close()


def make_desk(story: MarketStory, shelf: Shelf, chain: ChainClock | None = None) -> QuoteDesk:
    """A desk over the story's market that signs with its own key."""
    clock = ChainClock() if chain is None else chain
    signer = LocalSigner((SecretKey(SEED),), clock=clock.now)
    checks = PolicyChecks(story.view)
    return QuoteDesk(lambda: story.reads.params, story.view, checks, signer=signer, receipts=shelf, chain=clock)


async def test_a_price_waits_for_nobody_and_reads_nothing(story: MarketStory) -> None:
    desk, looks = make_desk(story, Shelf()), story.view.looks
    for _ in range(50):
        asking = desk.quote(*ASKED)
        with pytest.raises(StopIteration) as done:  # finished at the first step: nothing was awaited
            asking.send(None)
        assert done.value.value.list_price.premium_usd == Decimal("19.73")
    assert story.view.looks == looks


async def test_parameters_exchanged_while_the_market_is_read_are_not_mixed_into_a_quote(story: MarketStory) -> None:
    other = build_params({("pricing", "coverage_base_rate_depeg"): 0.016, ("pricing", "max_amount_usd"): 5_000.0}, 2)
    desk = make_desk(story, Shelf())
    story.clock.now += 5.0  # so that who asks has the market read
    asking = asyncio.create_task(desk.quote(*ASKED))
    await asyncio.sleep(0)
    assert not asking.done()
    story.reads.use_params(other)
    with pytest.raises(BadField, match="from 100 to 5,000"):
        await asking


async def test_a_quote_is_what_its_inputs_give_again(story: MarketStory) -> None:
    desk = make_desk(story, Shelf())
    quote = await desk.quote(*ASKED, buyer=BUYER)
    again = price_cover(quote.terms, quote.price.usd, quote.market, DEFAULT_PARAMS)
    assert (again.list_price, again.ton, again.technical) == (quote.list_price, quote.ton, quote.technical)
    assert quote.market == read_inputs(story.view.require())
    assert (quote.params_version, quote.params_hash) == (DEFAULT_PARAMS.version, DEFAULT_PARAMS.hash)


async def test_an_id_that_is_taken_is_drawn_again_and_signed_again(story: MarketStory) -> None:
    shelf = Shelf()
    shelf.errors = [QuoteIdTaken()]
    quote = await make_desk(story, shelf).quote(*ASKED, buyer=BUYER)
    assert shelf.kept == [quote]
    first, second = shelf.asked
    assert first.quote_id != second.quote_id
    assert first.purchase.payload_hash != second.purchase.payload_hash
    request = request_purchase(quote)
    assert request is not None
    assert request.payload_hash == quote.purchase.payload_hash
    shelf.errors = [QuoteIdTaken(), QuoteIdTaken()]
    with pytest.raises(QuoteIdTaken):
        await make_desk(story, shelf).quote(*ASKED, buyer=BUYER)
    shelf.errors = [DatabaseUnavailable()]
    with pytest.raises(DatabaseUnavailable):
        await make_desk(story, shelf).quote(*ASKED, buyer=BUYER)
    assert shelf.kept == [quote]


async def test_what_was_bought_or_refused_or_is_over_is_not_built_again(story: MarketStory) -> None:
    shelf = Shelf()
    desk = make_desk(story, shelf)
    quote = await desk.quote(*ASKED, buyer=BUYER)
    assert await desk.find(quote.quote_id, BUYER) == quote
    assert await desk.find(quote.quote_id, format_friendly(BUYER, bounceable=False)) == quote
    for status, error in (("bought", QuoteUsed), ("refused_by_vault", QuoteExpired), ("expired", QuoteExpired)):
        shelf.status = status
        with pytest.raises(error):
            await desk.find(quote.quote_id, BUYER)
        with pytest.raises(UnknownQuote):
            await desk.find(quote.quote_id, "0:" + "5f" * 32)  # whatever became of it
    with pytest.raises(UnknownQuote):
        await desk.find(quote.quote_id ^ 1, BUYER)


async def test_a_quote_whose_key_was_exchanged_is_not_built_again_unless_it_ends_within_the_overlap(
    story: MarketStory,
) -> None:
    desk = make_desk(story, Shelf())
    quote = await desk.quote(*ASKED, buyer=BUYER)
    new, ends = b"\x01" * 32, quote.valid_until
    told = [
        ({"public_key": new, "previous_key": PUBLIC_KEY, "previous_until": ends + 1}, True),
        ({"public_key": new, "previous_key": PUBLIC_KEY, "previous_until": ends}, False),
        ({"public_key": new, "previous_key": b"\x02" * 32, "previous_until": ends + 1}, False),
        ({"public_key": PUBLIC_KEY}, True),
    ]
    for seqno, (changes, good) in enumerate(told, 2):
        await story.see_factory(seqno=seqno, **changes)
        await story.look()
        if good:
            assert await desk.find(quote.quote_id, BUYER) == quote
        else:
            with pytest.raises(QuoteExpired, match="sells no more"):
                await desk.find(quote.quote_id, BUYER)
    here = msgspec.structs.replace(open_factory(), public_key=PUBLIC_KEY)
    assert is_accepted(quote, here)
    assert not is_accepted(quote, msgspec.structs.replace(here, factory_address="0:" + "ab" * 32))


async def test_the_room_is_counted_again_when_anything_it_depends_on_changes(story: MarketStory) -> None:
    rooms, product = QuoteRooms(), VALID_PRODUCTS[0]
    first = story.view.require()
    assert rooms.find(first, product) == first.capacity(product)
    assert rooms.find(story.view.require(), product) is rooms.find(first, product)
    await story.sell(product, 149_000 * 10**9)
    sold = (await story.look()).require()
    assert rooms.find(sold, product) == sold.capacity(product) != first.capacity(product)
    story.reads.use_params(build_params({("risk", "product_cap"): 0.3}, 2))
    other = story.view.require()
    assert rooms.find(other, product) == other.capacity(product) != sold.capacity(product)
    assert rooms.find(other, VALID_PRODUCTS[99]) == other.capacity(VALID_PRODUCTS[99])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"coverage_type": "flood"}, "coverage_type"),
        ({"chain": "Moon"}, "chain"),
        ({"stablecoin": "EURC"}, "stablecoin"),
        ({"amount_usd": Decimal("1e400")}, "coverage_amount"),
        ({"amount_usd": Decimal("1e-400")}, "coverage_amount"),
        ({"amount_usd": Decimal("1000." + "0" * 30 + "1")}, "coverage_amount"),
        ({"amount_usd": Decimal("sNaN")}, "coverage_amount"),
        ({"days": 0}, "duration_days"),
    ],
)
def test_terms_that_cannot_be_name_their_field(changes: dict[str, object], field: str) -> None:
    names = ("coverage_type", "chain", "stablecoin", "amount_usd", "days")
    given = dict(zip(names, ASKED, strict=True)) | changes
    with pytest.raises(BadField) as refused:
        read_terms(**given, params=DEFAULT_PARAMS)
    assert refused.value.field == field


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def reading(at: float, ahead_s: float) -> object:
    """A factory that was read then, its chain's clock so far ahead."""
    return msgspec.structs.replace(open_factory(), read_at=at, chain_time_offset_s=ahead_s)


def test_the_chains_time_is_ours_where_it_agrees() -> None:
    time = Time()
    chain = ChainClock(time)
    chain.note(None)
    chain.note(reading(time.now, 0.0))
    chain.note_block(time.now + 5_000)
    assert (chain.now(), chain.speed) == (time.now, 1.0)


def test_the_time_of_a_chain_that_runs_fast_is_told_between_two_readings() -> None:
    time = Time()
    chain, began = ChainClock(time), time.now
    chain.note(reading(began, 7_000.0))
    assert (chain.ahead_s(), chain.speed) == (7_000.0, 1.0)
    time.now = began + 10
    chain.note(reading(time.now, 7_000.0 + 10 * 299))
    assert chain.speed == 300.0
    time.now += 4
    assert chain.ahead_s() == 7_000.0 + 14 * 299
    chain.note_block(time.now + 20_000)
    assert chain.ahead_s() == 20_000
    time.now = began + 60  # it was stopped: the old readings are forgotten
    chain.note(reading(time.now, 9_990.0))
    assert (chain.speed, chain.now()) == (1.0, time.now + 20_000)
    chain.note_block(time.now + 9_000)
    assert chain.ahead_s() == 9_990.0
    chain.note(reading(time.now + 1, 0.0))
    assert chain.ahead_s() == 0.0


def test_a_quote_never_ends_later_than_the_factory_takes() -> None:
    longest_s = MAX_AHEAD_S - CLOCK_ALLOWANCE_S  # so that it is not too long by a clock that is behind ours
    assert [stretch_validity(300, speed) for speed in (1.0, 1.5, 300.0)] == [300, 450, longest_s]
    assert [stretch_validity(validity_s, 1.0) for validity_s in (30, 570, 571, 600)] == [30, 570, 570, 570]


async def test_deadlines_are_in_the_chains_time(story: MarketStory) -> None:
    chain = ChainClock()
    await story.see_factory(public_key=PUBLIC_KEY, chain_time_offset_s=40_000.0, seqno=2)
    await story.look()
    desk = make_desk(story, Shelf(), chain)
    quote = await desk.quote(*ASKED, buyer=BUYER)
    latest = story.view.require().snapshot.latest.block_time
    ahead_s = max(40_000.0, latest - quote.issued_at)
    assert quote.valid_until == pytest.approx(quote.issued_at + ahead_s + 300, abs=2)
