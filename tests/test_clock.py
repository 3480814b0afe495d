"""The clock: the one place where time is read and slept."""

from __future__ import annotations

import asyncio
import datetime
import sys
import threading
import time
import types
from typing import Any

import freezegun
import pytest
import trio

from booking_resilience import CircuitBreaker, CircuitOpenError, RetryPolicy, deadline, remaining_time, with_retry
from booking_resilience import clock as clock_module
from booking_resilience.clock import SystemClock, in_trio
from booking_resilience.events import BreakerState
from booking_resilience.testing import virtual_time
from drivers import EXACT, LOOPS, Loop, Script


def test_the_system_clock() -> None:
    """Durations are of `time.monotonic`, moments are aware, in UTC, and not virtual."""
    system = SystemClock()
    assert abs(system.monotonic() - time.monotonic()) < 10
    assert system.utc_now().tzinfo is datetime.UTC
    assert abs((system.utc_now() - datetime.datetime.now(datetime.UTC)).total_seconds()) < 10
    assert clock_module.monotonic is time.monotonic


def test_patched_sleeps_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`time.sleep`, `asyncio.sleep` and `trio.sleep` are looked up when they are called, so that patching works."""
    slept: list[tuple[str, float]] = []

    async def sleep_asyncio(seconds: float) -> None:
        slept.append(("asyncio", seconds))

    async def sleep_trio(seconds: float) -> None:
        slept.append(("trio", seconds))

    monkeypatch.setattr(time, "sleep", lambda seconds: slept.append(("time", seconds)))
    monkeypatch.setattr(asyncio, "sleep", sleep_asyncio)
    monkeypatch.setattr(trio, "sleep", sleep_trio)
    clock_module.sleep(1)
    asyncio.run(SystemClock().sleep_async(2))
    trio.run(SystemClock().sleep_async, 3)
    assert slept == [("time", 1), ("asyncio", 2), ("trio", 3)]


def test_the_loop_that_runs_is_told_apart() -> None:
    """Code knows whether it runs in a trio task."""

    async def ask() -> bool:
        return in_trio()

    assert not in_trio()
    assert not asyncio.run(ask())
    assert trio.run(ask)


@pytest.mark.parametrize("parts", [{}, {"lowlevel": types.ModuleType("trio.lowlevel")}])
def test_trio_that_another_thread_is_importing_runs_nothing_yet(
    monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any]
) -> None:
    """Until its parts are there no code can run in it."""
    half_imported = types.ModuleType("trio")
    vars(half_imported).update(parts)
    monkeypatch.setitem(sys.modules, "trio", half_imported)
    assert not in_trio()


class TestVirtualTime:
    """`virtual_time()`."""

    def test_sleeps_return_at_once_and_move_the_clock(self) -> None:
        """A sleep is noted, and moves the clock by its length."""
        with virtual_time() as clock:
            before = clock_module.utc_now()
            with_retry(Script(ConnectionError(), ConnectionError(), 1), policy=EXACT)
            assert clock.sleeps == [0.3, 0.6]
            assert clock.now() == pytest.approx(0.9)
            clock.advance(30)
            assert clock.now() == pytest.approx(30.9)
            assert (clock_module.utc_now() - before).total_seconds() == pytest.approx(30.9)
        assert clock_module.monotonic is time.monotonic

    @pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: type(loop).__name__)
    def test_asynchronous_sleeps_let_others_run(self, loop: Loop) -> None:
        """An asynchronous sleep moves the clock, too, and lets a cancellation arrive."""
        with virtual_time() as clock:
            loop.run(lambda: clock_module.sleep_async(60))  # type: ignore[arg-type, return-value] # it is awaited
            assert clock.sleeps == [60]

            async def for_ever() -> None:
                while True:
                    await clock_module.sleep_async(1)

            loop.run(lambda: loop.cancel_when(for_ever, lambda: len(clock.sleeps) > 5))

    def test_it_holds_for_all_threads(self) -> None:
        """A thread that was started before sees the virtual time, too."""
        go, seen = threading.Event(), []

        def work() -> None:
            go.wait(60)
            clock_module.sleep(5)
            seen.append(clock_module.monotonic())

        thread = threading.Thread(target=work)
        thread.start()
        with virtual_time() as clock:
            go.set()
            thread.join()
            assert seen == [clock.monotonic()]
            assert clock.sleeps == [5]

    def test_blocks_nest(self) -> None:
        """The inner block counts; after it the outer one goes on where it was, after an error as well."""
        with virtual_time() as outer:
            outer.advance(5)
            with pytest.raises(ValueError, match="x"), virtual_time() as inner:
                assert inner.now() == 0.0
                clock_module.sleep(1)
                raise ValueError("x")
            assert (outer.now(), outer.sleeps) == (5, [])
            clock_module.sleep(2)
            assert outer.sleeps == [2]

    def test_what_was_made_before_is_used_inside(self) -> None:
        """A breaker that was opened in real time is ready for a trial when virtual time passes."""
        breaker = CircuitBreaker("b", failure_threshold=1)
        breaker.acquire().failure()
        with deadline(100), virtual_time() as clock:
            left = remaining_time()
            assert left is not None
            assert 98 < left <= 100
            clock.advance(31)
            assert breaker.call(lambda: 7) == 7

    @pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "30", None])
    def test_time_moves_forward(self, value: Any) -> None:
        """The clock cannot be moved back, nor for ever."""
        kind = ValueError if isinstance(value, (int, float)) else TypeError
        with virtual_time() as clock, pytest.raises(kind, match="seconds must be"):
            clock.advance(value)

    def test_async_cut_offs_stay_on_the_loops_clock(self) -> None:
        """A call that hangs is cut off although nothing moves the virtual clock."""

        async def main() -> None:
            with pytest.raises(TimeoutError):
                from booking_resilience import with_retry_async

                await with_retry_async(LOOPS[0].hang, policy=RetryPolicy(deadline=0.02))

        with virtual_time() as clock:
            asyncio.run(main())
            assert clock.now() == 0.0


class TestFreezegun:
    """A clock frozen by freezegun moves as it is ticked."""

    def test_a_cooldown_ends(self) -> None:
        """Freezing, and ticking 30 s, lets an open breaker try again; 29 s do not."""
        breaker = CircuitBreaker("b", failure_threshold=1)
        with freezegun.freeze_time("2026-01-01") as frozen:
            breaker.acquire().failure()
            assert breaker.state is BreakerState.OPEN
            frozen.tick(29)
            with pytest.raises(CircuitOpenError) as caught:
                breaker.acquire()
            assert caught.value.retry_after == pytest.approx(1.0)
            frozen.tick(1)
            assert breaker.call(lambda: 7) == 7
        assert breaker.state is BreakerState.CLOSED

    def test_a_deadline_passes(self) -> None:
        """What is left of a deadline shrinks by what is ticked."""
        with freezegun.freeze_time("2026-01-01") as frozen, deadline(10):
            assert remaining_time() == 10
            frozen.tick(4)
            assert remaining_time() == 6
            frozen.tick(60)
            assert remaining_time() == 0.0

    def test_moments_are_frozen(self) -> None:
        """Moments are those of the frozen clock."""
        with freezegun.freeze_time("2026-01-01 12:00"):
            assert clock_module.utc_now() == datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)

    def test_sleeps_are_patched_beside_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With `time.sleep` patched to tick, retries run under freezegun as in real time."""
        with freezegun.freeze_time("2026-01-01") as frozen:
            monkeypatch.setattr(time, "sleep", frozen.tick)
            events: list[Any] = []
            with pytest.raises(ConnectionError):
                with_retry(Script(ConnectionError()), policy=EXACT, on_event=events.append)
        assert [event.elapsed for event in events] == pytest.approx([0, 0.3, 0.9])
