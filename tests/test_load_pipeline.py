"""Pipelines with limits, rates, fallbacks, hedges and timeouts."""

from __future__ import annotations

import asyncio
import functools
import gc
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from booking_resilience import (
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorMonitor,
    LimitExceededError,
    Pipeline,
    RetryPolicy,
    Severity,
    deadline,
    remaining_time,
    retry_attempts,
    run_batch,
)
from booking_resilience.load import AdaptiveLimit, ConcurrencyLimit, Fallback, Hedge, RateLimit, ThreadTimeout
from booking_resilience.load.fallback import is_outage
from booking_resilience.load.limit import Limit
from booking_resilience.load.places import held
from booking_resilience.testing import VirtualClock, virtual_time
from drivers import LOOPS

ONCE = RetryPolicy(max_attempts=1)
Call = Callable[[Pipeline, Callable[[], Any]], Any]


def sync_call(pipeline: Pipeline, fn: Callable[[], Any]) -> Any:
    """Call through the pipeline."""
    return pipeline.call("op", fn)


def protected(pipeline: Pipeline, fn: Callable[[], Any]) -> Any:
    """Call the decorated function."""
    return pipeline.protect("op")(fn)()


def asyncio_call(pipeline: Pipeline, fn: Callable[[], Any]) -> Any:
    """Call through the pipeline, in asyncio."""
    return _call_async(0, pipeline, fn)


def trio_call(pipeline: Pipeline, fn: Callable[[], Any]) -> Any:
    """Call through the pipeline, in trio."""
    return _call_async(1, pipeline, fn)


def protected_async(pipeline: Pipeline, fn: Callable[[], Any]) -> Any:
    """Call the decorated coroutine function, in asyncio."""

    async def later() -> Any:
        return fn()

    return LOOPS[0].run(pipeline.protect("op")(later))


def _call_async(loop: int, pipeline: Pipeline, fn: Callable[[], Any]) -> Any:
    async def later() -> Any:
        return fn()

    return LOOPS[loop].run(lambda: pipeline.call_async("op", later))


@pytest.fixture(params=[sync_call, protected, asyncio_call, trio_call, protected_async], ids=lambda way: way.__name__)
def call(request: pytest.FixtureRequest) -> Call:
    """Each way through a pipeline."""
    found: Call = request.param
    return found


def fails() -> None:
    """Fail as a network does."""
    raise ConnectionError("down")


def answered(status: int) -> Exception:
    """Return an HTTP client's error that holds an answer with this status."""
    error = type("AnswerError", (Exception,), {})(status)
    error.response = type("Response", (), {"status_code": status, "headers": {}})()
    return error  # type: ignore[no-any-return] # an Exception


def opened(**settings: Any) -> CircuitBreaker:
    """Return a breaker that is open."""
    breaker = CircuitBreaker("b", failure_threshold=1, **settings)
    with pytest.raises(ConnectionError):
        breaker.call(fails)
    return breaker


PARTS: dict[str, Any] = {
    "limit": ConcurrencyLimit("l", limit=1),
    "rate": RateLimit("r", rate=1000),
    "fallback": Fallback(None),
    "hedge": Hedge(idempotent=True),
    "timeout": ThreadTimeout(1.0),
}


@pytest.mark.parametrize("role", PARTS)
def test_a_part_in_the_wrong_place_is_refused(role: str) -> None:
    """What is no part of that kind is a `TypeError` that names the argument."""
    others = [part for other, part in PARTS.items() if other != role]
    for wrong in (*others, type(PARTS[role]), CircuitBreaker("b"), 5, "limit", object()):
        with pytest.raises(TypeError, match=f"^{role} must be a"):
            Pipeline(**{role: wrong})
    assert Pipeline(**{role: PARTS[role]}).part(role) is PARTS[role]
    assert Pipeline(limit=AdaptiveLimit("a")).part("rate") is None


def test_a_role_that_is_misspelt_is_refused() -> None:
    """`part` tells a pipeline without a limit from a role that no part has."""
    role: Any = "limits"
    with pytest.raises(ValueError, match=r"role must be one of 'limit', 'rate', .*, not 'limits'"):
        Pipeline().part(role)


def test_a_call_goes_through_all_parts(call: Call) -> None:
    """A pipeline with every part returns what the function returns, and holds a place and a turn meanwhile."""
    limit, rate = ConcurrencyLimit("l", limit=2), RateLimit("r", rate=0.001, burst=5)
    parts: dict[str, Any] = PARTS | {"limit": limit, "rate": rate, "timeout": ThreadTimeout(20.0)}
    pipeline = Pipeline(retry=ONCE, breaker=CircuitBreaker("b"), **parts)
    assert call(pipeline, lambda: limit.snapshot().in_flight) == 1
    assert limit.snapshot().in_flight == 0
    assert sum(rate.try_acquire() for _ in range(9)) == 4


