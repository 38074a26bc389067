"""Who gets into the admin API: token, role, rate, lock-out, addresses, people. Over HTTP."""

from __future__ import annotations

import time

import httpx
import pytest

from api.admin_running import OLD_SECRET, PARAMETER, SECRET, AdminApi, running_admin
from api.ledger_fake import FakeLedger
from tonsurance.api.admin_guard import AdminGuard
from tonsurance.api.admin_settings import AdminSettings
from tonsurance.core.errors import UsageError
from tonsurance.services.admin_records import AdminRecords
from tonsurance.services.admin_tokens import TokenKeys, issue_token
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.settings import Environment, trusted_proxies

ROUTES = [
    ("GET", "/admin/config", "viewer"),
    ("GET", "/admin/config/pricing", "viewer"),
    ("GET", PARAMETER, "viewer"),
    ("PUT", PARAMETER, "editor"),
    ("POST", "/admin/config/pilot/fee", "editor"),
    ("DELETE", PARAMETER, "editor"),
    ("POST", "/admin/config/reload", "editor"),
    ("GET", "/admin/config/stats", "viewer"),
    ("GET", "/admin/config/audit", "viewer"),
    ("GET", "/admin/config/versions", "viewer"),
    ("GET", "/admin/config/versions/1", "viewer"),
    ("GET", "/admin/config/diff?from=1&to=1", "viewer"),
    ("POST", "/admin/config/rollback", "editor"),
    ("GET", "/admin/config/changes", "viewer"),
    ("GET", "/admin/config/changes/1", "viewer"),
    ("POST", "/admin/config/changes", "editor"),
    ("POST", "/admin/config/changes/1/approve", "approver"),
    ("POST", "/admin/config/changes/1/reject", "approver"),
    ("POST", "/admin/config/changes/1/cancel", "editor"),
    ("GET", "/admin/users", "admin"),
    ("PUT", "/admin/users/ada", "admin"),
    ("GET", "/admin/whoami", "viewer"),
    ("POST", "/admin/tokens/revoke", "admin"),
    ("GET", "/admin/datasets/depegs", "viewer"),
    ("GET", "/admin/datasets/depegs/statistics", "viewer"),
    ("GET", "/admin/datasets/depegs/1", "viewer"),
    ("POST", "/admin/datasets/depegs", "editor"),
    ("PUT", "/admin/datasets/depegs/1", "editor"),
    ("DELETE", "/admin/datasets/depegs/1", "editor"),
    ("GET", "/admin/datasets/scenarios", "viewer"),
    ("GET", "/admin/datasets/scenarios/1", "viewer"),
    ("POST", "/admin/datasets/scenarios", "editor"),
    ("PUT", "/admin/datasets/scenarios/1", "editor"),
    ("DELETE", "/admin/datasets/scenarios/1", "editor"),
]
RANKS = ["viewer", "editor", "approver", "admin"]


def an_hour_ago() -> float:
    """A clock."""
    return time.time() - 3600


def in_an_hour() -> float:
    """A clock."""
    return time.time() + 3600


async def send(admin: AdminApi, token: str | None, path: str = "/admin/whoami", **headers: str) -> httpx.Response:
    """A GET with this token and these headers."""
    given = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await admin.api.get(path, **given, **headers)


async def test_every_route_needs_a_token_and_its_role(admin: AdminApi) -> None:
    for method, path, role in ROUTES:
        assert (await admin.api.http.request(method, path)).status_code == 401
        for given in RANKS:
            answer = await admin.ask(method, path, {} if method != "GET" else None, role=given)
            refused = RANKS.index(given) < RANKS.index(role)
            assert (answer.status_code == 403) is refused, (method, path, given, answer.status_code, answer.text)


async def test_no_route_was_left_out_of_that_list(admin: AdminApi) -> None:
    schema = (await admin.api.get("/schema/openapi.json")).json()
    known = {(method.upper(), path) for path, item in schema["paths"].items() if "/admin" in path for method in item}
    assert len(known) == len(ROUTES)


