"""What user code gets wrong around retries, pipelines and deadlines: refused when it is given, or harmless."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import functools
import logging
import pickle
import types
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import booking_resilience
from booking_resilience import (
    CircuitBreaker,
    CircuitOpenError,
    ErrorCategory,
    ErrorMonitor,
    Pipeline,
    RetryBudget,
    RetryPolicy,
    attempts_of,
    deadline,
    iter_batch_async,
    remaining_time,
    retry_attempts,
    retrying,
    run_batch,
    run_batch_async,
    with_retry,
    with_retry_async,
)
from booking_resilience.testing import VirtualClock, virtual_time
from drivers import AT_ONCE, EXACT, LOOPS, Loop, Script


async def later(*_: Any) -> bool:
    """Return True, if it is awaited."""
    return True


def generator(*_: Any) -> Iterator[int]:
    """Yield a number."""
    yield 1


async def async_generator(*_: Any) -> AsyncIterator[int]:
    """Yield a number, asynchronously."""
    yield 1


class Later:
    """Its instances are called like a coroutine function."""

    async def __call__(self, *_: Any) -> bool:
        return True


NEVER_RUN: list[Any] = [
    later, generator, async_generator, functools.partial(later), Later(), Later().__call__,
    contextlib.contextmanager(generator), contextlib.asynccontextmanager(async_generator),
]  # fmt: skip


@pytest.mark.parametrize("callback", NEVER_RUN)
def test_callbacks_whose_body_would_never_run_are_refused(callback: Any) -> None:
    """A coroutine or generator function in the place of a callback is a `TypeError` that names the argument."""
    for name in ("retry_on", "retry_on_result"):
        with pytest.raises(TypeError, match=f"^{name} must be .* function"):
            RetryPolicy(**{name: callback})
    for call in (with_retry, with_retry_async, retrying):
        with pytest.raises(TypeError, match=r"^on_event must be a function of the event or None; .* function"):
            outcome = call(int, on_event=callback)
            asyncio.run(outcome)
    with pytest.raises(TypeError, match=r"^on_event must be"):
        retry_attempts(on_event=callback)
    for batch in (run_batch, iter_batch_async):
        with pytest.raises(TypeError, match=r"^on_item must be"):
            batch(len, [], on_item=callback)


def test_callbacks_that_turn_out_to_be_asynchronous_are_closed_and_logged_once(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What gives an awaitable answers no: not transient, result accepted; it is closed, and logged once."""
    for _ in range(2):
        with pytest.raises(ConnectionError):
            with_retry(script := Script(ConnectionError()), policy=RetryPolicy(retry_on=lambda error: later(error)))
        assert script.calls == 1
        assert with_retry(Script(7), policy=RetryPolicy(retry_on_result=lambda result: later(result))) == 7
        with_retry(Script(ConnectionError(), 7), policy=AT_ONCE, on_event=lambda event: later(event))
        run_batch(len, ["a"], on_item=lambda outcome: later(outcome))
        monitor: Any = types.SimpleNamespace(record=lambda error, **_: later(error))
        with pytest.raises(ConnectionError):
            Pipeline(retry=AT_ONCE, monitor=monitor).call("operation", Script(ConnectionError(), ConnectionError()))
    assert len([line for line in caplog.messages if "returned an awaitable" in line]) == 10  # each lambda is another

    def rule(error: Exception) -> Any:
        return later(error)

    caplog.clear()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            with_retry(Script(ConnectionError()), policy=RetryPolicy(retry_on=rule))
    assert len([line for line in caplog.messages if "returned an awaitable" in line]) == 1


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_out_of_a_rule_passes(kind: type[BaseException]) -> None:
    """An exit or interrupt that a rule raises comes out."""

    def leave(_: object) -> bool:
        raise kind

    for policy in (RetryPolicy(retry_on=leave), RetryPolicy(retry_on_result=leave)):
        with pytest.raises(kind):
            with_retry(Script(7) if policy.retry_on_result else Script(ConnectionError()), policy=policy)


