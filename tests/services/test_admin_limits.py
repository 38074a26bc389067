"""Limits of the admin API: how often a person may ask, and when an address is shut out."""

from __future__ import annotations

import pytest

from tonsurance.services.admin_limits import (
    MAX_REMEMBERED,
    AddressLocked,
    LockOut,
    RequestLimiter,
    TooManyRequests,
)


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """At 1000 s."""
    return Clock()


def make_lock_out(clock: Clock) -> LockOut:
    """As documented: ten failures in ten minutes."""
    return LockOut(failures=10, window_s=600.0, lock_s=900.0, clock=clock)


def test_a_person_gets_the_limit_in_any_minute_and_not_one_more(clock: Clock) -> None:
    limiter = RequestLimiter(lambda: 100, clock=clock)
    for _ in range(50):
        limiter.count("ada")
    clock.now += 30
    for _ in range(50):
        limiter.count("ada")
    clock.now += 29
    with pytest.raises(TooManyRequests) as refused:
        limiter.count("ada")
    assert refused.value.retry_after_s == 1
    clock.now += 1
    for _ in range(50):
        limiter.count("ada")
    with pytest.raises(TooManyRequests):
        limiter.count("ada")


def test_people_do_not_share_a_limit(clock: Clock) -> None:
    limiter = RequestLimiter(lambda: 1, clock=clock)
    limiter.count("ada")
    limiter.count("bob")
    with pytest.raises(TooManyRequests):
        limiter.count("ada")


def test_the_limit_is_asked_for_at_every_request(clock: Clock) -> None:
    limits = [3]
    limiter = RequestLimiter(lambda: limits[0], clock=clock)
    for _ in range(3):
        limiter.count("ada")
    limits[0] = 4
    limiter.count("ada")
    limits[0] = 2
    clock.now += 20
    with pytest.raises(TooManyRequests) as refused:
        limiter.count("ada")
    assert refused.value.retry_after_s == 40


def test_a_refused_request_does_not_count(clock: Clock) -> None:
    limiter = RequestLimiter(lambda: 1, clock=clock)
    limiter.count("ada")
    for _ in range(100):
        clock.now += 0.5
        with pytest.raises(TooManyRequests):
            limiter.count("ada")
    clock.now += 10
    limiter.count("ada")


def test_people_remembered_are_bounded(clock: Clock) -> None:
    limiter = RequestLimiter(lambda: 1, clock=clock)
    for number in range(MAX_REMEMBERED + 10):
        limiter.count(str(number))
    assert len(limiter._times) == MAX_REMEMBERED


def test_ten_failures_shut_an_address_out_and_say_for_how_long(clock: Clock) -> None:
    lock_out = make_lock_out(clock)
    assert [lock_out.record_failure("1.2.3.4") for _ in range(10)] == [False] * 9 + [True]
    clock.now += 100
    with pytest.raises(AddressLocked) as locked:
        lock_out.check("1.2.3.4")
    assert locked.value.retry_after_s == 800
    lock_out.check("1.2.3.5")
    clock.now += 800
    lock_out.check("1.2.3.4")


def test_failures_spread_over_more_than_the_window_do_not(clock: Clock) -> None:
    lock_out = make_lock_out(clock)
    for _ in range(50):
        assert not lock_out.record_failure("1.2.3.4")
        clock.now += 67
    lock_out.check("1.2.3.4")


def test_failures_start_at_zero_after_the_lock(clock: Clock) -> None:
    lock_out = make_lock_out(clock)
    for _ in range(10):
        lock_out.record_failure("1.2.3.4")
    clock.now += 901
    assert [lock_out.record_failure("1.2.3.4") for _ in range(9)] == [False] * 9
    lock_out.check("1.2.3.4")


def test_addresses_remembered_are_bounded(clock: Clock) -> None:
    lock_out = LockOut(failures=1, window_s=600.0, lock_s=900.0, clock=clock)
    for number in range(MAX_REMEMBERED + 10):
        lock_out.record_failure(str(number))
    assert len(lock_out._locked_until) == MAX_REMEMBERED
    assert len(lock_out._times) == 0
