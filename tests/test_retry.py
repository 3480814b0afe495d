"""Retrying synchronous functions: called, decorated, as a loop."""

from __future__ import annotations

import functools
import gc
import inspect
import logging
import math
import os
import pickle
import signal
import threading
import time
import tracemalloc
import types
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from booking_resilience import (
    CircuitOpenError,
    DeadlineExceededError,
    RetryBudget,
    RetryEvent,
    RetryPolicy,
    TransientError,
    attempts_of,
    deadline,
    remaining_time,
    retry_attempts,
    retrying,
    with_retry,
)
from booking_resilience.testing import VirtualClock, virtual_time
from drivers import AT_ONCE, EXACT, Script, ours


def test_success_is_returned_at_once(virtual_clock: VirtualClock) -> None:
    """A call that succeeds is made once, and nothing is slept or told."""
    events: list[RetryEvent] = []
    script = Script("done")
    assert with_retry(script, on_event=events.append) == "done"
    assert (script.calls, virtual_clock.sleeps, events) == (1, [], [])


def test_transient_failures_are_tried_again(virtual_clock: VirtualClock) -> None:
    """Two transient failures cost 0.3 and 0.6 s, and then the value comes out."""
    events: list[RetryEvent] = []
    errors = [ConnectionError("a"), TimeoutError("b")]
    assert with_retry(Script(*errors, 3), policy=EXACT, operation="op", on_event=events.append) == 3
    assert virtual_clock.sleeps == [0.3, 0.6]
    assert [(e.attempt, e.outcome, e.reason, e.error, e.delay) for e in events] == [
        (1, "retrying", None, errors[0], 0.3),
        (2, "retrying", None, errors[1], 0.6),
        (3, "recovered", None, errors[1], None),
    ]
    assert [e.elapsed for e in events] == pytest.approx([0, 0.3, 0.9])


def test_giving_up_raises_the_original_error(virtual_clock: VirtualClock) -> None:
    """When the attempts run out the last error itself comes out, with a note and all its attempts."""
    errors = [ConnectionError(number) for number in range(3)]
    events: list[RetryEvent] = []
    with pytest.raises(ConnectionError) as caught:
        with_retry(Script(*errors), policy=EXACT, operation="store", on_event=events.append)
    assert caught.value is errors[2]
    assert caught.value.__notes__ == ["store: gave up after 3 attempts in 0.90 s (attempts)"]
    attempts = attempts_of(caught.value)
    assert [(item.number, item.error, item.delay) for item in attempts] == [
        (1, errors[0], 0.3), (2, errors[1], 0.6), (3, errors[2], None),
    ]  # fmt: skip
    assert [item.elapsed for item in attempts] == pytest.approx([0, 0.3, 0.9])
    assert (events[-1].outcome, events[-1].reason, events[-1].error) == ("gave_up", "attempts", errors[2])
    assert caught.value.__context__ is None


def test_refused_error_comes_out_at_once(virtual_clock: VirtualClock) -> None:
    """An error that isn't transient comes out of the first attempt, which `attempts_of` shows."""
    script = Script(ValueError("bad data"))
    with pytest.raises(ValueError, match="bad data") as caught:
        with_retry(script)
    assert (script.calls, virtual_clock.sleeps) == (1, [])
    assert len(attempts_of(caught.value)) == 1
    assert "not_transient" in caught.value.__notes__[0]


def test_circuit_open_is_never_retried(virtual_clock: VirtualClock) -> None:
    """The refusal of a breaker is not retried, whatever `retry_on` says, and has the failure before as its cause."""
    first = ConnectionError("first")
    script = Script(first, CircuitOpenError("x", 1.0))
    events: list[RetryEvent] = []
    with pytest.raises(CircuitOpenError) as caught:
        with_retry(script, policy=RetryPolicy(retry_on=Exception), on_event=events.append)
    assert script.calls == 2
    assert events[-1].reason == "circuit_open"
    assert caught.value.__cause__ is first


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_interrupts_pass_at_once(error: BaseException) -> None:
    """An interrupt, an exit or the like passes at once, untouched."""
    script = Script(error)
    with pytest.raises(type(error)):
        with_retry(script, policy=RetryPolicy(retry_on=BaseException))
    assert script.calls == 1
    assert attempts_of(error) == ()


