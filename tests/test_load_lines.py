"""The line in front of a limit: who waits counts once, is woken once, and finds its place counted once."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from booking_resilience import LimitExceededError, deadline
from booking_resilience.load import ConcurrencyLimit, Hedge, LimitSnapshot, RateLimit, ThreadTimeout
from booking_resilience.load.queue import Line, Waiter
from booking_resilience.load.rate import Turns
from booking_resilience.signals import TaskSignal
from booking_resilience.testing import VirtualClock
from drivers import LOOPS
from racing import taking_turns

CROWD = 200


def test_nobody_is_rejected_while_the_limit_and_its_line_have_room_for_all() -> None:
    """Whoever has got a place has left the line, at no time in between counted twice."""
    limit = ConcurrencyLimit("rooms", limit=2, max_queue=2)
    rejected: list[LimitExceededError] = []

    def caller() -> None:
        for _ in range(4000):
            try:
                limit.call(int)
            except LimitExceededError as error:
                rejected.append(error)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    with taking_turns(1e-5):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not rejected


def test_a_crowd_that_gets_its_places_at_once_is_woken_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls end in one turn of an event loop, each waiter is woken once, or twice at most."""
    wake, woken = TaskSignal.wake, 0

    def counted(self: TaskSignal) -> bool:
        nonlocal woken
        woken += 1
        return wake(self)

    monkeypatch.setattr(TaskSignal, "wake", counted)

    async def main() -> None:
        limit = ConcurrencyLimit("rooms", limit=CROWD, max_queue=CROWD)
        gate = asyncio.Event()
        first = [asyncio.create_task(limit.call_async(gate.wait)) for _ in range(CROWD)]
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(limit.call_async(asyncio.sleep, 0)) for _ in range(CROWD)]
        await asyncio.sleep(0)
        assert limit.snapshot().queued == CROWD
        gate.set()
        await asyncio.gather(*first, *waiting)

    asyncio.run(main())
    assert CROWD <= woken <= 2 * CROWD


class CoarseLoop(asyncio.SelectorEventLoop):
    """Counts whole milliseconds as uvloop does, which gives no timer for less than half of one."""

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        milliseconds = round(delay * 1000)
        if not milliseconds:
            return self.call_soon(callback, *args, context=context)
        return super().call_later(milliseconds / 1000, callback, *args, context=context)


def test_a_wait_of_less_than_the_event_loop_counts() -> None:
    """An event loop that counts milliseconds has no timer for half of one; the wait ends all the same."""

    async def main() -> None:
        limit = ConcurrencyLimit("rooms", limit=1, max_queue=1, max_wait=0.0003)
        async with limit.guard():
            with pytest.raises(LimitExceededError):
                await limit.call_async(asyncio.sleep, 0)
        assert limit.snapshot().queued == 0

    with asyncio.Runner(loop_factory=CoarseLoop) as runner:
        runner.run(main())


def test_a_block_that_is_collected_as_garbage_gives_its_place_back_once() -> None:
    """The collector closes a generator and finalises its place, in either order: the limit admits no more calls."""
    limit = ConcurrencyLimit("rooms", limit=2)

    def block(circle: list[Any]) -> Iterator[list[Any]]:
        with limit.guard():
            yield circle

    for _ in range(5):
        circle: list[Any] = []
        circle.append(block(circle))
        next(circle[0])
        del circle
        gc.collect()
    guards = [limit.guard() for _ in range(3)]
    for guard in guards[:2]:
        guard.__enter__()
    with pytest.raises(LimitExceededError):
        guards[2].__enter__()
    for guard in guards[:2]:
        guard.__exit__(None, None, None)


class Signal:
    """A waiter's signal that does something when it is rung, as the handler of a system's signal may meanwhile."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self.rung = 0

    def wake(self) -> bool:
        self.rung += 1
        self._act()
        return True

    def is_there(self) -> bool:
        return True


def test_waiters_may_leave_while_others_are_woken() -> None:
    """A handler that strikes in the middle of waking, and takes everybody out, breaks nothing."""

    async def main() -> None:
        line = Line()
        waiters = [Waiter(is_async=False) for _ in range(3)]
        for waiter in waiters:
            waiter.signal = Signal(line.clear)
            line.join(waiter)
        line.wake(3)
        assert sum(waiter.signal.rung for waiter in waiters) == 1
        assert not line

    asyncio.run(main())


def test_who_was_woken_is_not_woken_again_before_it_has_looked() -> None:
    """A waiter that is awake counts as one of those who may be next."""
    line = Line()
    waiters = [Waiter(is_async=False) for _ in range(3)]
    for waiter in waiters:
        waiter.signal = Signal(int)
        line.join(waiter)
    for _ in range(5):
        line.wake(2)
    assert [waiter.signal.rung for waiter in waiters] == [1, 1, 0]


def test_a_waiter_that_is_woken_again_while_it_looks_is_not_left_asleep() -> None:
    """What comes free after it has looked at the room, in its own thread, wakes it: it is no longer awake by then."""
    limit = ConcurrencyLimit("rooms", limit=1, max_queue=5)
    guard = limit.guard()
    guard.__enter__()
    waiter = Waiter(is_async=False)
    signal = Signal(int)
    waiter.signal = signal
    limit._line.join(waiter)
    waiter.is_awake = True
    look = limit._room

    def struck() -> int:
        room = look()
        vars(limit)["_room"] = look
        guard.__exit__(None, None, None)  # as in a signal's handler, between two lines
        return room

    vars(limit)["_room"] = struck
    assert limit._next_wait(waiter, None) is not None
    assert signal.rung == 1


@pytest.mark.parametrize("ends", ["with an error", "well"])
def test_a_generator_that_ends_either_way_as_garbage_counts_once(ends: str) -> None:
    """Also one that ends well when it's closed: then its place is back before it is finalised."""
    limit = ConcurrencyLimit("rooms", limit=1)

    def block() -> Iterator[None]:
        with limit.guard():
            try:
                yield
            except GeneratorExit:
                if ends == "with an error":
                    raise

    circle: list[Any] = []
    generator = block()
    circle.append((generator, circle))
    next(generator)
    del circle, generator
    gc.collect()
    with limit.guard(), pytest.raises(LimitExceededError):
        limit.call(int)


