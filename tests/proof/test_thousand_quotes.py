"""A thousand purchases by wallets in random order, the good and every kind of bad: exactly the good become policies,
ledger, vault and factory agree to the nano, and every sender got back what is his."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey
from pytoniq_core.boc.cell import Cell

from tonsurance.chain import messages
from tonsurance.core.products import VALID_PRODUCTS
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.pool import acquire
from tonsurance.localnet.wallets import Transfer, Wallet

pytest.importorskip("tonpy", reason="the TVM runs on x86-64 Linux with Python 3.10 to 3.12 only")

from proof.quote_world import KEY, QuoteWorld, a_quote_world

SEED = 7
COUNT = 1_000
BUYERS = 40
TON = NANO_PER_TON
WANTED_EXIT = {
    "good": 0, "expired": 135, "replayed": 137, "tampered": 130, "underpaid": 104, "foreign buyer": 134,
    "other factory": 133, "other network": 132,
}  # fmt: skip
"""What the factory says of each kind; of a replayed one it takes the first and refuses the second."""
OUTCOMES = """SELECT exit_code, count(*) FROM blockchain_transactions WHERE contract_address = $1 AND op = $2
GROUP BY exit_code"""
SHARES = {
    "good": 60, "expired": 6, "replayed": 8, "tampered": 6, "underpaid": 6, "foreign buyer": 5, "other factory": 5,
    "other network": 4,
}  # fmt: skip
MOST_FEES = TON // 10
"""What one purchase may cost in fees beside the premium."""
MOST_RENT = TON // 100
"""What the chain may charge a contract for its storage meanwhile; nothing else may take from it or stay in it."""


class Order(msgspec.Struct):
    """One purchase as it is sent: by whom, what, and of which kind; `quote` is what the API answered."""

    kind: str
    sender: Wallet
    transfer: Transfer
    quote: dict[str, Any]

    @property
    def body_hash(self) -> str:
        """By which the API finds it."""
        assert self.transfer.body is not None
        return bytes(self.transfer.body.hash).hex()


@pytest.mark.timeout(900)
async def test_of_a_thousand_quotes_exactly_the_good_become_policies(database: str) -> None:
    dice = random.Random(SEED)
    async with a_quote_world(database, ton=500_000, buyers=BUYERS) as world:
        buyers = world.buyers
        money, factory = world.vault_money(), world.chain.balance(world.contracts.factory)
        funds = {one.address: world.chain.balance(one.address) for one in buyers}
        kinds = dice.choices(list(SHARES), list(SHARES.values()), k=COUNT)
        orders = [await make_order(world, dice, buyers, kind) for kind in kinds]
        world.chain.advance_time(100)
        sent = [*orders, *(order for order in orders if order.kind == "replayed")]
        dice.shuffle(sent)
        world.deliver([(order.sender, order.transfer) for order in sent])
        await world.settle()

        good = [order for order in orders if order.kind in ("good", "replayed")]
        premiums = {order.quote["quote_id"]: int(order.quote["premium_nanoton"]) for order in good}
        assert len(premiums) == len(good) > COUNT // 2
        await check_outcomes(world, orders)
        await check_policies(world, premiums)
        assert await world.find_differences() == []
        assert world.vault_money() - money == sum(premiums.values())
        assert 0 <= factory - world.chain.balance(world.contracts.factory) < MOST_RENT
        check_refunds(world, sent, good, funds)
        await check_answers(world, orders)
        print(f"\n{len(sent)} purchases sent: {dict(Counter(order.kind for order in sent))}; {len(good)} policies")


async def make_order(world: QuoteWorld, dice: random.Random, buyers: list[Wallet], kind: str) -> Order:
    """Ask the API for a quote, and make of it a purchase of this kind."""
    buyer = dice.choice(buyers)
    product = dice.choice([one for one in VALID_PRODUCTS if one.coverage_type != "bridge"])
    asked: dict[str, Any] = {
        "coverage_type": product.coverage_type,
        "chain": product.chain,
        "stablecoin": product.stablecoin,
        "coverage_amount": dice.randint(100, 2_000),
        "duration_days": dice.randint(1, 365),
    }
    quote, transfer = await world.ask_transfer(buyer, hasty=kind == "expired", **asked)
    order = Order(kind=kind, sender=buyer, transfer=transfer, quote=quote)
    assert transfer.body is not None
    if kind == "tampered":
        order.transfer = msgspec.structs.replace(transfer, body=tamper(transfer.body, dice))
    elif kind == "underpaid":
        order.transfer = msgspec.structs.replace(transfer, value=transfer.value - dice.randint(1, TON // 20))
    elif kind == "foreign buyer":
        order.sender = dice.choice([one for one in buyers if one is not buyer])
    elif kind == "other factory":
        order.transfer = msgspec.structs.replace(transfer, body=sign_again(transfer.body, factory="0:" + "ab" * 32))
    elif kind == "other network":
        order.transfer = msgspec.structs.replace(transfer, body=sign_again(transfer.body, network_id=-239))
    return order


def read_body(body: Cell) -> tuple[bytes, messages.Quote]:
    """Signature and terms of a purchase."""
    signed = body.refs[0].begin_parse()
    signature, terms = signed.load_bytes(64), signed.load_ref().begin_parse()
    terms.load_uint(32)
    quote = messages.Quote(
        network_id=terms.load_int(32),
        factory=terms.load_address().to_str(is_user_friendly=False),
        quote_id=terms.load_uint(64),
        coverage_type=terms.load_uint(8),
        chain_id=terms.load_uint(8),
        stablecoin_id=terms.load_uint(8),
        coverage_amount=terms.load_coins(),
        premium=terms.load_coins(),
        duration_days=terms.load_uint(16),
        trigger_bps=terms.load_uint(16),
        floor_bps=terms.load_uint(16),
        buyer=terms.load_address().to_str(is_user_friendly=False),
        deadline=terms.load_uint(32),
    )
    return signature, quote


def tamper(body: Cell, dice: random.Random) -> Cell:
    """Better terms than were signed, or another signature."""
    signature, quote = read_body(body)
    if dice.random() < 0.2:
        flipped = bytearray(signature)
        flipped[dice.randrange(64)] ^= 1 << dice.randrange(8)
        return messages.create_policy(quote, bytes(flipped))
    changes: list[dict[str, int]] = [
        {"coverage_amount": quote.coverage_amount + 1},
        {"premium": quote.premium - 1},
        {"duration_days": quote.duration_days + 1},
        {"quote_id": quote.quote_id ^ 1},
        {"deadline": quote.deadline + 1},
        {"stablecoin_id": (quote.stablecoin_id + 1) % 14},
    ]
    return messages.create_policy(msgspec.structs.replace(quote, **dice.choice(changes)), signature)


def sign_again(body: Cell, **changes: Any) -> Cell:
    """As the same key signs for somebody else: an honest signature for another place."""
    _, quote = read_body(body)
    quote = msgspec.structs.replace(quote, **changes)
    return messages.create_policy(quote, messages.sign_quote(quote, SigningKey(KEY)))


async def check_outcomes(world: QuoteWorld, orders: list[Order]) -> None:
    """The factory ended each as it should: of the replayed ones it took one and refused the other."""
    kinds = Counter(order.kind for order in orders)
    wanted = {WANTED_EXIT[kind]: count for kind, count in kinds.items()}
    wanted[0] += kinds["replayed"]
    async with acquire(world.pool) as conn:
        rows = await conn.fetch(OUTCOMES, world.contracts.factory, messages.Op.CREATE_POLICY)
    assert {row["exit_code"]: row["count"] for row in rows} == wanted


async def check_policies(world: QuoteWorld, premiums: dict[str, int]) -> None:
    """The ledger's policies and the factory's are those of these quotes, once each, at these premiums."""
    async with acquire(world.pool) as conn:
        rows = await conn.fetch("SELECT quote_id::text, premium_nanoton, status FROM policies")
    assert {row["quote_id"]: row["premium_nanoton"] for row in rows} == premiums
    assert len(rows) == len(premiums)
    assert {row["status"] for row in rows} == {"active"}
    policies = world.chain.get_method(world.contracts.factory, "get_factory_config").stack[11]
    assert policies == len(premiums)


def check_refunds(world: QuoteWorld, sent: list[Order], good: list[Order], funds: dict[str, int]) -> None:
    """A buyer is poorer by the premiums of his policies and the fees of what he sent, and by nothing else."""
    spent: Counter[str] = Counter()
    for order in good:
        spent[order.sender.address] += int(order.quote["premium_nanoton"])
    times = Counter(order.sender.address for order in sent)
    for address, before in funds.items():
        fees = before - world.chain.balance(address) - spent[address]
        assert 0 < fees < times[address] * MOST_FEES, (address, fees / TON, times[address])


async def check_answers(world: QuoteWorld, orders: list[Order]) -> None:
    """The API says of each what became of it, and why. What somebody else sends of a quote is not its buyer's doing."""
    for order in orders:
        answer = (await world.http.get(f"/api/v2/transactions/{order.body_hash}")).json()
        exit_code = WANTED_EXIT["good" if order.kind == "replayed" else order.kind]
        wanted = ("failed" if exit_code else "confirmed", exit_code)
        if order.kind == "foreign buyer":
            wanted = ("pending", None)
        assert (answer["status"], answer["exit_code"]) == wanted, (order.kind, answer)


