"""Deadlines: how much time the current operation has left."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import (
    DeadlineExceededError,
    RetryEvent,
    RetryPolicy,
    attempts_of,
    deadline,
    remaining_time,
    with_retry,
)
from booking_resilience.testing import VirtualClock, virtual_time
from drivers import EXACT, Script

SECONDS = st.integers(0, 640).map(lambda sixtyfourths: sixtyfourths / 64)


def test_without_a_deadline_there_is_no_end() -> None:
    """Outside of any deadline `remaining_time()` is None."""
    assert remaining_time() is None


@given(nested=st.lists(st.tuples(SECONDS, SECONDS), max_size=8))
def test_the_nearest_end_counts(nested: list[tuple[float, float]]) -> None:
    """However deadlines nest and time passes, what is left is up to the nearest end, and never negative."""
    with virtual_time() as clock:

        def go(levels: list[tuple[float, float]], ends: list[float]) -> None:
            left = remaining_time()
            assert left == (max(0.0, min(ends) - clock.now()) if ends else None)
            if levels:
                (seconds, passes), *inner = levels
                with deadline(seconds):
                    clock.advance(passes)
                    go(inner, [*ends, clock.now() - passes + seconds])
                assert remaining_time() == (max(0.0, min(ends) - clock.now()) if ends else None)

        go(nested, [])


def test_remaining_time_is_never_negative(virtual_clock: VirtualClock) -> None:
    """When the time is over there are 0.0 seconds left, however long ago it ended."""
    with deadline(1.0):
        virtual_clock.advance(1.0)
        assert remaining_time() == 0.0
        virtual_clock.advance(100.0)
        assert remaining_time() == 0.0
        with deadline(5.0):
            assert remaining_time() == 0.0


def test_it_ends_with_its_block(virtual_clock: VirtualClock) -> None:
    """After the block, left by an error as well, the deadline before is in force again."""
    with deadline(5.0):
        with pytest.raises(ValueError, match="x"), deadline(1.0):
            raise ValueError("x")
        assert remaining_time() == 5.0
    assert remaining_time() is None


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), -float("inf"), "3", None, True, 10**400])
def test_absurd_seconds_are_refused(value: Any) -> None:
    """A deadline is a finite number of seconds, 0 or more; others are refused when it is made, before any block."""
    kind = ValueError if isinstance(value, (int, float)) and value is not True else TypeError
    with pytest.raises(kind, match="seconds must be a finite number, 0 or more"):
        deadline(value)
    assert remaining_time() is None


def test_the_time_runs_from_the_beginning_of_the_block(virtual_clock: VirtualClock) -> None:
    """A deadline that was made earlier than its block has its seconds all the same; it can decorate a function, too."""
    later = deadline(5.0)
    virtual_clock.advance(3.0)
    with later:
        assert remaining_time() == 5.0

    decorated = deadline(2.0)(remaining_time)
    for _ in range(2):
        virtual_clock.advance(10.0)
        assert decorated() == 2.0


def test_a_task_that_outlives_the_block_outlives_its_deadline(virtual_clock: VirtualClock) -> None:
    """A task sees the deadline of the block that it was started in as long as the block lasts, and no longer."""

    async def left() -> float | None:
        return remaining_time()

    async def main() -> list[float | None]:
        with deadline(1.0):
            within = asyncio.create_task(left())
            free = asyncio.create_task(left(), context=contextvars.Context())
            seen = [await within, await free]
            late = asyncio.create_task(left())
        return [*seen, await late]

    assert asyncio.run(main()) == [1.0, None, None]


def test_threads_and_tasks(virtual_clock: VirtualClock) -> None:
    """A task and `asyncio.to_thread` inherit the deadline; a thread of one's own does not; a copied context does."""
    seen: list[float | None] = []

    async def task() -> float | None:
        return remaining_time()

    async def main() -> None:
        with deadline(5.0):
            assert await asyncio.create_task(task()) == 5.0
            assert await asyncio.to_thread(remaining_time) == 5.0
            with deadline(1.0):
                inner = asyncio.create_task(task())
                assert await inner == 1.0
                late = asyncio.create_task(task())
            assert await late == 5.0
            assert remaining_time() == 5.0

    asyncio.run(main())
    with deadline(5.0):
        context = contextvars.copy_context()
        for target in (remaining_time, lambda: context.run(remaining_time)):
            thread = threading.Thread(target=lambda target=target: seen.append(target()))
            thread.start()
            thread.join()
    assert seen == [None, 5.0]


