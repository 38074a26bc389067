"""What each role of the database may do and may not do, tried on real servers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import asyncpg
import pytest

from db.chain_story import TON, VAULT, batch, deposit, legal_transactions, register, transaction
from db.servers import INSTALLED_BINARIES, DatabaseServer, running_server
from tonsurance.core.errors import DatabaseDenied, DatabaseUnavailable, LedgerRefused, MigrationError
from tonsurance.core.ledger import Totals
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.ledger import post_batches, take_ledger
from tonsurance.db.migrate import migrate
from tonsurance.db.pool import Connection, acquire, connect, driver_errors, open_pool
from tonsurance.db.postings import TrancheBook
from tonsurance.db.roles import ADMIN, API, INGEST, ROLE_OF
from tonsurance.services.ledger_writer import LedgerWriter

READ, WRITE, ALL = "SELECT", "SELECT INSERT", "SELECT INSERT UPDATE DELETE"
EDIT = "SELECT INSERT UPDATE"

RIGHTS: dict[str, tuple[str, str, str]] = {
    # relation: (ingest, api, admin)
    "admin_users": ("", "", EDIT),
    "alert_evaluations": (EDIT, READ, ""),
    "blockchain_events": (WRITE, READ, READ),
    "blockchain_quarantine": (WRITE, READ, READ),
    "blockchain_sync_state": (READ, READ, READ),
    "blockchain_transactions": (WRITE, READ, READ),
    "capacity_reservations": (ALL, READ, READ),
    "chain_risk_metrics": (READ, READ, READ),
    "config_access_log": ("INSERT", WRITE, WRITE),
    "config_audit_log": ("", "", WRITE),
    "config_changes": ("", "", EDIT),
    "config_head": (READ, READ, "SELECT UPDATE"),
    "config_parameters": (READ, READ, ALL),
    "config_versions": (READ, READ, WRITE),
    "coverage_types": (READ, READ, READ),
    "daemon_status": (ALL, READ, READ),
    "dataset_coins": ("", READ, READ),
    "dataset_seeds": ("", "", WRITE),
    "direct_updates": (WRITE, READ, READ),
    "event_prices": (READ, READ, READ),
    "factory_state": (EDIT, READ, READ),
    "followed_contracts": (EDIT, READ, EDIT),
    "hedge_positions": (READ, READ, READ),
    "high_value_events": (READ, READ, READ),
    "historical_depegs": ("", READ, ALL),
    "history_horizon": (READ, READ, READ),
    "ledger_adjustments": (WRITE, READ, READ),
    "ledger_entries": (READ, READ, READ),
    "ledger_head": (READ, READ, READ),
    "ledger_rebuilds": (READ, READ, READ),
    "mv_event_stats_by_product": (READ, READ, READ),
    "mv_hedge_requirements": (READ, READ, READ),
    "policies": (READ, READ, READ),
    "premium_streams": (WRITE, READ, READ),
    "price_history": (WRITE, READ, READ),
    "product_exposure": (READ, READ, READ),
    "queued_updates": (EDIT, READ, READ),
    "quote_days": (READ, READ, READ),
    "quotes": (READ, WRITE, READ),
    "reservation_locks": (EDIT, "", ""),
    "revoked_tokens": ("", "", ALL),
    "risk_alert_transitions": (WRITE, WRITE, ""),
    "risk_alerts": (EDIT, "SELECT UPDATE", ""),
    "schema_migrations": (READ, READ, READ),
    "stablecoins": (READ, READ, READ),
    "stress_scenarios": ("", READ, ALL),
    "tranche_utilization": (READ, READ, READ),
    "tranche_utilization_daily": (WRITE, READ, READ),
    "tranche_utilization_history": (READ, READ, READ),
    "tranche_utilization_history_default": (READ, "", ""),
    "v_depeg_statistics": ("", READ, READ),
    "v_product_exposure_realtime": (READ, READ, READ),
    "v_quote_conversion": (READ, READ, READ),
    "v_recent_blockchain_events": (READ, READ, READ),
    "v_recent_depegs": ("", READ, READ),
    "vault_sync_results": (WRITE, READ, READ),
    "vault_sync_tranches": (WRITE, READ, READ),
    "vaults": (READ, READ, READ),
    "webhook_outbox": (ALL, READ, ""),
}
"""Every table and view: a new one has no rights until its migration grants them, and needs a row here."""

INGEST_FUNCTIONS = {
    "lock_ledger_head",
    "take_writer_epoch",
    "post_entries",
    "create_policies",
    "move_policies",
    "move_cursors",
    "publish_version",
    "add_contract",
    "record_head",
    "record_fault",
    "make_history_month",
    "drop_history_month",
    "repair_event",
    "repair_entry",
    "repair_history",
    "repair_policies",
    "repair_snapshot",
    "drop_streams",
    "forget_quotes",
    "refresh_event_stats",
    "refresh_hedge_requirements",
}
EVERYBODYS_FUNCTIONS = {"forget_old_accesses"}

RELATIONS = "relnamespace = 'public'::regnamespace AND relkind = ANY('{r,p,v,m,f}')"
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
DENIED = asyncpg.InsufficientPrivilegeError


@asynccontextmanager
async def as_role(dsn: str, role: str | None) -> AsyncIterator[Connection]:
    conn = await connect(dsn, role=role)
    try:
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def login(dsn: str, *roles: str) -> AsyncIterator[str]:
    """The address of a login that is a member of roles and has no right of its own, not even theirs unless taken."""
    name = f"login_{os.urandom(4).hex()}"
    async with as_role(dsn, None) as owner:
        await owner.execute(f"CREATE ROLE {name} LOGIN NOINHERIT")
        for role in roles:
            await owner.execute(f"GRANT {role} TO {name}")
    parts = urlsplit(dsn)
    try:
        yield parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}").geturl()
    finally:
        async with as_role(dsn, None) as owner:
            await owner.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize(("role", "place"), [(INGEST, 0), (API, 1), (ADMIN, 2), ("public", None)])
async def test_every_table_has_the_rights_that_were_decided_and_no_others(
    each_database: str, role: str, place: int | None
) -> None:
    async with as_role(each_database, None) as owner:
        relations = [row[0] for row in await owner.fetch(f"SELECT relname FROM pg_class WHERE {RELATIONS}")]
        assert set(relations) == RIGHTS.keys(), "a table without a decision, or one that is gone"
        for relation in relations:
            held = [
                verb
                for verb in VERBS
                if await owner.fetchval("SELECT has_table_privilege($1, $2, $3)", role, f"public.{relation}", verb)
            ]
            assert " ".join(held) == ("" if place is None else RIGHTS[relation][place]), relation
            for verb in held:  # and nobody can hand it on
                passing = f"{verb} WITH GRANT OPTION"
                assert not await owner.fetchval("SELECT has_table_privilege($1, $2, $3)", role, relation, passing)
            for verb in ("SELECT", "INSERT", "UPDATE", "REFERENCES"):  # no column is open beside them
                some = await owner.fetchval("SELECT has_any_column_privilege($1, $2, $3)", role, relation, verb)
                assert some == (verb in held), (relation, verb)
        for what in ("CREATE", "USAGE"):
            may = await owner.fetchval("SELECT has_schema_privilege($1, 'public', $2)", role, what)
            assert may == (what == "USAGE" and place is not None)


async def test_every_function_runs_for_those_it_is_for_and_cannot_be_led_astray(each_database: str) -> None:
    async with as_role(each_database, None) as owner:
        rows = await owner.fetch(
            "SELECT oid, proname, prosecdef, proconfig, proowner = (SELECT relowner FROM pg_class WHERE relname ="
            " 'ledger_head') AS is_owners FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        )
        names = {row["proname"] for row in rows}
        assert names >= INGEST_FUNCTIONS | EVERYBODYS_FUNCTIONS
        for row in rows:
            able = {
                role
                for role in (INGEST, API, ADMIN, "public")
                if await owner.fetchval("SELECT has_function_privilege($1, $2::oid, 'EXECUTE')", role, row["oid"])
            }
            if row["proname"] in INGEST_FUNCTIONS:
                assert able == {INGEST}, row["proname"]
            elif row["prosecdef"]:
                assert able in (set(), {INGEST, API, ADMIN}), row["proname"]
            assert "public" not in able, row["proname"]
            if row["prosecdef"]:
                assert row["is_owners"]
                assert "search_path=public, pg_temp" in row["proconfig"], row["proname"]


@pytest.mark.parametrize("role", [INGEST, API, ADMIN])
async def test_what_a_role_may_not_do_is_refused_when_it_tries(each_database: str, role: str) -> None:
    place = (INGEST, API, ADMIN).index(role)
    async with as_role(each_database, role) as conn:
        assert await conn.fetchval("SELECT current_user") == role
        for table, rights in RIGHTS.items():
            column = await _first_column(each_database, table)
            tries = {
                "SELECT": f"SELECT count(*) FROM {table}",
                "INSERT": f"INSERT INTO {table} DEFAULT VALUES",
                "UPDATE": f"UPDATE {table} SET {column} = DEFAULT WHERE false",
                "DELETE": f"DELETE FROM {table} WHERE false",
                "TRUNCATE": f"TRUNCATE {table}",
                "DROP": f"DROP TABLE {table}",
                "ALTER": f"ALTER TABLE {table} DISABLE TRIGGER ALL",
            }
            if table.startswith(("v_", "mv_")):  # a view that cannot be written is refused for that first
                tries = {"SELECT": tries["SELECT"]}
            for verb, sql in tries.items():
                assert await _is_denied(conn, sql) == (verb not in rights[place].split()), (table, verb)
        for sql in (
            "CREATE TABLE public.mine (id int)",
            "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE SCHEMA mine",
            "DROP FUNCTION refuse_change() CASCADE",
            "ALTER FUNCTION lock_ledger_head() RESET ALL",
            "SET session_replication_role = replica",
            f"ALTER ROLE {role} SUPERUSER",
        ):
            assert await _is_denied(conn, sql), sql


async def _first_column(dsn: str, table: str) -> str:
    async with as_role(dsn, None) as owner:
        name: str = await owner.fetchval(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 ORDER BY attnum LIMIT 1",
            table,
        )
    return f'"{name}"'


async def _is_denied(conn: Connection, sql: str) -> bool:
    change = conn.transaction()
    await change.start()
    try:
        await conn.execute(sql)
    except DENIED:
        return True
    except asyncpg.PostgresError:  # refused for another reason: a missing value, an append-only table
        return False
    finally:
        await change.rollback()
    return False


async def test_append_only_tables_stay_so_for_admins(each_database: str) -> None:
    async with as_role(each_database, ADMIN) as conn:
        for table in ("config_versions", "config_audit_log"):
            for sql in (f"UPDATE {table} SET version = 1", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises(DENIED):
                    await conn.execute(sql)


class Swindle(TrancheBook):
    """A book that writes one thing and posts another."""

    def invent(self, place: int, amount: object) -> None:
        row = list(self._rows[-1])
        row[place] = amount
        self._rows[-1] = tuple(row)


@asynccontextmanager
async def posting(dsn: str, version: int = 1) -> AsyncIterator[tuple[Connection, Swindle]]:
    """As ingest, before one deposit of 1 TON is written."""
    await register(dsn)
    event = transaction(10, deposit(1, TON)).events[0]
    book = Swindle({}, DEFAULT_PARAMS)
    book.post(event, "main", version)
    async with as_role(dsn, INGEST) as conn:
        yield conn, book


@pytest.mark.parametrize(("place", "amount"), [(6, 2 * TON), (7, 1), (8, 1), (9, 1), (10, 1), (11, "7")])
async def test_capital_cannot_be_invented_as_ingest(each_database: str, place: int, amount: object) -> None:
    """Each delta and each total in turn is another one than the rest says."""
    for column in (place, place + 6):
        async with posting(each_database) as (conn, book):
            book.invent(column, str(amount) if column >= 15 else amount)
            with pytest.raises(LedgerRefused, match="are not those before it"), driver_errors():
                await book.write(conn)
            assert await conn.fetchval("SELECT count(*) FROM tranche_utilization") == 0


async def test_a_second_posting_starts_where_the_first_one_ended(each_database: str) -> None:
    async with posting(each_database) as (conn, book):
        await book.write(conn)
        again = Swindle({("main", "SURE-BTC"): Totals(capital=5 * TON)}, DEFAULT_PARAMS)
        again.post(transaction(11, deposit(1, TON)).events[0], "main", 1)
        with pytest.raises(LedgerRefused, match="are not those before it"), driver_errors():
            await again.write(conn)
    async with as_role(each_database, API) as conn:
        rows = await conn.fetch("SELECT total_capital_nanoton FROM tranche_utilization")
        assert [row[0] for row in rows] == [TON]
        assert await conn.fetchval("SELECT count(*) FROM ledger_entries") == 1


@pytest.mark.parametrize("version", [0, 2, 10**6])
async def test_nothing_is_posted_into_another_version_than_the_next(each_database: str, version: int) -> None:
    async with posting(each_database, version) as (conn, book):
        with pytest.raises(LedgerRefused, match="not the next one"), driver_errors():
            await book.write(conn)
        with pytest.raises(LedgerRefused, match="not the next one"), driver_errors():
            await conn.execute("SELECT publish_version($1)", version)


async def test_a_policy_that_ended_stays_ended(each_database: str) -> None:
    async with as_role(each_database, INGEST) as conn:
        with pytest.raises(LedgerRefused, match="has ended"), driver_errors():
            await conn.execute(
                "SELECT move_policies('{x}', '{1}', '{active}', '{x}', '{null}', '{0}', '{f}', '{1}', '{0}', '{1}',"
                " '{1}')"
            )


async def test_the_functions_do_not_follow_the_callers_search_path(each_database: str) -> None:
    """A login that may make temporary tables lays traps where the functions would look first."""
    async with as_role(each_database, None) as owner:
        name = urlsplit(each_database).path[1:]
        await owner.execute(f"GRANT TEMPORARY ON DATABASE {name} TO {INGEST}")
    await register(each_database)
    async with as_role(each_database, INGEST) as conn:
        for table in ("ledger_head", "tranche_utilization", "blockchain_sync_state"):
            await conn.execute(f"CREATE TEMPORARY TABLE {table} (LIKE public.{table} INCLUDING DEFAULTS)")
        await conn.execute("INSERT INTO pg_temp.ledger_head (version, writer_epoch) VALUES (70, 70)")
        await conn.execute("SET search_path = pg_temp, public")
        before = await conn.fetchval("SELECT writer_epoch FROM public.ledger_head")
        assert await conn.fetchval("SELECT public.take_writer_epoch()") == before + 1
        assert tuple(await conn.fetchrow("SELECT * FROM public.lock_ledger_head()")) == (0, before + 1)
        await conn.execute("SELECT public.record_head($1, 99)", VAULT)
        assert await conn.fetchval("SELECT writer_epoch FROM pg_temp.ledger_head") == 70
        assert await conn.fetchval("SELECT head_lt FROM public.blockchain_sync_state WHERE head_lt = 99") == 99


async def test_what_is_made_later_is_nobodys_until_it_is_granted(each_database: str) -> None:
    async with as_role(each_database, None) as owner:
        await owner.execute("CREATE TABLE later (id int)")
        await owner.execute("CREATE FUNCTION later() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
    for role in (INGEST, API, ADMIN):
        async with as_role(each_database, role) as conn:
            assert await _is_denied(conn, "SELECT * FROM later")
            assert await _is_denied(conn, "SELECT later()")


async def test_a_login_without_rights_of_its_own_posts_by_its_role(each_database: str) -> None:
    await register(each_database)
    async with login(each_database, INGEST) as ours:
        writer = LedgerWriter(ours, DEFAULT_PARAMS)
        try:
            posted = await writer.submit(batch(*legal_transactions(3, 40)))
        finally:
            await writer.close()
        assert (posted.version, posted.events) == (1, 40)
        async with as_role(ours, None) as plain:
            assert await _is_denied(plain, "SELECT * FROM public.ledger_head")
    async with login(each_database, API) as ours:
        pool = await open_pool(ours, role=API)
        async with acquire(pool) as conn:
            assert await conn.fetchval("SELECT count(*) FROM blockchain_events") == 40
        async with acquire(pool) as conn:  # used a second time it is still the role
            assert await conn.fetchval("SELECT current_user") == API
        with pytest.raises(DatabaseDenied, match="does not permit"):
            async with acquire(pool) as conn:
                await take_ledger(conn)
        await pool.close()


async def test_a_login_that_may_not_take_its_role_is_told_what_to_grant(each_database: str) -> None:
    async with login(each_database, API) as ours:
        for attempt in (connect(ours, role=ADMIN), open_pool(ours, role=ADMIN)):
            with pytest.raises(DatabaseDenied, match="may not take the role tonsurance_admin") as caught:
                await attempt
            assert "GRANT tonsurance_admin TO" in str(caught.value)
        writer = LedgerWriter(ours, DEFAULT_PARAMS)
        with pytest.raises(DatabaseUnavailable, match="may not take the role tonsurance_ingest"):
            await writer.submit(batch(transaction(10, deposit(1, TON))))
        await writer.close()
    with pytest.raises(DatabaseDenied, match="no role tonsurance_nobody"):
        await connect(each_database, role="tonsurance_nobody")


async def test_a_reader_has_ten_seconds_for_a_statement(each_database: str) -> None:
    pool = await open_pool(each_database, role=API)
    async with acquire(pool) as conn:
        assert await conn.fetchval("SHOW statement_timeout") == "10s"
        settings = await conn.fetchval("SELECT rolconfig FROM pg_roles WHERE rolname = $1", API)
    await pool.close()
    assert settings == ["statement_timeout=10s"]
    async with as_role(each_database, INGEST) as conn:
        assert await conn.fetchval("SHOW statement_timeout") == "30s"


def test_every_use_names_a_role_that_exists_or_the_login() -> None:
    assert set(ROLE_OF.values()) == {INGEST, API, ADMIN, None}
    assert [use for use, role in ROLE_OF.items() if role is None] == ["migrate", "replay", "psql"]


@pytest.fixture(params=sorted(INSTALLED_BINARIES))
def fresh_server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server on which nothing was ever migrated."""
    with running_server(INSTALLED_BINARIES[request.param]) as server:
        yield server


