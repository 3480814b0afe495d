"""The circuit breaker under real threads."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState
from booking_resilience.testing.time import virtual_time
from racing import taking_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState


@pytest.fixture
def eager() -> Iterator[None]:
    """Switch threads as often as the interpreter can."""
    with taking_turns():
        yield


def fails() -> None:
    """Fail."""
    raise OSError


@pytest.mark.parametrize("trial_calls", [1, 3])
@pytest.mark.usefixtures("eager")
def test_of_fifty_threads_at_the_half_open_door_so_many_as_may_get_in(trial_calls: int) -> None:
    """50 threads that ask in the same instant: exactly `trial_calls` are admitted, the others refused."""
    for _ in range(5):
        with virtual_time() as clock, ThreadPoolExecutor(50) as pool:
            breaker = CircuitBreaker("b", failure_threshold=1, trial_calls=trial_calls)
            breaker.acquire().failure()
            clock.advance(30)
            door, inside, leave = threading.Barrier(50), threading.Semaphore(0), threading.Event()

            def work(
                breaker: CircuitBreaker = breaker,
                door: threading.Barrier = door,
                inside: threading.Semaphore = inside,
                leave: threading.Event = leave,
            ) -> bool:
                def trial() -> bool:
                    inside.release()
                    return leave.wait(30)

                door.wait(30)
                try:
                    return breaker.call(trial)
                except CircuitOpenError:
                    inside.release()
                    return False

            results = [pool.submit(work) for _ in range(50)]
            for _ in range(50):
                assert inside.acquire(timeout=30)
            assert breaker.state is HALF_OPEN
            assert breaker.snapshot().refused == 50 - trial_calls
            leave.set()
            assert sum(result.result() for result in results) == trial_calls
            assert breaker.state is CLOSED


@pytest.mark.usefixtures("eager")
def test_failures_and_refusals_of_racing_threads_are_all_counted() -> None:
    """Nothing is lost of 8 threads' failures, then of their refusals."""
    breaker = CircuitBreaker("b", failure_threshold=10**6)

    def work() -> None:
        for _ in range(300):
            with pytest.raises((OSError, CircuitOpenError)):
                breaker.call(fails)

    race(work)
    assert breaker.snapshot().failures == breaker.snapshot().consecutive_failures == 2400
    breaker.isolate("now")
    race(work)
    assert breaker.snapshot().refused == 2400


@pytest.mark.usefixtures("eager")
def test_listeners_see_a_chain_though_threads_race() -> None:
    """Each event begins in the state in which the one before ended, and none is missing."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=0)
    seen: list[BreakerEvent] = []
    breaker.subscribe(seen.append)

    def work() -> None:
        for number in range(100):
            try:
                breaker.call(fails if number % 3 else int)
            except (OSError, CircuitOpenError):
                pass

    race(work)
    assert seen[0].old is CLOSED
    assert all(before.new is after.old for before, after in itertools.pairwise(seen))
    assert seen[-1].new is breaker.state
    assert len(seen) == breaker.snapshot().epoch
    assert sum(event.new is OPEN for event in seen) == breaker.snapshot().trips


@pytest.mark.usefixtures("eager")
def test_late_failures_do_not_open_again_what_was_closed() -> None:
    """Twenty calls that began before a reset fail after it, all at once, and change nothing."""
    breaker, begun, go = CircuitBreaker("b", failure_threshold=1), threading.Semaphore(0), threading.Event()

    def late() -> None:
        begun.release()
        go.wait(30)
        raise OSError

    with ThreadPoolExecutor(20) as pool:
        results = [pool.submit(breaker.call, late) for _ in range(20)]
        for _ in results:
            assert begun.acquire(timeout=30)
        breaker.reset()
        go.set()
        assert all(isinstance(result.exception(), OSError) for result in results)
    counts = breaker.snapshot()
    assert (counts.state, counts.failures, counts.stale) == (CLOSED, 0, 20)


def race(work: Callable[[], object], threads: int = 8) -> None:
    """Run the function in so many threads at once."""
    door = threading.Barrier(threads)

    def run() -> None:
        door.wait(30)
        work()

    with ThreadPoolExecutor(threads) as pool:
        for result in [pool.submit(run) for _ in range(threads)]:
            result.result()