def test_deadline_ends_before_a_sleep_that_does_not_fit(virtual_clock: VirtualClock) -> None:
    """If the next delay does not fit before the deadline, it gives up now and does not sleep first."""
    events: list[RetryEvent] = []
    with pytest.raises(ConnectionError):
        with_retry(Script(ConnectionError()), policy=RetryPolicy(jitter=0, deadline=0.5), on_event=events.append)
    assert virtual_clock.sleeps == [0.3]
    assert (events[-1].reason, events[-1].attempt) == ("deadline", 2)


def test_deadline_is_seen_inside_and_handed_down(virtual_clock: VirtualClock) -> None:
    """The call sees what is left, a nested retry never outlives it, and outside there is none."""
    seen: list[float | None] = []

    def inner() -> None:
        seen.append(remaining_time())
        virtual_clock.advance(0.9)
        raise ConnectionError

    def outer() -> None:
        seen.append(remaining_time())
        with_retry(inner, policy=RetryPolicy(deadline=60, base_delay=0.2, jitter=0, max_attempts=9))

    with pytest.raises(ConnectionError):
        with_retry(outer, policy=RetryPolicy(deadline=2.0, max_attempts=1))
    assert seen == [2.0, 2.0, pytest.approx(0.9)]
    assert remaining_time() is None


def test_nothing_is_called_after_the_deadline(virtual_clock: VirtualClock) -> None:
    """If the deadline is over before the first call, the function is not called, and the event says so."""
    events: list[RetryEvent] = []
    script = Script(1)
    with deadline(1.0):
        virtual_clock.advance(1.5)
        for policy in (RetryPolicy(), RetryPolicy(deadline=None)):
            with pytest.raises(DeadlineExceededError):
                with_retry(script, policy=policy, on_event=events.append)
        with pytest.raises(DeadlineExceededError):
            for _ in retry_attempts():
                pytest.fail("there is no time for it")
    assert script.calls == 0
    assert [(event.attempt, event.outcome, event.reason) for event in events] == [(0, "gave_up", "deadline")] * 2


def test_oversleeping_ends_with_the_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the sleep took so long that the deadline is over, the last error comes out, not another attempt."""
    with virtual_time() as clock:
        monkeypatch.setattr("booking_resilience.clock.sleep", lambda seconds: clock.advance(seconds + 10))
        script = Script(ConnectionError("x"))
        budget = RetryBudget()
        with pytest.raises(ConnectionError) as caught:
            with_retry(script, policy=RetryPolicy(budget=budget))
        assert script.calls == 1
        assert [(item.number, item.delay) for item in attempts_of(caught.value)] == [(1, None)]
        assert budget.tokens == 5.0
        assert ours(caught.value) <= 3
        script = Script(7)
        assert with_retry(script, policy=RetryPolicy(retry_on_result=lambda value: True)) == 7
        with pytest.raises(ConnectionError):
            for attempt in retry_attempts():
                with attempt:
                    raise ConnectionError


def test_late_success_is_a_success(virtual_clock: VirtualClock) -> None:
    """A synchronous attempt cannot be interrupted; one that succeeds late is a success."""
    assert with_retry(lambda: virtual_clock.advance(60) or "late") == "late"


def test_attempt_timeout_bounds_each_attempt(virtual_clock: VirtualClock) -> None:
    """Each attempt sees its own end, or the operation's where that is nearer."""
    seen: list[float | None] = []

    def call() -> None:
        seen.append(remaining_time())
        virtual_clock.advance(1.0)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        with_retry(call, policy=RetryPolicy(attempt_timeout=1.0, deadline=2.5, jitter=0))
    assert seen == [1.0, 1.0]
    seen.clear()
    with pytest.raises(TimeoutError):
        with_retry(call, policy=RetryPolicy(attempt_timeout=1.0, deadline=None, jitter=0))
    assert seen == [1.0, 1.0, 1.0]
    with pytest.raises(TimeoutError):
        for attempt in retry_attempts(policy=RetryPolicy(attempt_timeout=0.5, deadline=None, jitter=0)):
            with attempt:
                call()
    assert seen[3:] == [0.5, 0.5, 0.5]