async def test_other_ways_to_bring_a_token_are_401(admin: AdminApi) -> None:
    token = admin.token()
    for headers in (
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Basic YWRhOmFkYQ==")],
        [("X-Api-Key", token)],
        [("Authorization", token)],
        [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")],
        [("Authorization", f"Bearer {token} {token}")],
    ):
        assert (await admin.api.http.get("/admin/config", headers=headers)).status_code == 401


async def test_a_token_in_the_address_is_not_looked_at(admin: AdminApi) -> None:
    assert (await admin.api.get(f"/admin/config?token={admin.token()}")).status_code == 401


async def test_tokens_of_the_previous_secret_work_while_rotating(admin: AdminApi) -> None:
    old, _ = issue_token(TokenKeys(OLD_SECRET), sub="ada", role="viewer", ttl_s=60)
    other, _ = issue_token(TokenKeys("another secret of thirty-two bytes"), sub="ada", role="viewer", ttl_s=60)
    assert (await send(admin, old)).status_code == 200
    assert (await send(admin, other)).status_code == 401


async def test_expired_and_future_tokens_are_401(admin: AdminApi) -> None:
    for clock in (an_hour_ago, in_an_hour):
        token, _ = issue_token(TokenKeys(SECRET), sub="ada", role="viewer", ttl_s=60, clock=clock)
        assert (await send(admin, token)).status_code == 401


async def test_a_token_taken_back_is_401_with_its_next_use(admin: AdminApi) -> None:
    token, principal = issue_token(admin.keys, sub="ada", role="admin", ttl_s=60)
    assert (await send(admin, token)).json()["sub"] == "ada"
    assert (await admin.ask("POST", "/admin/tokens/revoke", {"jti": principal.jti})).status_code == 200
    assert (await send(admin, token)).status_code == 401
    assert (await send(admin, admin.token("admin", "ada"))).status_code == 200


async def test_what_is_written_about_a_person_limits_their_tokens(admin: AdminApi) -> None:
    token = admin.token("admin", "Ada")
    await admin.ask("PUT", "/admin/users/ada", {"role": "viewer"})
    assert (await send(admin, token)).json()["role"] == "viewer"
    assert (await send(admin, token, "/admin/users")).status_code == 403
    await admin.ask("PUT", "/admin/users/ADA", {"role": "admin", "enabled": False})
    assert (await send(admin, token)).status_code == 401
    users = (await admin.ask("GET", "/admin/users")).json()
    assert [(user["sub"].casefold(), user["role"], user["enabled"]) for user in users] == [("ada", "admin", False)]


async def test_a_person_cannot_have_more_than_their_token_says(admin: AdminApi) -> None:
    await admin.ask("PUT", "/admin/users/ada", {"role": "admin"})
    assert (await send(admin, admin.token("viewer", "ada"))).json()["role"] == "viewer"


async def test_names_that_are_no_names_are_400(admin: AdminApi) -> None:
    for name in ("a%20b", "%D0%B0da", "-ada", "a" * 101):
        assert (await admin.ask("PUT", f"/admin/users/{name}", {"role": "viewer"})).status_code == 400


async def test_request_101_of_a_minute_is_429_and_says_when_to_come_back(admin: AdminApi) -> None:
    token = admin.token("viewer", "ada")
    paths = ("/admin/config/stats", "/admin/whoami")
    statuses = [(await send(admin, token, paths[number % 2])).status_code for number in range(100)]
    assert set(statuses) == {200}
    refused = await send(admin, token)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await send(admin, admin.token("viewer", "bob"))).status_code == 200
    assert (await send(admin, admin.token("viewer", "ADA"))).status_code == 429
    admin.clock.ahead += 60
    assert (await send(admin, token)).status_code == 200


async def test_the_limit_is_the_parameter(admin: AdminApi) -> None:
    version = (await admin.ask("PUT", "/admin/config/api/admin_rate_limit", {"value": 3})).json()["version"]
    await admin.until_served(version)
    token = admin.token("viewer", "ada")
    assert [(await send(admin, token)).status_code for _ in range(4)] == [200, 200, 200, 429]


async def test_ten_bad_tokens_lock_the_address_out_even_with_a_good_one(admin: AdminApi) -> None:
    for number in range(10):
        assert (await send(admin, "bad", ("/admin/config", "/admin/whoami")[number % 2])).status_code == 401
    for token in ("bad", admin.token(), None):
        locked = await send(admin, token)
        assert (locked.status_code, locked.json()["code"]) == (429, "address_locked")
        assert 1 <= int(locked.headers["retry-after"]) <= 900
    assert (await admin.api.get("/health/live")).status_code == 200
    admin.clock.ahead += 901
    assert (await send(admin, admin.token())).status_code == 200


async def test_nine_bad_tokens_do_not_and_old_ones_are_forgotten(admin: AdminApi) -> None:
    for _ in range(3):
        for _ in range(9):
            assert (await send(admin, "bad")).status_code == 401
        assert (await send(admin, admin.token())).status_code == 200
        admin.clock.ahead += 601


async def test_requests_without_a_token_or_with_one_that_expired_lock_nobody_out(admin: AdminApi) -> None:
    old, _ = issue_token(TokenKeys(SECRET), sub="ada", role="viewer", ttl_s=60, clock=an_hour_ago)
    for _ in range(15):
        assert (await send(admin, None)).status_code == 401
        assert (await send(admin, old)).status_code == 401
    assert (await send(admin, admin.token())).status_code == 200


