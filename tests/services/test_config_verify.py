"""One flipped byte in what was written is found, and the row is named."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.config_story import ADA, APY, RATE, ROOT, change, open_store, put, run_sql
from tonsurance.services.admin_records import AdminRecords
from tonsurance.services.admin_tokens import Role
from tonsurance.services.config_migrate import migrate_config, report_lines
from tonsurance.services.config_store import ConfigStore, Edit


@pytest.fixture
async def store(database: str) -> AsyncIterator[ConfigStore]:
    async with open_store(database) as opened:
        for value in (16.0, 17.0, 18.0):
            await change(opened, value)
        await opened.record_dry_run([put(RATE, 999.99)], actor=ADA, reason="trying")
        await opened.rollback(2, actor=ADA, reason="back")
        assert (await opened.verify()).ok
        yield opened


@pytest.mark.parametrize(
    "flip",
    [
        "old_value = '15.1'",
        "new_value = '16.00'",
        "new_value = NULL",
        "changed_by = 'adb'",
        "role = 'admin'",
        "changed_at = changed_at + interval '1 microsecond'",
        "change_reason = 'a tesu'",
        "client_ip = '10.1.2.2'",
        "client_ip = '10.1.2.3/31'",
        "request_id = NULL",
        "emergency = true",
        "dry_run = true",
        "version = 3",
        "version_hash = CASE left(version_hash, 1) WHEN 'a' THEN 'b' ELSE 'a' END || substr(version_hash, 2)",
        "action = 'reset'",
        "category = 'tranchf'",
        "key = 'SURE_MEZZ_apy_maX'",
        "config_id = 1",
        "kind = 'rollback'",
        "previous_hash = repeat('1', 64)",
        "hash = repeat('1', 64)",
    ],
)
async def test_one_changed_field_of_an_audit_row_is_found_and_the_row_named(
    store: ConfigStore, database: str, flip: str
) -> None:
    await run_sql(database, f"UPDATE config_audit_log SET {flip} WHERE id = 2")
    report = await store.verify()
    assert not report.ok
    assert (report.faults[0].table, report.faults[0].row) == ("config_audit_log", "2")


@pytest.mark.parametrize(
    ("sql", "table", "row"),
    [
        ("DELETE FROM config_audit_log WHERE id = 3", "config_audit_log", "4"),
        ("DELETE FROM config_audit_log WHERE id = 6", "config_audit_log", "6"),  # cut off at the end
        ("DELETE FROM config_audit_log", "config_audit_log", "6"),
        ("UPDATE config_audit_log SET id = id + 100 WHERE id = 6", "config_audit_log", "106"),
        ("UPDATE config_versions SET author = 'bob' WHERE version = 3", "config_versions", "3"),
        ("UPDATE config_versions SET reason = 'b' WHERE version = 3", "config_versions", "3"),
        ("UPDATE config_versions SET created_at = now() WHERE version = 3", "config_versions", "3"),
        ("UPDATE config_versions SET values = values - 'risk' WHERE version = 3", "config_versions", "3"),
        ("UPDATE config_versions SET hash = repeat('1', 64) WHERE version = 3", "config_versions", "3"),
        ("DELETE FROM config_versions WHERE version = 3", "config_versions", "4"),
        ("UPDATE config_head SET version = 4", "config_head", "true"),
        ("UPDATE config_parameters SET value_data = '0.05' WHERE key = 'base_rate_USDC'", "config_parameters",
         "pricing/base_rate_USDC"),
        ("DELETE FROM config_parameters WHERE key = 'base_rate_USDC'", "config_parameters", "pricing/base_rate_USDC"),
        ("UPDATE config_parameters SET version = 2 WHERE key = 'SURE_MEZZ_apy_max'", "config_parameters",
         "tranche/SURE_MEZZ_apy_max"),
        ("UPDATE config_parameters SET updated_by = 'bob' WHERE key = 'SURE_MEZZ_apy_max'", "config_parameters",
         "tranche/SURE_MEZZ_apy_max"),
        ("UPDATE config_parameters SET last_updated_at = now() WHERE key = 'SURE_MEZZ_apy_max'", "config_parameters",
         "tranche/SURE_MEZZ_apy_max"),
        ("UPDATE config_parameters SET version = 2 WHERE key = 'base_rate_USDC'", "config_parameters",
         "pricing/base_rate_USDC"),
        ("UPDATE config_parameters SET updated_by = 'ada' WHERE key = 'base_rate_USDC'", "config_parameters",
         "pricing/base_rate_USDC"),
        ("UPDATE config_parameters SET value_type = 'string' WHERE key = 'base_rate_USDC'", "config_parameters",
         "pricing/base_rate_USDC"),
        ("INSERT INTO admin_users (sub, role, changed_by) VALUES ('mal', 'admin', 'root')", "admin_users", "mal"),
        ("INSERT INTO config_parameters (category, key, value_type, value_data, version)"
         " VALUES ('a', 'b', 'int', '1', 1)", "config_parameters", "a/b"),
    ],
)  # fmt: skip
async def test_whatever_else_was_changed_is_named(
    store: ConfigStore, database: str, sql: str, table: str, row: str
) -> None:
    await run_sql(database, sql)
    assert (table, row) in {(fault.table, fault.row) for fault in (await store.verify()).faults}


async def test_type_and_description_of_an_added_key_are_proved(store: ConfigStore, database: str) -> None:
    await store.apply([Edit("pilot", "fee", "create", 1, "int", "A fee")], actor=ADA, reason="")
    for flip in ("value_type = 'json'", "description = 'another'", "custom = false"):
        column = flip.partition(" ")[0]
        await run_sql(database, f"CREATE TABLE kept AS SELECT {column} FROM config_parameters WHERE key = 'fee'")
        await run_sql(database, f"UPDATE config_parameters SET {flip} WHERE key = 'fee'")
        assert [fault.row for fault in (await store.verify()).faults] == ["pilot/fee"], flip
        await run_sql(database, f"UPDATE config_parameters SET {column} = (SELECT * FROM kept) WHERE key = 'fee'",
                      "DROP TABLE kept")  # fmt: skip
        assert (await store.verify()).ok


@pytest.mark.parametrize("flip", ["role = 'admin'", "enabled = true", "changed_by = 'bob'", None])
async def test_people_are_audited_in_the_same_chain_and_a_row_changed_by_hand_is_found(
    store: ConfigStore, database: str, flip: str | None
) -> None:
    records = AdminRecords(store.pool)
    for role, enabled in ((Role.EDITOR, True), (Role.EDITOR, True), (Role.VIEWER, False)):
        await records.save_user("Cleo", role, enabled=enabled, actor=ROOT)
    await records.save_user("cleo", Role.APPROVER, enabled=False, actor=ROOT)  # the same person
    newest, *_, first = await store.audit(limit=4)
    assert (first.category, first.key, first.action, first.old_value) == ("admin_users", "Cleo", "create", None)
    assert (newest.old_value, newest.new_value, newest.changed_by, newest.role) == (
        {"role": "viewer", "enabled": False},
        {"role": "approver", "enabled": False},
        "root",
        "admin",
    )
    assert (await store.verify()).ok
    await change(store, 16.1)
    assert (await store.verify()).ok
    sql = "DELETE FROM admin_users" if flip is None else f"UPDATE admin_users SET {flip}"
    await run_sql(database, sql)
    assert [(fault.table, fault.row) for fault in (await store.verify()).faults] == [("admin_users", "Cleo")]


async def test_values_and_hash_of_a_version_changed_together_are_found(store: ConfigStore, database: str) -> None:
    await run_sql(
        database,
        "UPDATE config_versions v SET values = o.values, hash = o.hash FROM config_versions o"
        " WHERE v.version = 3 AND o.version = 4",
    )
    [fault] = (await store.verify()).faults
    assert (fault.table, fault.row) == ("config_versions", "3")
    assert "audit log tells otherwise" in fault.reason


async def test_an_empty_database_is_loaded_once_and_the_report_says_so(database: str) -> None:
    async with open_store(database) as store:
        tried = await migrate_config(store, dry_run=True)
        assert (len(tried.loaded), tried.version, await store.versions()) == (len(await store.list_parameters()), 1, ())
        first = await migrate_config(store)
        assert (first.ok, first.version, len(first.loaded)) == (True, 1, len(tried.loaded))
        stored = {count.category: count.stored for count in first.categories}
        assert (stored["tranche"], sum(stored.values())) == (36, len(first.loaded))
        before = await store.audit(limit=10), await store.versions()
        second = await migrate_config(store)
        assert (second.ok, second.version, second.loaded, second.hash) == (True, 1, (), first.hash)
        assert (await store.audit(limit=10), await store.versions()) == before
        assert "validation: passed" in "\n".join(report_lines(second))


async def test_loading_what_a_newer_program_declares_changes_no_value(store: ConfigStore, database: str) -> None:
    async def forget(key: str) -> None:  # as if it had not been declared when version 5 was made
        await run_sql(database, f"DELETE FROM config_parameters WHERE key = '{key}'")

    before = await store.read()
    await forget("stress_slope")
    report = await migrate_config(store)
    assert (report.loaded, report.version, report.ok) == ((("pricing", "stress_slope"),), before.version + 1, True)
    assert (await store.read()).hash == before.hash
    assert (await store.read()).value(*APY) == 16.0


async def test_a_report_names_what_is_wrong(store: ConfigStore, database: str) -> None:
    await run_sql(database, "UPDATE config_audit_log SET changed_by = 'bob' WHERE id = 2")
    report = await migrate_config(store)
    assert not report.ok
    assert "config_audit_log, row 2" in "\n".join(report_lines(report))


async def test_an_added_key_counts_apart(store: ConfigStore) -> None:
    await store.apply([Edit("pilot", "fee", "create", 1, "int")], actor=ADA, reason="")
    [pilot] = [count for count in (await migrate_config(store)).categories if count.category == "pilot"]
    assert (pilot.declared, pilot.stored, pilot.custom) == (0, 1, 1)