def test_retry_after_raises_the_delay(virtual_clock: VirtualClock) -> None:
    """An error's `retry_after` is waited for in full, above `max_delay` too; if it does not fit, it gives up."""
    error = TransientError()
    error.retry_after = 5.0
    assert with_retry(Script(error, 1), policy=RetryPolicy(deadline=None)) == 1
    assert virtual_clock.sleeps == [5.0]
    with pytest.raises(TransientError):
        with_retry(Script(error, 1))
    assert virtual_clock.sleeps == [5.0]
    error.retry_after = float("inf")
    with pytest.raises(TransientError):
        with_retry(Script(error, 1), policy=RetryPolicy(deadline=None))


def test_unwanted_results_are_tried_again(virtual_clock: VirtualClock) -> None:
    """`retry_on_result` may reject a result; when the attempts run out, the last one is returned all the same."""
    policy = RetryPolicy(retry_on_result=lambda value: value is None, jitter=0)
    events: list[RetryEvent] = []
    assert with_retry(Script(None, None, 3), policy=policy, on_event=events.append) == 3
    assert [(event.outcome, event.error) for event in events] == [
        ("retrying", None),
        ("retrying", None),
        ("recovered", None),
    ]
    assert with_retry(Script(None), policy=policy, on_event=events.append) is None
    assert (events[-1].outcome, events[-1].reason, events[-1].error) == ("gave_up", "attempts", None)
    error = ConnectionError()
    assert with_retry(Script(error, None, 4), policy=policy, on_event=events.append) == 4
    assert events[-1].error is error


def test_budget_pays_for_retries(virtual_clock: VirtualClock) -> None:
    """Each retry costs a token, each success brings a tenth, and without a token the error comes out at once."""
    budget = RetryBudget(initial=2.0)
    policy = RetryPolicy(budget=budget, jitter=0)
    events: list[RetryEvent] = []
    with pytest.raises(ConnectionError):
        with_retry(Script(ConnectionError()), policy=policy)
    assert budget.tokens == 0.0
    script = Script(ConnectionError())
    with pytest.raises(ConnectionError):
        with_retry(script, policy=policy, on_event=events.append)
    assert (script.calls, events[-1].reason) == (1, "budget")
    assert with_retry(Script(1), policy=policy) == 1
    for attempt in retry_attempts(policy=policy):
        with attempt:
            pass
    assert budget.tokens == 0.2