@dataclasses.dataclass(frozen=True)
class FrozenError(ConnectionError):
    """Refuses attributes."""

    code: int = 7


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedError(ConnectionError):
    """Refuses attributes, and has slots."""

    code: int = 7


class UnseenError(ConnectionError):
    """Raises where its traceback, its cause or its context is looked at."""

    @property
    def __traceback__(self) -> Any:
        raise RuntimeError

    @property
    def __cause__(self) -> Any:
        raise RuntimeError

    @property
    def __context__(self) -> Any:
        raise RuntimeError


class FrozenRefusalError(CircuitOpenError):
    """A refusal that refuses attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        super().__setattr__(name, value)


@pytest.mark.parametrize("error", [FrozenError(), SlottedError(), UnseenError(), FrozenRefusalError("b", 1.0)])
def test_errors_that_refuse_attributes_come_out_as_themselves(error: Exception) -> None:
    """No block and no source of this library replaces an error that refuses attributes."""

    def source() -> Iterator[int]:
        yield 1
        raise error

    def fails() -> None:
        raise error

    def in_source() -> None:
        run_batch(str, source())

    def in_blocks() -> None:
        with deadline(1.0), virtual_time():
            raise error

    def after_another() -> None:
        with_retry(Script(ConnectionError(), error), policy=AT_ONCE)

    decorated = [deadline(1.0)(fails), virtual_time()(fails)]
    for way in (in_source, in_blocks, after_another, *decorated):
        with pytest.raises(type(error)) as caught:
            way()
        assert caught.value is error


def test_a_deadline_or_virtual_time_decorates_coroutine_functions() -> None:
    """Each call of a decorated coroutine function runs within its own block."""

    async def left() -> float | None:
        await asyncio.sleep(0)
        return remaining_time()

    assert asyncio.run(virtual_time()(deadline(2.0)(left))()) == 2.0
    for decorator in (deadline(2.0), virtual_time()):
        for function in (generator, async_generator, contextlib.contextmanager(generator)):
            with pytest.raises(TypeError, match="generator function"):
                decorator(function)


def test_a_deadline_is_entered_once_at_a_time(virtual_clock: VirtualClock) -> None:
    """A deadline that is in force cannot be entered again; one that was left can."""
    block = deadline(2.0)
    with block, pytest.raises(RuntimeError, match="in force already"), block:
        pytest.fail("it was entered")
    with block:
        assert remaining_time() == 2.0
    assert remaining_time() is None


def test_errors_in_the_place_of_functions_are_refused() -> None:
    """Exception types and tuples of them decorate nothing: they belong in the policy."""
    for errors in (ConnectionError, (ConnectionError, KeyError)):
        with pytest.raises(TypeError, match=r"errors in a policy: @retrying\(policy=RetryPolicy\(retry_on=\.\.\.\)\)"):
            retrying(errors)
    for decorate in (retrying(), CircuitBreaker("b"), Pipeline().protect("op"), deadline(1.0)):
        with pytest.raises(TypeError, match="decorates functions, not <class 'ConnectionError'>"):
            decorate(ConnectionError)


def plain() -> list[int]:
    """Return a list; `wrapping` names a generator function."""
    return list(generator())


wrapping: Any = functools.wraps(generator)(plain)


@pytest.mark.parametrize("function", [generator, functools.partial(generator), contextlib.contextmanager(generator)])
def test_generator_functions_are_refused_wherever_they_are_called(function: Any, loop: Loop) -> None:
    """What only makes a generator, or a context manager of one, would be protected from nothing."""
    for pipeline in (Pipeline(retry=AT_ONCE), Pipeline(breaker=CircuitBreaker("b"))):
        with pytest.raises(TypeError, match="generator function"):
            pipeline.call("op", function)
        with pytest.raises(TypeError, match="generator function"):
            loop.run(lambda pipeline=pipeline: pipeline.call_async("op", function))
        with pytest.raises(TypeError, match="generator function"):
            pipeline.protect("op")(function)
    with pytest.raises(TypeError, match="generator function"):
        with_retry(function)
    with pytest.raises(TypeError, match="generator function"):
        loop.run(lambda: with_retry_async(function))
    with pytest.raises(TypeError, match="generator function"):
        retrying(function)
    with pytest.raises(TypeError, match="generator function"):
        run_batch(function, [1])
    with pytest.raises(TypeError, match="generator function"):
        loop.run(lambda: run_batch_async(function, [1]))


@pytest.mark.parametrize("function", [generator, async_generator, contextlib.contextmanager(generator)])
def test_generator_functions_are_refused_also_after_what_gave_the_same_type(function: Any) -> None:
    """A function that only hands on a generator or a context manager is fine; the one behind it is not, then either."""
    pipeline = Pipeline()
    for _ in range(2):
        assert type(pipeline.call("op", lambda: function())) is type(function())
        with pytest.raises(TypeError, match="generator function"):
            pipeline.call("op", function)


def test_what_only_looks_like_a_generator_function_is_called(loop: Loop) -> None:
    """A function that wraps a generator function and returns a list is fine, and a lambda that gives a coroutine."""
    assert with_retry(wrapping) == retrying(wrapping)() == Pipeline().call("op", wrapping) == [1]
    assert list(with_retry(lambda: (number for number in (1, 2)))) == [1, 2]
    assert loop.run(lambda: with_retry_async(lambda: later())) is True
    assert loop.run(lambda: Pipeline().call_async("op", lambda: later())) is True


@pytest.fixture(params=LOOPS, ids=lambda loop: type(loop).__name__)
def loop(request: pytest.FixtureRequest) -> Loop:
    """asyncio, then trio."""
    return request.param


def test_a_synchronous_function_in_call_async_is_said_to_have_run(loop: Loop) -> None:
    """The error of a plain function in place of a coroutine function says that it has already run."""
    calls: list[int] = []
    for pipeline in (Pipeline(), Pipeline(breaker=CircuitBreaker("b"))):
        with pytest.raises(TypeError, match="has already run"):
            loop.run(lambda pipeline=pipeline: pipeline.call_async("op", calls.append, 1))
    assert calls == [1, 1]


def test_a_policy_that_judges_results_is_refused_for_blocks() -> None:
    """A block has no result: such a policy is a `ValueError`, not silently ignored."""
    with pytest.raises(ValueError, match="retry_on_result"):
        retry_attempts(policy=RetryPolicy(retry_on_result=lambda result: result is None))


def test_the_parts_of_a_pipeline_cannot_be_exchanged() -> None:
    """Assigning a part is an `AttributeError`, since half of the pipeline would go by the old one."""
    pipeline = Pipeline()
    for part in ("retry", "breaker", "monitor"):
        with pytest.raises(AttributeError):
            setattr(pipeline, part, getattr(pipeline, part))


def test_a_pipeline_says_what_it_is_made_of() -> None:
    """Its repr shows its parts."""
    assert repr(Pipeline(retry=AT_ONCE, breaker=CircuitBreaker("b"))) == (
        f"<Pipeline retry={AT_ONCE!r} breaker=<CircuitBreaker 'b' closed> monitor=None>"
    )


def test_a_pipeline_without_shared_parts_can_be_pickled() -> None:
    """A pipeline, used or fresh, pickles, unless it holds a part that a copy would not share: that is a `TypeError`."""
    fresh = Pipeline(retry=RetryPolicy(max_attempts=5), category=ErrorCategory.CHAT)
    used = Pipeline(retry=RetryPolicy(max_attempts=5), category=ErrorCategory.CHAT)
    used.call("op", int)
    for pipeline in (fresh, used):
        twin = pickle.loads(pickle.dumps(pipeline))
        assert (twin.retry, twin.category, twin.call("op", int)) == (pipeline.retry, ErrorCategory.CHAT, 0)
    holders: list[Any] = [
        Pipeline(breaker=CircuitBreaker("b")), Pipeline(monitor=ErrorMonitor()),
        Pipeline(retry=RetryPolicy(budget=RetryBudget())), RetryBudget(), RetryPolicy(budget=RetryBudget()),
    ]  # fmt: skip
    for holder in holders:
        with pytest.raises(TypeError, match=r"can(not|'t) be pickled"):
            pickle.dumps(holder)
    assert pickle.loads(pickle.dumps(EXACT)) == EXACT


def test_what_counts_is_not_copied() -> None:
    """A copy of a breaker, its permit, a budget or a monitor would count by itself: a `TypeError` instead."""
    breaker = CircuitBreaker("b")
    for whole in (breaker, breaker.acquire(), RetryBudget(), ErrorMonitor(), Pipeline(monitor=ErrorMonitor())):
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="copied"):
                copied(whole)


@pytest.mark.parametrize("wrong", ["text", ConnectionError, None])
def test_only_errors_are_asked_for_their_attempts(wrong: Any) -> None:
    """What is no exception has no attempts to tell of: that is a mistake, not an empty answer."""
    with pytest.raises(TypeError, match=r"^error must be an exception"):
        attempts_of(wrong)


def test_a_copied_error_has_no_attempts(virtual_clock: VirtualClock) -> None:
    """A copy of an error that came out of a retry has not come out of one itself."""
    with pytest.raises(ConnectionError) as caught:
        with_retry(Script(ConnectionError("x")))
    for twin in (copy.copy(caught.value), copy.deepcopy(caught.value), copy.copy(copy.copy(caught.value))):
        assert attempts_of(twin) == ()
    assert len(attempts_of(caught.value)) == 3


def test_nested_operations_of_one_name_have_a_note_each(virtual_clock: VirtualClock) -> None:
    """The outer operation's note does not replace that of an inner one of the same name."""

    def blocks() -> None:
        for attempt in retry_attempts(policy=EXACT):
            with attempt:
                for inner in retry_attempts(policy=EXACT):
                    with inner:
                        raise ConnectionError("x")

    def calls() -> None:
        with_retry(lambda: with_retry(Script(ConnectionError("x")), operation="op"), operation="op")

    for way in (blocks, calls):
        with pytest.raises(ConnectionError) as caught:
            way()
        assert len(caught.value.__notes__) == 2
    same = ConnectionError("always the same")
    for _ in range(5):
        virtual_clock.advance(1.0)
        with pytest.raises(ConnectionError):
            with_retry(Script(same), operation="op")
    assert len(same.__notes__) == 1