async def test_of_two_who_race_for_the_last_capacity_one_is_backed_and_the_other_refunded(database: str) -> None:
    async with a_quote_world(database, ton=10_000) as world:
        one, other = world.wallet("one", 2_000), world.wallet("other", 2_000)
        room = await fill_up_to_one_more(world)
        amount = int(room * 3 / TON * 0.7)
        first, second = [await world.ask_transfer(who, coverage_amount=amount) for who in (one, other)]
        for quote, _ in (first, second):
            assert quote["capacity"]["sufficient"]
            assert quote["capacity"]["binding_limit"]
        binding = first[0]["capacity"]["binding_limit"]
        money, funds = world.vault_money(), world.chain.balance(other.address)
        world.deliver([(one, first[1]), (other, second[1])])
        await world.settle()

        answers = [
            (await world.http.get(f"/api/v2/transactions/{quote['payload_hash']}")).json()
            for quote, _ in (first, second)
        ]
        assert [answer["status"] for answer in answers] == ["confirmed", "failed"]
        assert answers[1]["stage"] == "refused_by_vault"
        assert world.vault_money() - money == int(first[0]["premium_nanoton"])
        assert 0 < funds - world.chain.balance(other.address) < MOST_FEES
        assert await world.find_differences() == []

        refused = await world.ask(buyer=other.address, coverage_amount=amount)
        assert refused.status_code == 422
        assert (refused.json()["code"], refused.json()["binding_limit"]) == ("capacity_exceeded", binding)
        priced = (await world.ask(coverage_amount=amount)).json()
        assert (priced["capacity"]["sufficient"], priced["capacity"]["binding_limit"]) == (False, binding)


async def fill_up_to_one_more(world: QuoteWorld) -> int:
    """Buy until about one large policy is left; the room that is, in nanoTON."""
    buyer = world.wallet("early", 5_000)
    while True:
        quote = (await world.ask(coverage_amount=100)).json()
        room = int(quote["capacity"]["available_nanoton"])
        if quote["capacity"]["binding_limit"] != "max_policy_percent":
            return room
        coins = len(world.chain.transactions(world.contracts.factory, limit=1_000))
        coin = ("USDC", "USDT", "DAI", "FRAX", "GHO", "LUSD", "PYUSD", "USDe")[coins % 8]
        chain = ("Ethereum", "Arbitrum", "Base", "Polygon", "Solana")[coins % 5]
        quote, transfer = await world.ask_transfer(
            buyer, coverage_amount=int(room * 3 / TON), stablecoin=coin, chain=chain
        )
        world.deliver([(buyer, transfer)])
        await world.settle()