def test_interrupted_sleep_gives_the_token_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the sleep passes at once, and the retry that was not made is not paid for."""

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    budget = RetryBudget()
    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with_retry(Script(ConnectionError()), policy=RetryPolicy(budget=budget))
    assert budget.tokens == 5.0


def test_time_sleep_is_looked_up_when_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patching `time.sleep` works."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert with_retry(Script(ConnectionError(), 1), policy=EXACT) == 1
    assert slept == [0.3]


async def later() -> int:
    """Return a number, if it is awaited."""
    return 1


class Awaitable:
    """Something that must be awaited, and is no coroutine."""

    def __await__(self) -> Any:
        yield


@pytest.mark.parametrize("give", [later, Awaitable])
def test_awaitables_are_refused(give: Any) -> None:
    """A function that gives an awaitable is refused with the name of what to call; a coroutine is closed."""
    calls = 0

    def call() -> Any:
        nonlocal calls
        calls += 1
        return give()

    with pytest.raises(TypeError, match=r"^with_retry was given .* an awaitable; use with_retry_async$"):
        with_retry(call, policy=RetryPolicy(retry_on=Exception))
    with pytest.raises(TypeError, match=r"^@retrying was given .* an awaitable; use an `async def` function$"):
        retrying(call)()
    assert calls == 2


def test_an_awaitable_after_other_results_is_refused() -> None:
    """What a function gave before does not make its next result pass: neither another type nor a generator."""

    def plain() -> Any:
        yield

    @types.coroutine
    def awaitable() -> Any:
        yield

    async def coroutine() -> None:
        pass

    for last in (awaitable, coroutine):
        given = Script(1, None, "text", plain(), plain(), late := last())
        function = retrying(policy=AT_ONCE)(given)
        for _ in range(5):
            function()
        with pytest.raises(TypeError, match="use an `async def` function"):
            function()
        late.close()


def test_generators_are_refused_when_decorating() -> None:
    """A generator function cannot be retried as a whole, so it is refused when it is decorated."""

    def generator() -> Any:
        yield

    async def async_generator() -> Any:
        yield

    for function in (generator, async_generator, functools.partial(generator)):
        with pytest.raises(TypeError, match="generator"):
            retrying(function)
    with pytest.raises(TypeError, match="3"):
        retrying()(3)  # type: ignore[type-var] # that is the point


@pytest.mark.parametrize(
    "call", [lambda: with_retry(lambda: 1, policy=3), lambda: retrying(policy=None), lambda: retry_attempts(policy=3)]
)  # type: ignore[arg-type] # that is the point
def test_what_is_no_policy_is_refused(call: Any) -> None:
    """Something that is no policy is refused by name."""
    with pytest.raises(TypeError, match="policy must be a RetryPolicy"):
        call()


def test_what_is_no_function_is_refused() -> None:
    """A value in the place of the function, or of the listener, is refused by name."""
    with pytest.raises(TypeError, match="fn must be a function, not 42; pass the function itself, not its result"):
        with_retry(42)  # type: ignore[arg-type] # that is the point
    for call in (lambda: with_retry(int, on_event=3), lambda: retrying(on_event=3), lambda: retry_attempts(on_event=3)):
        with pytest.raises(TypeError, match="on_event must be a function of the event or None, not 3"):
            call()
    with pytest.raises(TypeError, match=r"keyword: @retrying\(policy=\.\.\.\)"):
        retrying(RetryPolicy())  # type: ignore[call-overload] # that is the point


def test_an_error_of_the_type_of_a_misuse_passes_as_it_is() -> None:
    """A `TypeError` out of the function comes out as itself."""
    error = TypeError("from inside")
    with pytest.raises(TypeError) as caught:
        with_retry(Script(error))
    assert caught.value is error


def test_decorator_keeps_the_function(virtual_clock: VirtualClock) -> None:
    """A decorated function or method keeps its name, its arguments and its place in a class."""

    class Shop:
        failures = 1

        @retrying(policy=EXACT)
        def order(self, item: str, *, number: int = 1) -> str:
            """Order something."""
            if self.failures:
                self.failures -= 1
                raise ConnectionError
            return item * number

        @staticmethod
        @retrying
        def price() -> int:
            return 3

    assert Shop().order("ab", number=2) == "abab"
    assert (Shop.order.__name__, Shop.order.__doc__) == ("order", "Order something.")
    assert Shop.price() == 3
    assert virtual_clock.sleeps == [0.3]


def test_operation_is_named_after_the_function(virtual_clock: VirtualClock) -> None:
    """Without a name of its own the operation has the function's, also through a partial, or its type's."""
    names: list[str] = []

    def fails(_: int = 0) -> None:
        raise ConnectionError

    for function in (fails, functools.partial(fails, 3), Script(ConnectionError())):
        with pytest.raises(ConnectionError):
            with_retry(function, on_event=lambda event: names.append(event.operation))
    assert set(names) == {"test_operation_is_named_after_the_function.<locals>.fails", "Script"}


def test_loop_form_retries_a_block(virtual_clock: VirtualClock) -> None:
    """A block is tried again as a function would be, sees the time left, and ends at its first success."""
    numbers, left = [], []
    for attempt in retry_attempts(policy=EXACT, operation="block"):
        with attempt:
            numbers.append(attempt.number)
            left.append(remaining_time())
            if attempt.number < 3:
                raise ConnectionError
    assert numbers == [1, 2, 3]
    assert virtual_clock.sleeps == [0.3, 0.6]
    assert left == pytest.approx([4.0, 3.7, 3.1])
    assert remaining_time() is None


def test_loop_form_gives_up_with_the_original(virtual_clock: VirtualClock) -> None:
    """A block that keeps failing ends with its own error and attempts; one that must not be retried ends at once."""
    error = ConnectionError("x")
    events: list[RetryEvent] = []
    with pytest.raises(ConnectionError) as caught:
        for attempt in retry_attempts(policy=RetryPolicy(max_attempts=2), on_event=events.append):
            with attempt:
                raise error
    assert caught.value is error
    assert len(attempts_of(error)) == 2
    assert [event.outcome for event in events] == ["retrying", "gave_up"]
    assert ours(error) == 0
    for stop in (ValueError(), KeyboardInterrupt()):
        with pytest.raises(type(stop)):
            for attempt in retry_attempts():
                with attempt:
                    raise stop


def test_loop_form_wants_its_attempts_entered() -> None:
    """A loop that does not enter its attempt ends with an error, not never."""
    with pytest.raises(RuntimeError, match="with attempt"):
        for _ in retry_attempts():
            pass


def test_traceback_has_few_frames_of_ours(virtual_clock: VirtualClock) -> None:
    """At most three frames of the package stand between the caller and the error."""

    def fails() -> None:
        raise ConnectionError("x")

    for call in (retrying(fails), lambda: with_retry(fails)):
        with pytest.raises(ConnectionError) as caught:
            call()
        assert 1 <= ours(caught.value) <= 3


def test_no_reference_cycles() -> None:
    """Nothing lives on after the caller has dropped the error, whichever way the operation ended."""
    calls = 0

    def exhausted() -> None:
        raise ConnectionError

    def refused() -> None:
        raise ValueError

    def recovers() -> None:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ConnectionError

    def interrupted() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError if calls % 2 else KeyboardInterrupt

    def block() -> None:
        for attempt in retry_attempts(policy=AT_ONCE):
            with attempt:
                raise ConnectionError

    gc.collect()
    gc.disable()
    try:
        for call in (
            lambda: with_retry(exhausted, policy=AT_ONCE),
            retrying(policy=AT_ONCE)(exhausted),
            block,
            lambda: with_retry(recovers, policy=AT_ONCE),
            lambda: with_retry(refused),
            lambda: with_retry(interrupted, policy=AT_ONCE),
        ):
            calls = 0
            for _ in range(6):
                try:
                    call()
                except (Exception, KeyboardInterrupt):
                    pass
            assert gc.collect() == 0
    finally:
        gc.enable()


def test_exhausted_calls_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of exhausted calls leave no growth, also when they all raise the very same error object."""
    caplog.set_level(logging.CRITICAL, "booking_resilience.retry")  # pytest keeps what is logged
    same = ConnectionError("constant")

    def always_new() -> None:
        raise ConnectionError

    def always_same() -> None:
        raise same

    def call(fails: Any) -> None:
        try:
            with_retry(fails, policy=AT_ONCE, operation="x")
        except ConnectionError:
            same.__traceback__ = None

    def calls(count: int) -> None:
        for _ in range(count):
            call(always_new)
            call(always_same)

    tracemalloc.start()
    try:
        calls(1000)  # Python's own caches fill up first
        before = tracemalloc.get_traced_memory()[0]
        calls(1500)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000
    assert len(same.__notes__) == 1
    assert len(attempts_of(same)) == 3
    assert all(item.error is same for item in attempts_of(same))