async def test_forged_addresses_do_not_spread_the_failures_of_one_over_many(admin: AdminApi) -> None:
    for number in range(10):
        assert (await send(admin, "bad", X_Forwarded_For=f"198.51.100.{number}")).status_code == 401
    assert (await send(admin, "bad", X_Forwarded_For="198.51.100.99")).status_code == 429


@pytest.mark.parametrize(
    ("settings", "forwarded", "status"),
    [
        (AdminSettings(allow=("127.0.0.0/8",)), None, 200),
        (AdminSettings(allow=("127.0.0.1", "10.0.0.0/8")), None, 200),
        (AdminSettings(allow=("10.0.0.0/8",)), None, 403),
        (AdminSettings(allow=("10.0.0.0/8",)), "10.1.2.3", 403),
        (AdminSettings(allow=("10.0.0.0/8",), proxies=("192.168.0.0/16",)), "10.1.2.3", 403),
        (AdminSettings(allow=("10.0.0.0/8",), proxies=("127.0.0.1",)), "10.1.2.3", 200),
        (AdminSettings(allow=("10.0.0.0/8",), proxies=("127.0.0.1",)), "10.1.2.3, 198.51.100.7", 403),
        (AdminSettings(allow=("10.0.0.0/8",), proxies=("127.0.0.1",)), "198.51.100.7, 10.1.2.3", 200),
        (AdminSettings(allow=("10.0.0.0/8",), proxies=("127.0.0.1",)), None, 403),
        (AdminSettings(proxies=("127.0.0.1",)), "198.51.100.7", 200),
    ],
)
async def test_the_allow_list_believes_configured_proxies_only(
    database: str, settings: AdminSettings, forwarded: str | None, status: int
) -> None:
    async with running_admin(database, FakeLedger(), settings=settings) as admin:
        headers = {} if forwarded is None else {"X_Forwarded_For": forwarded}
        answer = await send(admin, admin.token(), "/admin/config", **headers)
        assert answer.status_code == status, answer.text


async def test_the_address_of_the_audit_log_is_the_one_behind_the_proxy(database: str) -> None:
    settings = AdminSettings(proxies=("127.0.0.1",), approvals=False)
    async with running_admin(database, FakeLedger(), settings=settings) as admin:
        forwarded = {"X-Forwarded-For": "203.0.113.1, 198.51.100.7"}
        await admin.ask("PUT", PARAMETER, {"value": 0.05}, headers=forwarded)
        [row] = (await admin.ask("GET", "/admin/config/audit?limit=1")).json()
        assert row["client_ip"] == "198.51.100.7"


async def test_no_token_and_no_secret_reaches_the_log(admin: AdminApi, capfd: pytest.CaptureFixture[str]) -> None:
    good = admin.token("admin", "ada")
    await send(admin, good)
    await send(admin, good, "/admin/config/nothing/nothing")
    for _ in range(12):
        await send(admin, good + "x")
    admin.clock.ahead += 1000
    await admin.ask("PUT", PARAMETER, {"value": 0.05, "emergency": True, "reason": "for the log alone"})
    out, err = capfd.readouterr()
    assert "shut out" in out + err
    assert "EMERGENCY OVERRIDE" in out + err
    for secret in (SECRET, OLD_SECRET, good, good.split(".")[2], "Bearer"):
        assert secret not in out + err


async def test_refusals_and_overrides_are_counted(admin: AdminApi) -> None:
    async def counted(name: str) -> float:
        text = (await admin.api.get("/metrics")).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    names = ("tonsurance_admin_refused_total", "tonsurance_admin_lockouts_total", "tonsurance_config_overrides_total")
    before = [await counted(name) for name in names]
    for _ in range(11):
        await send(admin, "bad")
    admin.clock.ahead += 1000
    await admin.ask("PUT", PARAMETER, {"value": 0.05, "emergency": True, "reason": "for the metric alone"})
    assert [await counted(name) for name in names] == [before[0] + 11, before[1] + 1, before[2] + 1]


def test_proxies_that_are_no_addresses_are_refused_under_the_name_they_are_set_by() -> None:
    with pytest.raises(UsageError, match="TRUSTED_PROXIES"):
        AdminGuard(TokenKeys("x" * 32, None), AdminRecords(LazyPool("")), AdminSettings(proxies=("here",)), lambda: 1)
    assert trusted_proxies(Environment({"TRUSTED_PROXIES": "10.0.0.1, ::1"})) == ("10.0.0.1", "::1")
    with pytest.raises(UsageError, match="ADMIN_PROXIES is no setting"):
        trusted_proxies(Environment({"ADMIN_PROXIES": "10.0.0.1"}))