@pytest.mark.parametrize("colour", ["thread", "asyncio", "trio"])
@pytest.mark.parametrize("time_left", [None, 60.0])
def test_a_wait_ends_after_max_wait(virtual_clock: VirtualClock, colour: str, time_left: float | None) -> None:
    """It passes in real time, also where the library's clock stands still; a deadline may end it, but not extend it."""
    limit = ConcurrencyLimit("rooms", limit=1, max_queue=1, max_wait=0.05)

    async def later() -> None:
        pass

    with limit.guard(), nullcontext() if time_left is None else deadline(time_left):
        with pytest.raises(LimitExceededError):
            if colour == "thread":
                limit.call(int)
            else:
                LOOPS[colour == "trio"].run(lambda: limit.call_async(later))
        assert limit.snapshot() == LimitSnapshot(name="rooms", limit=1, in_flight=1, queued=0, refused=1)


@pytest.mark.parametrize("colour", ["thread", "asyncio", "trio"])
def test_a_wait_for_a_turn_is_a_sleep_on_the_clock(virtual_clock: VirtualClock, colour: str) -> None:
    """In virtual time it returns at once, and the clock has moved by the time until the turn."""
    rate = RateLimit("mails", rate=0.001, burst=1, max_queue=1)

    async def later() -> None:
        pass

    for _ in range(2):
        if colour == "thread":
            rate.call(int)
        else:
            LOOPS[colour == "trio"].run(lambda: rate.call_async(later))
    assert virtual_clock.now() == pytest.approx(1000.0)


def test_a_place_that_came_free_belongs_to_who_is_first_in_line() -> None:
    """From then on it counts as one that is taken, and the first as one that waits no more."""
    limit = ConcurrencyLimit("rooms", limit=1, max_queue=1)
    with limit.guard():
        waiter = Waiter(is_async=False)
        limit._line.join(waiter)
        assert limit.snapshot() == LimitSnapshot(name="rooms", limit=1, in_flight=1, queued=1, refused=0)
    assert limit.snapshot() == LimitSnapshot(name="rooms", limit=1, in_flight=1, queued=0, refused=0)
    assert limit._take() is None
    assert limit._next_wait(waiter, None) is None
    limit._end(waiter.place, None)
    assert limit.snapshot() == LimitSnapshot(name="rooms", limit=1, in_flight=0, queued=0, refused=0)


def test_more_turns_than_may_ever_be_taken_at_once_are_not_free() -> None:
    """Whoever asks for more than `burst`, as while settings change, is told no at once."""
    turns = Turns(interval=10, burst=2)
    assert not turns.take(3)
    assert turns.take(2)


def test_a_burst_that_is_raised_while_somebody_asks_for_as_much() -> None:
    """Settings that change under way let a larger request through or reject it, and hold up nobody."""
    rate = RateLimit("mails", rate=1000.0, burst=2)
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                rate.try_acquire(5)
            except ValueError:
                pass

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for burst in [5, 2] * 300:
            rate._take_settings(RateLimit("mails", rate=1000.0, burst=burst))
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def test_the_time_that_places_are_held_is_learned_above_a_lowered_limit_too() -> None:
    """Calls that end when there are more places than the limit still tell how long it takes until one comes free."""
    limit = ConcurrencyLimit("rooms", limit=10)
    guards = [limit.guard() for _ in range(10)]
    for guard in guards:
        guard.__enter__()
    limit._take_settings(ConcurrencyLimit("rooms", limit=1))
    for guard in guards[:9]:
        guard.__exit__(None, None, None)
    with pytest.raises(LimitExceededError) as refused:
        limit.call(int)
    assert refused.value.retry_after is not None
    guards[9].__exit__(None, None, None)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize(
    "part",
    [
        ThreadTimeout(1.0),
        Hedge(idempotent=True),
        ConcurrencyLimit("rooms", limit=1),
        ConcurrencyLimit("rooms", limit=1).guard(),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_counts_is_shared_not_copied(part: object, duplicate: Callable[[object], object]) -> None:
    """A copy would count calls of its own, or give the same place back once more."""
    with pytest.raises(TypeError, match="copied or pickled"):
        duplicate(part)
