"""Money needs two people: change requests over HTTP, with approvals on."""

from __future__ import annotations

import asyncio

from api.admin_running import AdminApi

MEZZ = "/admin/config/tranche/SURE_MEZZ_apy_max"
LIMIT = "/admin/config/api/admin_rate_limit"
REASON = {"reason": "Adjusting for market conditions"}


async def propose(admin: AdminApi, value: float, sub: str = "ada", path: str = MEZZ) -> str:
    """File a change by PUT; its id."""
    answer = await admin.ask("PUT", path, {"value": value} | REASON, role="editor", sub=sub)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["change_id"])


async def decide(admin: AdminApi, change_id: str, what: str, sub: str, role: str = "approver") -> tuple[int, str]:
    """Approve, reject or cancel; status and code of the answer."""
    answer = await admin.ask(
        "POST", f"/admin/config/changes/{change_id}/{what}", {"reason": "seen"}, role=role, sub=sub
    )
    return answer.status_code, answer.json().get("code", "")


async def status_of(admin: AdminApi, change_id: str) -> str:
    """How a change request stands."""
    return str((await admin.ask("GET", f"/admin/config/changes/{change_id}")).json()["status"])


async def test_money_is_filed_and_holds_when_a_second_person_agrees(guarded: AdminApi) -> None:
    old, version = await guarded.value(MEZZ), await guarded.version()
    assert isinstance(old, float)
    change_id = await propose(guarded, old + 1)
    assert (await guarded.value(MEZZ), await guarded.version()) == (old, version)
    assert await decide(guarded, change_id, "approve", "bob") == (200, "")
    assert await guarded.value(MEZZ) == old + 1
    found = (await guarded.ask("GET", f"/admin/config/changes/{change_id}")).json()
    assert (found["status"], found["author"], found["decided_by"]) == ("applied", "ada", "bob")
    assert found["applied_version"] == await guarded.version()
    [row] = (await guarded.ask("GET", "/admin/config/audit?limit=1")).json()
    assert row["changed_by"] == "bob"
    assert "ada" in row["change_reason"]


async def test_the_author_cannot_approve_under_any_spelling_or_role(guarded: AdminApi) -> None:
    await guarded.ask("PUT", "/admin/users/ada", {"role": "admin"})
    old = await guarded.value(MEZZ)
    assert isinstance(old, float)
    change_id = await propose(guarded, old + 1)
    for sub in ("ada", "ADA", "Ada"):
        for role in ("approver", "admin"):
            assert await decide(guarded, change_id, "approve", sub, role) == (403, "forbidden")
    assert (await guarded.value(MEZZ), await status_of(guarded, change_id)) == (old, "open")


async def test_who_is_not_registered_as_an_approver_cannot_approve(guarded: AdminApi) -> None:
    change_id = await propose(guarded, 15.0)
    await guarded.ask("PUT", "/admin/users/carol", {"role": "editor"})
    assert await decide(guarded, change_id, "approve", "carol") == (403, "forbidden")
    assert await decide(guarded, change_id, "approve", "nobody", "admin") == (403, "forbidden")
    assert await decide(guarded, change_id, "approve", "bob", "editor") == (403, "forbidden")
    assert await status_of(guarded, change_id) == "open"


async def test_a_request_written_on_an_old_version_is_refused_for_good(guarded: AdminApi) -> None:
    old = await guarded.value(MEZZ)
    assert isinstance(old, float)
    first, second = await propose(guarded, old + 1), await propose(guarded, old + 2, "carol")
    assert (await decide(guarded, second, "approve", "bob"))[0] == 200
    assert await decide(guarded, first, "approve", "bob") == (409, "config_conflict")
    assert (await guarded.value(MEZZ), await status_of(guarded, first)) == (old + 2, "outdated")
    assert await decide(guarded, first, "approve", "bob") == (409, "change_decided")


async def test_a_change_elsewhere_does_not_make_a_request_old(guarded: AdminApi) -> None:
    change_id = await propose(guarded, 15.0)
    assert (await guarded.ask("PUT", LIMIT, {"value": 1000} | REASON)).status_code == 200
    assert (await decide(guarded, change_id, "approve", "bob"))[0] == 200


async def test_what_became_invalid_since_is_refused_and_stays_open(guarded: AdminApi) -> None:
    low = "/admin/config/tranche/SURE_MEZZ_apy_min"
    old_low, old_high = await guarded.value(low), await guarded.value(MEZZ)
    assert isinstance(old_low, float)
    assert isinstance(old_high, float)
    smaller = await propose(guarded, (old_low + old_high) / 2)
    higher = await propose(guarded, min(old_low * 2, old_high), path=low)
    assert (await decide(guarded, higher, "approve", "bob"))[0] == 200
    status, code = await decide(guarded, smaller, "approve", "bob")
    if min(old_low * 2, old_high) > (old_low + old_high) / 2:
        assert (status, code) == (400, "invalid_parameters")
        assert await status_of(guarded, smaller) == "open"


async def test_a_request_is_approved_once_however_many_try(guarded: AdminApi) -> None:
    await guarded.ask("PUT", "/admin/users/dave", {"role": "approver"})
    version = await guarded.version()
    for number in range(3):
        change_id = await propose(guarded, 15.0 + number)
        answers = await asyncio.gather(*(decide(guarded, change_id, "approve", sub) for sub in ("bob", "dave", "bob")))
        assert sorted(status for status, _ in answers) == [200, 409, 409]
        assert await status_of(guarded, change_id) == "applied"
    assert await guarded.version() <= version + 4


