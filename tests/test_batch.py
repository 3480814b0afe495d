"""Batches in threads."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import itertools
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import (
    BatchOutcome,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorMonitor,
    Pipeline,
    RetryBudget,
    RetryPolicy,
    attempts_of,
    deadline,
    iter_batch,
    iter_batch_async,
    remaining_time,
    run_batch,
)
from booking_resilience.testing import VirtualClock
from drivers import AT_ONCE, no_cycles, ours, theirs

LONG = 10  # seconds; only a hang takes so long


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """Fail if a batch's thread outlives the test."""
    yield
    for thread in batch_threads():
        thread.join(LONG)
    assert batch_threads() == []


def batch_threads() -> list[threading.Thread]:
    """Return the threads of batches that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("batch-")]


def test_results_come_in_input_order() -> None:
    """Outcomes stand in the order of the input, whichever item was finished first."""
    first = threading.Event()

    def work(item: str) -> str:
        if item == "a":
            first.wait(LONG)
        else:
            first.set()
        return item.upper()

    result = run_batch(work, "abc", max_concurrency=2)
    assert result.values() == ["A", "B", "C"]
    assert result.outcomes == tuple(BatchOutcome(index, "abc"[index], "ABC"[index], None, 1) for index in range(3))
    assert result.succeeded == result.outcomes
    assert result.failed == ()
    result.raise_if_failed()


def test_outcomes_come_as_they_finish() -> None:
    """`iter_batch` yields what is finished first, first."""
    go = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            go.wait(LONG)
        return item

    outcomes = iter_batch(work, range(3), max_concurrency=2)
    assert {next(outcomes).item, next(outcomes).item} == {1, 2}
    go.set()
    assert [outcome.item for outcome in outcomes] == [0]


@given(items=st.lists(st.sampled_from(["ok", "flaky", "refused", "down"]), max_size=40), concurrency=st.integers(1, 9))
def test_every_item_has_its_own_outcome(items: list[str], concurrency: int) -> None:
    """Whatever the items do, each has one outcome, its own, and none is lost or done twice."""
    lock, calls = threading.Lock(), dict.fromkeys(range(len(items)), 0)

    def work(item: tuple[int, str]) -> int:
        index, kind = item
        with lock:
            calls[index] += 1
            count = calls[index]
        if kind == "down" or (kind == "flaky" and count == 1):
            raise ConnectionError(index)
        if kind == "refused":
            raise ValueError(index)
        return index

    result = run_batch(work, list(enumerate(items)), pipeline=Pipeline(retry=AT_ONCE), max_concurrency=concurrency)
    expected = {"ok": (None, 1), "flaky": (None, 2), "refused": (ValueError, 1), "down": (ConnectionError, 3)}
    assert [outcome.index for outcome in result.outcomes] == list(range(len(items)))
    for outcome, kind in zip(result.outcomes, items, strict=True):
        error, attempts = expected[kind]
        assert outcome.attempts == attempts == calls[outcome.index]
        assert outcome.item == (outcome.index, kind)
        if error is None:
            assert (outcome.value, outcome.error) == (outcome.index, None)
        else:
            assert outcome.value is None
            assert type(outcome.error) is error
            assert outcome.error.args == (outcome.index,)
    assert len(result.succeeded) + len(result.failed) == len(items)


def test_errors_come_out_as_a_group(virtual_clock: VirtualClock) -> None:
    """`raise_if_failed` raises the items' own errors together, in order, with their attempts."""

    def work(item: int) -> int:
        if item % 2:
            raise ConnectionError(item)
        return item

    result = run_batch(work, range(4))
    with pytest.raises(ExceptionGroup, match="2 of 4 items failed") as caught:
        result.raise_if_failed()
    assert [error.args for error in caught.value.exceptions] == [(1,), (3,)]
    assert [len(attempts_of(error)) for error in caught.value.exceptions] == [3, 3]
    assert result.values() == [0, 2]
    assert all(ours(error) <= 3 and theirs(error) == ["work"] for error in caught.value.exceptions)


def test_endless_input_is_drawn_as_needed() -> None:
    """At most twice the concurrency is ahead of what was taken, at every moment, and each item is drawn once."""
    drawn = 0

    def numbers() -> Iterator[int]:
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield number

    outcomes = iter_batch(lambda item: item, numbers(), max_concurrency=3)
    assert drawn == 0
    seen = set()
    for taken in range(1, 200):
        seen.add(next(outcomes).item)
        assert drawn <= taken + 6
    outcomes.close()
    assert len(seen) == 199
    assert max(seen) < drawn


