"""The follower: every transaction, in order, each proved to be the next one; or an error."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.fake_toncenter import FakeTonCenter, Fault
from chain.making import VAULT, Made, make_chain
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.follow import Follower
from tonsurance.core.errors import BrokenLink, ChainDataError, ChainUnavailable, HashMismatch, HeadWentBack
from tonsurance.core.events import GENESIS, VAULT_KIND, Cursor


def follower(client: TonCenterClient, *, page_size: int = 4, max_bytes: int = 10**6) -> Follower:
    return Follower(client, VAULT, VAULT_KIND, page_size=page_size, max_bytes=max_bytes)


@pytest.fixture
def chain(fake: FakeTonCenter) -> list[Made]:
    made = make_chain(11)
    fake.accounts[VAULT] = made
    return made


async def test_the_whole_history_comes_oldest_first(client: TonCenterClient, chain: list[Made]) -> None:
    walk = await follower(client).walk(GENESIS, chain[-1].cursor)
    assert [item.cursor for item in walk.transactions] == [made.cursor for made in chain]
    assert [item.boc for item in walk.transactions] == [made.boc for made in chain]
    assert (walk.after, walk.complete) == (GENESIS, True)


async def test_a_walk_ends_just_after_the_cursor(
    fake: FakeTonCenter, client: TonCenterClient, chain: list[Made]
) -> None:
    for known in range(len(chain)):
        walk = await follower(client).walk(chain[known].cursor, chain[-1].cursor)
        assert [item.cursor for item in walk.transactions] == [made.cursor for made in chain[known + 1 :]]


async def test_an_unchanged_head_asks_for_nothing(
    fake: FakeTonCenter, client: TonCenterClient, chain: list[Made]
) -> None:
    walk = await follower(client).walk(chain[-1].cursor, chain[-1].cursor)
    assert (walk.transactions, walk.complete) == ((), True)
    assert fake.count("getTransactions") == 0


async def test_an_account_without_transactions_has_no_head_and_no_walk(client: TonCenterClient) -> None:
    empty = follower(client)
    head = await empty.read_head()
    assert head == GENESIS
    assert (await empty.walk(GENESIS, head)).transactions == ()


async def test_the_head_is_read_at_a_masterchain_block_never_as_of_now(
    fake: FakeTonCenter, client: TonCenterClient, chain: list[Made]
) -> None:
    following = follower(client)
    assert await following.read_head() == chain[-1].cursor
    asked = [(method, params.get("seqno")) for method, params, _ in fake.requests]
    assert asked == [("getMasterchainInfo", None), ("getAddressInformation", str(fake.seqno))]


async def test_one_look_at_the_masterchain_serves_several_accounts(
    fake: FakeTonCenter, client: TonCenterClient, chain: list[Made]
) -> None:
    following = follower(client)
    seqno = await following.read_seqno()
    for _ in range(3):
        assert await following.read_head(seqno) == chain[-1].cursor
    assert (fake.count("getMasterchainInfo"), fake.count("getAddressInformation")) == (1, 3)


async def test_a_replica_that_does_not_know_the_block_yet_is_asked_again_and_is_an_outage(
    fake: FakeTonCenter, client: TonCenterClient, impatient: TonCenterClient, chain: list[Made]
) -> None:
    not_there = Fault(500, b'{"ok":false,"error":"LITE_SERVER_UNKNOWN: seqno not in db","code":500}')
    fake.faults.extend([Fault(), not_there, not_there])
    assert await follower(client).read_head() == chain[-1].cursor
    fake.faults.extend([Fault(), *[not_there] * 1000])
    with pytest.raises(ChainUnavailable, match="seqno not in db"):
        await follower(impatient).read_head()


async def test_an_answer_about_another_block_is_refused(
    fake: FakeTonCenter, client: TonCenterClient, chain: list[Made]
) -> None:
    fake.pinned_block = fake.seqno - 1
    with pytest.raises(ChainDataError, match="was asked for"):
        await follower(client).read_head()


@pytest.mark.parametrize("missing", range(10))
async def test_a_missing_transaction_is_proved_and_both_ends_are_named(
    fake: FakeTonCenter, client: TonCenterClient, chain: list[Made], missing: int
) -> None:
    fake.hide_lts = {chain[missing].cursor.lt}
    with pytest.raises(BrokenLink, match=f"{chain[missing].cursor.lt}"):
        await follower(client).walk(GENESIS, chain[-1].cursor)


async def test_an_empty_page_is_not_the_end(fake: FakeTonCenter, client: TonCenterClient, chain: list[Made]) -> None:
    fake.hide_lts = {made.cursor.lt for made in chain}
    with pytest.raises(BrokenLink, match="returned nothing"):
        await follower(client).walk(GENESIS, chain[-1].cursor)


async def test_a_cursor_of_another_history_is_refused(client: TonCenterClient, chain: list[Made]) -> None:
    for cursor in (Cursor(chain[4].cursor.lt, b"\1" * 32), Cursor(chain[4].cursor.lt + 1, b"\1" * 32)):
        with pytest.raises(BrokenLink, match=f"{cursor.lt}.*not in the account's history"):
            await follower(client).walk(cursor, chain[-1].cursor)
    with pytest.raises(BrokenLink, match="history"):
        await follower(client).walk(Cursor(chain[-1].cursor.lt, b"\1" * 32), chain[-1].cursor)


async def test_a_history_that_does_not_begin_at_genesis_is_refused(
    fake: FakeTonCenter, client: TonCenterClient
) -> None:
    made = make_chain(3, after=Cursor(0, b"\1" * 32))
    fake.accounts[VAULT] = made
    with pytest.raises(BrokenLink, match="genesis is not in"):
        await follower(client).walk(GENESIS, made[-1].cursor)


async def test_a_head_before_the_cursor_is_a_lagging_replica(client: TonCenterClient, chain: list[Made]) -> None:
    with pytest.raises(HeadWentBack):
        await follower(client).walk(chain[-1].cursor, chain[-2].cursor)


async def test_a_head_the_server_cannot_find_is_an_error(
    fake: FakeTonCenter, impatient: TonCenterClient, chain: list[Made]
) -> None:
    fake.hidden_newest = 1
    with pytest.raises(ChainUnavailable, match="cannot locate"):
        await follower(impatient).walk(chain[0].cursor, chain[-1].cursor)


async def test_a_wrong_hash_on_a_late_page_gives_nothing_at_all(
    fake: FakeTonCenter, client: TonCenterClient, chain: list[Made]
) -> None:
    fake.swap_hash_of = chain[0].cursor.lt
    with pytest.raises(HashMismatch):
        await follower(client).walk(GENESIS, chain[-1].cursor)


async def test_a_history_too_long_for_one_walk_comes_in_stages(client: TonCenterClient, chain: list[Made]) -> None:
    size = max(len(made.boc) for made in chain)
    small = follower(client, max_bytes=3 * size)
    found: list[Cursor] = []
    cursor = GENESIS
    for _ in range(4):
        walk = await small.walk(cursor, chain[-1].cursor)
        assert 0 < len(walk.transactions) <= 3
        found += [item.cursor for item in walk.transactions]
        cursor = found[-1]
    assert walk.complete
    assert found == [made.cursor for made in chain]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_hidden_transactions_never_give_a_gap(
    fake: FakeTonCenter, client: TonCenterClient, data: st.DataObject
) -> None:
    made = make_chain(9)
    fake.accounts[VAULT] = made
    known = data.draw(st.integers(-1, 8))
    hidden = data.draw(st.sets(st.integers(0, 8)))
    fake.hide_lts = {made[number].cursor.lt for number in hidden}
    after = made[known].cursor if known >= 0 else GENESIS
    if hidden & set(range(known + 1, 9)):
        with pytest.raises(BrokenLink):
            await follower(client).walk(after, made[-1].cursor)
    else:
        walk = await follower(client).walk(after, made[-1].cursor)
        assert [item.cursor for item in walk.transactions] == [item.cursor for item in made[known + 1 :]]