async def test_rejected_and_cancelled_requests_stay_so(guarded: AdminApi) -> None:
    rejected, cancelled = await propose(guarded, 15.0), await propose(guarded, 16.0)
    assert (await decide(guarded, rejected, "reject", "bob"))[0] == 200
    assert await decide(guarded, cancelled, "cancel", "carol", "editor") == (403, "forbidden")
    assert (await decide(guarded, cancelled, "cancel", "ada", "editor"))[0] == 200
    for change_id, status in ((rejected, "rejected"), (cancelled, "cancelled")):
        for what, sub in (("approve", "bob"), ("reject", "bob"), ("cancel", "admin")):
            assert await decide(guarded, change_id, what, sub, "admin") == (409, "change_decided")
        assert await status_of(guarded, change_id) == status
    assert await decide(guarded, "999", "approve", "bob") == (404, "unknown_change")


async def test_several_parameters_hold_together_or_not_at_all(guarded: AdminApi) -> None:
    edits = [
        {"category": "tranche", "key": "SURE_MEZZ_apy_min", "value": 11.0},
        {"category": "tranche", "key": "SURE_MEZZ_apy_max", "value": 16.0},
    ]
    filed = await guarded.ask("POST", "/admin/config/changes", {"changes": edits} | REASON, role="editor", sub="ada")
    assert filed.status_code == 202, filed.text
    assert (await decide(guarded, filed.json()["change_id"], "approve", "bob"))[0] == 200
    assert (await guarded.value(MEZZ), await guarded.value("/admin/config/tranche/SURE_MEZZ_apy_min")) == (16.0, 11.0)
    bad = [*edits, {"category": "tranche", "key": "SURE_EQT_apy_max", "value": "high"}]
    refused = await guarded.ask("POST", "/admin/config/changes", {"changes": bad} | REASON)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameters")


async def test_there_is_no_way_round_the_second_person(guarded: AdminApi) -> None:
    old, base = await guarded.value(MEZZ), await guarded.version()
    assert isinstance(old, float)
    assert (await decide(guarded, await propose(guarded, old + 1), "approve", "bob"))[0] == 200
    reset = await guarded.ask("DELETE", f"{MEZZ}?reason=back")
    back = await guarded.ask("POST", "/admin/config/rollback", {"version": max(1, base)} | REASON)
    assert (reset.status_code, back.status_code) == (202, 202)
    assert await guarded.value(MEZZ) == old + 1
    assert (await decide(guarded, back.json()["change_id"], "approve", "bob"))[0] == 200
    assert await guarded.value(MEZZ) == old
    assert await decide(guarded, reset.json()["change_id"], "approve", "bob") == (409, "config_conflict")


async def test_what_is_not_money_needs_a_reason_and_nobody_else(guarded: AdminApi) -> None:
    assert (await guarded.ask("PUT", LIMIT, {"value": 200})).json()["code"] == "reason_needed"
    assert (await guarded.ask("PUT", LIMIT, {"value": 200} | REASON)).status_code == 200


async def test_a_dry_run_says_that_a_second_person_is_needed(guarded: AdminApi) -> None:
    trial = await guarded.ask("PUT", MEZZ, {"value": 16.0, "dry_run": True})
    assert (trial.status_code, trial.json()["needs_approval"]) == (200, True)
    assert (await guarded.ask("GET", "/admin/config/changes")).json() == []


async def test_what_is_wrong_is_said_when_it_is_filed(guarded: AdminApi) -> None:
    for value, status in ((-1, 400), ("x", 400), (900.0, 422)):
        assert (await guarded.ask("PUT", MEZZ, {"value": value} | REASON)).status_code == status
    assert (await guarded.ask("GET", "/admin/config/changes")).json() == []


async def test_an_admin_overrides_the_second_person_loudly(guarded: AdminApi) -> None:
    body = {"value": 16.0, "emergency": True, "reason": "the market has broken"}
    assert (await guarded.ask("PUT", MEZZ, body, role="approver", sub="bob")).status_code == 403
    assert (await guarded.ask("PUT", MEZZ, body)).status_code == 200
    assert await guarded.value(MEZZ) == 16.0


async def test_requests_are_listed_by_status_and_page(guarded: AdminApi) -> None:
    ids = [await propose(guarded, 15.0 + number / 10) for number in range(3)]
    await decide(guarded, ids[0], "reject", "bob")
    found = (await guarded.ask("GET", "/admin/config/changes?status=open")).json()
    assert [change["change_id"] for change in found] == [ids[2], ids[1]]
    page = (await guarded.ask("GET", f"/admin/config/changes?limit=1&before={ids[1]}")).json()
    assert [change["change_id"] for change in page] == [ids[0]]
    assert (await guarded.ask("GET", "/admin/config/changes?status=nothing")).status_code == 400


async def test_the_shape_of_a_curve_needs_an_override_and_a_second_person(guarded: AdminApi) -> None:
    path = "/admin/config/tranche/SURE_MEZZ_curve_type"
    for body in ({"value": "QUADRATIC"}, {"value": "QUADRATIC", "dry_run": True}):
        answer = await guarded.ask("PUT", path, body | REASON)
        assert (answer.status_code, "override" in answer.text) == (200 if "dry_run" in body else 422, True)
    body = {"value": "QUADRATIC", "emergency": True} | REASON
    assert (await guarded.ask("PUT", path, body, role="approver", sub="bob")).status_code == 403
    filed = await guarded.ask("PUT", path, body)
    assert (filed.status_code, await guarded.value(path)) == (202, "LINEAR")
    change_id = filed.json()["change_id"]
    assert await decide(guarded, change_id, "approve", "admin", "admin") == (403, "forbidden")
    assert await decide(guarded, change_id, "approve", "bob") == (200, "")
    assert await guarded.value(path) == "QUADRATIC"