def test_each_attempt_takes_a_place_and_a_turn(call: Call, virtual_clock: VirtualClock) -> None:
    """A retried operation takes a place and a turn for each attempt, and holds no place while it pauses."""
    limit, rate = ConcurrencyLimit("l", limit=1), RateLimit("r", rate=0.001, burst=5)
    calls = []

    def twice() -> int:
        calls.append(limit.snapshot().in_flight)
        if len(calls) < 3:
            raise ConnectionError
        return len(calls)

    assert call(Pipeline(retry=RetryPolicy(deadline=None), limit=limit, rate=rate), twice) == 3
    assert calls == [1, 1, 1]
    assert sum(rate.try_acquire() for _ in range(9)) == 2


@pytest.mark.parametrize("state", ["cooling", "isolated", "on trial"])
def test_a_breaker_refuses_before_anything_is_taken(call: Call, state: str) -> None:
    """A breaker that would refuse now does so although the limit is full, and no turn is taken."""
    breaker = opened(cooldown=0.0 if state == "on trial" else 60.0)
    if state == "isolated":
        breaker.isolate("maintenance")
    permit = breaker.acquire() if state == "on trial" else None
    limit, rate = ConcurrencyLimit("l", limit=1, max_queue=5), RateLimit("r", rate=0.001)
    with limit.guard(), pytest.raises(CircuitOpenError):
        call(Pipeline(retry=ONCE, breaker=breaker, limit=limit, rate=rate), int)
    assert rate.try_acquire()
    assert limit.snapshot().refused == 0
    assert permit is None or permit.release() is None


def test_a_breaker_that_may_let_a_trial_pass_is_asked_last(call: Call) -> None:
    """When the cooldown is over, the call takes a place and becomes the trial."""
    breaker, limit = opened(cooldown=0.0), ConcurrencyLimit("l", limit=1)
    assert call(Pipeline(retry=ONCE, breaker=breaker, limit=limit), int) == 0
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("end", ["deadline", "attempt_timeout", "outer deadline"])
def test_a_wait_ends_with_the_limits_own_error(call: Call, end: str) -> None:
    """At the end of its time a call that waits for a place is refused by the limit, in both colours."""
    limit = ConcurrencyLimit("l", limit=1, max_queue=5)
    is_outer = end == "outer deadline"
    pipeline = Pipeline(retry=RetryPolicy(deadline=None) if is_outer else RetryPolicy(**{end: 0.2}), limit=limit)
    with limit.guard(), pytest.raises(LimitExceededError) as caught, deadline(0.2 if is_outer else 60.0):
        call(pipeline, int)
    assert caught.value.name == "l"
    assert (limit.snapshot().queued, limit.snapshot().refused) == (0, 1)


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "trio"])
def test_a_cancelled_wait_stays_cancelled(loop: Any) -> None:
    """A task that is cancelled while it waits for a place ends by that, and leaves nothing behind."""
    limit = ConcurrencyLimit("l", limit=1, max_queue=5)

    async def later() -> None:
        pass

    async def main() -> None:
        with limit.guard():
            await loop.cancel_when(
                lambda: Pipeline(limit=limit).call_async("op", later), lambda: limit.snapshot().queued == 1
            )
        assert (limit.snapshot().queued, limit.snapshot().in_flight) == (0, 0)

    loop.run(main)


def test_a_limits_refusal_is_a_warning(call: Call) -> None:
    """A limit's refusals are recorded as refused, with severity warning, and are no errors in the rate."""
    limit, monitor = ConcurrencyLimit("l", limit=1), ErrorMonitor()
    with limit.guard(), pytest.raises(LimitExceededError):
        call(Pipeline(limit=limit, monitor=monitor), int)
    (record,) = monitor.recent(10)
    assert (record.outcome, record.severity, record.attempts) == ("refused", Severity.WARNING, 0)
    assert monitor.error_rate == 0.0