async def _migrate(dsn: str) -> int:
    async with as_role(dsn, None) as conn:
        return len((await migrate(conn)).applied)


async def test_several_databases_of_one_cluster_make_the_roles_at_the_same_time(fresh_server: DatabaseServer) -> None:
    databases = [fresh_server.create_empty() for _ in range(5)]
    applied = await asyncio.gather(*map(_migrate, databases))
    assert len(set(applied)) == 1
    assert await _migrate(databases[0]) == 0
    for dsn in databases:
        async with as_role(dsn, API) as conn:
            assert await conn.fetchval("SELECT version FROM ledger_head") == 0


async def test_roles_that_another_database_is_just_making_are_waited_for(fresh_server: DatabaseServer) -> None:
    database = fresh_server.create_empty()
    async with as_role(fresh_server.dsn, None) as other, as_role(fresh_server.dsn, None) as watcher:
        making = other.transaction()
        await making.start()
        for role in (ADMIN, API, INGEST):
            await other.execute(f"CREATE ROLE {role} NOLOGIN")
        migrating = asyncio.create_task(_migrate(database))
        while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not migrating.done()
            await asyncio.sleep(0.01)
        await making.commit()
        assert await migrating >= 9
    async with as_role(database, API) as conn:
        assert await conn.fetchval("SELECT version FROM ledger_head") == 0


