"""The look-up of a transaction over HTTP: every spelling of its hash, every end it can have, and never a guess."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from urllib.parse import quote

import httpx
import msgspec
import pytest

from api.looking_up import running_look_ups
from api.test_rest import check_problem, strict_json
from db.chain_story import FACTORY, HOLDER, START_TIME, TON, VAULT, batch, policy_created, register, transaction
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.messages import Op
from tonsurance.core.events import DecodedTransaction, EventBody, PolicyRefused, TransactionFacts
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db import transactions
from tonsurance.db.pool import connect
from tonsurance.db.transactions import MAX_MATCHES
from tonsurance.services.ledger_writer import LedgerWriter

STRANGER = "0:" + "dd" * 32
URL = "/api/v2/transactions/"


def hash_of(text: str) -> bytes:
    """A hash nobody else has."""
    return sha256(text.encode()).digest()


def told(
    lt: int, name: str, *bodies: EventBody, contract: str = FACTORY, failed: bool = False, **facts: object
) -> DecodedTransaction:
    """A transaction on a message called `name`."""
    known = {
        "in_msg_hash": hash_of(f"{name} message {lt}"), "body_hash": hash_of(name), "sender": HOLDER, "value": 3 * TON,
        "refunded": TON, "exit_code": 0, "action_code": 0, "query_id": 2**64 - 1,
    }  # fmt: skip
    made = transaction(lt, *bodies, contract=contract)
    return msgspec.structs.replace(made, succeeded=not failed, facts=TransactionFacts(**(known | facts)))


REFUSED = {"failed": True, "action_code": None}
BOUGHT = {"op": Op.CREATE_POLICY, "refunded": 0}
FACTORY_STORY = [
    told(10, "bought", policy_id=1, **BOUGHT),
    told(20, "vault's answer", policy_created(1), op=Op.POLICY_BACKED, sender=VAULT, policy_id=1, refunded_to=HOLDER),
    told(30, "bought", op=Op.CREATE_POLICY, exit_code=137, **REFUSED),
    told(40, "late", op=Op.CREATE_POLICY, exit_code=135, **REFUSED),
    told(50, "too much", policy_id=2, **BOUGHT),
    told(
        60, "vault's refusal", PolicyRefused(2, 7_002, HOLDER, Op.BACK_POLICY), op=Op.BACK_POLICY, sender=VAULT,
        bounced=True, policy_id=2, refunded=TON + 7, refunded_to=HOLDER,
    ),
    told(70, "under way", policy_id=3, **BOUGHT),
    told(80, "nothing", op=None, query_id=None, exit_code=None, refunded=0, **REFUSED),
    told(90, "stolen", op=Op.CREATE_POLICY, sender=STRANGER, exit_code=134, **REFUSED),
    told(95, "no room to send", op=0xDEADBEEF, exit_code=0, failed=True, action_code=37),
]  # fmt: skip
VAULT_STORY = [
    told(15, "vault asked", contract=VAULT, op=Op.BACK_POLICY, sender=FACTORY, policy_id=1),
    told(
        55, "vault asked too much", contract=VAULT, op=Op.BACK_POLICY, sender=FACTORY, policy_id=2, exit_code=121,
        **REFUSED,
    ),
]  # fmt: skip


@pytest.fixture
async def http(database: str) -> AsyncIterator[httpx.AsyncClient]:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(*VAULT_STORY))
    await writer.submit(batch(*FACTORY_STORY, contract=FACTORY))
    await writer.close()
    async with running_look_ups(database) as http:
        yield http


async def look_up(http: httpx.AsyncClient, hash_: bytes | str, **params: str) -> dict:
    """One answer."""
    answer = await http.get(URL + (hash_ if isinstance(hash_, str) else hash_.hex()), params=params)
    assert answer.status_code == 200, answer.text
    return strict_json(answer)


async def test_a_purchase_is_told_with_what_followed(http: httpx.AsyncClient) -> None:
    body = await look_up(http, hash_of("bought"))
    answer = FACTORY_STORY[1].cursor.hash.hex()
    assert (body["status"], body["stage"], body["matched_by"]) == ("confirmed", "backed", "payload")
    assert body["hash"] == FACTORY_STORY[0].cursor.hash.hex()
    assert (body["contract"], body["contract_kind"], body["vault_id"]) == (FACTORY, "PolicyFactory", "main")
    assert (body["op"], body["op_name"], body["query_id"]) == ("0x0a4f4df4", "create_policy", str(2**64 - 1))
    assert (body["sender"], body["value_ton"], body["value_nanoton"]) == (HOLDER, 3.0, str(3 * TON))
    assert (body["exit_code"], body["action_code"], body["reason"]) == (0, 0, None)
    assert (body["refunded_nanoton"], body["refunded_to"]) == (str(TON), HOLDER)
    assert body["vault_answer"]["hash"] == answer
    assert [(event["event_type"], event["transaction_hash"]) for event in body["events"]] == [("PolicyCreated", answer)]
    assert body["events"][0]["fields"]["coverage_amount"] == str(100 * TON)
    assert body["policy"]["policy_id"] == "1"
    assert body["other_transactions"] == [FACTORY_STORY[2].cursor.hash.hex()]
    policy = strict_json(await http.get(body["policy"]["href"]))
    assert policy["status"] == "active"


@pytest.mark.parametrize(
    ("name", "status", "stage", "reason", "by"),
    [
        ("late", "failed", "refused", "quote_expired", "contract"),
        ("too much", "failed", "refused_by_vault", "policy_too_large", "vault"),
        ("under way", "pending", "awaiting_vault", None, None),
        ("vault asked", "confirmed", "done", None, None),
        ("vault asked too much", "failed", "refused", "policy_too_large", "contract"),
        ("nothing", "failed", "refused", "not_run", "contract"),
        ("stolen", "failed", "refused", "not_buyer", "contract"),
        ("no room to send", "failed", "refused", "not_enough_ton", "contract"),
    ],
)
async def test_every_end_is_told(
    http: httpx.AsyncClient, name: str, status: str, stage: str, reason: str | None, by: str | None
) -> None:
    body = await look_up(http, hash_of(name))
    assert (body["status"], body["stage"]) == (status, stage)
    assert (body["reason"] and body["reason"]["name"]) == reason
    assert (body["reason"] and body["reason"]["by"]) == by
    if reason is not None:
        assert body["reason"]["sentence"].endswith(".")


async def test_a_refusal_by_the_vault_names_its_code_and_the_refund(http: httpx.AsyncClient) -> None:
    body = await look_up(http, hash_of("too much"))
    assert (body["reason"]["code"], body["exit_code"]) == (121, 0)
    assert (body["refunded_nanoton"], body["refunded_to"]) == (str(TON + 7), HOLDER)
    assert [event["event_type"] for event in body["events"]] == ["PolicyRefused"]
    assert body["policy"] is None
    check_problem(await http.get("/api/v2/policies/2"), 404, "unknown_policy")
    problem = strict_json(await http.get("/api/v2/policies/2"))
    assert body["hash"] in problem["detail"] or "asked for" in problem["detail"]


async def test_any_spelling_of_any_of_the_three_hashes_is_found(http: httpx.AsyncClient) -> None:
    facts = FACTORY_STORY[3].facts
    assert facts.in_msg_hash is not None
    for hash_, matched in ((FACTORY_STORY[3].cursor.hash, "transaction"), (facts.in_msg_hash, "message")):
        ordinary = base64.b64encode(hash_).decode()
        spellings = (
            hash_.hex(), hash_.hex().upper(), ordinary, ordinary.rstrip("="), ordinary.replace("/", "%2F"),
            base64.urlsafe_b64encode(hash_).decode(), base64.urlsafe_b64encode(hash_).decode().rstrip("="),
        )  # fmt: skip
        for spelling in spellings:
            body = await look_up(http, spelling)
            assert (body["hash"], body["matched_by"]) == (FACTORY_STORY[3].cursor.hash.hex(), matched), spelling


@pytest.mark.parametrize("place", [0, 1, 20])
async def test_slashes_of_base64_are_read_wherever_they_stand(database: str, place: int) -> None:
    names = (f"name {number}" for number in range(100_000))
    name = next(one for one in names if base64.b64encode(hash_of(one))[place : place + 2] == b"//")
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(told(10, name), contract=FACTORY))
    await writer.close()
    async with running_look_ups(database) as http:
        spelled = base64.b64encode(hash_of(name)).decode()
        for spelling in (spelled, spelled.rstrip("="), quote(spelled, safe="")):
            assert (await look_up(http, spelling))["payload_hash"] == hash_of(name).hex()


@pytest.mark.parametrize(
    "text",
    ["0", "zz" * 32, "a" * 63, "a" * 65, "A" * 42, "A" * 45, "A" * 42 + "B", "A" * 42 + "==", "%00" * 44, "ä" * 44],
)
async def test_what_is_no_hash_is_refused(http: httpx.AsyncClient, text: str) -> None:
    check_problem(await http.get(URL + text), 400, "bad_input")


async def test_an_unknown_hash_says_what_it_may_be(http: httpx.AsyncClient) -> None:
    problem = check_problem(await http.get(URL + "00" * 32), 404, "unknown_transaction")
    assert "payload" in problem["detail"]


async def test_messages_with_one_payload_are_told_apart_by_their_sender(http: httpx.AsyncClient) -> None:
    assert (await look_up(http, hash_of("stolen"), sender=format_friendly(STRANGER)))["sender"] == STRANGER
    answer = await http.get(URL + hash_of("stolen").hex(), params={"sender": HOLDER})
    check_problem(answer, 404, "unknown_transaction")
    check_problem(await http.get(URL + "00" * 32, params={"sender": "nobody"}), 400, "invalid_address")


async def recorded(dsn: str, *story: DecodedTransaction, contract: str = FACTORY) -> None:
    """More transactions of a contract that none is known of yet."""
    await register(dsn)
    writer = LedgerWriter(dsn, DEFAULT_PARAMS)
    await writer.submit(batch(*story, contract=contract))
    await writer.close()


def copies(name: str, first_lt: int, **facts: object) -> list[DecodedTransaction]:
    """A stranger's messages with this body, more than are looked at."""
    sent = range(first_lt, first_lt + 3 * MAX_MATCHES)
    return [told(lt, name, **({"sender": STRANGER} | facts)) for lt in sent]