class TestFallback:
    """What comes out, and what is recorded."""

    @pytest.mark.parametrize(("fn", "attempts"), [(fails, 1), (None, 0)], ids=["failed", "refused"])
    def test_it_replaces_what_failed(self, call: Call, fn: Any, attempts: int) -> None:
        """The answer comes out, and one record says what it replaced."""
        monitor = ErrorMonitor()
        breaker = CircuitBreaker("b") if fn else opened()
        answers: list[BaseException] = []

        def answer(error: BaseException) -> str:
            answers.append(error)
            return "instead"

        pipeline = Pipeline(retry=ONCE, breaker=breaker, monitor=monitor, fallback=Fallback(answer))
        assert call(pipeline, fn or int) == "instead"
        (record,) = monitor.recent(10)
        assert (record.outcome, record.severity, record.attempts) == ("fell_back", Severity.WARNING, attempts)
        assert type(answers[0]) is (ConnectionError if fn else CircuitOpenError)
        assert monitor.snapshot().stats.fell_back == 1

    def test_a_constant_error_is_recorded_at_each_call(self, call: Call) -> None:
        """An error that is raised again by a later call is recorded again."""
        monitor, error = ErrorMonitor(), ConnectionError("always the same")

        def fails_alike() -> None:
            raise error

        pipeline = Pipeline(retry=ONCE, monitor=monitor, fallback=Fallback(7))
        assert [call(pipeline, fails_alike) for _ in range(3)] == [7, 7, 7]
        assert monitor.stats().fell_back == 3

    def test_an_error_that_hides_its_attributes_is_recorded(self, call: Call) -> None:
        """An error that can't carry its attempts is replaced and recorded as any other."""

        class Stubborn(ConnectionError):  # noqa: N818 - it is a fake
            @property
            def __dict__(self) -> Any:  # type: ignore[override] # that is the point
                raise RuntimeError("no attributes")

        def fails_so() -> None:
            raise Stubborn

        monitor = ErrorMonitor()
        assert call(Pipeline(retry=ONCE, monitor=monitor, fallback=Fallback(7)), fails_so) == 7
        assert [record.outcome for record in monitor.recent(10)] == ["fell_back"]

    def test_it_hides_no_mistake(self, call: Call) -> None:
        """A mistake comes out, and is recorded as what it is."""
        monitor = ErrorMonitor()
        with pytest.raises(KeyError):
            call(Pipeline(monitor=monitor, fallback=Fallback(None)), lambda: {}["missing"])
        assert [record.outcome for record in monitor.recent(10)] == ["failed"]

    def test_a_refusal_that_it_does_not_accept_stays_one(self, call: Call) -> None:
        """What isn't replaced is recorded as without a fallback."""
        monitor = ErrorMonitor()
        with pytest.raises(CircuitOpenError):
            call(Pipeline(breaker=opened(), monitor=monitor, fallback=Fallback(None, on=KeyError)), int)
        assert [record.outcome for record in monitor.recent(10)] == ["refused"]

    def test_its_own_failure_has_the_cause(self, call: Call) -> None:
        """If the function fails, its error comes out, with the operation's as its cause; one record is made."""
        monitor = ErrorMonitor()

        def answer(_: BaseException) -> Any:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            call(Pipeline(retry=ONCE, monitor=monitor, fallback=Fallback(answer)), fails)
        assert type(caught.value.__cause__) is ConnectionError
        assert [record.outcome for record in monitor.recent(10)] == ["failed"]

    def test_raising_the_same_error_makes_no_circle(self, call: Call) -> None:
        """A function may raise the error that it was given."""

        def answer(error: BaseException) -> Any:
            raise error

        with pytest.raises(ConnectionError) as caught:
            call(Pipeline(retry=ONCE, fallback=Fallback(answer)), fails)
        assert caught.value.__cause__ is None

    def test_a_deadline_that_had_passed(self, call: Call) -> None:
        """A deadline that had passed before the first attempt is replaced, too."""
        monitor = ErrorMonitor()
        with deadline(0.0):
            assert call(Pipeline(monitor=monitor, fallback=Fallback(7)), int) == 7
        assert [record.outcome for record in monitor.recent(10)] == ["fell_back"]

    def test_a_filter_that_raises_accepts_nothing(self, call: Call, caplog: pytest.LogCaptureFixture) -> None:
        """What `on` raises is logged, and the operation's own error comes out."""

        def on(_: BaseException) -> bool:
            raise RuntimeError("a bug")

        with pytest.raises(ConnectionError):
            call(Pipeline(retry=ONCE, fallback=Fallback(None, on=on)), fails)
        assert "on raised" in caplog.text

    @pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "trio"])
    def test_an_asynchronous_function(self, loop: Any) -> None:
        """In an asynchronous call the function may be a coroutine function; in a synchronous one not."""

        async def answer(error: BaseException) -> str:
            await loop.pass_on()
            return type(error).__name__

        async def later() -> None:
            fails()

        pipeline = Pipeline(retry=ONCE, fallback=Fallback(answer))
        assert loop.run(lambda: pipeline.call_async("op", later)) == "ConnectionError"
        with pytest.raises(TypeError, match="awaitable") as caught:
            pipeline.call("op", fails)
        assert type(caught.value.__cause__) is ConnectionError

    @pytest.mark.parametrize(
        ("error", "is_replaced"),
        [
            (answered(499), False),
            (answered(500), True),
            (answered(501), True),
            (KeyError(), False),
            (KeyboardInterrupt(), False),
            (CircuitOpenError("b"), True),
            (ExceptionGroup("", [LimitExceededError("l"), answered(501), TimeoutError()]), True),
            (ExceptionGroup("", [LimitExceededError("l"), KeyError()]), False),
        ],
        ids=repr,
    )
    def test_what_it_stands_in_for(self, error: BaseException, is_replaced: bool) -> None:
        """Outages are a backend's own failures and this library's refusals; an interrupt is replaced by no filter."""
        assert is_outage(error) is is_replaced
        assert Fallback(None).accepts(error) is is_replaced
        assert Fallback(None, on=BaseException).accepts(error) is isinstance(error, Exception)

    def test_its_words(self, caplog: pytest.LogCaptureFixture) -> None:
        """Errors and logs name what was given wrongly."""

        async def later(_: BaseException) -> None:
            pass

        with pytest.raises(TypeError, match=r"^on must be "):
            Fallback(None, on=5)  # type: ignore[arg-type] # on purpose
        words = (
            "^Fallback, in a synchronous call, was given a function that returns an awaitable; use a plain function$"
        )
        with pytest.raises(TypeError, match=words):
            Fallback(later).answer(KeyError())
        assert not Fallback(None, on=lambda error: later(error)).accepts(KeyError())

        def on(_: BaseException) -> bool:
            raise RuntimeError

        assert not Fallback(None, on=on).accepts(KeyError())
        assert [record.name for record in caplog.records] == ["booking_resilience.load"] * 2
        assert caplog.messages[1].startswith("on raised")

    def test_a_value_is_never_awaited(self) -> None:
        """A value that isn't a function comes out as it is, in both colours."""

        class Later:
            def __await__(self) -> Any:
                raise AssertionError

        value = Later()
        assert Fallback(value).answer(KeyError()) is value
        assert LOOPS[0].run(lambda: Fallback(value).answer_async(KeyError())) is value

    @pytest.mark.parametrize("raised", [ZeroDivisionError(), None], ids=["another", "the same"])
    def test_the_failure_of_an_asynchronous_function(self, raised: Exception | None) -> None:
        """What a coroutine function raises has the operation's error as its cause, if it isn't that itself."""
        error = KeyError()

        async def answer(given: BaseException) -> None:
            raise raised or given

        with pytest.raises((ZeroDivisionError, KeyError)) as caught:
            LOOPS[0].run(lambda: Fallback(answer).answer_async(error))
        assert caught.value is (raised or error)
        assert caught.value.__cause__ is (raised and error)

    def test_batches(self, virtual_clock: VirtualClock) -> None:
        """Each item of a batch falls back by itself."""

        def work(item: int) -> int:
            if item % 2:
                fails()
            return item

        result = run_batch(work, range(4), pipeline=Pipeline(fallback=Fallback(-1)))
        assert result.values() == [0, -1, 2, -1]


