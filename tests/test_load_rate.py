"""`RateLimit` and its pure core."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import LimitExceededError, clock, deadline
from booking_resilience.load import LimitSnapshot, RateLimit
from booking_resilience.load.queue import Waiter
from booking_resilience.load.rate import Turns
from booking_resilience.testing import VirtualClock, virtual_time

SECOND = 1_000_000_000

steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "pause", "back"]), st.integers(0, 3 * SECOND), st.integers(1, 3)
    ),
    max_size=80,
)


def at(now: int, fn: Callable[..., Any], *args: Any) -> Any:
    """Call at a moment in nanoseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic_ns", lambda: now)
        return fn(*args)


@given(interval=st.integers(1, SECOND), burst=st.integers(1, 8), steps=steps)
def test_no_span_holds_too_many_turns(interval: int, burst: int, steps: list[tuple[str, int, int]]) -> None:
    """In any span of time no more turns are taken than the burst and one for each interval in it."""
    turns, now, taken = Turns(interval, burst), 0, list[int]()
    for what, wait, tokens in steps:
        now += wait
        if what == "pause":
            at(now, turns.pause, tokens * SECOND // 4)
        elif what == "take" and at(now, turns.take, min(tokens, burst)):
            taken += [now] * min(tokens, burst)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - start) / interval


@given(interval=st.integers(1, SECOND), burst=st.integers(1, 8), steps=steps, tokens=st.integers(1, 8))
def test_the_wait_is_exact(interval: int, burst: int, steps: list[tuple[str, int, int]], tokens: int) -> None:
    """A turn is free exactly after the time that `wait` says, also when time stepped back."""
    turns, now, tokens = Turns(interval, burst), 0, min(tokens, burst)
    for what, wait, many in steps:
        now += -wait if what == "back" else wait
        if what == "pause":
            at(now, turns.pause, wait)
        else:
            at(now, turns.take, min(many, burst))
    wait = at(now, turns.wait, tokens)
    assert wait <= burst * interval + 3 * SECOND
    if wait:
        assert not at(now + wait - 1, turns.take, tokens)
    assert at(now + wait, turns.take, tokens)


