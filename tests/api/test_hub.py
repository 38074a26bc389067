"""The hub hands out one encoding to all, keeps its promises about offsets, and drops who does not read."""

from __future__ import annotations

import asyncio
import json

import pytest

from tonsurance.services.hub import Client, Close, Hub, Position


def make_hub(**options: int) -> Hub:
    """A hub with one channel whose state is a constant."""
    hub = Hub(epoch="e1", **options)
    hub.add_channel("c", lambda: {"type": "state"})
    return hub


def join(hub: Hub, *, queue_messages: int = 8) -> Client:
    """A subscribed client."""
    client = Client("client", queue_messages=queue_messages)
    hub.join(client)
    hub.subscribe(client, "c")
    return client


def offsets(texts: list[str]) -> list[int]:
    """The numbers of these messages."""
    return [json.loads(text)["offset"] for text in texts]


def test_a_message_is_encoded_once_for_everybody() -> None:
    hub = make_hub()
    first, second = join(hub), join(hub)
    hub.publish("c", {"type": "news"})
    assert first.queue.get_nowait() is second.queue.get_nowait()


def test_a_full_mailbox_kicks_its_owner_and_nobody_else() -> None:
    hub = make_hub()
    slow, quick = join(hub, queue_messages=2), join(hub)
    for _ in range(3):
        hub.publish("c", {"type": "news"})
    assert slow.kicked.is_set()
    assert slow.close_code is Close.OVERLOADED
    assert (slow in hub.clients, quick in hub.clients) == (False, True)
    assert not quick.kicked.is_set()
    hub.publish("c", {"type": "news"})
    assert (slow.queue.qsize(), quick.queue.qsize()) == (2, 4)


@pytest.mark.parametrize(("offset", "expected"), [(0, None), (1, None), (2, [3, 4, 5]), (4, [5]), (5, []), (6, None)])
def test_catching_up_has_no_hole_or_is_not_claimed(offset: int, expected: list[int] | None) -> None:
    hub = make_hub(buffer_messages=3)
    for _ in range(5):
        hub.publish("c", {"type": "news"})
    recovered, texts = hub.catch_up("c", Position("e1", offset))
    if expected is None:
        assert (recovered, [json.loads(text)["type"] for text in texts]) == (False, ["state"])
        assert offsets(texts) == [5]
    else:
        assert (recovered, offsets(texts)) == (True, expected)


def test_another_epoch_is_never_recovered() -> None:
    hub = make_hub()
    hub.publish("c", {"type": "news"})
    assert hub.catch_up("c", Position("e0", 0))[0] is False


def test_a_client_that_left_gets_nothing_more() -> None:
    hub = make_hub()
    client = join(hub)
    hub.leave(client)
    hub.leave(client)
    hub.publish("c", {"type": "news"})
    assert client.queue.empty()
    assert not hub.clients


async def test_draining_waits_for_readers_but_not_for_ever() -> None:
    hub = make_hub()
    reader, stuck = join(hub), join(hub)
    hub.publish("c", {"type": "news"})

    async def read() -> None:
        await reader.queue.get()
        reader.queue.task_done()

    task = asyncio.create_task(read())
    await hub.drain(timeout_s=0.05)
    await task
    assert (reader.queue.qsize(), stuck.queue.qsize()) == (0, 1)