class TestHedge:
    """A second call, and what it holds."""

    def test_a_second_call_takes_a_place_and_a_turn(self) -> None:
        """While both calls run, two places are taken; when they have ended, none; and two turns."""
        limit, rate = ConcurrencyLimit("l", limit=2), RateLimit("r", rate=0.001, burst=5)
        release, seen = threading.Event(), []

        def slow() -> int:
            seen.append(limit.snapshot().in_flight)
            if len(seen) == 1:
                release.wait(20)
            return len(seen)

        hedge = Hedge(idempotent=True, delay=0.02, max_extra=1.0)
        assert Pipeline(retry=ONCE, limit=limit, rate=rate, hedge=hedge).call("op", slow) == 2
        assert seen == [1, 2]
        assert limit.snapshot().in_flight == 1  # the abandoned thread keeps its place
        release.set()
        until(lambda: limit.snapshot().in_flight == 0)
        assert sum(rate.try_acquire() for _ in range(9)) == 3

    @pytest.mark.parametrize("full", ["limit", "rate"])
    def test_without_room_there_is_no_second_call(self, full: str) -> None:
        """Where a place or a turn is wanting, the first call stays the only one, and nothing is lost."""
        limit = ConcurrencyLimit("l", limit=1 if full == "limit" else 5)
        rate = RateLimit("r", rate=0.001, burst=1 if full == "rate" else 5)
        hedge, calls = Hedge(idempotent=True, delay=0.0, max_extra=1.0), []

        def slow() -> None:
            calls.append(1)
            threading.Event().wait(0.1)

        Pipeline(retry=ONCE, limit=limit, rate=rate, hedge=hedge).call("op", slow)
        assert len(calls) == 1
        assert limit.snapshot().in_flight == 0

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_an_exit_comes_out_at_once(self, kind: type[BaseException]) -> None:
        """What is no `Exception` isn't waited away for the other call's success."""
        calls: list[int] = []
        second = asyncio.Event()

        def exits() -> None:
            calls.append(1)
            if len(calls) == 1:
                until(lambda: len(calls) == 2)
                raise kind
            threading.Event().wait(2.0)

        async def exits_async() -> None:
            calls.append(1)
            if len(calls) == 1:
                await second.wait()
                raise kind
            second.set()
            await asyncio.sleep(30)

        with pytest.raises(kind):
            Hedge(idempotent=True, delay=0.01, max_extra=1.0).call(exits)
        calls.clear()
        with pytest.raises(kind):
            asyncio.run(Hedge(idempotent=True, delay=0.01, max_extra=1.0).call_async(exits_async))

    @pytest.mark.parametrize("parts", [{}, {"timeout": ThreadTimeout(20.0)}], ids=["plain", "with a timeout"])
    def test_another_pipeline_around_it_is_asked_for_nothing(self, parts: Any) -> None:
        """A second call takes a place of its own pipeline's limit, and none of one around that."""
        outer, inner = ConcurrencyLimit("outer", limit=2), ConcurrencyLimit("inner", limit=2)
        release, seen = threading.Event(), []

        def slow() -> None:
            seen.append((outer.snapshot().in_flight, inner.snapshot().in_flight))
            if len(seen) == 1:
                release.wait(20)

        hedged = Pipeline(retry=ONCE, limit=inner, hedge=Hedge(idempotent=True, delay=0.02, max_extra=1.0))
        Pipeline(retry=ONCE, limit=outer, **parts).call("op", hedged.call, "op", slow)
        release.set()
        assert seen == [(1, 1), (1, 2)]

    @pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "trio"])
    def test_places_of_tasks(self, loop: Any) -> None:
        """A second task holds a place until it has ended, and the first one's is free with the operation."""
        limit, seen = ConcurrencyLimit("l", limit=2), list[int]()

        async def slow() -> int:
            seen.append(limit.snapshot().in_flight)
            if len(seen) == 1:
                await loop.hang()
            return len(seen)

        async def main() -> None:
            hedge = Hedge(idempotent=True, delay=0.02, max_extra=1.0)
            assert await Pipeline(retry=ONCE, limit=limit, hedge=hedge).call_async("op", slow) == 2
            assert seen == [1, 2]
            assert limit.snapshot().in_flight == 0

        loop.run(main)

    @pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "trio"])
    def test_a_loser_that_fails_while_it_is_cancelled(self, loop: Any, caplog: pytest.LogCaptureFixture) -> None:
        """What a cancelled call raises in the end is nobody's: the winner's result comes out, and nothing is logged."""
        calls = []

        async def slow() -> int:
            calls.append(1)
            if len(calls) == 2:
                return 2
            try:
                await loop.hang()
            finally:
                raise ZeroDivisionError

        async def main() -> None:
            assert await Hedge(idempotent=True, delay=0.0, max_extra=1.0).call_async(slow) == 2
            await loop.pass_on()

        loop.run(main)
        gc.collect()
        assert caplog.text == ""

    def test_the_wrong_colour(self) -> None:
        """A function of the wrong colour is a `TypeError` in both."""
        hedge = Hedge(idempotent=True)

        async def later() -> None:
            pass

        with pytest.raises(TypeError, match="awaitable"):
            Pipeline(hedge=hedge).call("op", later)
        with pytest.raises(TypeError, match="not async"):
            LOOPS[0].run(lambda: Pipeline(hedge=hedge).call_async("op", int))  # type: ignore[arg-type] # on purpose