async def test_what_strangers_sent_does_not_hide_what_became_of_the_buyers_own(database: str) -> None:
    refused = {"op": Op.CREATE_POLICY, "exit_code": 134, **REFUSED}
    own = told(10, "copied", op=Op.CREATE_POLICY, exit_code=135, **REFUSED)
    await recorded(database, own, *copies("copied", 20, **refused))
    async with running_look_ups(database) as http:
        newest = await look_up(http, hash_of("copied"))
        assert (newest["sender"], newest["ambiguous"]) == (STRANGER, True)
        named = await look_up(http, hash_of("copied"), sender=HOLDER)
        await issue(database, "copied", START_TIME + 10_000)
        issued = await look_up(http, hash_of("copied"))
        for body in (named, issued):
            assert (body["hash"], body["sender"]) == (own.cursor.hash.hex(), HOLDER)
            assert (body["stage"], body["reason"]["name"]) == ("refused", "quote_expired")
            assert (body["other_transactions"], body["ambiguous"]) == ([], False)


async def test_a_purchase_stays_the_answer_however_often_its_body_is_sent_again(database: str) -> None:
    bought = told(10, "bought", policy_id=1, **BOUGHT)
    again = {"op": Op.CREATE_POLICY, "exit_code": 137, **REFUSED}
    await recorded(database, bought, *copies("bought", 20, **again), *copies("bought", 60, sender=HOLDER, **again))
    async with running_look_ups(database) as http:
        for params in ({}, {"sender": HOLDER}):
            body = await look_up(http, hash_of("bought"), **params)
            assert (body["hash"], body["stage"]) == (bought.cursor.hash.hex(), "awaiting_vault")
            assert (len(body["other_transactions"]), body["ambiguous"]) == (MAX_MATCHES - 1, False)