def test_workers_stay_busy_while_outcomes_wait() -> None:
    """A consumer that is slow to take outcomes finds the crew at work: for each one taken, the next item is begun."""
    done: list[int] = []
    full = threading.Event()

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            if number == 7:
                full.set()
            yield number

    def work(item: int) -> None:
        full.wait(LONG)
        done.append(item)

    outcomes = iter_batch(work, numbers(), max_concurrency=4)
    for taken in range(1, 50):
        next(outcomes)
        until(lambda taken=taken: len(done) >= 7 + taken)
    outcomes.close()


def until(ready: Any) -> None:
    """Wait until `ready()` is true; fail if it never is."""
    end = time.monotonic() + LONG
    while not ready():
        assert time.monotonic() < end
        threading.Event().wait(0.001)


def test_two_hung_items_starve_nobody() -> None:
    """Two items that hang take up two places; hundreds of others go on past them."""
    release = threading.Event()

    def work(item: int) -> int:
        if item in (0, 1):
            release.wait(LONG)
        return item

    outcomes = iter_batch(work, range(500), max_concurrency=3)
    seen = [next(outcomes).item for _ in range(498)]
    assert sorted(seen) == list(range(2, 500))
    release.set()
    assert sorted(outcome.item for outcome in outcomes) == [0, 1]


def test_concurrency_is_bounded_and_reached() -> None:
    """As many items as allowed run at a time, and never more."""
    lock, barrier = threading.Lock(), threading.Barrier(4)
    running, most = 0, 0

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(LONG)
        with lock:
            running -= 1
        barrier.wait(LONG)

    assert len(run_batch(work, range(40), max_concurrency=4).succeeded) == 40
    assert most == 4


def test_few_items_need_few_threads() -> None:
    """A batch begins no more threads than it has items."""
    names = run_batch(lambda _: threading.current_thread().name, range(2), max_concurrency=50).values()
    assert set(names) <= {"batch-0", "batch-1"}
    assert run_batch(len, []).outcomes == ()


def test_breaker_and_budget_are_shared(virtual_clock: VirtualClock) -> None:
    """All items of a batch share the pipeline's breaker and budget, and each leaves one record."""
    monitor, breaker = ErrorMonitor(), CircuitBreaker("b", failure_threshold=5)
    policy = RetryPolicy(budget=RetryBudget(initial=1.0))
    calls: list[int] = []

    def work(item: int) -> None:
        calls.append(item)
        raise ConnectionError

    pipeline = Pipeline(retry=policy, breaker=breaker, monitor=monitor)
    result = run_batch(work, range(10), pipeline=pipeline, operation="store", max_concurrency=1, max_open_wait=0)
    assert len(calls) == 5
    assert [type(outcome.error) for outcome in result.outcomes] == [ConnectionError] * 4 + [CircuitOpenError] * 6
    assert [outcome.attempts for outcome in result.outcomes] == [2, 1, 1, 1] + [0] * 6
    assert len(monitor.recent(100)) == 10
    assert {record.operation for record in monitor.recent(100)} == {"store"}


def test_on_item_is_told_and_may_raise(caplog: pytest.LogCaptureFixture) -> None:
    """`on_item` is told of each outcome in the thread that iterates; what it raises is logged."""
    told: list[BatchOutcome[int, int]] = []
    threads = set()

    def on_item(outcome: BatchOutcome[int, int]) -> None:
        told.append(outcome)
        threads.add(threading.current_thread())
        raise RuntimeError("progress bar is broken")

    result = run_batch(lambda item: item * 2, range(5), on_item=on_item)
    assert sorted(told, key=lambda outcome: outcome.index) == list(result.outcomes)
    assert threads == {threading.current_thread()}
    assert caplog.text.count("RuntimeError: progress bar is broken") == 5


def test_items_that_break_off_end_the_batch() -> None:
    """An iterator of items that raises ends the batch with its error, after the outcomes of what was drawn before."""
    error = OSError("disk")

    def items() -> Iterator[int]:
        yield from range(5)
        raise error

    seen = []
    with pytest.raises(OSError, match="disk") as caught:
        for outcome in iter_batch(lambda item: item, items(), max_concurrency=2):
            seen.append(outcome.item)  # noqa: PERF401 - the error comes in between
    assert caught.value is error
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert ours(error) <= 3
    with pytest.raises(OSError, match="disk"):
        run_batch(lambda item: item, items())


def test_interrupting_items_end_the_batch_at_once() -> None:
    """What is no `Exception` passes at once, from the items as from the function."""

    def items() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(lambda item: item, items())

    def exits(item: int) -> int:
        if item == 3:
            raise SystemExit(4)
        return item

    with pytest.raises(SystemExit) as caught:
        run_batch(exits, itertools.count(), max_concurrency=2)
    assert caught.value.code == 4


