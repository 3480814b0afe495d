"""One logic, three colours: the synchronous, asyncio and trio drivers do the same for the same script."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import (
    CircuitBreaker,
    CircuitOpenError,
    ErrorMonitor,
    Pipeline,
    RetryBudget,
    RetryPolicy,
    TransientError,
    attempts_of,
    deadline,
    remaining_time,
    retry_attempts,
    retrying,
    with_retry,
    with_retry_async,
)
from booking_resilience.testing import VirtualClock, virtual_time
from drivers import LOOPS, Loop, ours


class Asks(TransientError):  # noqa: N818 - it is a fake
    """An error that asks for a delay."""

    def __init__(self, retry_after: Any) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


ERRORS: dict[str, Callable[[], Exception]] = {
    "reset": ConnectionError,
    "slow": TimeoutError,
    "asks": lambda: Asks(1.25),
    "asks nonsense": lambda: Asks("soon"),
    "refused": lambda: ValueError("bad"),
    "open": lambda: CircuitOpenError("other", 2.0),
}


def make_error(kind: str) -> Exception:
    """Return a new error of the kind."""
    return ERRORS[kind]()


SCRIPTS = st.lists(
    st.tuples(st.sampled_from([*ERRORS, *ERRORS, "ok", "unwanted"]), st.floats(0, 1)), min_size=1, max_size=8
)
POLICIES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(1, 6),
        "base_delay": st.sampled_from([0.0, 0.3, 1.0]),
        "jitter": st.sampled_from([0.0, 0.15, "full"]),
        "deadline": st.sampled_from([None, 0.5, 4.0, 30.0]),
        "attempt_timeout": st.sampled_from([None, 1.0]),
        "retry_on_result": st.sampled_from([None, lambda result: result == "unwanted"]),
    }
)

Driver = Callable[[Callable[[], Any], RetryPolicy, Callable[[Any], None]], Any]


def in_loop(loop: Loop, way: str) -> Driver:
    """Return the asynchronous driver of a loop."""

    def drive(step: Callable[[], Any], policy: RetryPolicy, on_event: Callable[[Any], None]) -> Any:
        async def call() -> Any:
            await loop.pass_on()
            return step()

        async def main() -> Any:
            if way == "called":
                return await with_retry_async(call, policy=policy, operation="op", on_event=on_event)
            if way == "decorated":
                return await retrying(policy=policy, operation="op", on_event=on_event)(call)()
            async for attempt in retry_attempts(policy=policy, operation="op", on_event=on_event):
                with attempt:
                    result = await call()
            return result

        return loop.run(main)

    return drive


def called(step: Callable[[], Any], policy: RetryPolicy, on_event: Callable[[Any], None]) -> Any:
    """Drive in this thread, by `with_retry`."""
    return with_retry(step, policy=policy, operation="op", on_event=on_event)


def decorated(step: Callable[[], Any], policy: RetryPolicy, on_event: Callable[[Any], None]) -> Any:
    """Drive in this thread, by `retrying`."""
    return retrying(policy=policy, operation="op", on_event=on_event)(step)()


def looped(step: Callable[[], Any], policy: RetryPolicy, on_event: Callable[[Any], None]) -> Any:
    """Drive in this thread, by a loop."""
    for attempt in retry_attempts(policy=policy, operation="op", on_event=on_event):
        with attempt:
            result = step()
    return result


def trace(
    drive: Driver, script: list[tuple[str, float]], settings: dict[str, Any], tokens: int | None, outer: float | None
) -> list[Any]:
    """Return all that can be seen of an operation."""
    budget = None if tokens is None else RetryBudget(initial=tokens)
    policy = RetryPolicy(**settings, budget=budget)
    seen: list[Any] = []
    calls = 0
    random.seed(7)
    with virtual_time() as clock:

        def step() -> str:
            nonlocal calls
            kind, takes = script[min(calls, len(script) - 1)]
            calls += 1
            clock.advance(takes)
            seen.append(("left", remaining_time()))
            if kind in ERRORS:
                raise make_error(kind)
            return kind

        def on_event(event: Any) -> None:
            error = None if event.error is None else type(event.error)
            seen.append(
                (event.operation, event.attempt, event.outcome, event.reason, error, event.delay, event.elapsed)
            )

        def run() -> None:
            try:
                seen.append(("result", drive(step, policy, on_event)))
            except Exception as error:
                history = [(item.number, type(item.error), item.delay, item.elapsed) for item in attempts_of(error)]
                cause = type(error.__cause__)
                seen.append((type(error), str(error), getattr(error, "__notes__", None), history, cause))
                assert ours(error) <= 3
                assert error.__context__ is None or error.__context__ is error.__cause__

        if outer is None:
            run()
        else:
            with deadline(outer):
                run()
        seen.append(("left after", remaining_time(), clock.sleeps, clock.now()))
    seen.append(("tokens", budget and budget.tokens))
    return seen


@given(
    script=SCRIPTS,
    settings=POLICIES,
    tokens=st.none() | st.integers(0, 3),
    outer=st.sampled_from([None, 0.0, 1.0, 20.0]),
)
def test_all_drivers_do_the_same(
    script: list[tuple[str, float]], settings: dict[str, Any], tokens: int | None, outer: float | None
) -> None:
    """The same script gives the same events, sleeps, times, results, notes and tokens in each colour and form."""
    expected = trace(called, script, settings, tokens, outer)
    drivers = [decorated, *(in_loop(loop, way) for loop in LOOPS for way in ("called", "decorated"))]
    for drive in drivers:
        assert trace(drive, script, settings, tokens, outer) == expected


@given(script=SCRIPTS, settings=POLICIES, outer=st.sampled_from([None, 0.0, 1.0, 20.0]))
def test_the_loop_form_does_the_same(
    script: list[tuple[str, float]], settings: dict[str, Any], outer: float | None
) -> None:
    """A block is driven as a function is; only its result is not looked at."""
    settings = settings | {"retry_on_result": None}
    expected = trace(called, script, settings, 2, outer)
    for drive in (looped, *(in_loop(loop, "looped") for loop in LOOPS)):
        assert trace(drive, script, settings, 2, outer) == expected


@given(script=SCRIPTS, settings=POLICIES, threshold=st.integers(1, 4))
def test_pipelines_do_the_same(script: list[tuple[str, float]], settings: dict[str, Any], threshold: int) -> None:
    """With breaker and monitor, too, all colours leave the same sleeps, states and records."""

    def run(way: str, loop: Loop | None) -> list[Any]:
        calls, seen = 0, []
        random.seed(7)
        with virtual_time() as clock:
            breaker, monitor = CircuitBreaker("b", failure_threshold=threshold, cooldown=1.0), ErrorMonitor()
            pipeline = Pipeline(retry=RetryPolicy(**settings), breaker=breaker, monitor=monitor)

            def step() -> str:
                nonlocal calls
                kind, takes = script[min(calls, len(script) - 1)]
                calls += 1
                clock.advance(takes)
                if kind in ERRORS:
                    raise make_error(kind)
                return kind

            async def step_async() -> str:
                return step()

            for _ in range(4):
                try:
                    if loop is None:
                        seen.append(pipeline.call("op", step) if way == "call" else pipeline.protect("op")(step)())
                    elif way == "call":
                        seen.append(loop.run(lambda: pipeline.call_async("op", step_async)))
                    else:
                        seen.append(loop.run(pipeline.protect("op")(step_async)))
                except Exception as error:
                    seen.append((type(error), str(error), error.__notes__, type(error.__cause__)))
                    assert ours(error) <= 3
                seen.append(breaker.snapshot())
            seen.extend(
                (record.error_type, record.severity, record.attempts, record.attempt_errors, record.outcome)
                for record in monitor.recent(100)
            )
            return [*seen, calls, clock.sleeps, clock.now()]

    expected = run("call", None)
    for way in ("call", "protect"):
        for loop in (None, *LOOPS):
            assert run(way, loop) == expected


def test_asynchronous_drivers_need_no_virtual_time_of_their_own(virtual_clock: VirtualClock) -> None:
    """A whole schedule of hours runs at once in each colour."""
    policy = RetryPolicy(max_attempts=50, deadline=None, max_delay=3600.0, base_delay=60.0)

    def fails() -> None:
        raise ConnectionError

    async def fails_async() -> None:
        raise ConnectionError

    for run in (
        lambda: with_retry(fails, policy=policy),
        *(lambda loop=loop: loop.run(lambda: with_retry_async(fails_async, policy=policy)) for loop in LOOPS),
    ):
        with pytest.raises(ConnectionError):
            run()
    assert len(virtual_clock.sleeps) == 3 * 49
