"""The ledger is held against the chain at one block, to the nano, and every difference is named."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from itertools import pairwise

import msgspec
import pytest

from chain.fake_toncenter import FakeTonCenter, identity, serving
from chain.making import VAULT, make_chain
from chain.patience import IMPATIENT, QUICK, ThreeTries
from chain.test_contracts import KNOWN, VAULT_CODE, rows
from services.street import LAYOUT, Street, caught_up, following
from tonsurance.chain.client import TonCenterClient
from tonsurance.core.catalog import TRANCHE_IDS
from tonsurance.core.errors import ChainDataError, ChainUnavailable, NotOurContract, NotReady
from tonsurance.core.units import NANO_PER_TON
from tonsurance.db.pool import Pool, acquire, open_pool
from tonsurance.localnet.server import running
from tonsurance.localnet.store import ChainStore
from tonsurance.services.verdicts import describe_verification
from tonsurance.services.verification import VaultVerifier, Verification


@pytest.fixture
def street() -> Street:
    with contextlib.closing(ChainStore()) as store:
        street = Street(store)
        street.fill()
        street.buy(200)
        street.pay_out(street.buy(150), 150)
        yield street


@pytest.fixture
async def url(street: Street) -> AsyncIterator[str]:
    async with running(street.chain) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[TonCenterClient]:
    async with TonCenterClient(url, retry=QUICK) as real:
        yield real


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database)
    yield opened
    await opened.close()


@pytest.fixture
async def posted(client: TonCenterClient, street: Street, database: str, pool: Pool) -> None:
    """The ledger holds all of it, and the daemon is gone."""
    async with following(client, street, database, pool):
        await caught_up(pool, street, client)


async def verify(
    client: TonCenterClient, pool: Pool, street: Street, *, wait_s: float = 60.0, said: list[str] | None = None
) -> Verification:
    heard = [] if said is None else said
    verifier = VaultVerifier(
        client, pool, street.contracts.vault, LAYOUT, heard.append, wait_s=wait_s, lag_patience_s=0.05, say_every_s=0.1
    )
    return await verifier.verify()


async def plant(pool: Pool, *statements: str) -> None:
    """Change what may never change, as only a superuser can."""
    async with acquire(pool) as conn, conn.transaction():
        await conn.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            await conn.execute(statement)


@pytest.mark.usefixtures("posted")
async def test_an_equal_ledger_is_called_equal(client: TonCenterClient, street: Street, pool: Pool) -> None:
    found = await verify(client, pool, street)
    (vault,) = found.vaults
    assert (found.equal, vault.differences, vault.vault_id) == (True, (), "main")
    assert vault.seqno == street.chain.head.seqno
    assert [tranche.tranche_id for tranche in vault.tranches] == list(TRANCHE_IDS)
    assert sum(tranche.chain_capital for tranche in vault.tranches) > 5_800 * NANO_PER_TON
    assert sum(tranche.ledger_coverage for tranche in vault.tranches) == 200 * NANO_PER_TON
    assert sum(tranche.ledger_unearned for tranche in vault.tranches) > 0
    assert all(tranche.chain_shares == tranche.ledger_shares != "0" for tranche in vault.tranches)
    assert (vault.chain_policies, vault.ledger_policies) == (1, 1)
    lines = list(describe_verification(found))
    assert len(lines) == 8
    assert lines[-1].startswith("Equal: the ledger of vault main")


@pytest.mark.usefixtures("posted")
async def test_the_answer_has_the_documented_fields(client: TonCenterClient, street: Street, pool: Pool) -> None:
    document = msgspec.json.decode(msgspec.json.encode(await verify(client, pool, street)))
    assert set(document) == {"equal", "vaults"}
    (vault,) = document["vaults"]
    assert {"vault_id", "seqno", "tranches"} <= set(vault)
    for tranche in vault["tranches"]:
        for name in ("chain_capital", "ledger_capital", "chain_coverage", "ledger_coverage"):
            assert type(tranche[name]) is int


HISTORY = "UPDATE tranche_utilization_history SET {0} = {0} {1} WHERE tranche_id = 'SURE-EQT'"


@pytest.mark.usefixtures("posted")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            HISTORY.format("total_capital_nanoton", "+ 1"),
            "SURE-EQT: capital is .* on chain and .* in the ledger, \\+1 na",
        ),
        (HISTORY.format("coverage_sold_nanoton", "+ 1"), "SURE-EQT: coverage is .* \\+1 nanoTON"),
        (HISTORY.format("unearned_premium_nanoton", "+ 1"), "SURE-EQT: unearned is .* \\+1 nanoTON"),
        (HISTORY.format("shares", "+ 1"), "SURE-EQT: shares is .* \\+1 shares"),
        (HISTORY.format("absorbed_losses_nanoton", "+ 1"), "SURE-EQT: losses is .* sum of the ledger's entries"),
        (
            "DELETE FROM tranche_utilization_history WHERE tranche_id = 'SURE-BTC'",
            "SURE-BTC: capital is .* 0 in the led",
        ),
        (
            "UPDATE ledger_entries SET capital_delta_nanoton = capital_delta_nanoton - 5 WHERE tranche_id = 'SURE-SNR'"
            " AND message_index = 0 AND capital_delta_nanoton > 5",
            "SURE-SNR: capital is .* in the history and .* sum of the ledger's entries",
        ),
        ("DELETE FROM ledger_entries WHERE tranche_id = 'SURE-JNR'", "SURE-JNR: .* 0 as the sum"),
        (
            "UPDATE tranche_utilization SET total_capital_nanoton = 1 WHERE tranche_id = 'SURE-JNR+'",
            "SURE-JNR\\+: its row in tranche_utilization is not",
        ),
        (
            "DELETE FROM blockchain_events WHERE event_type = 'CoverageChanged' AND policy_id ="
            " (SELECT min(policy_id) FROM blockchain_events WHERE event_type = 'CoverageChanged')",
            "backs 1 policies on chain and 0 in the ledger",
        ),
        ("UPDATE blockchain_events SET transaction_hash = repeat('cd', 32)", "is .* on chain and cdcdcd"),
        ("UPDATE blockchain_sync_state SET last_synced_hash = decode(repeat('ab', 32), 'hex')", "is .* and abababab"),
        (
            "UPDATE blockchain_sync_state SET last_synced_lt = last_synced_lt + 10",
            "beyond the chain's head",
        ),
    ],
)
async def test_a_planted_drift_is_found_and_named(
    client: TonCenterClient, street: Street, pool: Pool, change: str, said: str
) -> None:
    await plant(pool, change)
    found = await verify(client, pool, street)
    assert not found.equal
    assert any(re.search(said, line) for line in found.vaults[0].differences), found.vaults[0].differences
    assert list(describe_verification(found))[-1].startswith("Not equal: ")


async def test_a_moving_chain_does_not_matter(
    client: TonCenterClient, street: Street, database: str, pool: Pool
) -> None:
    """The vault changes with every block while the daemon follows and the verifier looks, again and again."""
    seen: list[int] = []
    async with following(client, street, database, pool):
        for number in range(5):
            looking = asyncio.create_task(verify(client, pool, street))
            while not looking.done():
                street.deposit(number % 6 + 1, 3)
                await asyncio.sleep(0)
            found = await looking
            assert found.equal, found.vaults[0].differences
            seen.append(found.vaults[0].lt)
    assert all(earlier < later for earlier, later in pairwise(seen))


@pytest.mark.usefixtures("posted")
async def test_the_ledger_is_read_as_of_the_block_and_not_as_of_now(
    client: TonCenterClient, street: Street, database: str, pool: Pool
) -> None:
    """A server whose newest block is an old one: the ledger has gone on, and is still equal there."""

    class Lagging(TonCenterClient):
        async def get_masterchain_info(self):  # type: ignore[no-untyped-def]
            info = await super().get_masterchain_info()
            last = msgspec.structs.replace(info.last, seqno=then)
            return msgspec.structs.replace(info, last=last)

    then = street.chain.head.seqno
    street.deposit(1, 50)
    street.pay_out(street.buy(100), 100)
    async with following(client, street, database, pool):
        await caught_up(pool, street, client)
    async with Lagging(client.base_url, retry=QUICK) as lagging:
        found = await verify(lagging, pool, street)
    assert (found.equal, found.vaults[0].seqno) == (True, then)
    now = await verify(client, pool, street)
    assert now.equal
    assert now.vaults[0].lt > found.vaults[0].lt


@pytest.mark.usefixtures("posted")
async def test_it_waits_for_the_ledger_and_no_longer_than_told(
    client: TonCenterClient, street: Street, database: str, pool: Pool
) -> None:
    street.deposit(1, 5)
    with pytest.raises(NotReady, match="stands at logical time"):
        await verify(client, pool, street, wait_s=0.0)
    waiting = asyncio.create_task(verify(client, pool, street))
    async with following(client, street, database, pool):
        assert (await waiting).equal


@pytest.mark.usefixtures("posted")
async def test_a_long_wait_says_what_it_waits_for(client: TonCenterClient, street: Street, pool: Pool) -> None:
    street.deposit(1, 5)
    said: list[str] = []
    with pytest.raises(NotReady):
        await verify(client, pool, street, wait_s=0.3, said=said)
    assert said
    assert all(line.startswith("Waiting for the ledger: it stands at logical time ") for line in said)


@pytest.mark.usefixtures("posted")
async def test_a_ledger_that_an_error_stopped_is_a_difference(
    client: TonCenterClient, street: Street, pool: Pool
) -> None:
    street.deposit(1, 5)
    await plant(pool, "UPDATE blockchain_sync_state SET sync_status = 'error', error_message = 'a bad event'")
    found = await verify(client, pool, street, wait_s=0.0)
    assert not found.equal
    assert "stopped at logical time" in found.vaults[0].differences[0]
    assert "a bad event" in found.vaults[0].differences[0]


async def test_a_database_of_another_vault_is_named(client: TonCenterClient, street: Street, pool: Pool) -> None:
    with pytest.raises(NotReady, match="follows none yet"):
        await verify(client, pool, street, wait_s=0.0)
    other = "0:" + "77" * 32
    await plant(
        pool,
        "INSERT INTO blockchain_sync_state (contract_address, contract_type, vault_id)"
        f" VALUES ('{other}', 'MultiTrancheVault', 'main')",
    )
    with pytest.raises(NotReady, match=other):
        await verify(client, pool, street, wait_s=0.0)


async def test_what_is_not_our_vault_is_refused(client: TonCenterClient, street: Street, pool: Pool) -> None:
    verifier = VaultVerifier(client, pool, street.contracts.factory, LAYOUT, print, wait_s=0.0)
    with pytest.raises(NotOurContract):
        await verifier.verify()


async def test_a_chain_that_is_away_is_an_outage(street: Street, pool: Pool) -> None:
    async with TonCenterClient("http://127.0.0.1:1", retry=IMPATIENT, rng=ThreeTries()) as nobody:
        with pytest.raises(ChainUnavailable):
            await verify(nobody, pool, street)


async def test_an_answer_of_another_block_is_refused(pool: Pool) -> None:
    made = make_chain(2)
    answer = {"stack": rows(), "last_transaction_id": identity(made[-1].cursor)}
    async with serving(FakeTonCenter(methods={"get_all_tranches": answer})) as fake:
        fake.codes[VAULT] = VAULT_CODE.to_boc()
        fake.accounts[VAULT] = made
        fake.pinned_block = fake.seqno - 1
        async with TonCenterClient(fake.url, retry=QUICK) as client:
            with pytest.raises(ChainDataError, match="block 100 was asked for"):
                await VaultVerifier(client, pool, VAULT, KNOWN, print, wait_s=0.0).verify()