def test_error_can_be_pickled_with_its_note(virtual_clock: VirtualClock) -> None:
    """An error that was given up can be pickled, even if an earlier one cannot."""
    unpicklable = ConnectionError(lambda: None)
    with pytest.raises(ConnectionError) as caught:
        with_retry(Script(unpicklable, ConnectionError("last")), policy=RetryPolicy(max_attempts=2))
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (str(twin), twin.__notes__) == ("last", caught.value.__notes__)
    assert attempts_of(twin) == ()


def test_errors_that_refuse_notes_come_out(virtual_clock: VirtualClock) -> None:
    """An error that refuses notes or attributes comes out all the same."""

    class Stubborn(ConnectionError):  # noqa: N818 - it is a fake
        def add_note(self, note: str) -> None:
            raise RuntimeError("no notes")

        @property
        def __dict__(self) -> Any:  # type: ignore[override] # that is the point
            raise RuntimeError("no attributes")

    error = Stubborn("x")
    with pytest.raises(Stubborn) as caught:
        with_retry(Script(error))
    assert caught.value is error
    assert attempts_of(error) == ()


def test_a_retry_on_that_raises_is_logged(virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """If the function `retry_on` raises, that is logged, and the function's own error comes out at once."""
    error = ConnectionError("x")
    with pytest.raises(ConnectionError) as caught:
        with_retry(script := Script(error), policy=RetryPolicy(retry_on=lambda _: 1 / 0 > 0))
    assert (caught.value, script.calls) == (error, 1)
    assert "retry_on raised" in caplog.text


def test_freezegun_moves_the_deadline() -> None:
    """Under freezegun time passes as it is ticked."""
    freezegun = pytest.importorskip("freezegun")
    with freezegun.freeze_time("2026-01-01") as frozen:

        def call() -> None:
            frozen.tick(5)
            raise ConnectionError

        events: list[RetryEvent] = []
        with pytest.raises(ConnectionError):
            with_retry(call, on_event=events.append)
    assert events[-1].reason == "deadline"


def test_threads_share_a_budget_exactly(virtual_clock: VirtualClock) -> None:
    """However many threads retry at once, no more retries are made than the budget pays for."""
    budget = RetryBudget(capacity=50, initial=50, deposit=0)
    calls = []

    def call() -> None:
        calls.append(1)
        raise ConnectionError

    def work() -> None:
        for _ in range(20):
            with pytest.raises(ConnectionError):
                with_retry(call, policy=RetryPolicy(budget=budget))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 8 * 20 + 50
    assert budget.tokens == 0.0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_while_threads_use_a_budget() -> None:
    """A child forked while threads hold the budget's lock can use it."""
    budget = RetryBudget(capacity=1e6)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            budget.deposit()
            budget.try_spend()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                budget.deposit()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("asked", "slept"),
    [
        (Decimal("1.5"), 1.5), (Fraction(3, 2), 1.5), (2, 2.0), (0, 0.3), (0.1, 0.3), (-1, 0.3), (None, 0.3),
        (float("nan"), 0.3), (Decimal("NaN"), 0.3), (True, 0.3), ("2", 2.0), (b" 2 ", 2.0), ([5], 0.3),
        (-math.inf, 0.3),
    ],
)  # fmt: skip
def test_retry_after_may_be_any_number(asked: Any, slept: float, virtual_clock: VirtualClock) -> None:
    """A `retry_after` of any kind of number, or its text, raises the delay; what is no sane number is ignored."""
    error = TransientError()
    error.retry_after = asked
    assert with_retry(Script(error, 1), policy=EXACT) == 1
    assert virtual_clock.sleeps == [slept]


