"""The pipeline: retry around breaker around the call, watched by a monitor."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from booking_resilience import (
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorCategory,
    ErrorMonitor,
    Pipeline,
    RetryBudget,
    RetryPolicy,
    Severity,
    attempts_of,
    deadline,
    remaining_time,
)
from booking_resilience.events import BreakerState
from booking_resilience.load import Fallback
from booking_resilience.testing import VirtualClock
from drivers import AT_ONCE, EXACT, LOOPS, Loop, Script, no_cycles, ours, theirs

OPEN, CLOSED, HALF_OPEN = BreakerState.OPEN, BreakerState.CLOSED, BreakerState.HALF_OPEN
Call = Callable[..., Any]


def sync_call(pipeline: Pipeline, script: Script) -> Any:
    """Call the script through the pipeline."""
    return pipeline.call("op", script)


def asyncio_call(pipeline: Pipeline, script: Script) -> Any:
    """Call the script through the pipeline, in asyncio."""
    return LOOPS[0].run(lambda: pipeline.call_async("op", script.later))


def trio_call(pipeline: Pipeline, script: Script) -> Any:
    """Call the script through the pipeline, in trio."""
    return LOOPS[1].run(lambda: pipeline.call_async("op", script.later))


def protected(pipeline: Pipeline, script: Script) -> Any:
    """Call the script, decorated."""
    return pipeline.protect("op")(script)()


def protected_async(pipeline: Pipeline, script: Script) -> Any:
    """Call the script, decorated, in asyncio."""
    return LOOPS[0].run(pipeline.protect("op")(script.later))


@pytest.fixture(params=[sync_call, asyncio_call, trio_call, protected, protected_async], ids=lambda way: way.__name__)
def call(request: pytest.FixtureRequest) -> Call:
    """Each way through a pipeline."""
    return request.param


def notes_of(error: BaseException) -> str:
    """Return the error's notes as one text."""
    return "\n".join(error.__notes__)


