"""Batches that wait while the breaker is open or a limit is full."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from booking_resilience import (
    BatchResult,
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
    ErrorMonitor,
    LimitExceededError,
    Pipeline,
    RetryPolicy,
    deadline,
    iter_batch,
    run_batch,
    run_batch_async,
)
from booking_resilience.load import ConcurrencyLimit, Fallback, RateLimit
from booking_resilience.testing import VirtualClock
from drivers import LOOPS, Loop
from racing import taking_turns

Run = Callable[..., BatchResult[Any, Any]]


def in_threads(fn: Callable[[Any], Any], items: Any, **how: Any) -> BatchResult[Any, Any]:
    """Run the batch in threads."""
    return run_batch(fn, items, **how)


def in_asyncio(fn: Callable[[Any], Any], items: Any, **how: Any) -> BatchResult[Any, Any]:
    """Run the batch in asyncio's tasks."""
    return _in_tasks(0, fn, items, **how)


def in_trio(fn: Callable[[Any], Any], items: Any, **how: Any) -> BatchResult[Any, Any]:
    """Run the batch in trio's tasks."""
    return _in_tasks(1, fn, items, **how)


def _in_tasks(loop: int, fn: Callable[[Any], Any], items: Any, **how: Any) -> BatchResult[Any, Any]:
    async def later(item: Any) -> Any:
        await LOOPS[loop].pass_on()
        return fn(item)

    result: BatchResult[Any, Any] = LOOPS[loop].run(lambda: run_batch_async(later, items, **how))
    return result


@pytest.fixture(params=[in_threads, in_asyncio, in_trio], ids=lambda run: run.__name__)
def run(request: pytest.FixtureRequest) -> Run:
    """Each kind of batch."""
    found: Run = request.param
    return found


class Outage:
    """A backend that is down for so many seconds, on the virtual clock; it notes every call."""

    def __init__(
        self, clock: VirtualClock, seconds: float, breaker: CircuitBreaker | None = None, *, well: int = 0
    ) -> None:
        self._clock, self._end, self._breaker = clock, seconds, breaker
        self._well = well  # calls that it answers before it goes down
        self._lock, self.calls = threading.Lock(), Counter[Any]()
        self.failed: list[Any] = []
        self.trials: list[Any] = []
        self.trials_at_once = self._trials_now = 0

    def __call__(self, item: Any) -> Any:
        is_trial = self._breaker is not None and self._breaker.state is BreakerState.HALF_OPEN
        with self._lock:
            self.calls[item] += 1
            if is_trial:
                self.trials.append(item)
                self._trials_now += 1
                self.trials_at_once = max(self.trials_at_once, self._trials_now)
        try:
            if self._clock.now() < self._end and self.calls.total() > self._well:
                self.failed.append(item)
                raise ConnectionError("down")
            return item
        finally:
            if is_trial:
                with self._lock:
                    self._trials_now -= 1


def pipeline(breaker: CircuitBreaker | None = None, *, attempts: int = 3, **parts: Any) -> Pipeline:
    """Return a pipeline that retries at once."""
    return Pipeline(retry=RetryPolicy(max_attempts=attempts, base_delay=0.0), breaker=breaker, **parts)


def test_an_outage_fails_no_item(run: Run, virtual_clock: VirtualClock) -> None:
    """Every one of 2,000 items succeeds in spite of an outage of 2 s; one trial at a time, each of another item."""
    breaker, monitor = CircuitBreaker("b", cooldown=0.5), ErrorMonitor()
    backend = Outage(virtual_clock, 2.0, breaker, well=500)  # by then all threads run, and items have been drawn ahead
    result = run(backend, range(2_000), pipeline=pipeline(breaker, attempts=9, monitor=monitor))
    assert [type(outcome.error) for outcome in result.failed] == []
    assert result.values() == list(range(2_000))
    assert backend.trials_at_once == 1
    if run is not in_threads:  # where the thread that draws the items may be late with another one
        assert len(set(backend.trials)) == len(backend.trials)
    assert {record.outcome for record in monitor.recent(100)} <= {"recovered"}
    assert 2.0 <= virtual_clock.now() < 4.0


def test_a_poison_item_fails_alone(run: Run, virtual_clock: VirtualClock) -> None:
    """An item that always fails is the only failure, after its own attempts."""
    breaker = CircuitBreaker("b", failure_threshold=2, cooldown=0.5)

    def work(item: int) -> int:
        if item == 7:
            raise ConnectionError("poison")
        return item

    result = run(work, range(300), pipeline=pipeline(breaker), max_concurrency=1)
    assert [(outcome.item, type(outcome.error)) for outcome in result.failed] == [(7, ConnectionError)]
    assert result.failed[0].attempts == 3


