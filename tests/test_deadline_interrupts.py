"""Interrupts: wherever a signal's handler strikes, no deadline is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dis
import functools
import gc
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import booking_resilience
from booking_resilience import (
    ErrorMonitor,
    Pipeline,
    RetryBudget,
    RetryPolicy,
    deadline,
    remaining_time,
    retry_attempts,
    retrying,
    with_retry,
    with_retry_async,
)
from booking_resilience.testing import VirtualClock
from racing import needs_timer

PACKAGE = str(Path(booking_resilience.__file__).parent)
QUICK = RetryPolicy(base_delay=0.0, attempt_timeout=1.0, retry_on=ConnectionError)


class _StruckError(Exception):
    """What a task queue's soft time limit raises."""


@functools.cache
def spots(code: types.CodeType) -> frozenset[int]:
    """Return where CPython looks for signals: as a function begins, where it jumps back, and after each call."""
    found, before = set(), ""
    for item in dis.get_instructions(code):
        if item.opname in ("RESUME", "JUMP_BACKWARD") or before.startswith("CALL"):
            found.add(item.offset)
        before = item.opname
    return frozenset(found)


class _Striker:
    """Raises at the given one of the places in the package where a signal may strike, counted over all frames."""

    def __init__(self, at: int, kind: type[BaseException]) -> None:
        self.at, self.kind, self.seen = at, kind, 0

    def trace(self, frame: Any, event: str, arg: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE) or name.endswith("clock.py"):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_lasti in spots(frame.f_code):
            self.seen += 1
            if self.seen == self.at:
                sys.settrace(None)
                raise self.kind
        return self.trace


def fails_once() -> Callable[[], int]:
    """Return a function that fails at its first call."""
    steps = iter([ConnectionError()])

    def step() -> int:
        for error in steps:
            raise error
        return 1

    return step


def through_with_retry() -> None:
    """Call a function that fails once."""
    with_retry(fails_once(), policy=QUICK)


def through_a_decorator() -> None:
    """Call a decorated function."""
    retrying(policy=QUICK)(fails_once())()


def through_with_retry_async() -> None:
    """Await a function, without an event loop."""

    async def later() -> int:
        return 1

    with contextlib.suppress(StopIteration):
        with_retry_async(later, policy=QUICK).send(None)


def through_a_block() -> None:
    """Try a block twice."""
    step = fails_once()
    for attempt in retry_attempts(policy=QUICK):
        with attempt:
            step()


def through_a_deadline() -> None:
    """Enter two deadlines."""
    with deadline(3.0), deadline(2.0):
        remaining_time()


def through_a_decorated_deadline() -> None:
    """Call a function with a deadline."""
    deadline(2.0)(remaining_time)()