class TestThreadTimeout:
    """What hangs is left behind."""

    def test_an_abandoned_call_keeps_its_place(self) -> None:
        """The place comes back when the thread has ended, and not before."""
        limit, release = ConcurrencyLimit("l", limit=1), threading.Event()
        pipeline = Pipeline(retry=ONCE, limit=limit, timeout=ThreadTimeout(0.05))
        with pytest.raises(TimeoutError, match=r"0\.05 s"):
            pipeline.call("op", release.wait, 20)
        assert limit.snapshot().in_flight == 1
        with pytest.raises(LimitExceededError):
            pipeline.call("op", int)
        release.set()
        until(lambda: limit.snapshot().in_flight == 0)
        assert pipeline.call("op", int) == 0

    def test_an_abandoned_call_keeps_the_places_around_it(self) -> None:
        """What pipelines around it hold, with limits of their own, comes back with the thread's end, too."""
        outer, inner, release = ConcurrencyLimit("o", limit=1), ConcurrencyLimit("i", limit=1), threading.Event()
        abandoning = Pipeline(retry=ONCE, limit=inner, timeout=ThreadTimeout(0.05))
        around = Pipeline(retry=ONCE, limit=outer, timeout=ThreadTimeout(20.0))
        with pytest.raises(TimeoutError):
            around.call("op", abandoning.call, "op", release.wait, 20)
        assert (outer.snapshot().in_flight, inner.snapshot().in_flight) == (1, 1)
        release.set()
        until(lambda: (outer.snapshot().in_flight, inner.snapshot().in_flight) == (0, 0))

    def test_at_the_deadline(self) -> None:
        """At the operation's deadline it is `DeadlineExceededError`, of which nothing is retried."""
        release, calls = threading.Event(), []

        def hangs() -> None:
            calls.append(remaining_time())
            release.wait(20)

        with pytest.raises(DeadlineExceededError):
            Pipeline(retry=RetryPolicy(deadline=0.1), timeout=ThreadTimeout(10.0)).call("op", hangs)
        release.set()
        assert len(calls) == 1

    def test_at_the_end_of_the_attempt(self) -> None:
        """At the attempt's own end it is a `TimeoutError`, which is retried."""
        release, calls = threading.Event(), []

        def hangs() -> None:
            calls.append(1)
            release.wait(20)

        policy = RetryPolicy(max_attempts=2, base_delay=0.0, attempt_timeout=0.05, deadline=20.0)
        with pytest.raises(TimeoutError) as caught:
            Pipeline(retry=policy, timeout=ThreadTimeout(10.0)).call("op", hangs)
        assert not isinstance(caught.value, DeadlineExceededError)
        assert len(calls) == 2
        with pytest.raises(TimeoutError) as caught:
            for attempt in retry_attempts(policy=policy):
                with attempt, deadline(10.0):
                    ThreadTimeout(10.0).call(hangs)
        release.set()
        assert not isinstance(caught.value, DeadlineExceededError)
        assert len(calls) == 4

    def test_too_many_abandoned_calls(self) -> None:
        """With as many abandoned calls as may be, the next is refused without a thread."""
        release = threading.Event()
        timeout = ThreadTimeout(0.02, max_abandoned=2)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                timeout.call(release.wait, 20)
        with pytest.raises(LimitExceededError):
            timeout.call(int)
        release.set()

        def is_free() -> bool:
            try:
                return timeout.call(int) == 0
            except LimitExceededError:
                return False

        until(is_free)

    @pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "trio"])
    def test_tasks_are_cut_off(self, loop: Any) -> None:
        """An asynchronous call is cancelled, by its own time or by a deadline around it."""
        timeout = ThreadTimeout(0.05)
        with pytest.raises(TimeoutError, match=r"^ThreadTimeout: the attempt took too long"):
            loop.run(lambda: Pipeline(retry=ONCE, timeout=timeout).call_async("op", loop.hang))
        with deadline(0.05), pytest.raises(DeadlineExceededError):
            loop.run(lambda: ThreadTimeout(20.0).call_async(loop.hang))
        loop.run(lambda: ThreadTimeout(20.0).call_async(loop.pass_on))

    @pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "trio"])
    def test_a_breaker_within(self, loop: Any) -> None:
        """A task that its own time cuts off has failed to a breaker within; one that a deadline does says nothing."""
        breaker = CircuitBreaker("b", failure_threshold=1)
        with deadline(0.05), pytest.raises(DeadlineExceededError):
            loop.run(lambda: ThreadTimeout(20.0).call_async(breaker.call_async, loop.hang))
        assert breaker.state is BreakerState.CLOSED
        with pytest.raises(TimeoutError):
            loop.run(lambda: ThreadTimeout(0.05).call_async(breaker.call_async, loop.hang))
        assert breaker.state is BreakerState.OPEN