def test_attempts_are_counted_over_all_tries(run: Run, virtual_clock: VirtualClock) -> None:
    """An item is attempted as often as the policy says, trials included, and then fails."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=1.0)
    backend = Outage(virtual_clock, 1e9, breaker)
    result = run(backend, range(4), pipeline=pipeline(breaker), max_concurrency=2)
    assert set(backend.calls.values()) == {3}
    assert [type(outcome.error) for outcome in result.failed] == [ConnectionError] * 4
    assert {outcome.attempts for outcome in result.failed} <= set(range(3, 20))


@pytest.mark.parametrize("how", [{"max_open_wait": 0}, {"max_open_wait": 0.0}])
def test_without_patience_they_fail_as_before(run: Run, virtual_clock: VirtualClock, how: dict[str, Any]) -> None:
    """With `max_open_wait=0` nobody waits."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=60.0)
    backend = Outage(virtual_clock, 1.0, breaker)
    result = run(backend, range(9), pipeline=pipeline(breaker), max_concurrency=1, **how)
    assert [type(outcome.error) for outcome in result.outcomes] == [ConnectionError] + [CircuitOpenError] * 8
    assert virtual_clock.now() == 0.0


def test_patience_ends(run: Run, virtual_clock: VirtualClock) -> None:
    """After `max_open_wait` seconds without a success everything fails as before, and each item is recorded once."""
    breaker, monitor = CircuitBreaker("b", failure_threshold=1, cooldown=60.0), ErrorMonitor()
    backend = Outage(virtual_clock, 1e9, breaker)
    result = run(backend, range(30), pipeline=pipeline(breaker, monitor=monitor), max_concurrency=2, max_open_wait=90.0)
    assert len(result.failed) == 30
    assert virtual_clock.now() == pytest.approx(90.0)
    assert monitor.snapshot().stats.total == 30


def test_an_outer_deadline_ends_the_waiting(run: Run, virtual_clock: VirtualClock) -> None:
    """At an outer deadline nobody waits any more."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=60.0)
    with deadline(20.0):
        result = run(Outage(virtual_clock, 1e9), range(5), pipeline=pipeline(breaker), max_concurrency=2)
    assert len(result.failed) == 5
    assert virtual_clock.now() == pytest.approx(20.0)


def test_nobody_waits_for_an_isolated_breaker(run: Run, virtual_clock: VirtualClock) -> None:
    """An isolated breaker refuses every item at once."""
    breaker = CircuitBreaker("b")
    breaker.isolate("maintenance")
    result = run(Outage(virtual_clock, 0.0), range(5), pipeline=pipeline(breaker))
    assert [type(outcome.error) for outcome in result.outcomes] == [CircuitOpenError] * 5
    assert virtual_clock.now() == 0.0


def test_nobody_waits_with_a_fallback(run: Run, virtual_clock: VirtualClock) -> None:
    """With a fallback each item has its answer at once."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=60.0)
    parts = pipeline(breaker, fallback=Fallback("instead"))
    result = run(Outage(virtual_clock, 1e9), range(5), pipeline=parts, max_concurrency=1)
    assert result.values() == ["instead"] * 5
    assert virtual_clock.now() == 0.0


class Busy:
    """A link to a fleet whose one trial another process makes for half a second."""

    def __init__(self) -> None:
        self.asked, self.until = 0, time.monotonic() + 0.5

    def admit(self, trial: object) -> int | None:
        """Refuse a trial while the other is under way."""
        self.asked += 1
        return 0 if time.monotonic() < self.until else None

    def changed(self, change: object, *, fleet: bool) -> None:
        """Hear what happened."""

    def snapshot(self) -> None:
        """Know nothing of the fleet."""


def test_the_trial_of_a_fleet_is_asked_for_now_and_then(run: Run) -> None:
    """Not as fast as can be, as long as another process makes it; each item succeeds."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=0.0)
    breaker.acquire().failure()
    link: Any = Busy()
    breaker._core.link = link
    result = run(str, range(20), pipeline=pipeline(breaker))
    assert len(result.succeeded) == 20
    assert 0 < link.asked < 40


def test_a_rate_makes_them_wait(run: Run, virtual_clock: VirtualClock) -> None:
    """Items that a rate limit refuses wait until their turn comes."""
    rate = RateLimit("r", rate=10, burst=1)
    result = run(int, range(21), pipeline=pipeline(rate=rate), max_concurrency=4)
    assert result.values() == list(range(21))
    assert virtual_clock.now() == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("has_history", [False, True])
def test_a_full_limit_makes_them_wait(run: Run, has_history: bool) -> None:
    """Items that a full limit refuses wait until a place comes free, which nobody polls for."""
    limit = ConcurrencyLimit("l", limit=1)
    if has_history:
        limit.call(int)  # from now on a refusal says when to come back: at once
    guard = limit.guard()
    guard.__enter__()
    timer = threading.Timer(0.3, guard.__exit__, (None, None, None))
    timer.start()
    result = run(int, range(20), pipeline=pipeline(limit=limit), max_concurrency=3)
    timer.join()
    assert result.values() == list(range(20))
    assert limit.snapshot().in_flight == 0
    assert limit.snapshot().refused < 60


def test_a_reset_lets_them_go(run: Run) -> None:
    """Items that wait go on as soon as the breaker is closed by hand."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=600.0)
    down = threading.Event()
    down.set()

    def work(item: int) -> int:
        if down.is_set():
            raise ConnectionError
        return item

    def reset() -> None:
        down.clear()
        breaker.reset()

    timer = threading.Timer(0.3, reset)
    timer.start()
    result = run(work, range(20), pipeline=pipeline(breaker, attempts=2), max_concurrency=4)
    timer.join()
    assert result.values() == list(range(20))