class TestOrder:
    """deadline( retry + budget( breaker( call )))."""

    def test_each_attempt_passes_through_the_breaker(self, call: Call, virtual_clock: VirtualClock) -> None:
        """The breaker counts every attempt, not every operation."""
        breaker = CircuitBreaker("b")
        pipeline = Pipeline(retry=EXACT, breaker=breaker)
        with pytest.raises(ConnectionError):
            call(pipeline, Script(ConnectionError()))
        assert breaker.snapshot().consecutive_failures == 3
        assert call(pipeline, Script(ConnectionError(), 7)) == 7
        assert breaker.snapshot().consecutive_failures == 0
        assert virtual_clock.sleeps == [0.3, 0.6, 0.3]

    def test_the_attempt_that_trips_is_the_last(self, call: Call, virtual_clock: VirtualClock) -> None:
        """It ends the retrying at once, without another sleep, and its own error comes out."""
        breaker, script, budget = (
            CircuitBreaker("b", failure_threshold=2),
            Script(ConnectionError("own")),
            RetryBudget(),
        )
        with pytest.raises(ConnectionError, match="own") as caught:
            call(Pipeline(retry=RetryPolicy(jitter=0, max_attempts=9, budget=budget), breaker=breaker), script)
        assert (script.calls, virtual_clock.sleeps, breaker.state, budget.tokens) == (2, [0.3], OPEN, 4.0)
        assert "(circuit_open)" in notes_of(caught.value)
        assert len(attempts_of(caught.value)) == 2

    def test_a_failed_trial_is_the_last_attempt(self, call: Call, virtual_clock: VirtualClock) -> None:
        """A trial that fails opens the breaker again: its own error comes out, and nothing is slept."""
        breaker, script = CircuitBreaker("b", failure_threshold=1), Script(ConnectionError("own"))
        breaker.acquire().failure()
        virtual_clock.advance(30)
        with pytest.raises(ConnectionError, match="own") as caught:
            call(Pipeline(breaker=breaker), script)
        assert (script.calls, virtual_clock.sleeps, breaker.state) == (1, [], OPEN)
        assert "(circuit_open)" in notes_of(caught.value)

    def test_an_open_breaker_is_not_retried(self, call: Call, virtual_clock: VirtualClock) -> None:
        """The refusal comes out at once, without a call, a sleep or a cause."""
        breaker, script = CircuitBreaker("b"), Script(1)
        breaker.isolate("maintenance")
        with pytest.raises(CircuitOpenError, match="Circuit breaker is OPEN") as caught:
            call(Pipeline(breaker=breaker, retry=RetryPolicy(retry_on=Exception)), script)
        assert (script.calls, virtual_clock.sleeps, caught.value.__cause__) == (0, [], None)
        assert "(circuit_open)" in notes_of(caught.value)

    def test_others_open_the_breaker_during_the_sleep(
        self, call: Call, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If others open the breaker while an operation sleeps, the refusal has its last failure as the cause."""
        breaker, error = CircuitBreaker("b", failure_threshold=3), ConnectionError("mine")
        script = Script(error)

        def others(seconds: float) -> None:
            for _ in range(2):
                breaker.acquire().failure()

        async def others_async(seconds: float) -> None:
            others(seconds)

        monkeypatch.setattr("booking_resilience.clock.sleep", others)
        monkeypatch.setattr("booking_resilience.clock.sleep_async", others_async)
        with pytest.raises(CircuitOpenError) as caught:
            call(Pipeline(breaker=breaker), script)
        assert script.calls == 1
        assert caught.value.__cause__ is error
        assert [item.error for item in attempts_of(caught.value)] == [error, caught.value]
        assert ours(caught.value) <= 3

    def test_an_error_that_is_refused_and_trips(self, call: Call, virtual_clock: VirtualClock) -> None:
        """Whether an error is transient is asked first, so one that isn't is reported as `not_transient`."""
        breaker = CircuitBreaker("b", failure_threshold=1)
        with pytest.raises(ValueError, match="bad") as caught:
            call(Pipeline(breaker=breaker), Script(ValueError("bad")))
        assert breaker.state is OPEN
        assert "(not_transient)" in notes_of(caught.value)

    def test_what_the_breaker_ignores_is_still_retried(self, call: Call, virtual_clock: VirtualClock) -> None:
        """The breaker's judgement and the retry's are two things."""
        breaker = CircuitBreaker("b", failure_threshold=1, ignore=ConnectionError)
        assert call(Pipeline(breaker=breaker), Script(ConnectionError(), ConnectionError(), 7)) == 7
        assert breaker.state is CLOSED

    def test_a_trial_that_succeeds_closes(self, call: Call, virtual_clock: VirtualClock) -> None:
        """An operation may be the trial that closes the breaker."""
        breaker = CircuitBreaker("b", failure_threshold=1)
        breaker.acquire().failure()
        virtual_clock.advance(30)
        assert call(Pipeline(breaker=breaker), Script(7)) == 7
        assert breaker.state is CLOSED

    def test_the_budget_is_asked_outside_of_the_breaker(self, call: Call, virtual_clock: VirtualClock) -> None:
        """Without a token the first error comes out, and the breaker has seen one failure."""
        breaker, script = CircuitBreaker("b"), Script(ConnectionError())
        pipeline = Pipeline(retry=RetryPolicy(budget=RetryBudget(initial=0)), breaker=breaker)
        with pytest.raises(ConnectionError) as caught:
            call(pipeline, script)
        assert (script.calls, breaker.snapshot().failures) == (1, 1)
        assert "(budget)" in notes_of(caught.value)

    def test_the_deadline_is_outermost(self, call: Call, virtual_clock: VirtualClock) -> None:
        """If the time is over, neither the breaker nor the function is asked."""
        breaker, script = CircuitBreaker("b"), Script(1)
        breaker.isolate("would refuse")
        with deadline(1.0):
            virtual_clock.advance(1.0)
            with pytest.raises(DeadlineExceededError):
                call(Pipeline(breaker=breaker), script)
        assert (script.calls, breaker.snapshot().refused) == (0, 0)


EACH_LOOP = pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: type(loop).__name__)