async def test_who_may_not_make_roles_is_told_which_statements_to_have_run(fresh_server: DatabaseServer) -> None:
    database = fresh_server.create_empty()
    parts = urlsplit(database)
    plain = parts._replace(netloc="plain@").geturl()
    async with as_role(database, None) as superuser:
        await superuser.execute(f"CREATE ROLE plain LOGIN; ALTER DATABASE {parts.path[1:]} OWNER TO plain")
        with pytest.raises(MigrationError, match=r"009_roles\.sql failed") as caught:
            await _migrate(plain)
        for role in (INGEST, API, ADMIN):
            statement = f"CREATE ROLE {role} NOLOGIN;"
            assert statement in str(caught.value)
            await superuser.execute(statement)
        assert await _migrate(plain) >= 1
        with suppress(DatabaseDenied):
            async with as_role(plain, INGEST):
                pytest.fail("the owner is no member of roles that somebody else made")
        await superuser.execute(f"GRANT {INGEST} TO plain")
    async with as_role(plain, INGEST) as conn:
        assert await take_ledger(conn) == 1


async def test_an_owner_who_may_make_roles_can_take_them(fresh_server: DatabaseServer) -> None:
    database = fresh_server.create_empty()
    parts = urlsplit(database)
    async with as_role(database, None) as superuser:
        await superuser.execute(f"CREATE ROLE maker LOGIN CREATEROLE; ALTER DATABASE {parts.path[1:]} OWNER TO maker")
    maker = parts._replace(netloc="maker@").geturl()
    assert await _migrate(maker) >= 9
    async with as_role(maker, INGEST) as conn:
        await register(maker)
        epoch = await take_ledger(conn)
        [posted] = await post_batches(conn, [batch(transaction(10, deposit(1, TON)))], DEFAULT_PARAMS, epoch)
        assert posted.events == 1
