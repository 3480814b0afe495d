"""Retrying a block of code: `for` and `async for` over `retry_attempts()`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from booking_resilience import (
    CircuitBreaker,
    CircuitOpenError,
    RetryBudget,
    RetryEvent,
    RetryPolicy,
    attempts_of,
    deadline,
    remaining_time,
    retry_attempts,
)
from booking_resilience.testing import VirtualClock
from drivers import AT_ONCE, EXACT, LOOPS, Loop, no_cycles, ours


@pytest.fixture(params=LOOPS, ids=lambda loop: type(loop).__name__)
def loop(request: pytest.FixtureRequest) -> Loop:
    """asyncio, then trio."""
    return request.param


def test_async_for_retries_a_block(loop: Loop, virtual_clock: VirtualClock) -> None:
    """An `async for` does the same as a `for`, and waits without blocking."""
    numbers: list[int] = []
    left: list[float | None] = []
    events: list[RetryEvent] = []

    async def main() -> None:
        async for attempt in retry_attempts(policy=EXACT, operation="block", on_event=events.append):
            with attempt:
                numbers.append(attempt.number)
                await loop.pass_on()
                left.append(remaining_time())
                if attempt.number < 3:
                    raise ConnectionError
        assert remaining_time() is None

    loop.run(main)
    assert numbers == [1, 2, 3]
    assert virtual_clock.sleeps == [0.3, 0.6]
    assert left == pytest.approx([4.0, 3.7, 3.1])
    assert [(event.operation, event.outcome) for event in events] == [
        ("block", "retrying"), ("block", "retrying"), ("block", "recovered"),
    ]  # fmt: skip


def test_async_for_gives_up_with_the_original(loop: Loop, virtual_clock: VirtualClock) -> None:
    """The last error itself comes out of the block, with its note, its attempts and no frame of ours."""
    error = ConnectionError("x")

    async def main() -> None:
        async for attempt in retry_attempts(policy=EXACT, operation="block"):
            with attempt:
                raise error

    with pytest.raises(ConnectionError) as caught:
        loop.run(main)
    assert caught.value is error
    assert len(attempts_of(error)) == 3
    assert error.__notes__ == ["block: gave up after 3 attempts in 0.90 s (attempts)"]
    assert ours(error) == 0


def test_a_block_is_never_cut_off(virtual_clock: VirtualClock) -> None:
    """A block that takes longer than the deadline goes on to its end, and may succeed late."""
    for attempt in retry_attempts(policy=RetryPolicy(deadline=1.0, attempt_timeout=0.5)):
        with attempt:
            assert remaining_time() == 0.5
            virtual_clock.advance(30)
            assert remaining_time() == 0.0


def test_an_enclosing_deadline_counts(virtual_clock: VirtualClock) -> None:
    """Blocks get what is left of an enclosing deadline, and give it back as it was."""
    with deadline(2.0):
        for attempt in retry_attempts():
            with deadline(1.0), attempt:
                assert remaining_time() == 1.0
            with deadline(3.0):
                assert remaining_time() == 2.0
        assert remaining_time() == 2.0
        virtual_clock.advance(1.9)
        with pytest.raises(ConnectionError) as caught:
            for attempt in retry_attempts(policy=EXACT):
                with attempt:
                    raise ConnectionError
    assert "after 1 attempt in 0.00 s (deadline)" in caught.value.__notes__[0]


def test_a_breaker_inside_a_block(virtual_clock: VirtualClock) -> None:
    """A guard of a breaker fits into the block; its refusal ends the loop, with the failure before as cause."""
    breaker, error = CircuitBreaker("b", failure_threshold=1), ConnectionError()
    with pytest.raises(CircuitOpenError) as caught:
        for attempt in retry_attempts():
            with attempt, breaker.guard():
                raise error
    assert caught.value.__cause__ is error
    assert ours(caught.value) <= 3


class TestLeaving:
    """Leaving the loop."""

    @pytest.mark.parametrize("how", ["break", "return", "continue"])
    def test_from_inside_a_block_is_a_success(self, how: str, virtual_clock: VirtualClock) -> None:
        """A `break`, `return` or `continue` in the block ends it without an error: a success."""
        budget = RetryBudget(initial=1.0)
        events: list[RetryEvent] = []

        def run() -> int:
            for attempt in retry_attempts(policy=RetryPolicy(budget=budget, jitter=0), on_event=events.append):
                with attempt:
                    if attempt.number == 1:
                        raise ConnectionError
                    if how == "break":
                        break
                    if how == "return":
                        return attempt.number
                    continue
            return 2

        assert run() == 2
        assert [event.outcome for event in events] == ["retrying", "recovered"]
        assert budget.tokens == 0.1
        assert remaining_time() is None

    def test_between_the_attempts_gives_up_silently(self, virtual_clock: VirtualClock) -> None:
        """A `break` after a failed block sleeps no more, and nothing is left of the deadline."""
        for attempt in retry_attempts():
            with attempt:
                raise ConnectionError
            break
        assert virtual_clock.sleeps == []
        assert remaining_time() is None

    def test_interrupts_pass_at_once(self) -> None:
        """An interrupt, an exit or a generator's end in the block passes at once."""
        for error in (KeyboardInterrupt(), SystemExit(), GeneratorExit()):
            numbers: list[int] = []
            with pytest.raises(type(error)):
                for attempt in retry_attempts(policy=RetryPolicy(retry_on=BaseException)):
                    with attempt:
                        numbers.append(attempt.number)
                        raise error
            assert numbers == [1]
            assert attempts_of(error) == ()

    def test_an_interrupted_sleep_gives_the_token_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C in the sleep between two blocks passes, and the retry that was not made is not paid for."""

        def interrupted(_: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", interrupted)
        budget = RetryBudget()
        with pytest.raises(KeyboardInterrupt):
            for attempt in retry_attempts(policy=RetryPolicy(budget=budget)):
                with attempt:
                    raise ConnectionError
        assert budget.tokens == 5.0

    def test_cancellation(self, loop: Loop) -> None:
        """A cancelled block is not tried again; a cancelled sleep gives its token back."""
        budget, numbers = RetryBudget(), []

        async def hangs() -> None:
            async for attempt in retry_attempts():
                with attempt:
                    numbers.append(attempt.number)
                    await loop.hang()

        async def sleeps() -> None:
            async for attempt in retry_attempts(policy=RetryPolicy(budget=budget, base_delay=3.0)):
                with attempt:
                    raise ConnectionError

        async def main() -> None:
            await loop.cancel_when(hangs, lambda: bool(numbers))
            await loop.cancel_when(sleeps, lambda: budget.tokens < 5.0)

        loop.run(main)
        assert (numbers, budget.tokens) == ([1], 5.0)

    def test_a_generator_that_is_closed_in_a_block(self) -> None:
        """A generator that yields from a block can be closed, from another context as well."""
        import contextvars

        def generator() -> Iterator[int]:
            for attempt in retry_attempts():
                with attempt:
                    yield attempt.number

        stream = generator()
        assert contextvars.copy_context().run(next, stream) == 1
        stream.close()
        assert remaining_time() is None


class TestMisuse:
    """What would go wrong in silence is an error."""

    def test_an_attempt_that_is_not_entered(self, loop: Loop) -> None:
        """A loop that does not enter its attempt ends with an error, not never."""

        async def main() -> None:
            async for _ in retry_attempts():
                pass

        with pytest.raises(RuntimeError, match="must be entered and left"):
            loop.run(main)
        with pytest.raises(RuntimeError, match="must be entered and left"):
            for _ in retry_attempts():
                pass

    def test_an_attempt_that_is_not_left(self) -> None:
        """The next attempt cannot be had before this one was left."""
        attempts = retry_attempts()
        with next(attempts), pytest.raises(RuntimeError, match="must be entered and left"):
            next(attempts)

    def test_an_attempt_that_is_entered_twice(self) -> None:
        """An attempt is good for one block; entering it again, inside or after it, is refused."""
        for attempt in retry_attempts():
            with attempt, pytest.raises(RuntimeError, match="entered only once"):
                attempt.__enter__()
            with pytest.raises(RuntimeError, match="entered only once"), attempt:
                pytest.fail("it was left already")
        with pytest.raises(RuntimeError, match="entered before it is left"):
            next(retry_attempts()).__exit__(None, None, None)
        assert remaining_time() is None


def test_each_loop_is_an_operation_of_its_own(virtual_clock: VirtualClock) -> None:
    """The attempts can be kept and looped over again, nested too: each loop begins at 1, with its own deadline."""
    attempts = retry_attempts(policy=EXACT)
    numbers: list[Any] = []
    for _ in range(2):
        for attempt in attempts:
            with attempt:
                numbers.append((attempt.number, remaining_time()))
                if attempt.number == 1:
                    raise ConnectionError
        virtual_clock.advance(60)
    assert numbers == [(1, 4.0), (2, pytest.approx(3.7))] * 2
    inner_numbers = []
    for outer in attempts:
        with outer:
            for inner in attempts:
                with inner:
                    inner_numbers.append(inner.number)
    assert inner_numbers == [1]


def test_loops_that_begin_side_by_side_are_operations_of_their_own() -> None:
    """Loops over the same attempts, one in each thread say, share nothing, in whatever order they begin."""
    attempts = retry_attempts(policy=AT_ONCE)
    first, second = iter(attempts), iter(attempts)
    with next(first):
        raise ConnectionError
    with next(second) as attempt:
        assert attempt.number == 1
    with next(first) as attempt:
        assert attempt.number == 2
    assert [next(first, None), next(second, None)] == [None, None]


def test_a_retry_on_that_raises_ends_the_loop_with_the_blocks_own_error(virtual_clock: VirtualClock) -> None:
    """If the function `retry_on` raises, the block's own error comes out of it."""
    error = ConnectionError("x")
    with pytest.raises(ConnectionError) as caught:
        for attempt in retry_attempts(policy=RetryPolicy(retry_on=lambda _: 1 / 0 > 0)):
            with attempt:
                raise error
    assert caught.value is error


def test_no_reference_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing lives on after the loop, whichever way it ended."""

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    def exhausted() -> None:
        for attempt in retry_attempts(policy=AT_ONCE):
            with attempt:
                raise ConnectionError

    def recovers() -> None:
        for attempt in retry_attempts(policy=AT_ONCE):
            with attempt:
                if attempt.number < 3:
                    raise ConnectionError

    def broken_off() -> None:
        for attempt in retry_attempts(policy=AT_ONCE):
            with attempt:
                raise ConnectionError
            break

    def asleep() -> None:
        for attempt in retry_attempts():
            with attempt:
                raise ConnectionError

    def misjudged() -> None:
        for attempt in retry_attempts(policy=RetryPolicy(retry_on=lambda _: 1 / 0 > 0)):
            with attempt:
                raise ConnectionError

    monkeypatch.setattr(time, "sleep", interrupted)
    for way in (exhausted, recovers, broken_off, asleep, misjudged):
        for _ in range(2):
            with contextlib.suppress(Exception, KeyboardInterrupt):
                way()
        with no_cycles(), contextlib.suppress(Exception, KeyboardInterrupt):
            way()