def test_isolating_ends_the_waiting(run: Run) -> None:
    """Items that wait fail as soon as the breaker is isolated."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=600.0)

    def work(item: int) -> int:
        raise ConnectionError

    timer = threading.Timer(0.3, breaker.isolate, ("maintenance",))
    timer.start()
    result = run(work, range(20), pipeline=pipeline(breaker, attempts=2), max_concurrency=4)
    timer.join()
    assert len(result.failed) == 20


def test_the_waiting_is_logged(run: Run, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """The log tells when the waiting begins and when it ends."""
    caplog.set_level(logging.INFO, "booking_resilience")
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=5.0)
    run(Outage(virtual_clock, 1.0), range(20), pipeline=pipeline(breaker, attempts=2), operation="store")
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("store: the batch")]
    assert told == ["store: the batch waits: the circuit breaker is open", "store: the batch goes on"]


def test_a_strange_limit_fails_the_item(virtual_clock: VirtualClock) -> None:
    """A limit whose error does not say when to come back, and is no part of the pipeline, fails the item at once."""

    def work(_: int) -> None:
        raise LimitExceededError("elsewhere")

    result = run_batch(work, range(3), pipeline=pipeline(rate=RateLimit("r", rate=1000)))
    assert [type(outcome.error) for outcome in result.outcomes] == [LimitExceededError] * 3


def test_a_batch_that_waits_can_be_left() -> None:
    """Leaving the loop early doesn't wait, and the threads that waited end."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=600.0)
    before, succeeded = threading.enumerate(), threading.Event()

    def work(item: int) -> int:
        if item:
            succeeded.wait(10)
            raise ConnectionError
        succeeded.set()
        return item

    for outcome in iter_batch(work, range(100), pipeline=pipeline(breaker), max_concurrency=4):
        assert outcome.value == 0
        while breaker.state is BreakerState.CLOSED:
            time.sleep(0.001)
        break
    for thread in threading.enumerate():
        if thread.name.startswith("batch-") and thread not in before:
            thread.join(10)
            assert not thread.is_alive()


def test_no_thread_waits_for_ever_for_another_item(virtual_clock: VirtualClock) -> None:
    """However the threads take turns, a batch that gives up ends: none waits for an item that another one took."""
    for _ in range(150):
        breaker = CircuitBreaker("b", failure_threshold=1, cooldown=60.0)
        with taking_turns(1e-5), deadline(20.0):
            result = run_batch(Outage(virtual_clock, 1e9), range(5), pipeline=pipeline(breaker), max_concurrency=2)
        assert len(result.failed) == 5


@pytest.mark.parametrize("loop", LOOPS)
def test_patience_begins_anew_with_a_late_success(loop: Loop, virtual_clock: VirtualClock) -> None:
    """A call from before the outage that succeeds during it begins `max_open_wait` anew."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=30.0)

    async def work(item: int) -> None:
        while item == 0 and virtual_clock.now() < 30.0:
            await loop.pass_on()
        if item:
            for _ in range(20):
                await loop.pass_on()
            raise ConnectionError("down")

    how: dict[str, Any] = {"pipeline": pipeline(breaker, attempts=50), "max_concurrency": 3, "max_open_wait": 100.0}
    result: BatchResult[int, None] = loop.run(lambda: run_batch_async(work, range(10), **how))
    assert len(result.failed) == 9
    assert virtual_clock.now() == pytest.approx(130.0)


@pytest.mark.parametrize(("patience", "value", "attempts"), [(300.0, "done", 2), (1.0, "not yet", 1)])
def test_a_rejected_result_waits_for_the_breaker(
    run: Run, virtual_clock: VirtualClock, patience: float, value: str, attempts: int
) -> None:
    """An item whose result is rejected while the breaker is open is tried again; its last result counts."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=5.0)

    def work(item: int) -> str:
        if virtual_clock.now() < 4.0:
            breaker.acquire().failure()
            return "not yet"
        return "done"

    policy = RetryPolicy(base_delay=0.0, retry_on_result=lambda result: result != "done")
    result = run(work, [1], pipeline=Pipeline(retry=policy, breaker=breaker), max_open_wait=patience)
    assert [(outcome.value, outcome.attempts) for outcome in result.succeeded] == [(value, attempts)]