@EACH_LOOP
def test_an_attempt_that_is_cut_off(loop: Loop) -> None:
    """An attempt cut off by `attempt_timeout` is a failure to the breaker, and is retried if that leaves it closed."""
    breaker, calls = CircuitBreaker("b", failure_threshold=2), 0

    async def hangs_once() -> int:
        nonlocal calls
        calls += 1
        return await loop.hang() if calls == 1 else 7

    pipeline = Pipeline(retry=RetryPolicy(attempt_timeout=0.02, base_delay=0), breaker=breaker)
    subscription = breaker.subscribe(lambda event: None)
    assert loop.run(lambda: pipeline.call_async("op", hangs_once)) == 7
    assert (calls, breaker.state, breaker.snapshot().failures) == (2, CLOSED, 1)
    subscription.close()


@EACH_LOOP
@pytest.mark.parametrize("limits", [{"deadline": 0.03}, {"attempt_timeout": 0.03}], ids=str)
@pytest.mark.parametrize("way", ["hang", "hang_in_tasks"])
def test_a_backend_that_hangs_opens_the_breaker(loop: Loop, limits: dict[str, float], way: str) -> None:
    """Calls cut off by their operation's own limits open the breaker, and the next one is refused at once."""
    hang = getattr(loop, way)
    breaker = CircuitBreaker("b", failure_threshold=2)
    pipeline = Pipeline(retry=RetryPolicy(max_attempts=1, **limits), breaker=breaker)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await pipeline.call_async("op", hang)
        with pytest.raises(CircuitOpenError) as caught:
            await pipeline.call_async("op", hang)
        assert caught.value.cause == "the attempt took too long"

    loop.run(main)
    assert breaker.state is OPEN


@EACH_LOOP
def test_a_trial_that_hangs_has_failed(loop: Loop, virtual_clock: VirtualClock) -> None:
    """A trial cut off by its operation's own limit opens the breaker for another cooldown."""
    breaker = CircuitBreaker("b", failure_threshold=1)
    breaker.acquire().failure()
    virtual_clock.advance(30)
    pipeline = Pipeline(retry=RetryPolicy(attempt_timeout=0.02), breaker=breaker)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await pipeline.call_async("op", loop.hang)

    loop.run(main)
    assert (breaker.state, breaker.snapshot().trips) == (OPEN, 2)


@EACH_LOOP
def test_the_end_of_an_enclosing_deadline_says_nothing(loop: Loop) -> None:
    """A caller with less time than the operation would take is impatient; the backend is not to blame."""
    breaker = CircuitBreaker("b", failure_threshold=1)
    pipeline = Pipeline(breaker=breaker)

    async def main() -> None:
        with deadline(0.02), pytest.raises(DeadlineExceededError):
            await pipeline.call_async("op", loop.hang)

    loop.run(main)
    assert (breaker.state, breaker.snapshot().failures) == (CLOSED, 0)


@EACH_LOOP
def test_a_trial_that_is_cancelled_gives_its_permit_back(loop: Loop, virtual_clock: VirtualClock) -> None:
    """Cancelling an operation that was the trial leaves room for the next trial."""
    breaker, begun = CircuitBreaker("b", failure_threshold=1), []
    breaker.acquire().failure()
    virtual_clock.advance(30)
    pipeline = Pipeline(breaker=breaker)

    async def hangs() -> None:
        begun.append(1)
        await loop.hang()

    async def main() -> None:
        await loop.cancel_when(lambda: pipeline.call_async("op", hangs), lambda: bool(begun))
        assert breaker.state is HALF_OPEN
        assert await pipeline.call_async("op", Script(7).later) == 7

    loop.run(main)
    assert breaker.state is CLOSED


