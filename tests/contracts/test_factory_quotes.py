"""Buying against a signed quote: what is sold, and every reason for a refusal."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey
from pytoniq_core.boc.builder import Builder

from contracts.factory_run import KEY, OTHER_KEY, TON, FactoryRun, excess
from contracts.world import ADMIN, ALICE, BOB, address
from tonsurance.chain import messages
from tonsurance.chain.deployment import DAY_S
from tonsurance.chain.messages import Op
from tonsurance.core.events import CoverageChanged, PolicyCreated, PremiumsDistributed

ENOUGH = TON + messages.REQUEST_GAS
THIRD_KEY = SigningKey(bytes(range(2, 34)))


@pytest.fixture(scope="module")
def shared() -> FactoryRun:
    """One factory for all refusals: a refusal leaves it as it was, which each of them checks."""
    return FactoryRun()


def test_a_policy_is_pending_until_the_vault_backs_it_and_created_only_then() -> None:
    run = FactoryRun()
    quote = run.quote(coverage_type=2, chain_id=7, stablecoin_id=13)
    bought = run.world.now
    run.world.post(ALICE, run.factory, ENOUGH + TON, run.body(quote))
    asked = run.world.hop()
    assert asked.events == ()
    assert run.state(1) == 1
    backed = run.world.hop()
    assert [type(event) for event in backed.events] == [PremiumsDistributed, CoverageChanged]
    assert run.state(1) == 1
    created = run.world.hop()
    start = bought + DAY_S
    assert created.events == (
        PolicyCreated(
            policy_id=1, quote_id=quote.quote_id, buyer=ALICE, coverage_type=2, chain_id=7, stablecoin_id=13,
            coverage_amount=100 * TON, premium=TON, start=start, end=start + 90 * DAY_S, trigger_bps=9700,
            floor_bps=9000,
        ),
    )  # fmt: skip
    assert run.state(1) == 2
    assert run.world.get(run.vault, "get_policy_coverage", 1) == [100 * TON]
    assert run.world.get(run.factory, "get_next_policy_id") == [2]


def test_a_purchase_costs_the_premium_and_the_fees_and_the_surplus_returns() -> None:
    run = FactoryRun()
    before = run.world.balance(run.factory), run.world.balance(run.vault)
    quote = run.quote()
    steps = run.world.send(ALICE, run.factory, quote.premium + 3 * TON, run.body(quote))
    returned = excess(steps)
    assert (returned.destination, returned.query_id) == (ALICE, 77)
    assert 2 * TON + 9 * TON // 10 < returned.value < 3 * TON
    assert run.world.balance(run.factory) == before[0]
    assert run.world.balance(run.vault) == before[1] + quote.premium
    run.check_money()


def test_the_premium_streams_over_the_days_of_the_cover() -> None:
    run = FactoryRun()
    run.buy(run.quote(duration_days=30))
    [rows] = run.world.get(run.vault, "get_all_tranches")
    assert {row[4] for row in rows} == {run.world.now + 30 * DAY_S}
    assert sum(row[3] for row in rows) == TON


def test_a_policy_shows_all_its_terms() -> None:
    run = FactoryRun()
    run.buy(run.quote(quote_id=2**64 - 1))
    policy = run.world.get(run.factory, "get_policy", 1)
    start = run.world.now + DAY_S
    assert policy[:2] + policy[3:12] == [2, 2**64 - 1, 0, 0, 0, 100 * TON, TON, start, start + 90 * DAY_S, 9700, 9000]
    assert run.world.try_get(run.factory, "get_policy", 2)[0] == 150


BAD_QUOTES = [
    ({"network_id": -239}, 132),
    ({"factory": address(1)}, 133),
    ({"buyer": BOB}, 134),
    ({"coverage_type": 5}, 139),
    ({"chain_id": 9}, 140),
    ({"stablecoin_id": 14}, 141),
    ({"duration_days": 0}, 143),
    ({"duration_days": 366}, 143),
    ({"coverage_amount": 0}, 144),
    ({"trigger_bps": 9699}, 146),
    ({"trigger_bps": 9950}, 146),
    ({"floor_bps": 9001}, 146),
]


@pytest.mark.parametrize(("changes", "code"), BAD_QUOTES)
def test_a_quote_outside_the_rules_is_refused_whoever_signed_it(
    shared: FactoryRun, changes: dict[str, object], code: int
) -> None:
    shared.refuse(ALICE, ENOUGH, shared.body(shared.quote(**changes)), code)


INVALID = {(1, 5), (1, 6), (2, 5), (2, 6), (3, 5)}


def test_exactly_the_five_invalid_products_are_refused() -> None:
    run = FactoryRun(real_vault=False)
    refused = set()
    for kind in range(5):
        for chain in range(9):
            body = run.body(run.quote(coverage_type=kind, chain_id=chain))
            run.world.post(ALICE, run.factory, ENOUGH, body)
            if run.world.hop().exit_code == 142:
                refused.add((kind, chain))
    assert refused == INVALID
    assert run.counts() == (40, 40)


def test_the_longest_and_the_shortest_cover_are_sold() -> None:
    run = FactoryRun()
    for days in (1, 365):
        assert run.buy(run.quote(duration_days=days))[-1].events


def test_cover_cannot_be_given_away_for_less_than_half_a_percent_a_year() -> None:
    run = FactoryRun()
    least = -(-100 * TON * 90 * 50 // 3_650_000)
    run.refuse(ALICE, ENOUGH, run.body(run.quote(premium=least - 1)), 145)
    assert run.buy(run.quote(premium=least))[-1].events


def test_a_quote_holds_until_just_before_its_deadline(shared: FactoryRun) -> None:
    shared.refuse(ALICE, ENOUGH, shared.body(shared.quote(deadline=shared.world.now)), 135)
    shared.refuse(ALICE, ENOUGH, shared.body(shared.quote(deadline=shared.world.now + 601)), 136)
    run = FactoryRun()
    for validity in (1, 600):
        assert run.buy(run.quote(deadline=run.world.now + validity))[-1].events


def test_a_signature_of_another_key_or_another_quote_is_refused(shared: FactoryRun) -> None:
    one, other = shared.quote(), shared.quote()
    shared.refuse(ALICE, ENOUGH, shared.body(one, key=OTHER_KEY), 130)
    shared.refuse(ALICE, ENOUGH, messages.create_policy(other, messages.sign_quote(one, KEY)), 130)


def test_a_signed_cell_that_is_no_quote_is_refused(shared: FactoryRun) -> None:
    cell = messages.quote_cell(shared.quote())
    changed = Builder().store_uint(1, 32).store_bits(cell.bits[32:]).end_cell()
    signature = bytes(KEY.sign(changed.hash).signature)
    signed = Builder().store_bytes(signature).store_ref(changed).end_cell()
    body = messages.build_cell(("uint32", Op.CREATE_POLICY), ("uint64", 1), refs=(signed,))
    shared.refuse(ALICE, ENOUGH, body, 131)


def test_a_purchase_must_carry_the_premium_and_the_gas(shared: FactoryRun) -> None:
    shared.refuse(ALICE, ENOUGH - 1, shared.body(shared.quote()), 104)


def test_a_quote_is_used_once_even_after_its_policy_was_refused() -> None:
    run = FactoryRun()
    quote = run.quote()
    run.buy(quote)
    assert run.world.get(run.factory, "is_quote_used", quote.deadline, quote.quote_id) == [-1]
    run.refuse(ALICE, ENOUGH, run.body(quote), 137)
    refused = run.quote(coverage_amount=301 * TON, premium=2 * TON)
    run.buy(refused)
    assert run.state(2) is None
    run.refuse(ALICE, 3 * TON, run.body(refused), 137)
    assert run.world.get(run.factory, "is_quote_used", quote.deadline, quote.quote_id + 77) == [0]


def test_expired_quotes_are_forgotten_two_at_a_time() -> None:
    run = FactoryRun()
    for _ in range(5):
        run.buy()
    assert run.counts() == (5, 5)
    run.world.now += 300
    counts = []
    for _ in range(4):
        run.buy()
        counts.append(run.counts()[1])
    assert counts == [4, 3, 3, 4]


def test_one_used_quote_more_than_the_limit_is_refused_until_others_expire() -> None:
    run = FactoryRun(max_quotes=2)
    run.buy()
    run.buy()
    run.refuse(ALICE, ENOUGH, run.body(run.quote()), 138)
    run.world.now += 300
    assert run.buy()[-1].events


def test_one_policy_more_than_the_limit_is_refused() -> None:
    run = FactoryRun(max_policies=2)
    run.buy()
    run.buy()
    run.refuse(ALICE, ENOUGH, run.body(run.quote()), 105)


def test_the_key_before_stays_valid_for_its_overlap_and_no_longer() -> None:
    run = FactoryRun()
    run.world.send(ADMIN, run.factory, messages.SIMPLE_GAS, messages.set_quote_key(bytes(OTHER_KEY.verify_key)))
    assert run.buy(key=OTHER_KEY)[-1].events
    run.refuse(ALICE, ENOUGH, run.body(run.quote(), key=THIRD_KEY), 130)
    run.world.now += 299
    assert run.buy(key=KEY)[-1].events
    run.world.now += 1
    run.refuse(ALICE, ENOUGH, run.body(run.quote(), key=KEY), 130)
    assert run.buy(key=OTHER_KEY)[-1].events


def test_without_a_key_before_nothing_is_signed_by_nobody() -> None:
    run = FactoryRun(key_overlap_s=0)
    config = run.world.get(run.factory, "get_factory_config")
    assert config[5:8] == [int.from_bytes(bytes(KEY.verify_key), "big"), 0, 0]