async def test_an_earlier_success_is_not_the_answer_for_a_later_message_with_its_body(database: str) -> None:
    done = told(10, "deposit", op=Op.DEPOSIT, contract=VAULT)
    failed = told(20, "deposit", op=Op.DEPOSIT, contract=VAULT, exit_code=101, **REFUSED)
    await recorded(database, done, failed, contract=VAULT)
    async with running_look_ups(database) as http:
        for params in ({}, {"sender": HOLDER}):
            body = await look_up(http, hash_of("deposit"), **params)
            assert (body["hash"], body["status"]) == (failed.cursor.hash.hex(), "failed")
            assert (body["other_transactions"], body["ambiguous"]) == ([done.cursor.hash.hex()], False)


async def test_a_payload_of_several_wallets_is_said_to_be_one(database: str) -> None:
    own = told(10, "deposit", op=Op.DEPOSIT, contract=VAULT, exit_code=101, **REFUSED)
    theirs = copies("deposit", 20, op=Op.DEPOSIT, contract=VAULT)
    await recorded(database, own, *theirs, contract=VAULT)
    async with running_look_ups(database) as http:
        body = await look_up(http, hash_of("deposit"))
        assert (body["hash"], body["ambiguous"]) == (theirs[-1].cursor.hash.hex(), True)
        for sender, hash_ in ((HOLDER, own.cursor.hash.hex()), (STRANGER, theirs[-1].cursor.hash.hex())):
            body = await look_up(http, hash_of("deposit"), sender=sender)
            assert (body["hash"], body["ambiguous"]) == (hash_, False)
        body = await look_up(http, own.cursor.hash)
        assert (body["matched_by"], body["ambiguous"]) == ("transaction", False)


