"""The webhook over real sockets: told at least once, in order, signed, and never sent anywhere else."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import structlog

from services.alert_story import AlertStory, Receiver, alert_story, receiver
from tonsurance.core.errors import DatabaseUnavailable, UsageError
from tonsurance.services.alert_tasks import AlertTasks
from tonsurance.services.lazy_pool import LazyPool
from tonsurance.services.webhooks import WebhookPolicy, WebhookSender, WebhookTarget, check_webhook_url, make_target
from tonsurance.settings import Environment, alert_webhook

EAGER = WebhookPolicy(timeout_s=60.0, most_attempts=4, first_delay_s=0.0, longest_delay_s=0.0)
"""Tries again at once."""


@pytest.fixture
async def story(database: str) -> AsyncIterator[AlertStory]:
    """A tranche with 1,000 TON, 870 of it covered: one message waits."""
    async with alert_story(database) as story:
        await story.cover(870)
        await story.evaluate(with_webhook=True)
        yield story


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    """A receiver."""
    async with receiver() as hook:
        yield hook


@asynccontextmanager
async def sending(
    story: AlertStory, url: str, *, secret: str | None = None, policy: WebhookPolicy = EAGER
) -> AsyncIterator[WebhookSender]:
    """A process that sends."""
    pool = LazyPool(story.dsn)
    sender = WebhookSender(pool, WebhookTarget(url, secret), policy)
    try:
        yield sender
    finally:
        await sender.close()
        await pool.close()


async def outbox(story: AlertStory) -> list[tuple[object, ...]]:
    """Status, attempts, error of every message."""
    rows = await story.conn.fetch("SELECT status, attempts, last_error FROM webhook_outbox ORDER BY delivery_id")
    return [tuple(row) for row in rows]


async def test_a_message_is_for_chats_and_programs(story: AlertStory, hook: Receiver) -> None:
    async with sending(story, hook.url) as sender:
        assert await sender.deliver_due() == 1
        assert await sender.deliver_due() == 0
    [request] = hook.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"
    assert "x-tonsurance-signature" not in request.headers
    said = request.said
    assert said["text"] == "⚠️ SURE-MEZZ approaching capacity: 87.00%"
    assert (said["alert_type"], said["transition"], said["severity"]) == ("Utilization_Webhook", "opened", "Medium")
    assert (said["vault_id"], said["tranche_id"], said["sequence"]) == ("main", "SURE-MEZZ", 1)
    assert (said["current_value"], said["limit_value"]) == (0.87, 0.85)
    assert request.headers["x-tonsurance-delivery"] == said["delivery_id"]
    assert await outbox(story) == [("sent", 1, None)]


async def test_the_body_is_signed_as_it_was_sent(story: AlertStory, hook: Receiver) -> None:
    async with sending(story, hook.url, secret="between us") as sender:
        await sender.deliver_due()
    [request] = hook.requests
    expected = hmac.new(b"between us", request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-tonsurance-signature"] == f"sha256={expected}"


@pytest.mark.parametrize("status", ["500 Internal Server Error", "429 Too Many Requests", "404 Not Found"])
async def test_a_refused_message_is_sent_again_with_the_same_bytes(
    story: AlertStory, hook: Receiver, status: str
) -> None:
    hook.status = status
    async with sending(story, hook.url, policy=WebhookPolicy(first_delay_s=300.0)) as sender:
        assert await sender.deliver_due() == 0
        assert await outbox(story) == [("pending", 1, f"It answered with status {status[:3]}.")]
        assert await sender.deliver_due() == 0, "it waits"
        assert len(hook.requests) == 1
        await story.conn.execute("UPDATE webhook_outbox SET next_at = now()")
        hook.status = "204 No Content"
        assert await sender.deliver_due() == 1
    first, second = hook.requests
    assert (first.body, first.headers["x-tonsurance-delivery"]) == (
        second.body, second.headers["x-tonsurance-delivery"])  # fmt: skip


async def test_pauses_double_up_to_an_hour_and_what_the_receiver_asks_for_counts(
    story: AlertStory, hook: Receiver
) -> None:
    policy = WebhookPolicy()
    assert [policy.delay_s(n) for n in (1, 2, 3, 9, 10, 10_000)] == [1, 2, 4, 256, 300, 300]
    assert 3_000 < sum(policy.delay_s(n) for n in range(1, policy.most_attempts)) < 4_000
    hook.status, hook.headers = "503 Service Unavailable", "Retry-After: 120\r\n"
    async with sending(story, hook.url, policy=policy) as sender:
        await sender.deliver_due()
    wait = await story.conn.fetchval("SELECT extract(epoch FROM next_at - now())::float FROM webhook_outbox")
    assert 100 < wait <= 120


async def test_after_the_last_attempt_it_is_dead_and_the_next_one_goes_on(story: AlertStory, hook: Receiver) -> None:
    hook.status = "500 Internal Server Error"
    async with sending(story, hook.url) as sender:
        assert await sender.deliver_due() == 0
        assert await outbox(story) == [("dead", 4, "It answered with status 500.")]
        assert len(hook.requests) == 4
        hook.status = "200 OK"
        await story.cover(890)
        await story.evaluate(with_webhook=True)
        assert await sender.deliver_due() == 1
    assert hook.requests[-1].said["transition"] == "updated"


async def test_a_redirect_is_not_followed(story: AlertStory, hook: Receiver) -> None:
    async with receiver() as elsewhere:
        hook.status, hook.headers = "307 Temporary Redirect", f"Location: {elsewhere.url}\r\n"
        async with sending(story, hook.url) as sender:
            await sender.deliver_due()
        assert elsewhere.requests == []
    assert await outbox(story) == [("dead", 4, "It redirects (307), which is not followed.")]


async def test_a_receiver_that_does_not_answer_holds_nobody_up(story: AlertStory, hook: Receiver) -> None:
    hook.hold = asyncio.Event()
    policy = WebhookPolicy(timeout_s=1.0, first_delay_s=300.0)
    async with sending(story, hook.url, policy=policy) as sender:
        async with asyncio.timeout(60):
            await sender.deliver_due()
    assert await outbox(story) == [("pending", 1, "It did not answer in time.")]


async def test_nobody_listening_is_no_loss(story: AlertStory, hook: Receiver) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}/hook"
        async with sending(story, nowhere, policy=WebhookPolicy(first_delay_s=0.0, longest_delay_s=0.0)) as sender:
            await sender.deliver_due()
    [(status, attempts, error)] = await outbox(story)
    assert (status, attempts, error) == ("dead", 20, "It cannot be reached (ConnectError).")


async def test_who_dies_between_sending_and_marking_sends_it_again_as_the_same(
    story: AlertStory, hook: Receiver
) -> None:
    """Killed while the receiver has the message and we have no answer yet."""
    hook.hold = asyncio.Event()
    async with sending(story, hook.url) as sender:
        dying = asyncio.create_task(sender.deliver_due())
        await asyncio.wait_for(hook.arrived.wait(), 60)
        dying.cancel()
        await asyncio.wait([dying])
    hook.hold.set()
    assert await outbox(story) == [("pending", 1, None)]
    async with sending(story, hook.url) as next_one:
        assert await next_one.deliver_due() == 0, "it is hidden until the lease is over"
        await story.conn.execute("UPDATE webhook_outbox SET next_at = now()")
        assert await next_one.deliver_due() == 1
    assert len({request.headers["x-tonsurance-delivery"] for request in hook.requests}) == 1
    assert len({request.body for request in hook.requests}) == 1
    assert await outbox(story) == [("sent", 2, None)]


PROCESS = """
import asyncio, sys
from tonsurance.core.params import DEFAULT_PARAMS
from tonsurance.services.alert_tasks import AlertTasks
from tonsurance.services.webhooks import WebhookTarget
tasks = AlertTasks(sys.argv[1], lambda: DEFAULT_PARAMS, WebhookTarget(sys.argv[2]))
asyncio.run(tasks.run(asyncio.Event()))
"""


async def test_a_process_killed_with_a_message_on_its_way_loses_none(story: AlertStory, hook: Receiver) -> None:
    """Evaluated, committed, sent, and killed with -9 before it heard that the message was taken."""
    await story.cover(960)
    hook.hold = asyncio.Event()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, story.dsn, hook.url)
    try:
        await _until(lambda: _has_said(hook, "opened"))
    finally:
        process.kill()
        await process.wait()
    hook.hold.set()
    told = await story.conn.fetchval("SELECT count(*) FROM risk_alert_transitions")
    async with sending(story, hook.url) as sender:
        await story.conn.execute("UPDATE webhook_outbox SET next_at = now()")
        await sender.deliver_due()
    assert {status for status, *_ in await outbox(story)} == {"sent"}
    by_id = {request.headers["x-tonsurance-delivery"]: request.body for request in hook.requests}
    assert len(by_id) == told
    assert all(by_id[request.headers["x-tonsurance-delivery"]] == request.body for request in hook.requests)


async def test_two_processes_send_each_message_once(story: AlertStory, hook: Receiver) -> None:
    for covered in (880, 890, 960, 500, 501):
        await story.cover(covered)
        await story.evaluate(with_webhook=True)
    async with sending(story, hook.url) as one, sending(story, hook.url) as two:
        while any(status == "pending" for status, *_ in await outbox(story)):
            await asyncio.gather(one.deliver_due(), two.deliver_due())
    ids = [request.headers["x-tonsurance-delivery"] for request in hook.requests]
    assert len(ids) == len(set(ids)) == len(await outbox(story)) >= 8


async def test_of_one_alert_the_earlier_is_told_first_even_when_it_has_to_wait(
    story: AlertStory, hook: Receiver
) -> None:
    hook.status = "500 Internal Server Error"
    async with sending(story, hook.url, policy=WebhookPolicy(first_delay_s=300.0)) as sender:
        await sender.deliver_due()
        await story.cover(890)
        await story.evaluate(with_webhook=True)
        hook.status = "200 OK"
        assert await sender.deliver_due() == 0
        await story.conn.execute("UPDATE webhook_outbox SET next_at = now()")
        assert await sender.deliver_due() == 2
    assert [request.said["sequence"] for request in hook.requests] == [1, 1, 2]


async def test_without_a_webhook_nothing_is_kept_for_one(story: AlertStory) -> None:
    await story.cover(960)
    await story.evaluate()
    assert len(await outbox(story)) == 1


async def test_what_was_sent_long_ago_is_forgotten(story: AlertStory, hook: Receiver) -> None:
    async with sending(story, hook.url) as sender:
        await sender.deliver_due()
        assert await sender.forget_done() == 0
        await story.conn.execute("UPDATE webhook_outbox SET done_at = now() - interval '31 days'")
        assert await sender.forget_done() == 1


async def test_an_address_is_in_no_log_and_no_error(story: AlertStory, hook: Receiver) -> None:
    hook.status = "500 Internal Server Error"
    with structlog.testing.capture_logs() as lines:
        async with sending(story, f"{hook.url}/T000/secret-part", secret="between us") as sender:
            await sender.deliver_due()
    assert lines
    assert "secret-part" not in repr(lines) + repr(await outbox(story))
    with pytest.raises(UsageError) as caught:
        check_webhook_url("http://hooks.example.org/secret-part")
    assert "secret-part" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.org/x", "http://127.0.0.1:9/x", "http://[::1]/x", "http://localhost:8000/"]
)
def test_https_and_this_machine_are_good(url: str) -> None:
    assert check_webhook_url(url) == url


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example.org/x", "http://10.0.0.1/x", "http://127.0.0.1.example.org/", "ftp://127.0.0.1/", "x", "",
     "https://", "https://me:pass@hooks.example.org/", "http://[::1", "http://127.0.0.1:port/", "file:///etc/passwd"],
)  # fmt: skip
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="https"):
        check_webhook_url(url)


def test_the_settings() -> None:
    env = Environment({"ALERT_WEBHOOK_URL": "https://h.example.org/x", "ALERT_WEBHOOK_SECRET": "s"})
    assert make_target(*alert_webhook(env)) == WebhookTarget("https://h.example.org/x", "s")
    assert make_target(*alert_webhook(Environment({}))) is None
    with pytest.raises(UsageError, match="without"):
        alert_webhook(Environment({"ALERT_WEBHOOK_SECRET": "s"}))


async def test_the_daemons_tasks_send_what_a_commit_brings(story: AlertStory, hook: Receiver) -> None:
    stop = asyncio.Event()
    tasks = AlertTasks(story.dsn, lambda: story.params, WebhookTarget(hook.url), policy=EAGER)
    running = asyncio.create_task(tasks.run(stop))
    try:
        await _until(lambda: _has_said(hook, "opened"))
        await story.cover(960)
        await _until(lambda: _has_said(hook, "updated"))
    finally:
        stop.set()
        await running


async def _has_said(hook: Receiver, transition: str) -> bool:
    return any(request.said["transition"] == transition for request in hook.requests)


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await done():
            await asyncio.sleep(0.01)


async def test_while_the_database_is_away_nothing_is_sent(story: AlertStory, hook: Receiver) -> None:
    pool = LazyPool("postgresql://nobody@127.0.0.1:1/nothing")
    sender = WebhookSender(pool, WebhookTarget(hook.url), EAGER)
    with pytest.raises(DatabaseUnavailable):
        await sender.deliver_due()
    await sender.close()
    assert hook.requests == []
