"""Errors of strangers that raise from whatever they are asked: they come out as themselves, whatever looks at them."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from booking_resilience import (
    BreakerState,
    CircuitBreaker,
    ErrorMonitor,
    Pipeline,
    RetryPolicy,
    deadline,
    is_transient,
    remaining_time,
    retry_attempts,
    retrying,
    run_batch,
    run_batch_async,
    with_retry,
    with_retry_async,
)
from booking_resilience.load import ConcurrencyLimit, Fallback


class ClassHidingError(Exception):
    """Raises when it is asked for its class."""

    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise ZeroDivisionError


class AllHidingError(Exception):
    """Raises when it is asked for anything."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(cls) -> int:
        raise RuntimeError("hash")


class KindHidingError(Exception, metaclass=_Meta):
    """Its class raises when it is asked for anything, compared or hashed."""


KINDS: list[Callable[[], Exception]] = [
    lambda: ClassHidingError("x"), lambda: AllHidingError("x"), lambda: KindHidingError("x"),
]  # fmt: skip
QUICK = RetryPolicy(base_delay=0.0, retry_on=(ConnectionError, Exception), max_attempts=2)
POLICIES = [RetryPolicy(), QUICK, RetryPolicy(base_delay=0.0, retry_on=ConnectionError, attempt_timeout=1.0)]


def by_loop(fn: Callable[[], None], policy: RetryPolicy) -> None:
    """Try a block."""
    for attempt in retry_attempts(policy=policy):
        with attempt:
            fn()


def by_batch(fn: Callable[[], None], policy: RetryPolicy) -> None:
    """Try the item of a batch."""
    pipeline = Pipeline(retry=policy, breaker=CircuitBreaker("batch"))
    [outcome] = run_batch(lambda _: fn(), [1], pipeline=pipeline).outcomes
    assert outcome.error is not None
    raise outcome.error


def piped(policy: RetryPolicy) -> Pipeline:
    """Return a pipeline with everything that looks at errors."""
    breaker = CircuitBreaker("pipeline", failure_on=(ConnectionError, OSError), ignore=KeyError)
    return Pipeline(
        retry=policy, breaker=breaker, monitor=ErrorMonitor(), limit=ConcurrencyLimit("limit", limit=1),
        fallback=Fallback(1, on=ConnectionError),
    )  # fmt: skip


WAYS: list[Callable[[Callable[[], None], RetryPolicy], object]] = [
    lambda fn, policy: with_retry(fn, policy=policy),
    lambda fn, policy: retrying(policy=policy)(fn)(),
    by_loop,
    by_batch,
    lambda fn, policy: piped(policy).call("call", fn),
    lambda fn, policy: piped(policy).protect("call")(fn)(),
    lambda fn, policy: CircuitBreaker("call").call(fn),
    lambda fn, policy: CircuitBreaker("decorated")(fn)(),
]


async def batch_async(fn: Callable[[], Any], policy: RetryPolicy) -> None:
    """Try the item of an asynchronous batch."""
    pipeline = Pipeline(retry=policy, breaker=CircuitBreaker("batch"))
    [outcome] = (await run_batch_async(lambda _: fn(), [1], pipeline=pipeline)).outcomes
    assert outcome.error is not None
    raise outcome.error


WAYS_ASYNC: list[Callable[[Callable[[], Any], RetryPolicy], Any]] = [
    lambda fn, policy: with_retry_async(fn, policy=policy),
    lambda fn, policy: retrying(policy=policy)(fn)(),
    batch_async,
    lambda fn, policy: piped(policy).call_async("call", fn),
    lambda fn, policy: piped(policy).protect("call")(fn)(),
    lambda fn, policy: CircuitBreaker("call").call_async(fn),
    lambda fn, policy: CircuitBreaker("decorated")(fn)(),
]


@pytest.mark.parametrize("kind", KINDS, ids=["class", "attributes", "kind"])
@pytest.mark.parametrize("policy", POLICIES, ids=["default", "types", "timeout"])
def test_a_hostile_error_comes_out_as_itself(kind: Callable[[], Exception], policy: RetryPolicy) -> None:
    """Whatever retries, guards or records a call, in either colour, the error that comes out is the call's own."""
    error = kind()

    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    async def others() -> list[str]:
        found = []
        for number, way in enumerate(WAYS_ASYNC):
            try:
                await way(fail_async, policy)
            except BaseException as raised:
                found += other_than(error, raised, number)
        return found

    found = []
    for number, way in enumerate(WAYS):
        try:
            way(fail, policy)
        except BaseException as raised:
            found += other_than(error, raised, number)
    assert (found, asyncio.run(others())) == ([], [])


def other_than(error: BaseException, raised: BaseException, way: int) -> list[str]:
    """Describe what came out in place of the error; a test runner must not look at a hostile one."""
    if raised is error:
        return []
    return [f"{way}: " + "".join(traceback.format_exception(RuntimeError, RuntimeError(), raised.__traceback__))]


def test_a_hostile_error_is_judged_by_its_type() -> None:
    """A breaker counts a stranger's error as a failure; nothing holds it transient."""
    breaker = CircuitBreaker("b", failure_threshold=1)
    with contextlib.suppress(AllHidingError):
        breaker.call(raising, AllHidingError)
    assert breaker.state is BreakerState.OPEN
    assert not is_transient(KindHidingError())
    assert not is_transient(ExceptionGroup("group", [ClassHidingError()]))


def raising(kind: type[Exception]) -> None:
    """Raise an error of that type."""
    raise kind


def test_a_retried_call_ends_the_deadlines_that_it_leaves_behind() -> None:
    """A generator that was begun in a call, and goes on in a deadline of its own, leaves none to the caller."""

    def stream() -> Iterator[float | None]:
        with deadline(1.0):
            yield remaining_time()

    def begin() -> Iterator[float | None]:
        begun = stream()
        next(begun)
        return begun

    async def begin_async() -> Iterator[float | None]:
        return begin()

    async def main() -> None:
        held.append(await with_retry_async(begin_async))
        assert remaining_time() is None

    held = [with_retry(begin)]
    assert remaining_time() is None
    asyncio.run(main())
    assert [next(begun, None) for begun in held] == [None, None]
    assert remaining_time() is None