class TestInsideRetries:
    """Deadlines and retries inside one another."""

    def test_a_delay_that_ends_at_the_deadline_does_not_fit(self, virtual_clock: VirtualClock) -> None:
        """The next attempt must begin before the end: exactly at it is too late, an instant before is not."""
        for limit, sleeps in ((0.25, []), (0.25 + 2**-20, [0.25])):
            virtual_clock.sleeps.clear()
            with pytest.raises(ConnectionError):
                with_retry(
                    Script(ConnectionError()),
                    policy=RetryPolicy(base_delay=0.25, jitter=0, deadline=limit, max_attempts=2),
                )
            assert virtual_clock.sleeps == sleeps

    def test_at_the_very_end_nothing_is_called(self, virtual_clock: VirtualClock) -> None:
        """A deadline of no seconds is over; one of an instant is not."""
        script = Script(7)
        with deadline(0.0), pytest.raises(DeadlineExceededError):
            with_retry(script)
        with deadline(2**-20):
            assert with_retry(script) == 7
        assert script.calls == 1

    def test_the_inner_never_outlives_the_outer(self, virtual_clock: VirtualClock) -> None:
        """An inner retry gives up when its delay does not fit into what the outer one has left."""
        events: list[RetryEvent] = []

        def inner() -> None:
            policy = RetryPolicy(deadline=60.0, max_attempts=99, jitter=0, base_delay=0.4, multiplier=1)
            with_retry(Script(ConnectionError()), policy=policy, operation="inner", on_event=events.append)

        with pytest.raises(ConnectionError):
            with_retry(inner, policy=RetryPolicy(deadline=1.0, jitter=0), operation="outer", on_event=events.append)
        assert virtual_clock.now() <= 1.0
        assert [(e.operation, e.outcome, e.reason) for e in events] == [
            ("inner", "retrying", None), ("inner", "retrying", None), ("inner", "gave_up", "deadline"),
            ("outer", "gave_up", "deadline"),
        ]  # fmt: skip

    def test_the_outer_deadline_ends_the_outer_retry(self, virtual_clock: VirtualClock) -> None:
        """A `DeadlineExceededError` of the operation's own deadline ends it, whatever `retry_on` says."""
        calls = 0

        def inner() -> None:
            nonlocal calls
            calls += 1
            virtual_clock.advance(2.0)
            with_retry(Script(1))

        with pytest.raises(DeadlineExceededError) as caught:
            with_retry(inner, policy=RetryPolicy(deadline=1.0, retry_on=Exception))
        assert calls == 1
        assert "(deadline)" in caught.value.__notes__[-1]

    def test_an_inner_deadline_is_an_error_like_others(self, virtual_clock: VirtualClock) -> None:
        """A `DeadlineExceededError` of a shorter inner deadline is a timeout like others: it is retried."""
        calls = 0

        def inner() -> int:
            nonlocal calls
            calls += 1
            with deadline(0.5):
                if calls < 3:
                    virtual_clock.advance(0.5)
                return with_retry(lambda: 7)

        assert with_retry(inner, policy=EXACT) == 7
        assert virtual_clock.sleeps == [0.3, 0.6]

    def test_the_error_of_no_time_left(self, virtual_clock: VirtualClock) -> None:
        """The error says which operation had no time, knows when it ended, and is a `TimeoutError`; no attempt."""
        with deadline(0), pytest.raises(DeadlineExceededError, match=r"^store: the deadline had passed") as caught:
            with_retry(Script(1), operation="store")
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.end is not None
        assert attempts_of(caught.value) == ()
