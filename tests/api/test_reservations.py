"""Reservations over HTTP, and capacity with what they hold taken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from api.writing import PATH, WritingApi, running_writes
from db.chain_story import TON, register
from services.reserving import open_book, quote_of
from tonsurance.core.units import BIGINT_MAX
from tonsurance.db.direct import Part


@pytest.fixture
async def ledger_of(database: str) -> str:
    await register(database)
    return database


@pytest.fixture
async def writes(ledger_of: str) -> AsyncIterator[WritingApi]:
    """Open to all, as in a local run; 1,000 TON in each tranche."""
    async with running_writes(ledger_of) as running:
        await running.chain.fill()
        await running.parts.feed.refresh()
        yield running


@pytest.fixture
async def guarded_writes(ledger_of: str) -> AsyncIterator[WritingApi]:
    """For people with a token only."""
    async with running_writes(ledger_of, open_to_all=False) as running:
        await running.chain.fill()
        await running.parts.feed.refresh()
        yield running


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The body of an error of this kind."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, object] = answer.json()
    assert (body["code"], body["error"]) == (code, body["detail"])
    return body


async def test_a_reservation_from_beginning_to_end(writes: WritingApi) -> None:
    made = await writes.reserve(str(40 * TON), quote_id="77")
    assert made.status_code == 201
    body = made.json()
    assert (body["status"], body["amount_nanoton"], body["quote_id"]) == ("pending", str(40 * TON), "77")
    assert [part["amount_nanoton"] for part in body["split"]] == [
        str(p * TON * 40 // 100) for p in (25, 20, 18, 15, 12, 10)
    ]
    shown = (await writes.http.get(f"{PATH}/{body['reservation_id']}")).json()
    assert shown == body | {"holds_room": True, "ended_at": None, "seen_lt": None}
    committed = await writes.act(made, "commit")
    again = await writes.act(made, "commit", {"quote_id": "77"})
    assert (committed.status_code, again.status_code) == (200, 200)
    assert committed.json() == again.json()
    assert committed.json()["status"] == "committed"
    assert ("idempotent-replayed" in committed.headers, again.headers["idempotent-replayed"]) == (False, "true")
    check_problem(await writes.act(made, "release"), 409, "reservation_ended")


async def test_a_repeated_request_gets_the_same_bytes_and_another_body_a_conflict(writes: WritingApi) -> None:
    first = await writes.reserve(TON, key="one")
    again = await writes.reserve(TON, key="one")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.content == again.content
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    check_problem(await writes.reserve(2 * TON, key="one"), 409, "idempotency_conflict")
    released = await writes.act(first, "release")
    assert released.json()["status"] == "released"
    assert (await writes.reserve(TON, key="one")).content == first.content


async def test_a_thousand_repetitions_over_http_are_one_reservation(writes: WritingApi) -> None:
    answers = await asyncio.gather(*(writes.reserve(TON, key="one") for _ in range(200)))
    assert sorted({answer.status_code for answer in answers}) == [200, 201]
    assert len({answer.content for answer in answers}) == 1
    assert [answer.status_code for answer in answers].count(201) == 1


async def test_a_client_that_lost_the_answer_and_repeats_gets_the_same_reservation(ledger_of: str) -> None:
    async with running_writes(ledger_of) as first_process:
        await first_process.chain.fill()
        made = await first_process.reserve(TON, key="one")
    async with running_writes(ledger_of) as second_process:
        again = await second_process.reserve(TON, key="one")
    assert (again.status_code, again.content) == (200, made.content)


async def test_no_room_names_the_binding_limit_and_lists_all(writes: WritingApi) -> None:
    body = check_problem(await writes.reserve(str(BIGINT_MAX)), 422, "capacity_exceeded")
    names = [limit["name"] for limit in body["limits"]]
    assert names == ["max_utilization"] * 6 + ["max_policy_percent"] + ["reservation_share"] * 6
    assert [limit["binding"] for limit in body["limits"]].count(True) == 1
    assert (body["binding_limit"], body["binding_tranche"]) == ("reservation_share", "SURE-BTC")
    fits = await writes.reserve(body["available_nanoton"])
    assert fits.status_code == 201
    one_more = check_problem(await writes.reserve(BIGINT_MAX, tranche_id="SURE_JNR_PLUS"), 422, "capacity_exceeded")
    assert one_more["binding_tranche"] == "SURE-JNR+"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"amount_nanoton": "0"}, "amount_nanoton"),
        ({"amount_nanoton": "-5"}, "amount_nanoton"),
        ({"amount_nanoton": "1.5"}, "amount_nanoton"),
        ({"amount_nanoton": 1.5}, "amount_nanoton"),
        ({"amount_nanoton": str(BIGINT_MAX + 1)}, "amount_nanoton"),
        ({"amount_nanoton": None}, "amount_nanoton"),
        ({"amount_nanoton": True}, "amount_nanoton"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": 301}, "ttl_s"),
        ({"ttl_s": "60"}, "ttl_s"),
        ({"ttl_s": 10**30}, "ttl_s"),
        ({"tranche_id": 7}, "tranche_id"),
        ({"vault_id": None}, "vault_id"),
        ({"vault_id": "x" * 65}, "vault_id"),
        ({"quote_id": "abc"}, "quote_id"),
        ({"quote_id": str(2**64)}, "quote_id"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_bad_input_names_its_field(writes: WritingApi, change: dict[str, object], word: str) -> None:
    body = (
        check_problem(await writes.reserve(TON, **change), 400, "bad_input")
        if "amount_nanoton" not in change
        else (check_problem(await writes.reserve(change["amount_nanoton"]), 400, "bad_input"))
    )
    assert word in str(body["detail"])


async def test_bad_headers_bodies_and_names_are_told_apart(writes: WritingApi) -> None:
    good = {"amount_nanoton": "1", "ttl_s": 60}
    missing = await writes.http.post(PATH, json=good)
    assert "dempotency" in str(check_problem(missing, 400, "bad_input")["detail"])
    for bad in ("a b", "x" * 256, "\u00e9".encode("latin-1")):
        answer = await writes.http.post(PATH, json=good, headers={"Idempotency-Key": bad})
        assert "Idempotency-Key" in str(check_problem(answer, 400, "bad_input")["detail"])
    for bad_body in (b"", b"{", b"[]", b"\xff"):
        answer = await writes.http.post(PATH, content=bad_body, headers={"Idempotency-Key": "k"})
        check_problem(answer, 400, "bad_input")
    unknown = await writes.reserve(TON, tranche_id="SURE-XXX")
    assert "SURE-BTC" in check_problem(unknown, 400, "unknown_tranche")["valid_ids"]
    check_problem(await writes.reserve(TON, vault_id="nowhere"), 404, "unknown_vault")
    for path in (f"{PATH}/nothing", f"{PATH}/4ce1cbb0-6d7e-4e0a-9a1c-6f1d3c2b8a55"):
        check_problem(await writes.http.get(path), 404, "unknown_reservation")
        check_problem(await writes.http.post(f"{path}/release"), 404, "unknown_reservation")
    made = await writes.reserve(TON)
    check_problem(await writes.act(made, "commit"), 422, "quote_needed")


async def test_one_bad_request_among_sixty_is_nobody_elses_error(writes: WritingApi) -> None:
    names = ["a\0b" if number % 10 == 5 else "main" for number in range(60)]
    answers = await asyncio.gather(*(writes.reserve(1000, vault_id=name) for name in names))
    for name, answer in zip(names, answers, strict=True):
        if name == "main":
            assert answer.status_code == 201, answer.text
        else:
            assert "\0" not in str(check_problem(answer, 404, "unknown_vault")["detail"])


async def test_a_reservation_for_a_quote_that_was_bought_already_is_a_conflict(writes: WritingApi) -> None:
    policy_id = writes.chain.next_policy()
    await writes.chain.tell_policy(policy_id, TON)
    used = check_problem(await writes.reserve(TON, quote_id=str(quote_of(policy_id))), 409, "quote_used")
    assert str(quote_of(policy_id)) in str(used["detail"])


async def test_a_commit_over_http_on_a_direct_vault_never_sells_past_a_limit(
    writes: WritingApi, ledger_of: str
) -> None:
    async with open_book(ledger_of) as book:
        for _ in range(5):
            made = await writes.reserve(40 * TON, vault_id="book", tranche_id="SURE-SNR")
            assert made.status_code == 201, made.text
            await book.move("update_coverage", Part("SURE-SNR", coverage=940 * TON))
            check_problem(await writes.act(made, "commit"), 409, "reservation_ended")
            await book.move("update_coverage", Part("SURE-SNR", coverage=-940 * TON))
        assert await book.totals() == (1000 * TON, 0)


async def test_a_token_of_an_editor_is_needed_and_a_reservation_is_its_makers(guarded_writes: WritingApi) -> None:
    writes = guarded_writes
    answer = await writes.reserve(TON)
    check_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    check_problem(await writes.reserve(TON, who={"Authorization": "Bearer nonsense"}), 401, "unauthorized")
    check_problem(await writes.reserve(TON, who=writes.token("vera", "viewer")), 403, "forbidden")
    ada, bob = writes.token("ada"), writes.token("bob", "admin")
    made = await writes.reserve(TON, who=ada)
    assert made.status_code == 201
    path = f"{PATH}/{made.json()['reservation_id']}"
    assert (await writes.http.get(path, headers=ada)).status_code == 200
    check_problem(await writes.http.get(path), 401, "unauthorized")
    check_problem(await writes.http.get(path, headers=bob), 404, "unknown_reservation")
    for what in ("commit", "release"):
        check_problem(await writes.http.post(f"{path}/{what}", json={}, headers=bob), 404, "unknown_reservation")
    assert (await writes.http.post(f"{path}/release", headers=ada)).json()["status"] == "released"


async def test_the_same_key_of_two_people_is_two_reservations(guarded_writes: WritingApi) -> None:
    made = [await guarded_writes.reserve(TON, who=guarded_writes.token(sub), key="one") for sub in ("ada", "bob")]
    assert [answer.status_code for answer in made] == [201, 201]


async def test_one_person_holds_at_most_five_percent_of_what_is_free(guarded_writes: WritingApi) -> None:
    ada = guarded_writes.token("ada")
    made = await guarded_writes.reserve(30 * TON, who=ada, tranche_id="SURE-EQT")
    more = await guarded_writes.reserve(30 * TON, who=ada, tranche_id="SURE-EQT")
    assert made.status_code == 201
    assert check_problem(more, 422, "capacity_exceeded")["binding_limit"] == "reservation_share"
    other = await guarded_writes.reserve(30 * TON, who=guarded_writes.token("bob"), tranche_id="SURE-EQT")
    assert other.status_code == 201


async def test_open_to_all_still_refuses_a_bad_token_and_needs_no_secret(ledger_of: str) -> None:
    for secret in (None, "a secret that is thirty-two bytes"):
        async with running_writes(ledger_of, secret=secret) as writes:
            bad = await writes.reserve(TON, who={"Authorization": "Bearer nonsense"})
            check_problem(bad, 401, "unauthorized")


async def test_without_a_secret_and_not_open_nobody_writes(ledger_of: str) -> None:
    async with running_writes(ledger_of, open_to_all=False, secret=None) as writes:
        check_problem(await writes.reserve(TON, who=writes.token("ada")), 401, "unauthorized")


# --- capacity


async def room(writes: WritingApi, tranche_id: str = "SURE-EQT") -> dict[str, object]:
    """The capacity answer of a tranche."""
    answer = await writes.http.get(f"/api/v1/tranche/{tranche_id}/capacity")
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


async def until_room(writes: WritingApi, nano: int) -> None:
    """Wait until a tranche is shown with this room; fails after 10 s."""
    async with asyncio.timeout(60):
        while (await room(writes))["available_nanoton"] != str(nano):
            await asyncio.sleep(0.01)


async def test_what_is_held_is_taken_off_every_shown_room_without_waiting_for_a_poll(writes: WritingApi) -> None:
    assert (await room(writes))["available_nanoton"] == str(950 * TON)
    tag = (await writes.http.get("/api/v1/utilization/dashboard")).headers["etag"]
    made = await writes.reserve(47 * TON, tranche_id="SURE-EQT")
    await until_room(writes, 903 * TON)
    shown = await room(writes)
    assert (shown["reserved_nanoton"], shown["coverage_sold_nanoton"]) == (str(47 * TON), "0")
    dashboard = await writes.http.get("/api/v1/utilization/dashboard", headers={"If-None-Match": tag})
    assert dashboard.status_code == 200
    assert dashboard.json()["tranches"][5]["available_capacity_nanoton"] == str(903 * TON)
    assert dashboard.json()["tranches"][5]["coverage_sold_nanoton"] == "0"
    await writes.act(made, "release")
    await until_room(writes, 950 * TON)


async def test_room_becomes_cover_when_the_policy_is_seen(writes: WritingApi) -> None:
    policy_id = writes.chain.next_policy()
    made = await writes.reserve(40 * TON, quote_id=str(quote_of(policy_id)))
    await until_room(writes, 946 * TON)
    await writes.chain.tell_cover(policy_id, 40 * TON)
    await writes.chain.tell_policy(policy_id, 40 * TON)
    await writes.parts.feed.refresh()
    shown = await room(writes)
    assert (shown["available_nanoton"], shown["reserved_nanoton"]) == (str(946 * TON), "0")
    view = (await writes.http.get(f"{PATH}/{made.json()['reservation_id']}")).json()
    assert (view["status"], view["holds_room"]) == ("committed", False)


async def test_policy_capacity_lists_every_limit_and_names_the_binding_one(writes: WritingApi) -> None:
    path = "/api/v1/capacity/policy"
    plain = (await writes.http.get(path)).json()
    assert [limit["name"] for limit in plain["limits"]] == ["max_utilization"] * 6 + ["max_policy_percent"]
    assert (plain["available_nanoton"], plain["binding_limit"]) == (str(300 * TON), "max_policy_percent")
    assert plain["binding_tranche"] is None
    for policy_id in range(1, 15):
        await writes.chain.tell_policy(policy_id, 100 * TON)  # depeg, Arbitrum, USDP
    await writes.parts.feed.refresh()
    one = (await writes.http.get(f"{path}?coverage_type=depeg&chain=Arbitrum&stablecoin=USDP")).json()
    assert (one["available_nanoton"], one["binding_limit"]) == (str(100 * TON), "product_cap")
    other = (await writes.http.get(f"{path}?coverage_type=depeg&chain=Arbitrum&stablecoin=DAI")).json()
    caps = {limit["name"]: limit["headroom_nanoton"] for limit in other["limits"]}
    assert (caps["product_cap"], caps["chain_cap"]) == (str(1500 * TON), str(2200 * TON))


@pytest.mark.parametrize(
    "query", ["coverage_type=depeg", "coverage_type=depeg&chain=Mars&stablecoin=USDC", "chain=Ethereum&stablecoin=USDC"]
)
async def test_half_a_product_is_bad_input(writes: WritingApi, query: str) -> None:
    check_problem(await writes.http.get(f"/api/v1/capacity/policy?{query}"), 400, "bad_input")


async def test_every_status_and_field_is_in_the_openapi_document(writes: WritingApi) -> None:
    paths = (await writes.http.get("/schema/openapi.json")).json()["paths"]
    posted = paths[PATH]["post"]
    assert set(posted["responses"]) >= {"201", "400", "401", "403", "404", "409", "422", "429", "503"}
    assert [p["name"] for p in posted["parameters"]] == ["Idempotency-Key"]
    assert {f"{PATH}/{{reservation_id}}{end}" for end in ("", "/commit", "/release")} <= set(paths)
