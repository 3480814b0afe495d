"""Every number exact under real parallelism: `python tests/stress_free_threading.py [OPERATIONS [PART …]]`.

Eight threads do so many operations each, at once, on one breaker, retry budget, monitor or batch; then every count is
compared with what it must be. It says something on any build, and most on a free-threaded one. The part `scaling`
compares two threads that call a function of about 10 µs with two that call it through a breaker.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
import threading
import time
from typing import TYPE_CHECKING

from booking_resilience import ErrorMonitor, Pipeline, RetryBudget, RetryPolicy, iter_batch
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


def budget(operations: int) -> None:
    """Lose no token, and spend none twice."""
    tokens = RetryBudget(capacity=1e12, initial=0.0, deposit=1.0, cost=2.0)
    spent = [0] * THREADS

    def work(number: int) -> None:
        for _ in range(operations):
            tokens.deposit()
            spent[number] += tokens.try_spend()

    race(work)
    assert tokens.tokens == THREADS * operations - 2 * sum(spent)
    assert 0 <= tokens.tokens < 2 * THREADS


def monitor(operations: int) -> None:
    """Count every record, though only the newest are kept."""
    errors = ErrorMonitor(capacity=100)

    def work(number: int) -> None:
        category = ("booking", "chat")[number % 2]
        for _ in range(operations):
            errors.record(OSError(number), operation=f"operation {number}", category=category)

    race(work)
    stats = errors.stats()
    assert stats.total == stats.failed == THREADS * operations
    assert stats.dropped == THREADS * operations - 100
    assert {kind.value: count for kind, count in stats.by_category.items() if count} == {
        "booking": THREADS * operations / 2, "chat": THREADS * operations / 2
    }  # fmt: skip
    assert [group.count for group in errors.groups()] == [operations] * THREADS


def batch(operations: int) -> None:
    """Give every item to one worker, once, and every outcome to the caller, once."""
    items, done = THREADS * operations, dict[int, list[int]]()

    def double(item: int) -> int:
        done.setdefault(threading.get_ident(), [0])[0] += 1
        if item % 7 == 0:
            raise KeyError(item)
        return 2 * item

    succeeded = failed = total = 0
    pipeline = Pipeline(retry=RetryPolicy(max_attempts=1, deadline=None))
    for outcome in iter_batch(double, range(items), pipeline=pipeline, max_concurrency=THREADS):
        succeeded += outcome.error is None
        failed += outcome.error is not None
        total += outcome.item if outcome.value is None else outcome.value - outcome.item
        assert outcome.attempts == 1
    assert (succeeded, failed) == (items - (items + 6) // 7, (items + 6) // 7)
    assert total == items * (items - 1) // 2
    assert sum(count for (count,) in done.values()) == items


PARTS = (refusals, failures, late, healthy, trials, budget, monitor, batch)


def scaling(rounds: int = 40) -> None:
    """Print how much of a function's throughput in two threads is left through a breaker: of its own, and of one.

    Each round takes the three ways in turn, so that what else the machine does hurts them alike; the best rounds count.
    """
    calls = 5_000
    turns, each = 100, 0.0
    while each < 10e-6:
        turns = round(turns * max(1.05, 10e-6 / each)) if each else turns
        each = min(_seconds([_worker(turns)], 500) for _ in range(20)) / 500
    bare, shared, empty = _worker(turns), CircuitBreaker("shared"), _worker(0)
    ways = {
        "without a breaker": [bare] * 2,
        "through different breakers": [CircuitBreaker(f"breaker {number}")(bare) for number in range(2)],
        "through the same breaker": [shared(bare)] * 2,
    }
    best = dict.fromkeys(ways, math.inf)
    for _ in range(rounds):
        for name, functions in ways.items():
            best[name] = min(best[name], _seconds(functions, calls))
    for name, seconds in best.items():
        share = best["without a breaker"] / seconds
        print(
            f"two threads, {name}: {2 * calls / seconds:.0f} calls/s of {each * 1e6:.0f} µs, {share:.2f} of the first"
        )
    took = min(_seconds([empty, empty], calls) for _ in range(rounds))
    through = min(_seconds([shared(empty)] * 2, calls) for _ in range(rounds))
    print(
        f"an empty function: bare {took / calls * 1e9:.0f} ns, through the same breaker {through / calls * 1e9:.0f} ns"
    )


def _worker(turns: int) -> Callable[[], None]:
    """Return a function that works for so many turns."""

    def work() -> None:
        for _ in range(turns):
            pass

    return work


def _seconds(functions: list[Callable[[], None]], calls: int) -> float:
    """Return the seconds from the common start until each function has been called so often, in a thread of its own."""
    door, ends = threading.Barrier(len(functions) + 1), list[float]()

    def run(function: Callable[[], None]) -> None:
        door.wait(60)
        for _ in range(calls):
            function()
        ends.append(time.perf_counter())

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    door.wait(60)
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return max(ends) - began


def main() -> None:
    """Run every part, or those that are named, and say how long each took."""
    operations = int(sys.argv[1]) if len(sys.argv) > 1 else OPERATIONS
    logging.getLogger("booking_resilience").setLevel(logging.CRITICAL)
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"{sys.version.split()[0]}, {'with' if has_gil else 'without'} the GIL, {THREADS} threads, {operations} each")
    for part in PARTS:
        if part.__name__ not in (sys.argv[2:] or [part.__name__]):
            continue
        began = time.perf_counter()
        part(operations)
        print(f"{part.__name__}: exact, {time.perf_counter() - began:.1f} s", flush=True)
    if "scaling" in (sys.argv[2:] or ["scaling"]):
        scaling()


if __name__ == "__main__":
    main()