def test_leaving_early_leaves_no_thread_behind() -> None:
    """After a `break`, no further item is begun, and the threads end."""
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return item

    outcomes = iter_batch(work, itertools.count(), max_concurrency=4)
    for outcome in outcomes:
        if outcome.index >= 20:
            break
    outcomes.close()
    until(lambda: not batch_threads())
    count = len(begun)
    assert list(outcomes) == []
    assert len(begun) == count


def test_a_dropped_batch_leaves_no_thread_behind() -> None:
    """A batch whose iterator is dropped, not closed, ends as well."""
    for _ in iter_batch(str, itertools.count(), max_concurrency=4):
        break
    gc.collect()
    until(lambda: not batch_threads())


def test_leaving_early_waits_for_nobody_and_begins_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call under way is not waited for; one that sleeps before its next attempt makes no more."""
    asleep, wake, hung, calls = threading.Event(), threading.Event(), threading.Event(), []

    def sleep(_: float) -> None:
        asleep.set()
        wake.wait(LONG)

    def work(item: str) -> str:
        calls.append(item)
        if item == "flaky":
            raise ConnectionError
        if item == "hung":
            hung.wait(LONG)
        return item

    monkeypatch.setattr(time, "sleep", sleep)
    breaker = CircuitBreaker("b")
    outcomes = iter_batch(work, ["flaky", "hung", "ok"], pipeline=Pipeline(breaker=breaker), max_concurrency=3)
    assert next(outcomes).item == "ok"
    assert asleep.wait(LONG)
    until(lambda: "hung" in calls)
    outcomes.close()
    wake.set()
    hung.set()
    until(lambda: not batch_threads())
    assert sorted(calls) == ["flaky", "hung", "ok"]
    assert breaker.snapshot().failures <= 1


INTERRUPTED = """
import itertools, sys, threading
from booking_resilience import run_batch
def work(item):
    if item == 20:
        print("ready", flush=True)
    if item >= 20:
        threading.Event().wait()
run_batch(work, itertools.count(), max_concurrency=4)
"""


def test_ctrl_c_stops_promptly() -> None:
    """Ctrl-C ends a batch, and the process, at once, also while every call hangs."""
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LONG)
        assert time.monotonic() - started < 10
        assert process.returncode == -signal.SIGINT
        assert errors.rstrip().endswith(b"KeyboardInterrupt")
    finally:
        process.kill()
        process.communicate()


def test_workers_inherit_context_deadline_and_virtual_time(virtual_clock: VirtualClock) -> None:
    """Each item sees the caller's context variables and deadline, nothing of its neighbours, and virtual time."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    user.set("ada")
    failed: set[int] = set()

    def work(item: int) -> tuple[str, float | None]:
        if item not in failed:
            failed.add(item)
            raise ConnectionError
        seen = user.get(), remaining_time()
        user.set(f"item {item}")
        return seen

    policy = RetryPolicy(jitter=0, deadline=None)
    with deadline(50.0):
        result = run_batch(work, range(3), pipeline=Pipeline(retry=policy), max_concurrency=1)
    assert result.values() == [("ada", pytest.approx(50 - 0.3 * passed)) for passed in (1, 2, 3)]
    assert virtual_clock.sleeps == [0.3] * 3
    assert user.get() == "ada"
    with deadline(1.0):
        virtual_clock.advance(1.0)
        late = run_batch(work, range(3))
    assert [type(outcome.error) for outcome in late.outcomes] == [DeadlineExceededError] * 3
    assert [outcome.attempts for outcome in late.outcomes] == [0, 0, 0]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "8"])
def test_absurd_concurrency_is_refused(value: Any) -> None:
    """`max_concurrency` is a whole number, 1 or more; anything else is refused before anything is drawn."""
    for batch in (iter_batch, run_batch):
        kind = ValueError if type(value) in {int, float} else TypeError
        with pytest.raises(kind, match="max_concurrency must be a whole number, 1 or more"):
            batch(len, ["a"], max_concurrency=value)


