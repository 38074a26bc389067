"""Receipts: kept before they are handed out, together, and computed again to the nano and the byte."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from db.chain_story import FACTORY, START_TIME
from services.config_story import ROOT, open_store, put
from services.receipting import Counter, make_quote, open_counter, sign
from tonsurance.core.errors import DatabaseUnavailable, InputError
from tonsurance.core.parameters.declaration import freeze
from tonsurance.core.params import DEFAULT_PARAMS, Params, build_params, hash_values
from tonsurance.core.premium import MarketInputs
from tonsurance.core.sale_errors import QuoteIdTaken, UnknownQuote
from tonsurance.db.pool import connect
from tonsurance.db.quotes import QuoteRow
from tonsurance.db.roles import API
from tonsurance.services.config_rows import read_values, write_values
from tonsurance.services.config_store import ConfigStore
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.quote_values import Quote
from tonsurance.services.receipt_replay import replay
from tonsurance.services.receipt_rows import ReceiptDamaged, make_row, seal_row
from tonsurance.services.receipts import Receipts, Verification

TESTS = Path(__file__).parent.parent
OTHER_ADDRESS = "0:" + "dd" * 32


@pytest.fixture
async def counter(database: str) -> AsyncIterator[Counter]:
    async with open_counter(database) as counter:
        yield counter


def fields_of(found: Verification) -> set[str]:
    return {difference.field for difference in found.differences}


async def test_a_kept_quote_is_read_back_as_it_was_handed_out(counter: Counter) -> None:
    odd = MarketInputs(utilization=Decimal("0.30"), loss_ratio=None, claims_count=0, stress="Normal")
    quotes = [*(make_quote() for _ in range(20)), make_quote(market=odd), make_quote(issued_at=1790000000.1234567)]
    await asyncio.gather(*map(counter.receipts.keep, quotes))
    for quote in quotes:
        assert await counter.receipts.find(quote.quote_id) == quote
        receipt = await counter.receipts.read(quote.quote_id)
        assert (receipt.quote, receipt.trigger_bps, receipt.floor_bps) == (quote, 9700, 9000)
        found = await counter.receipts.verify(quote.quote_id)
        assert (found.equal, found.differences, found.same_code) == (True, (), True)


async def test_a_thousand_at_once_are_kept_in_few_transactions(counter: Counter) -> None:
    quotes = [make_quote() for _ in range(1000)]
    await asyncio.gather(*map(counter.receipts.keep, quotes))
    [(rows, transactions)] = await counter.fetch("SELECT count(*), count(DISTINCT xmin::text) FROM quotes")
    assert rows == 1000
    assert transactions <= 20
    assert await counter.kept() == {quote.quote_id for quote in quotes}


async def test_the_role_of_the_api_is_enough_to_keep_read_and_verify(counter: Counter) -> None:
    pool = LazyPool(counter.dsn, role=API)
    receipts = Receipts(pool)
    quote = make_quote()
    await receipts.keep(quote)
    assert (await receipts.read(quote.quote_id)).quote == quote
    assert (await receipts.verify(quote.quote_id)).equal
    await receipts.close()
    await pool.close()


async def test_an_id_is_kept_once_also_within_one_group_and_under_another_payload(counter: Counter) -> None:
    first, other = make_quote(quote_id=5), make_quote(quote_id=5)
    rivals = await asyncio.gather(
        *map(counter.receipts.keep, (make_quote(), first, other, make_quote())), return_exceptions=True
    )
    assert [type(answer) for answer in rivals] == [type(None), type(None), QuoteIdTaken, type(None)]
    with pytest.raises(QuoteIdTaken):
        await counter.receipts.keep(other)
    with pytest.raises(QuoteIdTaken):  # the same payload cannot stand for two quotes
        await counter.receipts.keep(msgspec.structs.replace(first, quote_id=6))
    assert await counter.receipts.find(5) == first
    assert len(await counter.kept()) == 3


async def test_without_a_buyer_or_a_database_nothing_is_kept() -> None:
    pool = LazyPool("postgresql://nobody@127.0.0.1:1/nothing")
    receipts = Receipts(pool)
    with pytest.raises(InputError, match="without a buyer"):
        await receipts.keep(msgspec.structs.replace(make_quote(), purchase=None))
    for attempt in (receipts.keep(make_quote()), receipts.find(1), receipts.read(1), receipts.verify(1)):
        with pytest.raises(DatabaseUnavailable):
            await attempt
    await receipts.close()
    await pool.close()


async def test_numbers_no_quote_has_are_unknown(counter: Counter) -> None:
    for number in (0, -1, 12, 2**63, 10**30):
        for attempt in (counter.receipts.find(number), counter.receipts.read(number), counter.receipts.verify(number)):
            with pytest.raises(UnknownQuote):
                await attempt


async def test_what_was_answered_is_there_when_the_process_is_killed_at_any_moment(counter: Counter) -> None:
    for answers in (1, 7, 40):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.dying_receipts",
            counter.dsn,
            cwd=TESTS,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        told = {int(await child.stdout.readline()) for _ in range(answers)}
        child.send_signal(signal.SIGKILL)
        told |= {int(line) for line in (await child.stdout.read()).split(b"\n")[:-1]}
        assert await child.wait() == -signal.SIGKILL
        assert told <= await counter.kept()
        for quote_id in list(told)[:3]:
            assert (await counter.receipts.verify(quote_id)).equal


async def test_receipts_of_every_version_come_out_equal_after_25_changes_and_rollbacks(counter: Counter) -> None:
    quotes = [make_quote()]
    await counter.receipts.keep(quotes[0])
    async with open_store(counter.dsn) as store:
        for number in range(25):
            params = await _change(store, number)
            quotes.append(make_quote(params=params))
            await counter.receipts.keep(quotes[-1])
    assert len({quote.params_version for quote in quotes}) > 20
    assert len({quote.params_hash for quote in quotes}) > 15
    for quote in quotes:
        found = await counter.receipts.verify(quote.quote_id)
        assert (found.equal, found.params_version, found.params_hash) == (True, quote.params_version, quote.params_hash)


async def _change(store: ConfigStore, number: int) -> Params:
    """Another price list or, every fourth time, an earlier one again."""
    if number % 4 == 3:
        applied = await store.rollback(max(1, number - 2), actor=ROOT, reason="a test", emergency=True)
        return applied.params
    part = number / 10_000
    edits = [
        put(("pricing", "coverage_base_rate_depeg"), 0.008 + part),
        put(("pricing", "chain_multiplier_Solana"), 1.4 + part),
        put(("pricing", "stablecoin_adjustment_DAI"), 0.0002 + part / 10),
        put(("pricing", "base_rate_USDC"), 0.04 + part),
        put(("pricing", "stress_slope"), 2.0 + part),
        put(("pricing", "quote_validity_s"), 300 + number),
        put(("pricing", "min_executable_premium_ton"), 0.1 + part),
    ]
    return (await store.apply(edits, actor=ROOT, reason="a test", emergency=True)).params


FLIPS: dict[str, tuple[str, object]] = {
    # column: another value, as SQL of the old one
    "quote_id": ("quote_id + 1", None),
    "payload_hash": ("set_byte(payload_hash, 31, 255 - get_byte(payload_hash, 31))", None),
    "network_id": ("-239", None),
    "factory": ("$1", OTHER_ADDRESS),
    "buyer": ("$1", OTHER_ADDRESS),
    "coverage_type": ("(coverage_type + 1) % 5", None),
    "chain_id": ("(chain_id + 1) % 9", None),
    "stablecoin_id": ("(stablecoin_id + 1) % 14", None),
    "amount_usd": ("amount_usd + 0.01", None),
    "days": ("days % 365 + 1", None),
    "trigger_bps": ("trigger_bps - 1", None),
    "floor_bps": ("floor_bps + 1", None),
    "list_price": ("replace(list_price, 'premium_usd\":\"', 'premium_usd\":\"1')", None),
    "list_premium_nanoton": ("list_premium_nanoton - 1", None),
    "coverage_nanoton": ("coverage_nanoton + 1", None),
    "premium_nanoton": ("premium_nanoton - 1", None),
    "raised_to": ("'contract_min_rate'", None),
    "value_nanoton": ("value_nanoton + 1", None),
    "technical": ("replace(technical, 'annual_rate\":\"0', 'annual_rate\":\"1')", None),
    "market": ("replace(market, 'Elevated', 'High')", None),
    "capacity": ("replace(capacity, 'max_policy_percent', 'product_cap')", None),
    "sufficient": ("NOT sufficient", None),
    "on_sale": ("'[\"the oracle is off\"]'", None),
    "seen_at": ("replace(seen_at, '\"lt\":99', '\"lt\":98')", None),
    "price_asset": ("'BTC'", None),
    "price_usd": ("price_usd + 0.0001", None),
    "price_source": ("'a friend'", None),
    "price_observed_at": ("price_observed_at + 0.000001", None),
    "params_version": ("params_version + 1", None),
    "params_hash": ("reverse(params_hash)", None),
    "code_version": ("code_version || '.1'", None),
    "issued_at": ("issued_at - 0.000001", None),
    "chain_offset_s": ("chain_offset_s + 1", None),
    "deadline": ("deadline + 1", None),
    "waiting_period_s": ("3600", None),
    "signature": ("set_byte(signature, 63, 255 - get_byte(signature, 63))", None),
    "public_key": ("set_byte(public_key, 0, 255 - get_byte(public_key, 0))", None),
    "body": ("set_byte(body, 40, 255 - get_byte(body, 40))", None),
    "seal": ("set_byte(seal, 5, 255 - get_byte(seal, 5))", None),
}
OBSERVED = {
    "capacity", "sufficient", "on_sale", "seen_at", "price_asset", "price_source", "price_observed_at", "issued_at",
    "code_version", "chain_offset_s", "waiting_period_s", "seal",
}  # fmt: skip
"""Columns from which nothing else of a receipt follows: for most of them the seal alone tells."""


async def test_one_changed_field_of_any_column_is_found(counter: Counter) -> None:
    assert FLIPS.keys() == {field.name for field in msgspec.structs.fields(QuoteRow)}
    for column, (sql, value) in FLIPS.items():
        quote = make_quote(number=3)
        await counter.receipts.keep(quote)
        await counter.damage(f"UPDATE quotes SET {column} = {sql}", *([] if value is None else [value]))
        [(quote_id,)] = await counter.fetch("SELECT quote_id FROM quotes")
        found = await counter.receipts.verify(int(quote_id))
        assert not found.equal, column
        assert "seal" in fields_of(found), column
        if column not in OBSERVED:
            assert fields_of(found) > {"seal"}, column
        assert all(difference.stored != difference.recomputed for difference in found.differences)
        await counter.damage("DELETE FROM quotes")


async def test_who_forges_the_seal_too_is_found_where_money_or_the_signature_is_concerned(counter: Counter) -> None:
    for column, (sql, value) in FLIPS.items():
        if column in OBSERVED:
            continue
        quote = make_quote(number=3)
        await counter.receipts.keep(quote)
        await counter.damage(f"UPDATE quotes SET {column} = {sql}", *([] if value is None else [value]))
        await _forge_seal(counter)
        [(quote_id,)] = await counter.fetch("SELECT quote_id FROM quotes")
        found = await counter.receipts.verify(int(quote_id))
        assert fields_of(found), column
        assert "seal" not in fields_of(found), column
        await counter.damage("DELETE FROM quotes")


async def _forge_seal(counter: Counter) -> None:
    [row] = await counter.fetch("SELECT * FROM quotes")
    fields = dict(row) | {"quote_id": int(row["quote_id"])}
    del fields["issued_day"]
    await counter.damage("UPDATE quotes SET seal = $1", seal_row(QuoteRow(**fields)))


async def test_a_difference_says_what_is_stored_and_what_comes_out(counter: Counter) -> None:
    quote = make_quote()
    await counter.receipts.keep(quote)
    await counter.damage("UPDATE quotes SET premium_nanoton = premium_nanoton - 7, market = 'no json'")
    found = {one.field: one for one in (await counter.receipts.verify(quote.quote_id)).differences}
    assert "market" in found["prices"].recomputed
    await counter.damage("UPDATE quotes SET market = $1", make_row(quote).market)
    found = {one.field: one for one in (await counter.receipts.verify(quote.quote_id)).differences}
    premium = found["premium_nano"]
    assert (premium.stored, premium.recomputed) == (str(quote.ton.premium_nano - 7), str(quote.ton.premium_nano))
    assert found.keys() == {"seal", "premium_nano", "value_nanoton", "signature", "body", "payload_hash"}
    await counter.damage("UPDATE quotes SET technical = '[]'")
    with pytest.raises(ReceiptDamaged, match="technical"):
        await counter.receipts.find(quote.quote_id)


async def test_the_deadline_is_computed_again_on_mainnet_to_the_second(counter: Counter) -> None:
    quote, ahead = make_quote(network_id=-239, chain_offset_s=12.5), make_quote(chain_offset_s=90_000.0)
    for one in (quote, ahead):
        await counter.receipts.keep(one)
        assert (await counter.receipts.verify(one.quote_id)).equal
    for sql in ("issued_at = issued_at + 1", "chain_offset_s = chain_offset_s - 1"):
        await counter.damage(f"UPDATE quotes SET {sql} WHERE network_id = -239")
        found = {one.field: one for one in (await counter.receipts.verify(quote.quote_id)).differences}
        assert int(found["deadline"].stored) - int(found["deadline"].recomputed) in (-1, 1)
        await counter.damage(
            "UPDATE quotes SET issued_at = $1, chain_offset_s = 12.5 WHERE network_id = -239", quote.issued_at
        )
    await counter.damage("UPDATE quotes SET issued_at = issued_at - 400 WHERE network_id <> -239")
    assert "deadline" in fields_of(await counter.receipts.verify(ahead.quote_id))


async def test_a_receipt_of_other_code_says_so(counter: Counter) -> None:
    quote = make_quote()
    await counter.receipts.keep(quote)
    later = Receipts(counter.pool, code_version="9.9.9")
    found = await later.verify(quote.quote_id)
    assert (found.equal, found.same_code) == (True, False)
    assert (found.code_version, found.verified_by) == (quote.code_version, "9.9.9")
    await later.close()


async def test_parameters_that_are_gone_or_were_changed_behind_our_back_are_named(counter: Counter) -> None:
    lost = make_quote(params=build_params({}, version=9))
    async with open_store(counter.dsn) as store:
        params = await _change(store, 1)
    quote = make_quote(params=params)
    for one in (lost, quote):
        await counter.receipts.keep(one)
    [missing] = (await counter.receipts.verify(lost.quote_id)).differences
    assert (missing.field, missing.stored, missing.recomputed) == ("params_version", "9", "there is no such version")
    assert (await counter.receipts.verify(quote.quote_id)).equal
    await counter.damage(
        "UPDATE config_versions SET values = jsonb_set(values, '{pricing,base_rate_USDC}', '0.5') WHERE version = $1",
        params.version,
    )
    [changed] = (await counter.receipts.verify(quote.quote_id)).differences
    assert (changed.field, changed.stored) == ("params_hash", params.hash)
    assert "was changed after it was written" in changed.recomputed


async def test_other_defaults_than_then_are_told_by_the_hash(counter: Counter) -> None:
    quote = make_quote(params=msgspec.structs.replace(DEFAULT_PARAMS, hash="ab" * 32))
    await counter.receipts.keep(quote)
    [difference] = (await counter.receipts.verify(quote.quote_id)).differences
    assert difference.field == "params_hash"
    assert (difference.stored, difference.recomputed) == ("ab" * 32, DEFAULT_PARAMS.hash)


async def test_a_version_from_before_a_parameter_was_declared_still_counts(counter: Counter) -> None:
    async with open_store(counter.dsn) as store:
        params = await _change(store, 2)
    conn = await connect(counter.dsn)
    [(text,)] = await conn.fetch("SELECT values::text FROM config_versions WHERE version = $1", params.version)
    await conn.close()
    values = read_values(text)
    del values["api", "quote_retention_days"]
    older = build_params(values, params.version)  # what is not stored has its default: the same values, one name more
    stored_hash = hash_values({name: freeze(value) for name, value in values.items()})
    await counter.damage(
        "UPDATE config_versions SET values = $1::text::jsonb, hash = $2 WHERE version = $3",
        write_values(values),
        stored_hash,
        params.version,
    )
    quote = make_quote(params=msgspec.structs.replace(older, hash=stored_hash))
    await counter.receipts.keep(quote)
    assert older.hash != stored_hash
    assert (await counter.receipts.verify(quote.quote_id)).equal


async def test_what_became_of_a_quote_is_joined_by_its_id_and_its_factory(counter: Counter) -> None:
    issued, late, bought, refused, foreign = quotes = [
        make_quote(chain_offset_s=START_TIME - time.time()),  # the chain's blocks are of then
        make_quote(issued_at=time.time() - 301),
        make_quote(issued_at=time.time() - 400),
        make_quote(),
        make_quote(),
    ]
    for quote in quotes:
        await counter.receipts.keep(quote)
    policy_id = await counter.buy(bought)
    await counter.refuse(refused)
    await counter.refuse(bought)  # an earlier try; what was bought is bought
    await counter.damage("UPDATE quotes SET factory = $1 WHERE quote_id = $2", OTHER_ADDRESS, foreign.quote_id)
    await counter.buy(foreign)  # the same id in our factory is another quote
    assert await _status(counter, issued) == ("issued", None, None, None)
    assert await _status(counter, late) == ("expired", None, None, None)
    assert await _status(counter, foreign) == ("issued", None, None, None)
    assert await _status(counter, bought) == ("bought", policy_id, "active", None)
    assert await _status(counter, refused) == ("refused_by_vault", None, None, 0x3E9AD547)
    [(told,)] = await counter.fetch(
        "SELECT transaction_hash FROM blockchain_events WHERE contract_address = $1 AND event_type = 'PolicyCreated'"
        " AND policy_id = $2",
        FACTORY,
        policy_id,
    )
    assert (await counter.receipts.read(bought.quote_id)).transaction == told
    await counter.expire(policy_id)
    assert await _status(counter, bought) == ("bought", policy_id, "expired", None)


async def test_a_quote_is_over_when_the_chain_is_known_to_be_past_its_deadline(counter: Counter) -> None:
    """The clock alone does not tell: a fast chain is further than the last reading of it."""
    early, late = make_quote(), make_quote(chain_offset_s=300.0)
    for quote in (early, late):
        await counter.receipts.keep(quote)
        assert quote.purchase is not None
    await counter.damage(
        "INSERT INTO blockchain_transactions (contract_address, logical_time, hash, body_hash, block_time, exit_code,"
        " succeeded, bounced) VALUES ($1, 1, $2, $2, to_timestamp($3), 135, false, true)",
        FACTORY,
        bytes.fromhex(early.purchase.payload_hash),
        early.valid_until,
    )
    assert await _status(counter, early) == ("expired", None, None, None)
    assert await _status(counter, late) == ("issued", None, None, None)


@pytest.mark.parametrize("time_of_block", ["1e300", "-1", "253402300800"])
async def test_a_time_that_never_is_makes_a_receipt_damaged(counter: Counter, time_of_block: str) -> None:
    quote = make_quote()
    await counter.receipts.keep(quote)
    await counter.damage(
        "UPDATE quotes SET seen_at = jsonb_set(seen_at::jsonb, '{block_time}', $1::text::jsonb)::text", time_of_block
    )
    with pytest.raises(ReceiptDamaged, match="seen_at"):
        await counter.receipts.read(quote.quote_id)


async def test_the_longest_validity_comes_out_the_same_on_mainnet(counter: Counter) -> None:
    params = build_params({("pricing", "quote_validity_s"): 600}, version=0)
    begun = make_quote(params=params, network_id=-239)
    sold = msgspec.structs.replace(begun, valid_until=int(begun.issued_at) + 570, purchase=None)
    sold = msgspec.structs.replace(sold, purchase=sign(sold, -239))
    assert not set(replay(make_row(sold), params))
    assert {one.field for one in replay(make_row(begun), params)} == {"deadline"}


async def _status(counter: Counter, quote: Quote) -> tuple[str, int | None, str | None, int | None]:
    found = await counter.receipts.read(quote.quote_id)
    return found.status, found.policy_id, found.policy_status, found.refusal_reason