def test_the_log_tells_the_pause(virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A retry's line says how long it waits, the others how long it took."""
    caplog.set_level(logging.INFO, "booking_resilience.retry")
    with_retry(Script(ConnectionError(), 7), policy=EXACT, operation="op")
    with pytest.raises(ConnectionError):
        with_retry(Script(ConnectionError()), policy=EXACT, operation="op")
    assert caplog.messages == [
        "op: retrying after 1 attempt, next in 0.300 s (ConnectionError)",
        "op: recovered after 2 attempts, in 0.300 s (ConnectionError)",
        "op: retrying after 1 attempt, next in 0.300 s (ConnectionError)",
        "op: retrying after 2 attempts, next in 0.600 s (ConnectionError)",
        "op: gave up after 3 attempts, in 0.900 s (attempts)",
    ]


PUBLIC: list[Any] = [
    booking_resilience.BatchOutcome, booking_resilience.BatchResult, Pipeline, RetryBudget, RetryPolicy, attempts_of,
    deadline, booking_resilience.iter_batch, iter_batch_async, remaining_time, retry_attempts, retrying, run_batch,
    run_batch_async, with_retry, with_retry_async, type(deadline(1.0)), type(retry_attempts()), virtual_time,
    VirtualClock,
]  # fmt: skip


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_annotations_resolve(thing: Any) -> None:
    """FastAPI, pydantic and Sphinx can resolve what public objects are annotated with."""
    typing.get_type_hints(thing)
    if isinstance(thing, type):
        for name, member in vars(thing).items():
            if not name.startswith("_") and callable(member):
                typing.get_type_hints(member)