SPAM = """
INSERT INTO blockchain_transactions (contract_address, logical_time, hash, block_time, succeeded, in_msg_hash,
    body_hash, op, sender, bounced)
SELECT 'spammed', lt, sha256(('t' || lt)::bytea), now(), lt % 7 = 0, sha256(('m' || lt)::bytea), $1, 1,
    CASE WHEN lt = 1 THEN $2 ELSE 'spammer ' || lt % 3 END, false
FROM generate_series(1, 20000) AS lt
"""


async def test_a_spammed_body_is_looked_up_by_few_rows(database: str) -> None:
    conn = await connect(database)
    body = hash_of("spammed")
    try:
        await conn.execute(SPAM, body, HOLDER)
        await conn.execute("ANALYZE blockchain_transactions")
        for sql, *values in (
            (transactions.SELECT_SENT, MAX_MATCHES),
            (transactions.SELECT_SENT_BY, MAX_MATCHES, HOLDER),
            (transactions.SELECT_SENT_BY, MAX_MATCHES, "spammer 1"),
            (transactions.SELECT_SEVERAL_SENT,),
        ):
            lines = await conn.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", body, *values)
            plan = "\n".join(line[0] for line in lines)
            pages = re.search(r"Buffers: shared hit=(\d+)(?: read=(\d+))?", plan)
            assert pages is not None, plan
            assert sum(int(number or 0) for number in pages.groups()) < 200, plan
            assert "Removed by Filter" not in plan, plan
        [own] = await transactions.select_sent(conn, body, HOLDER)
        assert own.logical_time == 1
    finally:
        await conn.close()


async def issue(dsn: str, name: str, deadline: int) -> None:
    """A receipt of a quote whose payload is called `name`; only what the look-up reads of it is real."""
    conn = await connect(dsn)
    try:
        rows = await conn.fetch(
            "SELECT a.attname, format_type(a.atttypid, NULL) AS type FROM pg_attribute a"
            " WHERE a.attrelid = 'quotes'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"
        )
        given = {
            "quote_id": "77", "payload_hash": f"'\\x{hash_of(name).hex()}'", "deadline": str(deadline),
            "factory": f"'{FACTORY}'", "buyer": f"'{HOLDER}'", "value_nanoton": str(2 * TON),
            "params_hash": f"'{'0' * 64}'", "code_version": "'1'",
        }  # fmt: skip
        kinds = {"text": "'{}'", "jsonb": "'{}'", "bytea": f"'\\x{'01' * 32}'", "boolean": "true"}
        times = {"timestamp with time zone": "now()"}
        values = [given.get(row["attname"], (kinds | times).get(row["type"], "1")) for row in rows]
        await conn.execute("SET session_replication_role = replica")
        sizes = {"signature": "64"}
        values = [
            f"'\\x{'01' * int(sizes[row['attname']])}'" if row["attname"] in sizes else value
            for row, value in zip(rows, values, strict=True)
        ]
        await conn.execute(
            f"INSERT INTO quotes ({', '.join(row['attname'] for row in rows)}) VALUES ({', '.join(values)})"
        )
    finally:
        await conn.close()


@pytest.mark.parametrize(
    ("name", "deadline", "status", "stage"),
    [
        ("not sent yet", START_TIME + 96, "pending", "awaited"),
        ("never sent", START_TIME + 95, "failed", "expired"),
        ("stolen", START_TIME + 96, "pending", "awaited"),
        ("late", START_TIME + 96, "failed", "refused"),
    ],
)
async def test_a_payload_of_ours_is_awaited_until_its_deadline_is_over_on_the_chain(
    http: httpx.AsyncClient, database: str, name: str, deadline: int, status: str, stage: str
) -> None:
    """Somebody else's message with the buyer's payload says nothing about the buyer's."""
    await issue(database, name, deadline)
    body = await look_up(http, hash_of(name))
    assert (body["status"], body["stage"], body["payload_hash"]) == (status, stage, hash_of(name).hex())
    assert body["quote"]["quote_id"] == "77"
    if stage in ("awaited", "expired"):
        assert (body["hash"], body["sender"], body["events"]) == (None, None, [])
        assert body["followed_until"] is not None


async def test_a_database_that_is_away_is_an_outage() -> None:
    async with running_look_ups("postgresql://nobody@127.0.0.1:1/nothing") as http:
        check_problem(await http.get(URL + "00" * 32), 503, "database_unavailable")
        check_problem(await http.get("/api/v2/policies"), 503, "database_unavailable")
