"""From the chain into a sink: every transaction once and in order, and no error ever moves the cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pytoniq_core.boc.builder import Builder

from chain.conftest import NO_BREAKER
from chain.fake_toncenter import (
    DISCONNECT,
    GATEWAY,
    HANG,
    HTML_WITH_200,
    LITE_SERVER,
    RATE_LIMITED,
    TONLIB,
    TRUNCATED,
    FakeTonCenter,
    Fault,
    serving,
)
from chain.making import LAYOUT, VAULT, external_out, make_chain, make_transaction
from chain.patience import open_impatient
from services.fake_ledger import FakeLedger
from tonsurance.chain.client import TonCenterClient
from tonsurance.chain.decode import Decoder
from tonsurance.chain.follow import Follower
from tonsurance.core.errors import (
    BrokenLink,
    ChainDataError,
    ChainUnavailable,
    CursorConflict,
    DatabaseUnavailable,
    DecodeError,
    HashMismatch,
    HeadWentBack,
    LedgerRefused,
    TonsuranceError,
)
from tonsurance.core.events import GENESIS, VAULT_KIND, ContractBatch
from tonsurance.metrics import INGEST_ERRORS
from tonsurance.services.ingest import ContractIngest


@pytest.fixture
async def fake() -> AsyncIterator[FakeTonCenter]:
    async with serving(FakeTonCenter(accounts={VAULT: make_chain(7)})) as server:
        yield server


@pytest.fixture
async def client(fake: FakeTonCenter) -> AsyncIterator[TonCenterClient]:
    async with open_impatient(fake, breaker=NO_BREAKER) as impatient:
        yield impatient


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def ingest(client: TonCenterClient, ledger: FakeLedger) -> ContractIngest:
    return make_ingest(client, ledger)


def make_ingest(client: TonCenterClient, ledger: FakeLedger, *, batch_size: int = 3) -> ContractIngest:
    follower = Follower(client, VAULT, VAULT_KIND, page_size=2)
    decoder = Decoder(LAYOUT, contract=VAULT, kind=VAULT_KIND)
    return ContractIngest(follower, decoder, ledger, ledger, batch_size=batch_size, head_record_interval_s=0.0)


async def test_every_transaction_is_posted_once_in_order_in_batches(
    fake: FakeTonCenter, ingest: ContractIngest, ledger: FakeLedger
) -> None:
    await ingest.run_once()
    assert ledger.amounts == [10, 11, 12, 13, 14, 15, 16]
    assert [len(batch.transactions) for batch in ledger.batches] == [3, 3, 1]
    assert [batch.after for batch in ledger.batches[1:]] == [batch.until for batch in ledger.batches[:-1]]
    fake.accounts[VAULT] += make_chain(2, after=ledger.cursor, amount=90)
    await ingest.run_once()
    assert ledger.amounts[7:] == [90, 91]
    assert ledger.reads == 1


async def test_nothing_new_posts_nothing_but_says_that_it_looked(
    fake: FakeTonCenter, ingest: ContractIngest, ledger: FakeLedger
) -> None:
    await ingest.run_once()
    posted = len(ledger.batches)
    for _ in range(3):
        await ingest.run_once()
    assert len(ledger.batches) == posted
    assert ledger.heads == [7_000_000] * 4


async def test_the_status_shows_head_cursor_and_lag(
    fake: FakeTonCenter, ingest: ContractIngest, ledger: FakeLedger
) -> None:
    assert (ingest.status.cursor_lt, ingest.status.checked_at, ingest.status.head_seqno) == (0, None, None)
    ledger.errors.append(DatabaseUnavailable("gone"))
    with pytest.raises(DatabaseUnavailable):
        await ingest.run_once()
    status = ingest.status
    assert (status.status, status.error_code, status.head_lt, status.lag_lt) == (
        "active", "database_unavailable", 7_000_000, 7_000_000,
    )  # fmt: skip
    await ingest.run_once()
    assert (ingest.status.lag_lt, ingest.status.error_code, ingest.status.error) == (0, None, None)
    assert ingest.status.checked_at is not None
    assert ingest.status.head_seqno == fake.seqno


FAULTS = {
    "429": (RATE_LIMITED, ChainUnavailable),
    "500": (LITE_SERVER, ChainUnavailable),
    "542": (TONLIB, ChainUnavailable),
    "502 HTML": (GATEWAY, ChainUnavailable),
    "200 HTML": (HTML_WITH_200, ChainUnavailable),
    "truncated": (TRUNCATED, ChainUnavailable),
    "hang": (HANG, ChainUnavailable),
    "disconnect": (DISCONNECT, ChainUnavailable),
    "401": (Fault(401, b'{"ok":false,"error":"bad key","code":401}'), ChainUnavailable),
    "empty object": (Fault(200, b'{"ok":true,"result":{}}'), ChainDataError),
    "empty list": (Fault(200, b'{"ok":true,"result":[]}'), ChainDataError),
    "null": (Fault(200, b'{"ok":true,"result":null}'), ChainDataError),
}


@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("good_requests", [0, 1, 2, 3])
async def test_no_fault_of_the_api_moves_the_cursor_or_is_taken_for_no_news(
    fake: FakeTonCenter,
    ingest: ContractIngest,
    ledger: FakeLedger,
    fault: Fault,
    error: type[TonsuranceError],
    good_requests: int,
) -> None:
    fake.faults.extend([Fault()] * good_requests + [fault] * 1000)
    with pytest.raises(error):
        await ingest.run_once()
    assert (ledger.cursor, ledger.batches, ledger.heads) == (GENESIS, [], [])
    fake.faults.clear()
    await ingest.run_once()
    assert ledger.amounts == [10, 11, 12, 13, 14, 15, 16]


async def test_no_lie_of_the_api_moves_the_cursor(
    fake: FakeTonCenter, client: TonCenterClient, ledger: FakeLedger
) -> None:
    await make_ingest(client, ledger).run_once()
    good, posted = list(fake.accounts[VAULT]), ledger.cursor
    more = make_chain(3, after=posted)
    fake.accounts[VAULT] = good + more

    async def refused(error: type[TonsuranceError]) -> None:
        before = INGEST_ERRORS.labels(error.code)._value.get()
        with pytest.raises(error):
            await make_ingest(client, ledger).run_once()
        assert ledger.cursor == posted
        assert INGEST_ERRORS.labels(error.code)._value.get() == before + 1

    fake.hide_lts = {more[1].cursor.lt}
    await refused(BrokenLink)
    fake.hide_lts, fake.swap_hash_of = set(), more[1].cursor.lt
    await refused(HashMismatch)
    fake.swap_hash_of = None
    fake.heads.extend([good[2].cursor] * 10_000)
    await refused(HeadWentBack)
    fake.heads.clear()
    await make_ingest(client, ledger).run_once()
    assert len(ledger.amounts) == 10


async def test_another_history_with_the_same_logical_times_is_refused(
    fake: FakeTonCenter, client: TonCenterClient, ledger: FakeLedger
) -> None:
    await make_ingest(client, ledger).run_once()
    made, posted = fake.accounts[VAULT], ledger.cursor
    fork = make_transaction(lt=posted.lt, previous=made[-1].previous, now=5)
    for history in ([*made[:-1], fork], [*made[:-1], fork, *make_chain(2, after=fork.cursor)]):
        fake.accounts[VAULT] = history
        with pytest.raises(BrokenLink, match="not in the account's history"):
            await make_ingest(client, ledger).run_once()
        assert ledger.cursor == posted


async def test_a_transaction_that_cannot_be_read_stops_before_it(
    fake: FakeTonCenter, client: TonCenterClient, ledger: FakeLedger
) -> None:
    bad = make_transaction(lt=8_000_000, previous=fake.accounts[VAULT][-1].cursor, announced=2)
    fake.accounts[VAULT].append(bad)
    ingest = make_ingest(client, ledger, batch_size=1)
    for _ in range(2):
        with pytest.raises(DecodeError):
            await ingest.run_once()
    assert ledger.cursor.lt == 7_000_000


async def test_a_message_that_cannot_be_read_is_passed_on_raw(
    fake: FakeTonCenter, ingest: ContractIngest, ledger: FakeLedger
) -> None:
    unknown = external_out(VAULT, Builder().store_uint(7, 32).end_cell())
    fake.accounts[VAULT].append(
        make_transaction(lt=8_000_000, previous=fake.accounts[VAULT][-1].cursor, messages=[unknown])
    )
    await ingest.run_once()
    assert ledger.cursor.lt == 8_000_000
    assert len(ledger.batches[-1].transactions[-1].undecoded) == 1


async def test_a_database_error_between_batches_loses_and_doubles_nothing(
    ingest: ContractIngest, ledger: FakeLedger
) -> None:
    for _ in range(7):
        ledger.errors.append(DatabaseUnavailable("gone"))
    while True:
        try:
            await ingest.run_once()
        except DatabaseUnavailable:
            continue
        break
    assert ledger.amounts == [10, 11, 12, 13, 14, 15, 16]


async def test_a_commit_whose_answer_was_lost_is_not_posted_twice(client: TonCenterClient, ledger: FakeLedger) -> None:
    class LosesOneAnswer:
        lost = False

        async def submit(self, batch: ContractBatch) -> None:
            await ledger.submit(batch)
            if not self.lost:
                self.lost = True
                raise DatabaseUnavailable("The connection broke during the commit.")

    decoder = Decoder(LAYOUT, contract=VAULT, kind=VAULT_KIND)
    ingest = ContractIngest(Follower(client, VAULT, VAULT_KIND), decoder, LosesOneAnswer(), ledger, batch_size=3)
    with pytest.raises(DatabaseUnavailable):
        await ingest.run_once()
    await ingest.run_once()
    assert ledger.amounts == [10, 11, 12, 13, 14, 15, 16]


async def test_a_cursor_that_somebody_else_moved_is_read_again(
    fake: FakeTonCenter, ingest: ContractIngest, ledger: FakeLedger
) -> None:
    await ingest.run_once()
    fake.accounts[VAULT] += (more := make_chain(2, after=ledger.cursor))
    ledger.cursor = more[0].cursor
    with pytest.raises(CursorConflict):
        await ingest.run_once()
    await ingest.run_once()
    assert ledger.cursor == more[1].cursor
    assert ledger.amounts[7:] == [11]


async def test_what_the_ledger_refuses_stops_this_contract_for_good(
    fake: FakeTonCenter, ingest: ContractIngest, ledger: FakeLedger
) -> None:
    ledger.errors.append(LedgerRefused("capital would become -1 nanoTON."))
    with pytest.raises(LedgerRefused):
        await ingest.run_once()
    asked = len(fake.requests)
    await ingest.run_once()
    assert len(fake.requests) == asked
    assert (ledger.cursor, ledger.batches) == (GENESIS, [])
    assert (ingest.status.status, ingest.status.error_code) == ("error", "ledger_refused")
    assert "-1 nanoTON" in str(ingest.status.error)