class TestMonitor:
    """The monitor only watches."""

    def test_one_record_for_a_failed_operation(self, call: Call, virtual_clock: VirtualClock) -> None:
        """A failed operation leaves one record, with all its attempts and the pipeline's category."""
        monitor = ErrorMonitor()
        with pytest.raises(ConnectionError) as caught:
            call(
                Pipeline(monitor=monitor, category=ErrorCategory.BOOKING),
                Script(ConnectionError("a"), TimeoutError("b"), ConnectionError("c")),
            )
        (record,) = monitor.recent()
        assert (record.operation, record.category, record.severity) == ("op", ErrorCategory.BOOKING, Severity.ERROR)
        assert (record.outcome, record.attempts, record.message) == ("failed", 3, "c")
        assert record.attempt_errors == ("ConnectionError: a", "TimeoutError: b", "ConnectionError: c")
        assert "later" in record.stacktrace or "__call__" in record.stacktrace
        assert monitor.stats().failed == 1
        assert caught.value.__notes__

    def test_one_warning_for_a_recovered_operation(self, call: Call, virtual_clock: VirtualClock) -> None:
        """An operation that recovered leaves one record of severity `warning`."""
        monitor = ErrorMonitor()
        assert call(Pipeline(monitor=monitor), Script(ConnectionError("a"), TimeoutError("b"), 7)) == 7
        (record,) = monitor.recent()
        assert (record.severity, record.outcome, record.attempts) == (Severity.WARNING, "recovered", 3)
        assert (record.message, record.category) == ("b", ErrorCategory.NETWORK)

    def test_no_record_for_a_success(self, call: Call) -> None:
        """An operation that succeeds at once leaves none."""
        monitor = ErrorMonitor()
        assert call(Pipeline(monitor=monitor, breaker=CircuitBreaker("b")), Script(7)) == 7
        assert monitor.recent() == []

    def test_refusals_and_deadlines_are_failures(self, call: Call, virtual_clock: VirtualClock) -> None:
        """An operation that was refused, or had no time, has failed, too: one record each."""
        monitor, breaker = ErrorMonitor(), CircuitBreaker("b")
        breaker.isolate("x")
        pipeline = Pipeline(monitor=monitor, breaker=breaker)
        with pytest.raises(CircuitOpenError):
            call(pipeline, Script(1))
        with deadline(1), pytest.raises(DeadlineExceededError):
            virtual_clock.advance(1)
            call(pipeline, Script(1))
        assert [record.error_type.rpartition(".")[2] for record in reversed(monitor.recent())] == [
            "CircuitOpenError",
            "DeadlineExceededError",
        ]

    def test_interrupts_leave_no_record(self, virtual_clock: VirtualClock) -> None:
        """An interrupt is no failure of the operation."""
        monitor = ErrorMonitor()
        with pytest.raises(KeyboardInterrupt):
            Pipeline(monitor=monitor).call("op", Script(KeyboardInterrupt()))
        assert monitor.recent() == []

    def test_attempts_are_kept_of_errors_that_refuse_attributes(self, virtual_clock: VirtualClock) -> None:
        """The number of attempts is recorded also where the error cannot carry them."""

        class Stubborn(ConnectionError):  # noqa: N818 - it is a fake
            @property
            def __dict__(self) -> Any:  # type: ignore[override] # that is the point
                raise RuntimeError("no attributes")

        monitor = ErrorMonitor()
        with pytest.raises(Stubborn):
            Pipeline(monitor=monitor).call("op", Script(Stubborn()))
        assert monitor.recent()[0].attempts == 3

    def test_a_monitor_that_raises_changes_nothing(
        self, call: Call, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What a monitor raises is logged, and the operation ends as it would without."""

        class Broken:
            def record(self, error: BaseException, **_: Any) -> None:
                raise RuntimeError("monitor is broken")

        error = ConnectionError("hunter2")
        with pytest.raises(ConnectionError) as caught:
            call(Pipeline(monitor=Broken()), Script(error))
        assert caught.value is error
        assert call(Pipeline(monitor=Broken()), Script(ConnectionError(), 7)) == 7
        assert call(Pipeline(monitor=Broken(), fallback=Fallback(8)), Script(error)) == 8
        assert "monitor is broken" in caplog.text
        assert "hunter2" not in caplog.text

    def test_a_breaker_listener_that_raises_changes_nothing(self, call: Call, virtual_clock: VirtualClock) -> None:
        """A listener of the breaker that raises changes neither the error nor the state."""
        breaker, error = CircuitBreaker("b", failure_threshold=1), ConnectionError()
        breaker.subscribe(lambda _: 1 / 0)
        with pytest.raises(ConnectionError) as caught:
            call(Pipeline(breaker=breaker), Script(error))
        assert caught.value is error
        assert breaker.state is OPEN

    def test_a_logging_handler_that_raises_changes_nothing(self, call: Call, virtual_clock: VirtualClock) -> None:
        """Nor does a logging handler."""

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise RuntimeError("handler is broken")

        logger, handler, error = logging.getLogger("booking_resilience"), Broken(), ConnectionError()
        logger.addHandler(handler)
        try:
            with pytest.raises(ConnectionError) as caught:
                call(Pipeline(breaker=CircuitBreaker("b", failure_threshold=2)), Script(error))
        finally:
            logger.removeHandler(handler)
        assert caught.value is error


class SlowRecorder:
    """Would have to be awaited."""

    async def record(self, error: BaseException, **_: Any) -> None:
        """Do nothing."""


class TestSignatures:
    """What goes through a pipeline is called as it would be without."""

    def test_arguments_pass_through(self) -> None:
        """Arguments may have any name, also those of the pipeline's own parameters."""

        def echo(*args: Any, **kwargs: Any) -> Any:
            return args, kwargs

        async def echo_async(*args: Any, **kwargs: Any) -> Any:
            return args, kwargs

        names = {"fn": 1, "operation": 2, "policy": 3, "self": 4, "args": 5, "kwargs": 6, "plan": 7, "breaker": 8}
        for pipeline in (Pipeline(), Pipeline(breaker=CircuitBreaker("b"))):
            assert pipeline.call("op", echo, 1, 2, **names) == ((1, 2), names)
            assert pipeline.protect("op")(echo)(1, 2, **names) == ((1, 2), names)
            got = LOOPS[0].run(functools.partial(pipeline.call_async, "op", echo_async, 1, 2, **names))
            assert got == ((1, 2), names)
            got = LOOPS[0].run(functools.partial(pipeline.protect("op")(echo_async), 1, 2, **names))
            assert got == ((1, 2), names)

    @pytest.mark.parametrize("breaker", [None, CircuitBreaker("b")], ids=["alone", "breaker"])
    def test_protect_keeps_what_it_decorates(self, breaker: CircuitBreaker | None) -> None:
        """Functions, methods, class and static methods, and coroutine functions stay what they are."""
        pipeline = Pipeline(breaker=breaker)

        class Shop:
            @pipeline.protect("order")
            def order(self, item: str) -> str:
                """Order something."""
                return f"{type(self).__name__} {item}"

            @pipeline.protect("later")
            async def later(self, item: str) -> str:
                return item

            @classmethod
            @pipeline.protect("beneath")
            def beneath(cls) -> str:
                return cls.__name__

            @pipeline.protect("above")
            @classmethod
            def above(cls) -> str:
                return cls.__name__

            @pipeline.protect("price")
            @staticmethod
            def price() -> int:
                return 3

        assert Shop().order("x") == "Shop x"
        assert Shop().beneath() == Shop.above() == "Shop"
        assert Shop().price() == Shop.price() == 3
        assert LOOPS[0].run(lambda: Shop().later("y")) == "y"
        assert inspect.iscoroutinefunction(Shop.later)
        assert not inspect.iscoroutinefunction(Shop.order)
        assert (Shop.order.__name__, Shop.order.__doc__) == ("order", "Order something.")
        assert list(inspect.signature(Shop.order).parameters) == ["self", "item"]

    def test_what_cannot_be_retried_is_refused(self) -> None:
        """Generators are refused when they are decorated, awaitables by `call`, plain functions by `call_async`."""

        def generator() -> Any:
            yield

        async def later() -> int:
            return 1

        for pipeline in (Pipeline(), Pipeline(breaker=CircuitBreaker("b"))):
            with pytest.raises(TypeError, match="generator"):
                pipeline.protect("op")(generator)
            with pytest.raises(TypeError, match="awaitable"):
                pipeline.call("op", later)
            with pytest.raises(TypeError, match="is not async and has already run"):
                LOOPS[0].run(lambda pipeline=pipeline: pipeline.call_async("op", Script(1)))

    def test_what_is_refused_is_told_in_the_words_of_the_pipeline(self) -> None:
        """The errors name `call` and `call_async`, which the caller knows, and nothing from inside."""

        async def later() -> int:
            return 1

        with pytest.raises(TypeError, match=r"^Pipeline\.call was given .* an awaitable; use Pipeline\.call_async$"):
            Pipeline().call("op", later)
        said = r"^Pipeline\.call_async was given .* has already run; use Pipeline\.call, in an event"
        with pytest.raises(TypeError, match=said):
            LOOPS[0].run(lambda: Pipeline().call_async("op", Script(1)))

    def test_a_coroutine_instead_of_its_function_is_refused_and_closed(self) -> None:
        """What is no function is named with what to do, with a breaker and without; a coroutine leaves no warning."""

        async def later() -> int:
            return 1

        said = r"fn must be a function, not <coroutine .*later.*>; pass the function itself, not"
        for pipeline in (Pipeline(), Pipeline(breaker=CircuitBreaker("b"))):
            with pytest.raises(TypeError, match=said):
                pipeline.call("op", later())  # type: ignore[arg-type] # that is the point
            with pytest.raises(TypeError, match=said):
                LOOPS[0].run(lambda pipeline=pipeline: pipeline.call_async("op", later()))

    def test_an_unknown_category_is_refused_with_those_there_are(self) -> None:
        """The error lists the five."""
        said = "category must be one of 'booking', 'chat', 'payment', 'appwrite', 'network', not 'bookings'"
        with pytest.raises(ValueError, match=said):
            Pipeline(category="bookings")  # type: ignore[arg-type] # that is the point

    @pytest.mark.parametrize(
        ("setting", "error"),
        [
            ({"retry": 3}, "retry must be a RetryPolicy"),
            ({"breaker": 3}, "breaker must be a CircuitBreaker"),
            ({"monitor": 3}, "monitor must be an ErrorMonitor"),
            ({"monitor": ErrorMonitor}, "monitor must be an ErrorMonitor"),
            ({"monitor": SlowRecorder()}, "monitor must be an object whose `record` is a function; .* coroutine"),
            ({"category": 3}, "category must be one of"),
        ],
    )
    def test_wrong_parts_are_refused(self, setting: Any, error: str) -> None:
        """What is no policy, breaker, monitor or category is refused by name when the pipeline is made."""
        with pytest.raises(TypeError, match=error):
            Pipeline(**setting)

    def test_a_forgotten_operation_is_refused(self) -> None:
        """The name of the operation comes first, and is a text."""
        with pytest.raises(TypeError, match="operation must be a string"):
            Pipeline().call(len, "abc")  # type: ignore[arg-type] # that is the point
        with pytest.raises(TypeError, match="operation must be a string"):
            LOOPS[0].run(lambda: Pipeline().call_async(len, "abc"))  # type: ignore[arg-type] # that is the point
        with pytest.raises(TypeError, match="operation must be a string"):
            Pipeline().protect(len)  # type: ignore[arg-type] # that is the point
        with pytest.raises(ValueError, match="telepathy"):
            Pipeline(category="telepathy")  # type: ignore[arg-type] # that is the point


@Pipeline(breaker=CircuitBreaker("pickled")).protect("module level")
def at_module_level() -> int:
    """Return a number."""
    return 7


def test_a_decorated_function_can_be_pickled() -> None:
    """A decorated function of a module is pickled by its name, as any function."""
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_deadline_is_seen_inside(call: Call, virtual_clock: VirtualClock) -> None:
    """The call sees how much time its operation has left."""

    class Sees(Script):
        def __call__(self, *_: Any) -> Any:
            return remaining_time()

    assert call(Pipeline(breaker=CircuitBreaker("b")), Sees()) == 4.0


def test_traceback_has_few_frames_of_ours(call: Call, virtual_clock: VirtualClock) -> None:
    """At most three frames of the package, whatever the way and however often the same error object was raised."""
    for failures in (1, 3, 9):
        for error in (ConnectionError("x"), ValueError("y")):
            breaker = CircuitBreaker("b", failure_threshold=failures)
            for _ in range(4):
                with pytest.raises((type(error), CircuitOpenError)) as caught:
                    call(Pipeline(retry=EXACT, breaker=breaker), Script(error))
                assert 1 <= ours(caught.value) <= 3
                if caught.value is error:
                    assert theirs(error)[-1] == "__call__"
                    error.__traceback__ = None
                virtual_clock.advance(30)


def test_nested_operations_have_few_frames_too(virtual_clock: VirtualClock) -> None:
    """An operation inside another adds none of ours either: what stands between are the caller's own frames."""
    pipeline = Pipeline(breaker=CircuitBreaker("b", failure_threshold=99))

    def inner() -> None:
        raise ConnectionError("x")

    def outer() -> None:
        pipeline.call("inner", inner)

    with pytest.raises(ConnectionError) as caught:
        pipeline.call("outer", outer)
    assert ours(caught.value) <= 3
    assert theirs(caught.value)[-2:] == ["outer", "inner"]


def test_many_names_are_not_kept(call: Call) -> None:
    """Operations whose names are never the same do not make the pipeline grow without bound."""
    pipeline = Pipeline(breaker=CircuitBreaker("b"))
    for number in range(1000):
        assert pipeline.call(f"order {number}", int, "7") == 7
    assert sum(len(drivers) for drivers in (pipeline._drivers, pipeline._drivers_async)) <= 256


def test_one_pipeline_serves_many_threads(virtual_clock: VirtualClock) -> None:
    """Threads that share a pipeline, and the names of its operations, get their own results."""
    pipeline = Pipeline(breaker=CircuitBreaker("b"), retry=AT_ONCE)
    barrier, wrong = threading.Barrier(8), []

    def work(own: int) -> None:
        barrier.wait()
        for number in range(400):
            got = pipeline.call(f"op {number % 300}", divmod, own * 1000 + number, 1000)
            wrong.extend([got] if got != (own, number) else [])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_reference_cycles(virtual_clock: VirtualClock) -> None:
    """Nothing lives on after the caller has dropped the error, refusals with a cause included."""
    calls = 0

    def exhausted() -> None:
        raise ConnectionError

    def refused_later() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError if calls % 2 else CircuitOpenError("inner", 1.0)

    def recovers() -> None:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ConnectionError

    async def cut_off() -> None:
        await LOOPS[0].hang()

    monitor = ErrorMonitor()
    healthy = Pipeline(breaker=CircuitBreaker("b", failure_threshold=1000), monitor=monitor, retry=AT_ONCE)
    tripping = Pipeline(breaker=CircuitBreaker("b", failure_threshold=2, cooldown=0), retry=AT_ONCE)
    isolated = Pipeline(breaker=CircuitBreaker("b"))
    isolated.breaker.isolate("x")  # type: ignore[union-attr] # it has one
    hasty = Pipeline(breaker=CircuitBreaker("b"), retry=RetryPolicy(deadline=0.001))
    ways: list[Callable[[], Any]] = [
        lambda: healthy.call("op", exhausted),
        lambda: healthy.call("op", refused_later),
        lambda: healthy.call("op", recovers),
        lambda: tripping.call("op", exhausted),
        lambda: isolated.call("op", exhausted),
        healthy.protect("op")(exhausted),
        tripping.protect("op")(exhausted),
    ]
    for way in ways:
        for _ in range(3):
            swallow(way)
        with no_cycles():
            for _ in range(3):
                swallow(way)

    async def main() -> None:
        for _ in range(3):
            await swallow_async(hasty, cut_off)
        with no_cycles():
            await swallow_async(hasty, cut_off)

    LOOPS[0].run(main)


def swallow(fn: Callable[[], Any]) -> None:
    """Call, and drop the error."""
    with contextlib.suppress(Exception):
        fn()


async def swallow_async(pipeline: Pipeline, fn: Callable[[], Any]) -> None:
    """Call, and drop the error."""
    with contextlib.suppress(Exception):
        await pipeline.call_async("op", fn)