@pytest.mark.parametrize("asked", [math.inf, 1e300, 10**400, Decimal("1e400"), 1e10])
@pytest.mark.parametrize("limit", [None, 4.0])
def test_retry_after_beyond_all_bounds_gives_up(asked: Any, limit: float | None, virtual_clock: VirtualClock) -> None:
    """A `retry_after` that nobody can sleep is given up with the error itself, with or without a deadline."""
    error = TransientError()
    error.retry_after = asked
    events: list[RetryEvent] = []
    with pytest.raises(TransientError) as caught:
        with_retry(Script(error), policy=RetryPolicy(deadline=limit), on_event=events.append)
    assert caught.value is error
    assert [(event.outcome, event.reason) for event in events] == [("gave_up", "deadline")]


def test_the_longest_settings_are_no_trouble(virtual_clock: VirtualClock) -> None:
    """Absurdly long delays and deadlines neither overflow nor hide the error."""
    for policy in (
        RetryPolicy(base_delay=1e300, max_delay=1e300, deadline=None),
        RetryPolicy(deadline=1e300, attempt_timeout=1e300),
        RetryPolicy(base_delay=10**300, max_delay=10**300, multiplier=10**300, deadline=10**300),
    ):
        with pytest.raises(ConnectionError):
            with_retry(Script(ConnectionError()), policy=policy)


