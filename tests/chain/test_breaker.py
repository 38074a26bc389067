"""The breaker: what fails in a row is left alone, then tried with one request at a time."""

from __future__ import annotations

import random

import pytest

from tonsurance.chain.breaker import MAX_HOLD_S, Breaker, BreakerPolicy

POLICY = BreakerPolicy(threshold=3, cooldown_s=1.0, cap_s=8.0)


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(POLICY, random.Random(1))


def passed(breaker: Breaker, now: float) -> int:
    ticket = breaker.enter(now)
    assert ticket is not None
    return ticket


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.fail(passed(breaker, now), now)


def test_it_opens_after_failures_in_a_row_and_not_before(breaker: Breaker) -> None:
    fail(breaker, 0.0, 2)
    breaker.succeed(passed(breaker, 0.0))
    fail(breaker, 0.0, 2)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 0.0)
    assert breaker.state(0.0) == "open"
    assert breaker.enter(0.0) is None
    assert 0.5 <= breaker.wait_s(0.0) <= 1.0


def test_after_the_cool_down_one_request_passes_and_its_success_closes(breaker: Breaker) -> None:
    fail(breaker, 0.0, 3)
    now = breaker.wait_s(0.0)
    assert breaker.state(now) == "half-open"
    probe = passed(breaker, now)
    assert breaker.enter(now) is None
    breaker.succeed(probe)
    assert (breaker.state(now), breaker.failures) == ("closed", 0)
    fail(breaker, now, 2)
    assert breaker.state(now) == "closed"  # it begins to count anew


def test_each_failed_probe_doubles_the_cool_down_up_to_the_cap(breaker: Breaker) -> None:
    now = 0.0
    fail(breaker, now, 3)
    waits = [breaker.wait_s(now)]
    for _ in range(6):
        now += waits[-1]
        fail(breaker, now)
        waits.append(breaker.wait_s(now))
    longest = [1, 2, 4, 8, 8, 8, 8]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True)), waits
    assert len(set(waits)) == len(waits)  # with jitter
    now += waits[-1]
    breaker.succeed(passed(breaker, now))
    fail(breaker, now, 3)
    assert breaker.wait_s(now) <= 1.0  # from the beginning


def test_what_comes_back_late_says_nothing_about_the_new_state(breaker: Breaker) -> None:
    early = [passed(breaker, 0.0) for _ in range(5)]
    for ticket in early[:3]:
        breaker.fail(ticket, 0.0)
    wait = breaker.wait_s(0.0)
    breaker.fail(early[3], 0.0)
    breaker.succeed(early[4])
    assert (breaker.state(0.0), breaker.wait_s(0.0), breaker.failures) == ("open", wait, 3)
    probe = passed(breaker, wait)
    breaker.leave(early[4])
    assert breaker.enter(wait) is None
    breaker.succeed(probe)


def test_a_probe_that_was_given_up_makes_room_for_the_next(breaker: Breaker) -> None:
    fail(breaker, 0.0, 3)
    now = breaker.wait_s(0.0)
    breaker.leave(passed(breaker, now))
    assert breaker.state(now) == "half-open"
    breaker.succeed(passed(breaker, now))
    assert breaker.state(now) == "closed"


def test_it_holds_as_long_as_the_server_asked_and_never_for_good(breaker: Breaker) -> None:
    breaker.hold(10.0, 5.0)
    breaker.hold(10.0, 2.0)
    assert (breaker.state(14.9), breaker.wait_s(14.0)) == ("open", pytest.approx(1.0))
    assert breaker.state(15.0) == "closed"
    breaker.hold(20.0, 1e9)
    assert breaker.wait_s(20.0) == MAX_HOLD_S
