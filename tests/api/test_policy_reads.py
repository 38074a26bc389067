"""Policies over HTTP: one with its life, and pages that lose and repeat none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from api.looking_up import running_look_ups
from api.test_rest import check_problem, strict_json
from api.test_transactions import STRANGER, told
from db.chain_story import FACTORY, HOLDER, START_TIME, TON, VAULT, batch, policy_created, register
from tonsurance.chain.addresses import format_friendly
from tonsurance.chain.messages import Op
from tonsurance.core.events import PayoutApproved, PayoutExecuted, PolicyExpired
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.db.pool import connect
from tonsurance.services.ledger_writer import LedgerWriter

URL = "/api/v2/policies"
COUNT = 25


def time_of(seconds: int) -> str:
    """As the API shows it."""
    return datetime.fromtimestamp(START_TIME + seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def story() -> list:
    """Policies 1 to COUNT, every fifth of another buyer; 1 expired, 2 claimed, 3 approved."""
    made = []
    for number in range(1, COUNT + 1):
        created = policy_created(number, amount=100 * TON + number)
        if number % 5 == 0:
            created = msgspec.structs.replace(created, buyer=STRANGER)
        made.append(told(10 * number, f"buy {number}", op=Op.CREATE_POLICY, policy_id=number))
        made.append(told(10 * number + 4, f"b {number}", created, op=Op.POLICY_BACKED, sender=VAULT, policy_id=number))
    made += [
        told(1_000, "nobody's", op=Op.EXPIRE_POLICY, policy_id=1, sender=STRANGER, failed=True, exit_code=152),
        told(1_010, "expire", op=Op.EXPIRE_POLICY, policy_id=1),
        told(1_020, "expired", PolicyExpired(1), op=Op.COVERAGE_RELEASED, sender=VAULT, policy_id=1),
        told(1_030, "approve", PayoutApproved(2, 40 * TON), op=Op.EXECUTE_PAYOUT, policy_id=2),
        told(1_040, "paid", PayoutExecuted(2, HOLDER, 40 * TON), op=Op.CLAIM_SETTLED, sender=VAULT, policy_id=2),
        told(1_050, "approve 3", PayoutApproved(3, TON), op=Op.EXECUTE_PAYOUT, policy_id=3),
        told(1_060, "again", op=Op.EXPIRE_POLICY, policy_id=1, failed=True, exit_code=150),
    ]
    return made


@pytest.fixture
async def http(database: str) -> AsyncIterator[httpx.AsyncClient]:
    await register(database)
    writer = LedgerWriter(database, DEFAULT_PARAMS)
    await writer.submit(batch(told(12, "back 1", contract=VAULT, op=Op.BACK_POLICY, sender=FACTORY, policy_id=1)))
    await writer.submit(batch(*story(), contract=FACTORY))
    await writer.close()
    async with running_look_ups(database) as http:
        yield http


async def test_a_policy_is_told_with_its_product_amounts_and_times(http: httpx.AsyncClient) -> None:
    body = strict_json(await http.get(f"{URL}/2"))
    assert (body["policy_id"], body["factory"], body["vault_id"], body["quote_id"]) == ("2", FACTORY, "main", "7002")
    assert (body["coverage_type"], body["chain"], body["stablecoin"]) == ("depeg", "Arbitrum", "USDP")
    assert (body["status"], body["buyer"], body["beneficiary"]) == ("claimed", HOLDER, HOLDER)
    assert (body["coverage_nanoton"], body["premium_nanoton"]) == (str(100 * TON + 2), str(TON))
    assert (body["coverage_ton"], body["payout_ton"]) == (100.000000002, 40.0)
    assert (body["approved_nanoton"], body["payout_nanoton"]) == (str(40 * TON), str(40 * TON))
    assert (body["start"], body["end"], body["claims_end"]) == (time_of(0), time_of(90), None)
    assert (body["created_at"], body["closed_at"]) == (time_of(24), time_of(1_040))
    assert (body["trigger_bps"], body["floor_bps"]) == (9700, 9000)


async def test_a_policys_transactions_are_its_contracts_and_no_strangers_failures(http: httpx.AsyncClient) -> None:
    body = strict_json(await http.get(f"{URL}/1"))
    assert body["status"] == "expired"
    told = [(one["op_name"], one["contract_kind"], one["succeeded"]) for one in body["transactions"]]
    assert told == [
        ("create_policy", "PolicyFactory", True),
        ("back_policy", "MultiTrancheVault", True),
        ("policy_backed", "PolicyFactory", True),
        ("expire_policy", "PolicyFactory", True),
        ("coverage_released", "PolicyFactory", True),
    ]
    for one in body["transactions"]:
        found = strict_json(await http.get(one["href"]))
        assert (found["hash"], found["policy"]["policy_id"]) == (one["hash"], "1")


async def test_claims_end_by_the_factorys_own_terms(http: httpx.AsyncClient, database: str) -> None:
    conn = await connect(database)
    columns = await conn.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS type, attnotnull FROM pg_attribute"
        " WHERE attrelid = 'factory_state'::regclass AND attnum > 0 AND NOT attisdropped AND NOT atthasdef"
    )
    given = {"factory_address": f"'{FACTORY}'", "vault_id": "'main'", "vault_address": f"'{VAULT}'"}
    given |= {"claim_grace_s": "600", "public_key": f"'\\x{'01' * 32}'"}
    kinds = {"boolean": "false"}
    wanted = [row for row in columns if row["attnotnull"]]
    values = [given.get(row["attname"], kinds.get(row["type"], "1")) for row in wanted]
    names = ", ".join(row["attname"] for row in wanted)
    await conn.execute(f"INSERT INTO factory_state ({names}) VALUES ({', '.join(values)})")
    await conn.close()
    body = strict_json(await http.get(f"{URL}/2"))
    assert body["claims_end"] == time_of(690)


@pytest.mark.parametrize(
    ("params", "numbers"),
    [
        ({}, list(range(COUNT, 0, -1))),
        ({"buyer": STRANGER}, [25, 20, 15, 10, 5]),
        ({"buyer": format_friendly(STRANGER, bounceable=False)}, [25, 20, 15, 10, 5]),
        ({"buyer": "0:" + "99" * 32}, []),
        ({"status": "expired"}, [1]),
        ({"status": "claimed"}, [2]),
        ({"status": "approved"}, [3]),
        ({"status": "active", "buyer": STRANGER}, [25, 20, 15, 10, 5]),
    ],
)
@pytest.mark.parametrize("limit", [1, 4, 200])
async def test_pages_lose_and_repeat_none(
    http: httpx.AsyncClient, params: dict[str, str], numbers: list[int], limit: int
) -> None:
    seen, after = [], {}
    while True:
        body = strict_json(await http.get(URL, params={**params, "limit": str(limit), **after}))
        assert len(body["policies"]) <= limit
        seen += [int(policy["policy_id"]) for policy in body["policies"]]
        if body["next_after"] is None or len(seen) > len(numbers):
            break
        after = {"after": body["next_after"]}
    assert seen == numbers


@pytest.mark.parametrize(
    "query",
    [
        "buyer=nobody", "status=sold", "limit=0", "limit=201", "after=1", f"after=1.2.{'0:' + 'z' * 64}",
        f"after={'9' * 19}.1.0:{'a' * 64}", "after=1.2.3;DROP", "buyer=%00",
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_refused(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"{URL}?{query}")
    assert answer.status_code == 400, answer.text
    assert strict_json(answer)["code"] in ("bad_input", "invalid_address")


async def test_an_unknown_policy_is_unknown(http: httpx.AsyncClient) -> None:
    check_problem(await http.get(f"{URL}/999"), 404, "unknown_policy")
    check_problem(await http.get(f"{URL}/1?factory={VAULT}"), 404, "unknown_policy")
    assert strict_json(await http.get(f"{URL}/1?factory={format_friendly(FACTORY)}"))["policy_id"] == "1"