def test_code_of_no_module_may_fail(virtual_clock: VirtualClock) -> None:
    """An error out of code whose globals have an odd `__name__`, or none, comes out like any other."""
    for names in ({"__name__": None}, {"__name__": 3}, {}):
        exec("def fail(): raise ConnectionError('mine')", names)  # templates and consoles do so
        with pytest.raises(ConnectionError, match="mine") as caught:
            with_retry(names["fail"])  # type: ignore[arg-type] # it was put there by exec
        assert len(attempts_of(caught.value)) == 3


def test_one_error_raised_again_and_again_has_few_frames_of_ours(virtual_clock: VirtualClock) -> None:
    """Python adds to the traceback of an error at each raise; the frames in between that are ours are taken out."""
    error = ConnectionError("constant")

    def fails() -> None:
        raise error

    def nested() -> None:
        with_retry(fails, policy=RetryPolicy(max_attempts=2))

    for call in (fails, nested):
        error.__traceback__ = None
        with pytest.raises(ConnectionError) as caught:
            with_retry(call, policy=RetryPolicy(max_attempts=9, deadline=None))
        assert caught.value is error
        assert ours(error) <= 3


def test_arguments_may_have_any_name() -> None:
    """A decorated function may have parameters named as those of the decorator."""

    @retrying(policy=EXACT, operation="x")
    def echo(fn: int, *, operation: int, policy: int, on_event: int, **others: int) -> tuple[int, ...]:
        return (fn, operation, policy, on_event, *others.values())

    assert echo(fn=1, operation=2, policy=3, on_event=4, plan=5, self=6, run=7) == (1, 2, 3, 4, 5, 6, 7)


class Connection:
    """Something whose making may fail."""

    failures = 1

    def __init__(self, host: str) -> None:
        if Connection.failures:
            Connection.failures -= 1
            raise ConnectionError
        self.host = host


def test_making_an_object_can_be_retried(virtual_clock: VirtualClock) -> None:
    """A class can be called through a retry as any callable."""
    connect = retrying(policy=EXACT)(Connection)
    assert connect("h").host == "h"
    assert virtual_clock.sleeps == [0.3]
    assert with_retry(functools.partial(Connection, "i")).host == "i"


