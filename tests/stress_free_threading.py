"""Every number of a breaker exact under real parallelism: `python tests/stress_free_threading.py [OPERATIONS]`.

Eight threads do so many operations each, at once, on one breaker; then every count is compared with what it must be.
It says something on any build, and most on a free-threaded one.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from booking_resilience.breaker import CircuitBreaker, FailureRate
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 8
OPERATIONS = 1_000_000


def race(work: Callable[[int], None]) -> None:
    """Run the function in all threads at once; the first error comes out."""
    door, errors = threading.Barrier(THREADS), list[BaseException]()

    def run(number: int) -> None:
        door.wait(60)
        try:
            work(number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def fails() -> None:
    """Fail."""
    raise OSError("down")


def refusals(operations: int) -> None:
    """Count every refusal, each with its cause."""
    breaker = CircuitBreaker("refusals")
    breaker.isolate("for the test")
    call = breaker(int)

    def work(_: int) -> None:
        for _ in range(operations):
            try:
                call()
            except CircuitOpenError as error:
                assert (error.cause, error.retry_after) == ("for the test", None)
            else:
                raise AssertionError("it was not refused")

    race(work)
    assert breaker.snapshot().refused == THREADS * operations


def failures(operations: int) -> None:
    """Count every failure, and every call in the window of the rate."""
    breaker = CircuitBreaker(
        "failures", failure_threshold=10**12, failure_rate=FailureRate(1.0, 1e6, 10**12), failure_on=OSError
    )

    few = max(operations // 20, 1)  # each replaces the whole state, in competition with all others

    def work(_: int) -> None:
        for _ in range(few):
            breaker.acquire().failure()

    race(work)
    seen = breaker.snapshot()
    assert seen.failures == seen.consecutive_failures == THREADS * few
    assert sum(bucket.calls for bucket in breaker._core.state.window) == THREADS * few


def late(operations: int) -> None:
    """Count every stale and every ignored result, one each per permit, though all threads settle every permit."""
    breaker = CircuitBreaker("late", failure_on=OSError, ignore=KeyError)
    few = max(operations // THREADS, 1)
    ignored = [breaker.acquire() for _ in range(few)]
    race(lambda _: [permit.failure(KeyError()) for permit in ignored] and None)
    stale = [breaker.acquire() for _ in range(few)]
    breaker.isolate("a new epoch")
    race(lambda _: [permit.failure(OSError()) for permit in stale] and None)
    seen = breaker.snapshot()
    assert (seen.ignored, seen.stale, seen.failures) == (few, few, 0)


def healthy(operations: int) -> None:
    """Pass every call of a healthy backend through, and change nothing."""
    breaker = CircuitBreaker("healthy")
    call, counts = breaker(int), [0] * THREADS

    def work(number: int) -> None:
        for _ in range(operations):
            call()
            counts[number] += 1

    race(work)
    assert sum(counts) == THREADS * operations
    assert breaker.snapshot() == CircuitBreaker("healthy").snapshot()


def trials(operations: int) -> None:
    """Let one trial in at a time, tell of a chain of transitions, and count every one of them."""
    breaker = CircuitBreaker("trials", failure_threshold=1, cooldown=0, failure_on=OSError)
    seen, inside, most = list[BreakerEvent](), [0], [0]
    admitted, refused = [0] * THREADS, [0] * THREADS
    guard = threading.Lock()
    breaker.subscribe(seen.append)
    few = min(max(operations // 100, 10), 300)  # a backlog of more than 1,000 would lose the oldest

    def work(number: int) -> None:
        for turn in range(few):
            try:
                permit = breaker.acquire()
            except CircuitOpenError:
                refused[number] += 1
                continue
            admitted[number] += 1
            is_trial = permit._trial is not None
            if is_trial:
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with guard:
                    inside[0] -= 1
            if (turn + number) % 3:
                permit.failure()
            else:
                permit.success()

    race(work)
    counts = breaker.snapshot()
    assert sum(admitted) + sum(refused) == THREADS * few
    assert counts.refused == sum(refused)
    assert most[0] <= 1
    assert len(seen) == counts.epoch, "no transition was lost, or the backlog was too long"
    assert all(before.new is after.old for before, after in itertools.pairwise(seen))
    assert sum(event.new is BreakerState.OPEN for event in seen) == counts.trips
    assert breaker._core.state.trials == ()


PARTS = (refusals, failures, late, healthy, trials)


def main() -> None:
    """Run every part, and say how long it took."""
    operations = int(sys.argv[1]) if len(sys.argv) > 1 else OPERATIONS
    logging.getLogger("booking_resilience").setLevel(logging.CRITICAL)
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"{sys.version.split()[0]}, {'with' if has_gil else 'without'} the GIL, {THREADS} threads, {operations} each")
    for part in PARTS:
        began = time.perf_counter()
        part(operations)
        print(f"{part.__name__}: exact, {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