def test_what_cannot_be_used_is_refused() -> None:
    """What is no function, no iterable or no pipeline is refused at once."""
    with pytest.raises(TypeError, match="pipeline must be a Pipeline, not RetryPolicy"):
        run_batch(len, ["a"], pipeline=RetryPolicy())
    with pytest.raises(TypeError, match="fn must be a function"):
        iter_batch(3, [])  # type: ignore[arg-type] # that is the point
    with pytest.raises(TypeError, match="pipeline must be a Pipeline"):
        iter_batch(len, [], pipeline=None)  # type: ignore[arg-type] # that is the point
    with pytest.raises(TypeError, match="items must be an iterable, not 3"):
        iter_batch(len, 3)  # type: ignore[arg-type] # that is the point
    with pytest.raises(TypeError, match="items must be an iterable or an asynchronous one, not 3"):
        iter_batch_async(abs, 3)  # type: ignore[arg-type] # that is the point

    async def later(item: int) -> int:
        return item

    def generator(item: int) -> Iterator[int]:
        yield item

    class Later:
        async def __call__(self, item: int) -> int:
            return item

    for function in (later, functools.partial(later), Later(), Later().__call__):
        with pytest.raises(TypeError, match=r"the coroutine function .*; use run_batch_async"):
            run_batch(function, [1])
    for batch in (run_batch, iter_batch, iter_batch_async):
        with pytest.raises(TypeError, match="the generator function"):
            batch(generator, [1])
    assert run_batch(lambda item: later(item), [1]).failed[0].error.args[0].endswith("use run_batch_async")
    for wrong in (later, generator):
        with pytest.raises(TypeError, match="on_item must be a function of the outcome or None"):
            run_batch(len, ["a"], on_item=wrong)


def test_the_operation_is_named_after_the_function(virtual_clock: VirtualClock) -> None:
    """Without a name of its own the operation has the function's."""

    def remind(_: int) -> None:
        raise ConnectionError

    monitor = ErrorMonitor()
    run_batch(remind, [1], pipeline=Pipeline(monitor=monitor))
    assert monitor.recent()[0].operation.endswith("remind")


def test_memory_stays_flat() -> None:
    """A batch of many trivial items holds no more memory at the end than early on."""

    def items() -> Iterator[int]:
        yield from range(9_000)

    early = late = 0
    tracemalloc.start()
    try:
        for number, _ in enumerate(iter_batch(abs, items())):
            if number == 2_000:
                early = tracemalloc.get_traced_memory()[0]
            if number == 8_900:
                late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert late - early < 50_000


def test_no_reference_cycles() -> None:
    """Nothing lives on after a batch that failed, broke off or was left."""

    def fails(_: int) -> None:
        raise ConnectionError

    def breaks() -> Iterator[int]:
        yield 1
        raise OSError

    def exits(_: int) -> None:
        raise SystemExit

    def all_ways() -> None:
        run_batch(fails, range(3), pipeline=Pipeline(retry=AT_ONCE))
        with contextlib.suppress(OSError):
            run_batch(str, breaks())
        with contextlib.suppress(SystemExit):
            run_batch(exits, [1])
        for _ in iter_batch(str, range(9)):
            break
        until(lambda: not batch_threads())

    all_ways()
    gc.collect()
    with no_cycles():
        all_ways()


@pytest.mark.parametrize("started", [1, 2])
def test_a_thread_that_cannot_be_started_loses_no_outcome(started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system gives no more threads, those that are there do the work; with none at all the error comes out."""
    start, left = threading.Thread.start, [started]

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert run_batch(lambda item: item * 2, range(20)).values() == [item * 2 for item in range(20)]
    with pytest.raises(RuntimeError, match="can't start"):
        run_batch(len, ["a"])


def test_where_daemons_are_not_allowed_other_threads_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subinterpreter may refuse daemon threads; the batch works all the same."""
    make = threading.Thread.__init__

    def refusing(thread: threading.Thread, *args: Any, daemon: bool | None = None, **kwargs: Any) -> None:
        if daemon:
            raise RuntimeError("daemon threads are disabled in this interpreter")
        make(thread, *args, daemon=daemon, **kwargs)

    monkeypatch.setattr(threading.Thread, "__init__", refusing)
    assert run_batch(len, ["a", "bc"]).values() == [1, 2]


def test_an_interrupt_while_a_thread_starts_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread whose start an interrupt struck ends with the batch, too."""
    started = []

    class Struck(threading.Thread):
        def start(self) -> None:
            super().start()
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Thread", Struck)
    with pytest.raises(KeyboardInterrupt):
        run_batch(str, [1])
    started[0].join(10)
    assert not started[0].is_alive()


def test_a_generator_is_closed_when_the_batch_ends_and_another_iterator_is_not() -> None:
    """A generator that the items come from is closed with the batch; any other iterator can be drawn from again."""
    closed: list[bool] = []

    def stream() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    kept = stream()
    outcomes = iter_batch(str, kept)
    next(outcomes)
    outcomes.close()
    assert closed == [True]
    numbers = iter(range(100))
    outcomes = iter_batch(str, numbers)
    next(outcomes)
    outcomes.close()
    assert next(numbers) > 0