WAYS = [
    through_with_retry, through_a_decorator, through_with_retry_async, through_a_block, through_a_deadline,
    through_a_decorated_deadline,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # it was struck before it was awaited
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage measures by the trace function, which this needs")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, _StruckError])
@pytest.mark.parametrize("is_nested", [False, True], ids=["alone", "within a deadline"])
def test_an_interrupt_at_any_place_leaves_no_deadline(
    way: Callable[[], None], kind: type[BaseException], is_nested: bool, virtual_clock: VirtualClock
) -> None:
    """Wherever the library is interrupted, the deadline around it is in force again, or none."""
    at, left = 0, []
    while True:
        at += 1
        striker = _Striker(at, kind)

        def struck() -> float | None:
            sys._getframe().f_trace_opcodes = True  # before tracing begins, as CPython 3.12 wants it
            sys.settrace(striker.trace)  # noqa: B023 - it is called at once
            try:
                way()
            except (kind, ConnectionError):
                pass
            finally:
                sys.settrace(None)
            return remaining_time()

        def nested() -> float | None:
            with deadline(60.0):
                return struck()

        if contextvars.Context().run(nested if is_nested else struck) != (60.0 if is_nested else None):
            left.append(at)
        if striker.seen < at:
            break
        assert at < 5000
    assert at > 8
    assert left == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage measures by the trace function, which this needs")
@pytest.mark.parametrize("way", ["capture", "pipeline"])
def test_an_interrupt_at_any_place_leaves_the_monitor_as_it_was(way: str) -> None:
    """Wherever the telling of an operation's end is interrupted, recording an error again gives its first record."""
    at, wrong = 0, []
    while True:
        at += 1
        striker, monitor = _Striker(at, KeyboardInterrupt), ErrorMonitor()
        pipeline = Pipeline(retry=RetryPolicy(max_attempts=1), monitor=monitor)

        def fail() -> None:
            with monitor.capture("block") if way == "capture" else contextlib.nullcontext():  # noqa: B023 - at once
                raise ConnectionError

        def is_as_it_was() -> bool:
            error = ConnectionError()
            first = monitor.record(error, operation="first")  # noqa: B023 - it is called at once
            with contextlib.suppress(KeyboardInterrupt, ConnectionError):
                sys.settrace(striker.trace)  # noqa: B023 - it is called at once
                try:
                    fail() if way == "capture" else pipeline.call("operation", fail)  # noqa: B023 - as above
                finally:
                    sys.settrace(None)
            return monitor.record(error, operation="again") is first  # noqa: B023 - as above

        if not contextvars.Context().run(is_as_it_was):
            wrong.append(at)
        if striker.seen < at:
            break
        assert at < 5000
    assert at > 8
    assert wrong == []


SIGNALLED = """
import signal, sys
from booking_resilience import RetryPolicy, deadline, remaining_time, retry_attempts, with_retry

class Soft(Exception):
    pass

def strike(number, frame):
    raise Soft

def by_with_retry():
    while True:
        with_retry(int)

def by_block():
    while True:
        for attempt in retry_attempts():
            with attempt:
                pass

def by_deadline():
    while True:
        with deadline(5.0):
            pass

signal.signal(signal.SIGALRM, strike)
for way in (by_with_retry, by_block, by_deadline):
    left = 0
    for number in range(700):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + number % 97 * 1e-6)
                way()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Soft:
            pass
        left += remaining_time() is not None
    print(way.__name__, left)
"""


@needs_timer
def test_real_signals_leave_no_deadline() -> None:
    """Of 2,100 signals whose handler raises, in a process of their own, none leaves a deadline behind."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["by_with_retry", "0", "by_block", "0", "by_deadline", "0"]


def suspended_in_a_deadline() -> Iterator[None]:
    """Yield within a deadline."""
    with deadline(1.0):
        yield


def suspended_in_an_attempt() -> Iterator[None]:
    """Yield within an attempt."""
    for attempt in retry_attempts(policy=RetryPolicy(deadline=1.0)):
        with attempt:
            yield


@pytest.mark.parametrize("generator", [suspended_in_a_deadline, suspended_in_an_attempt])
@pytest.mark.parametrize("where", ["in a thread", "in another context", "by the collector", "here"])
def test_a_generator_that_is_closed_elsewhere_leaves_no_deadline(
    generator: Callable[[], Iterator[None]], where: str, virtual_clock: VirtualClock
) -> None:
    """A deadline ends with the generator that set it, wherever that is closed."""
    with deadline(5.0):
        stream: Any = generator()
        next(stream)
        assert remaining_time() == 1.0
        if where == "in a thread":
            thread = threading.Thread(target=stream.close)
            thread.start()
            thread.join()
        elif where == "in another context":
            contextvars.Context().run(stream.close)
        elif where == "here":
            stream.close()
        del stream
        gc.collect()
        assert remaining_time() == 5.0
    assert remaining_time() is None


def test_generators_drawn_from_in_turn_leave_no_deadline(virtual_clock: VirtualClock) -> None:
    """Of two generators that end in the wrong order, neither leaves its deadline behind."""
    first, second = suspended_in_a_deadline(), suspended_in_a_deadline()
    next(first)
    next(second)
    assert [next(first, None), next(second, None)] == [None, None]
    assert remaining_time() is None


def test_a_block_ends_the_deadline_of_a_generator_that_is_suspended_in_it(virtual_clock: VirtualClock) -> None:
    """What a generator that was begun in a block has set ends with the block, though the generator goes on."""
    with deadline(5.0):
        stream = suspended_in_a_deadline()
        next(stream)
    assert remaining_time() is None
    assert next(stream, None) is None


def test_an_abandoned_asynchronous_generator_leaves_no_deadline() -> None:
    """A deadline ends with the asynchronous generator that set it, also if nobody closes that."""

    async def stream() -> AsyncIterator[int]:
        with deadline(1.0):
            yield 1

    async def main() -> float | None:
        async for _ in stream():
            break
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        return remaining_time()

    assert asyncio.run(main()) is None


def test_an_attempt_that_is_kept_holds_no_deadline(virtual_clock: VirtualClock) -> None:
    """A loop that is struck before its attempt was left drops the deadline, though a variable keeps the attempt."""
    attempts = iter(retry_attempts())
    attempt = next(attempts)
    attempt.__enter__()
    assert remaining_time() == 4.0
    del attempts
    assert remaining_time() is None
    lonely = next(iter(retry_attempts()))
    with lonely:
        assert remaining_time() == 4.0
    assert remaining_time() is None


def test_a_break_after_a_failed_block_gives_the_token_back(virtual_clock: VirtualClock) -> None:
    """A loop that is left before its next attempt has not paid for it."""
    budget = RetryBudget()
    kept = retry_attempts(policy=RetryPolicy(budget=budget))
    for attempt in kept:
        with attempt:
            raise ConnectionError
        break
    assert budget.tokens == 5.0
    for attempt in kept:
        with attempt:
            if attempt.number == 2:
                break
            raise ConnectionError
    assert budget.tokens == pytest.approx(4.1)