@given(
    spent=st.integers(0, 5), pauses=st.lists(st.tuples(st.integers(0, SECOND), st.integers(0, 2 * SECOND)), min_size=1)
)
def test_nothing_accrues_in_a_pause(spent: int, pauses: list[tuple[int, int]]) -> None:
    """At the end of pauses that overlap as many turns are free as when the first began, and at most one more."""
    turns, now, end = Turns(SECOND // 10, 5), 0, 0
    assert all(at(now, turns.take) for _ in range(spent))
    for wait, length in pauses:
        now = min(now + wait, end)  # a pause is always under way
        at(now, turns.pause, length)
        end = max(end, now + length)
    free = sum(at(end, turns.take) for _ in range(9))
    assert 5 - spent <= free <= 5 - spent + 1


def test_a_thread_that_was_kept_waiting_gives_no_turns_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that read the clock long before it is served doesn't take others' turns for ones too far ahead."""
    limit, taken = RateLimit("backend", rate=1, burst=10), list[bool]()

    def late() -> int:
        monkeypatch.setattr(clock, "monotonic_ns", lambda: 5 * SECOND)
        taken.extend(limit.try_acquire() for _ in range(11))  # another thread's
        return 0

    monkeypatch.setattr(clock, "monotonic_ns", late)
    taken.append(limit.try_acquire())
    taken.extend(limit.try_acquire() for _ in range(11))
    assert sum(taken) == 10


def test_other_settings_keep_the_turns_that_were_taken() -> None:
    """After a change as many turns are taken as before, whatever the rate; one that was idle has them all."""
    for taken in (0, 4):
        turns = Turns(SECOND, 10)
        assert taken == 0 or at(0, turns.take, taken)
        other = at(0, turns.changed, 3 * SECOND, 10)
        assert at(0, other.take, 10 - taken)
        assert at(0, other.wait) == 3 * SECOND


def test_other_settings_count_in_whole_nanoseconds() -> None:
    """What is left of an interval is converted and rounded down, whenever the settings change."""
    turns = Turns(3, 10)
    assert at(1_000, turns.take)
    other = at(1_001, turns.changed, 7, 10)  # 2 of 3 are left, so 4 of 7
    assert at(1_001, other.take, 9)
    assert at(1_001, other.wait) == 4


def test_who_waits_for_what(virtual_clock: VirtualClock) -> None:
    """The first in line sleeps until its turn, the others until they are first; who would be too late is rejected."""
    limit = RateLimit("r", rate=1, max_queue=9)
    assert limit.try_acquire()
    first, second, _ = waiters = [Waiter(is_async=False) for _ in range(3)]
    for waiter in waiters:
        waiter.signal = Counted()
        limit._line.join(waiter)
    now = clock.monotonic()
    assert limit._next_wait(first, None) == (1.0, True)
    assert limit._next_wait(second, None) == (None, False)
    assert limit._next_wait(second, now + 2.5) == (2.5, False)
    with pytest.raises(LimitExceededError):
        limit._next_wait(second, now + 1.5)
    virtual_clock.advance(1.0)
    assert limit._next_wait(first, None) is None
    assert first.place is limit._turn
    for _ in range(2):
        assert [waiter.signal.woken for waiter in waiters] == [0, 1, 0]
        limit._serve()


class Counted:
    """A waiter's signal that counts how often it was woken."""

    woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return True

    def is_there(self) -> bool:
        return True


def test_each_refusal_is_counted() -> None:
    """A snapshot counts the turns that were refused, one by one."""
    limit = RateLimit("r", rate=0.001)
    assert [limit.try_acquire() for _ in range(4)] == [True, False, False, False]
    with pytest.raises(LimitExceededError):
        limit.call(int)
    assert limit.snapshot() == LimitSnapshot(name="r", limit=1, in_flight=0, queued=0, refused=4)


def test_a_clock_that_was_ahead_is_forgotten() -> None:
    """After virtual time the limit lets calls through as a fresh one does, an interval later at most."""
    limit = RateLimit("backend", rate=1000, burst=2)
    with virtual_time() as clock:
        clock.advance(10_000_000)
        limit.pause(0.0)
        assert limit.try_acquire(2)
    assert at(0, limit._turns.wait) <= 2 * limit._interval


def test_a_waiter_that_would_be_too_late_is_rejected_at_once() -> None:
    """A call whose turn comes after its time to wait is rejected before it waits, and the others keep their turns."""
    with virtual_time() as clock:
        limit = RateLimit("backend", rate=1, max_queue=5, max_wait=1.5)
        limit.call(int)
        limit.call(int)
        assert clock.now() == pytest.approx(1.0)
        with deadline(0.5), pytest.raises(LimitExceededError) as caught:
            limit.call(int)
        assert caught.value.retry_after == pytest.approx(1.0)
        assert clock.now() == pytest.approx(1.0)
        assert limit.snapshot().refused == 1


@pytest.mark.parametrize("seconds", [1e12, 1e300])
def test_a_pause_longer_than_clocks_can_sleep(seconds: float) -> None:
    """A pause may be as long as a number can be; who waits for its end sleeps no longer at once than clocks can."""

    class Interrupted(VirtualClock):
        def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            raise InterruptedError

    slept: list[float] = []
    before = clock.install(Interrupted())
    try:
        limit = RateLimit("backend", rate=1, max_queue=1)
        limit.pause(seconds)
        assert not limit.try_acquire()
        with suppress(InterruptedError):
            limit.call(int)
    finally:
        clock.install(before)
    assert slept == [1e9]


def test_other_settings_reach_who_waits() -> None:
    """Whoever sleeps until its turn comes looks again when the rate's settings change."""
    limit = RateLimit("backend", rate=1, per=1000.0, max_queue=1)
    assert limit.try_acquire()
    waiter = threading.Thread(target=limit.call, args=(int,), daemon=True)
    waiter.start()
    end = time.monotonic() + 30
    while not limit.snapshot().queued:
        assert time.monotonic() < end
        time.sleep(0.005)
    limit._take_settings(RateLimit("backend", rate=1000, max_queue=1))
    waiter.join(30)
    assert not waiter.is_alive()


def test_who_waits_in_a_loop_that_is_gone_holds_nobody_up() -> None:
    """A waiter whose event loop was closed leaves the line when another joins."""
    limit = RateLimit("backend", rate=20, burst=1, max_queue=5)
    assert limit.try_acquire()
    loop = asyncio.new_event_loop()
    task = loop.create_task(limit.call_async(asyncio.sleep, 0))
    loop.run_until_complete(asyncio.sleep(0))
    assert limit.snapshot().queued == 1
    loop.close()
    waiter = threading.Thread(target=limit.call, args=(int,), daemon=True)
    waiter.start()
    waiter.join(30)
    assert not waiter.is_alive()
    assert limit.snapshot().queued == 0
    task._log_destroy_pending = False  # it was left behind on purpose