def test_class_and_static_methods_stand_on_either_side() -> None:
    """`retrying` may stand above or below `classmethod` and `staticmethod`."""

    class Shop:
        @retrying
        @classmethod
        def above(cls, item: str) -> str:
            return cls.__name__ + item

        @classmethod
        @retrying
        def beneath(cls, item: str) -> str:
            return cls.__name__ + item

        @retrying
        @staticmethod
        def price(item: str) -> str:
            return item

    assert Shop.above("x") == Shop().above("x") == Shop.beneath("x") == Shop().beneath("x") == "Shopx"
    assert Shop.price("y") == Shop().price("y") == "y"
    shop = Shop()
    assert with_retry(functools.partial(shop.above, "z")) == "Shopz"


@retrying(policy=EXACT)
def at_module_level(number: int) -> int:
    """Return the number."""
    return number


def test_a_decorated_function_can_be_pickled() -> None:
    """A decorated function of a module is pickled by its name, as any function, and keeps its signature."""
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    assert list(inspect.signature(at_module_level).parameters) == ["number"]
    assert (at_module_level.__name__, at_module_level.__doc__) == ("at_module_level", "Return the number.")


def test_groups_are_what_their_leaves_are(virtual_clock: VirtualClock) -> None:
    """An `ExceptionGroup` is tried again if all its leaves are transient, or `retry_on` says so; it comes out noted."""
    group = ExceptionGroup("several", [ConnectionError("a"), TimeoutError("b")])
    assert with_retry(Script(group, 7)) == 7
    mixed = ExceptionGroup("several", [ConnectionError("a"), KeyError("b")])
    with pytest.raises(ExceptionGroup) as caught:
        with_retry(Script(mixed))
    assert caught.value is mixed
    assert "(not_transient)" in mixed.__notes__[0]
    assert with_retry(Script(mixed, 7), policy=RetryPolicy(retry_on=ExceptionGroup)) == 7


def test_a_judge_of_results_that_raises_is_logged(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the function `retry_on_result` raises, that is logged, and the result is taken."""
    assert with_retry(Script(7), policy=RetryPolicy(retry_on_result=lambda _: 1 / 0 > 0)) == 7
    assert "retry_on_result raised" in caplog.text


def test_results_of_every_kind_come_back() -> None:
    """Results are handed through as they are: the same object, also errors, classes and functions."""
    for value in (None, False, 0, "", [], {}, object(), ValueError("returned"), ValueError, len, Connection):
        assert with_retry(lambda value=value: value) is value


def test_an_error_with_slots_has_its_note(virtual_clock: VirtualClock) -> None:
    """An error whose class has slots carries note and attempts as others do."""

    class Slotted(ConnectionError):  # noqa: N818 - it is a fake
        __slots__ = ("code",)

    with pytest.raises(Slotted) as caught:
        with_retry(Script(Slotted()))
    assert len(attempts_of(caught.value)) == 3
    assert len(caught.value.__notes__) == 1


def test_the_errors_of_a_chain_keep_their_places(virtual_clock: VirtualClock) -> None:
    """An error's own cause and context stay as they were."""
    cause, context = KeyError("cause"), ValueError("context")

    def fails() -> None:
        try:
            raise context
        except ValueError:
            raise ConnectionError from cause

    with pytest.raises(ConnectionError) as caught:
        with_retry(fails)
    assert (caught.value.__cause__, caught.value.__context__) == (cause, context)


def test_a_refusal_after_an_unwanted_result_has_the_last_failure_as_cause(virtual_clock: VirtualClock) -> None:
    """The cause of a refusal is the last error, also if a result was rejected since."""
    error = ConnectionError()
    policy = RetryPolicy(max_attempts=9, deadline=None, retry_on_result=lambda result: result is None)
    with pytest.raises(CircuitOpenError) as caught:
        with_retry(Script(error, None, CircuitOpenError("b", 1.0)), policy=policy)
    assert caught.value.__cause__ is error
    own = CircuitOpenError("b", 1.0)
    own.__cause__ = cause = KeyError()
    with pytest.raises(CircuitOpenError) as caught:
        with_retry(Script(error, own))
    assert caught.value.__cause__ is cause