def test_a_rate_inside_of_a_limit_is_no_latency(virtual_clock: VirtualClock) -> None:
    """An adaptive limit around a rate that makes calls wait does not take the wait for the backend's."""
    limit = AdaptiveLimit("l", initial=4)
    pipeline = Pipeline(retry=ONCE, limit=limit, rate=RateLimit("r", rate=1, burst=50, max_queue=99))

    def work() -> None:
        virtual_clock.advance(0.01)

    for _ in range(150):
        pipeline.call("op", work)
    assert limit.snapshot().limit == 4


@pytest.mark.parametrize(
    "part",
    [Hedge(idempotent=True), ThreadTimeout(20.0), ConcurrencyLimit("l", limit=1), RateLimit("r", rate=1000)],
    ids=lambda part: type(part).__name__,
)
def test_parts_alone(part: Any) -> None:
    """Arguments reach the function in both colours; what is no function, or one of the wrong colour, is rejected."""

    def now(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    async def later(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def body() -> Iterator[int]:
        yield 1

    class Answer:
        def __await__(self) -> Iterator[Any]:
            return later(3).__await__()

    kind, loop = type(part).__name__, LOOPS[0]
    assert loop.run(lambda: part.call_async(Answer)) == ((3,), {})
    for args, kwargs in [((), {}), ((1,), {}), ((), {"two": 2}), ((1,), {"two": 2})]:
        assert part.call(now, *args, **kwargs) == (args, kwargs)
        assert loop.run(functools.partial(part.call_async, later, *args, **kwargs)) == (args, kwargs)
        if isinstance(part, Limit):
            assert part(now)(*args, **kwargs) == (args, kwargs)
            assert loop.run(functools.partial(part(later), *args, **kwargs)) == (args, kwargs)
    for fn, words in [
        (later, f"^{kind}.call was given a function that returns an awaitable; use call_async$"),
        (body, f"^{kind}.call was given the generator function .+, whose body runs after it returned$"),
        (5, "^fn must be a function, not 5; pass the function itself, not its result$"),
    ]:
        with pytest.raises(TypeError, match=words):
            part.call(fn)
    for fn, words in [
        (int, f"^{kind}.call_async was given .+, which is not async and has already run; use call$"),
        (body, f"^{kind}.call_async was given the generator function .+, whose body runs after it returned$"),
        (5, "^fn must be a function, not 5"),
    ]:
        with pytest.raises(TypeError, match=words):
            loop.run(functools.partial(part.call_async, fn))


@pytest.mark.parametrize("part", [{"hedge": Hedge(idempotent=True)}, {"timeout": ThreadTimeout(20.0)}], ids=str)
def test_a_call_that_is_over_holds_nothing(part: dict[str, Any]) -> None:
    """Arguments pass through a limit around such a part, and what the call held is held no more."""

    def inside(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs, [limit for limit, _ in held.get()]

    async def inside_async(*args: Any, **kwargs: Any) -> Any:
        return inside(*args, **kwargs)

    limit = ConcurrencyLimit("l", limit=1)
    pipeline = Pipeline(retry=ONCE, limit=limit, **part)

    async def main() -> None:
        assert await pipeline.call_async("op", inside_async, 1, two=2) == ((1,), {"two": 2}, [limit])
        assert held.get() == ()

    assert pipeline.call("op", inside, 1, two=2) == ((1,), {"two": 2}, [limit])
    assert held.get() == ()
    for loop in LOOPS:
        loop.run(main)


def test_errors_of_thread_timeouts_name_what_is_wrong() -> None:
    """Calls that took too long, and rejected ones, are told of by name."""
    timeout, release = ThreadTimeout(0.01, max_abandoned=1), threading.Event()
    with pytest.raises(TimeoutError, match=r"longer than 0\.01 s; it goes on in its thread$"):
        timeout.call(release.wait, 20)
    with pytest.raises(LimitExceededError) as caught:
        timeout.call(int)
    release.set()
    assert caught.value.name == "ThreadTimeout"


def test_words_of_thread_timeouts_at_a_deadline() -> None:
    """They say which deadline it was, and whether a call goes on."""
    release = threading.Event()
    goes_on = r"^the deadline passed; the call goes on in its thread$"
    with deadline(0.02), pytest.raises(DeadlineExceededError, match=goes_on) as caught:
        ThreadTimeout(20.0).call(release.wait, 20)
    policy = RetryPolicy(max_attempts=1, attempt_timeout=0.02, deadline=20.0)
    with pytest.raises(TimeoutError, match=r"^the attempt took too long; the call goes on in its thread\n"):
        Pipeline(retry=policy, timeout=ThreadTimeout(20.0)).call("op", release.wait, 20)
    release.set()
    assert caught.value.end is not None
    with deadline(0.0), pytest.raises(DeadlineExceededError, match=r"^the deadline passed$"):
        ThreadTimeout(20.0).call(int)


def test_pickling() -> None:
    """A pipeline with parts can't be pickled: the copy would not share them."""
    with pytest.raises(TypeError, match="limit"):
        pickle.dumps(Pipeline(limit=ConcurrencyLimit("l", limit=1)))


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    for _ in range(2_000):
        if condition():
            return
        threading.Event().wait(0.005)
    pytest.fail("it did not come true")


def test_a_thread_timeout_after_the_deadline() -> None:
    """A call whose deadline is over isn't begun, in a thread or in a task."""
    calls: list[int] = []

    async def later() -> None:
        calls.append(1)

    with deadline(0.0), pytest.raises(DeadlineExceededError):
        ThreadTimeout(1.0).call(calls.append, 1)
    for loop in LOOPS:
        with deadline(0.0), pytest.raises(DeadlineExceededError):
            loop.run(lambda: ThreadTimeout(1.0).call_async(later))
    assert not calls


@pytest.mark.parametrize(("policy", "left"), [({"deadline": 0.05}, 20), ({"attempt_timeout": 0.05}, 10)], ids=str)
def test_timeouts_that_the_deadline_cuts_short(
    virtual_clock: VirtualClock, policy: dict[str, float], left: int
) -> None:
    """A client's timeout says nothing of the backend if it comes because the operation has no time left."""
    limit = AdaptiveLimit("l", initial=20)

    def times_out() -> None:
        virtual_clock.advance(remaining_time() or 0.0)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        Pipeline(retry=RetryPolicy(max_attempts=1, **policy), limit=limit).call("op", times_out)
    assert limit.snapshot().limit == left


def test_a_clients_own_timeout_that_is_longer_than_the_deadline(virtual_clock: VirtualClock) -> None:
    """It halves the limit: nothing has cut it short, and the backend was given all that time."""
    limit = AdaptiveLimit("l", initial=20)

    def times_out() -> None:
        virtual_clock.advance(5.0)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        Pipeline(retry=RetryPolicy(max_attempts=1, deadline=4.0), limit=limit).call("op", times_out)
    assert limit.snapshot().limit == 10


@pytest.mark.parametrize("end", ["deadline", "attempt_timeout"])
def test_a_refusal_after_a_wait_counts_those_who_still_wait(call: Call, end: str) -> None:
    """Who waited until its time was over isn't part of the queue that its own `retry_after` tells of."""
    limit = ConcurrencyLimit("l", limit=1, max_queue=5)
    limit._mean_held = 3.0
    with limit.guard(), pytest.raises(LimitExceededError) as caught:
        call(Pipeline(retry=RetryPolicy(max_attempts=1, **{end: 0.1}), limit=limit), int)
    assert caught.value.retry_after == 3.0


def test_calls_that_outlast_virtual_time_teach_nothing() -> None:
    """A call that began by a virtual clock and ends by the machine's leaves no negative times behind."""
    limit = AdaptiveLimit("l", initial=1)
    with virtual_time() as clock:
        clock.advance(1_000)
        guard = limit.guard()
        guard.__enter__()
    guard.__exit__(None, None, None)
    assert limit._gradient._answers == 0
    with limit.guard(), pytest.raises(LimitExceededError) as caught:
        limit.call(int)
    assert caught.value.retry_after is None


def test_three_thirds_pay_for_a_second_call() -> None:
    """The bucket is exact: with `max_extra` of a third, the third call may be hedged."""
    hedge = Hedge(idempotent=True, delay=0.0, max_extra=1 / 3)
    assert [(hedge._begin(), hedge._admit())[1] for _ in range(6)] == [None, None, (), None, None, ()]


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "trio"])
@pytest.mark.parametrize(("end", "left"), [("deadline", 20), ("attempt_timeout", 10)])
@pytest.mark.parametrize("way", ["hang", "hang_in_tasks"])
@pytest.mark.parametrize("time", [nullcontext, virtual_time])
def test_what_cuts_an_adaptive_limit(loop: Any, end: str, left: int, way: str, time: Any) -> None:
    """The attempt's own limit is a timeout of the backend; the operation's deadline says nothing."""
    limit = AdaptiveLimit("l", initial=20)
    pipeline = Pipeline(retry=RetryPolicy(max_attempts=1, **{end: 0.02}), limit=limit)
    with pytest.raises(TimeoutError), time():
        loop.run(lambda: pipeline.call_async("op", getattr(loop, way)))
    assert limit.snapshot().limit == left
