"""A second call where the first is slow."""

from __future__ import annotations

import bisect
import collections
import functools
import math
from collections.abc import Awaitable, Callable, Generator
from contextlib import closing, suppress
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar

from booking_resilience import clock
from booking_resilience.awaitables import AWAITABLE_NEVER, refuse_awaitable, refuse_uncallable
from booking_resilience.checks import check, check_number, is_a
from booking_resilience.load.calls import TaskCall, ThreadCall, renewed_by_forks
from booking_resilience.load.places import Held, around_and_own, give_back_all, held
from booking_resilience.locks import new_lock
from booking_resilience.signals import TaskSignal, ThreadSignal

P = ParamSpec("P")
T = TypeVar("T")

_NANO = 1_000_000_000
_ENOUGH = 20  # observations, before which no percentile is known
_KEPT = 500  # observations
_BUCKET = 10  # second calls that can be saved up
MAX_ABANDONED = 32


class Latencies:
    """The newest durations of calls, and their percentiles. Pure; its user holds a lock."""

    __slots__ = ("_newest", "_sorted")

    def __init__(self) -> None:
        self._newest: collections.deque[float] = collections.deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Take one in; the oldest falls out."""
        if len(self._newest) >= _KEPT:
            del self._sorted[bisect.bisect_left(self._sorted, self._newest.popleft())]
        self._newest.append(seconds)
        bisect.insort(self._sorted, seconds)

    def percentile(self, percent: float) -> float | None:
        """Return the duration that so many per cent of the calls don't exceed (nearest rank); None before 20 calls."""
        count = len(self._sorted)
        return None if count < _ENOUGH else self._sorted[max(0, math.ceil(count * percent / 100) - 1)]


class Hedge:
    """Makes a second call where the first is slow, and takes whichever succeeds first: `Pipeline(hedge=Hedge(...))`.

    Only for calls that may be made twice: reads. The slower call is cancelled; a synchronous one is abandoned in its
    daemon thread (while 32 of those still run, nothing is hedged). A synchronous call costs a thread. Through a
    pipeline with limits the second call is made only if a place and a turn are free at once.

    Args:
        idempotent: Must be True: you say that making the call twice does no harm.
        delay: Seconds after which the second call is made, 0 or more; None for the observed percentile, of which
            nothing is known before 20 calls.
        percentile: Of the durations seen so far, 0 to 100; without `delay`.
        max_extra: Second calls for each call, 0 or more: the share of extra load. What is not used is saved up, for
            ten second calls at most.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range, or `idempotent` isn't True.
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_delay",
        "_gain",
        "_latencies",
        "_lock",
        "_made",
        "_percentile",
        "_saved",
    )

    role: Literal["hedge"] = "hedge"

    def __init__(
        self,
        *,
        idempotent: bool = False,
        delay: float | None = None,
        percentile: float = 95.0,
        max_extra: float = 0.05,
    ) -> None:
        check("idempotent", idempotent, idempotent is True, "True, as a hedged call may be made twice")
        check_number("delay", delay, or_none=True)
        check_number("percentile", percentile)
        check("percentile", percentile, percentile <= 100, "a number from 0 to 100")
        check_number("max_extra", max_extra)
        self._delay, self._percentile = delay, percentile
        self._gain = math.ceil(min(max_extra, _BUCKET) * _NANO)  # three thirds pay for a call
        self._saved = self._made = 0  # `_made`: second calls, for telemetry
        self._forked()
        renewed_by_forks.add(self)

    def __repr__(self) -> str:
        return f"Hedge(delay={self._delay!r}, percentile={self._percentile:g}, max_extra={self._gain / _NANO:g})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} can't be copied or pickled: each copy would save up second calls of its own")

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn` in a thread, and once more in another if it is slow; return what succeeds first.

        Raises:
            TypeError: If `fn` returns an awaitable, or is a generator function.
        """
        refuse_uncallable(fn)
        signal, racers = ThreadSignal(), list[ThreadCall]()
        start = functools.partial(ThreadCall, functools.partial(fn, *args, **kwargs), signal, self._abandoned)
        with closing(self._race(racers, start)) as waits:
            for seconds in waits:
                signal.wait(seconds)
        result: T = racers.pop().result()
        if type(result) not in AWAITABLE_NEVER:
            refuse_awaitable(result, "Hedge.call", "call_async", fn)
        return result

    async def call_async(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call and await `fn`, and once more if it is slow; return what succeeds first.

        Raises:
            TypeError: If `fn` gives something that can't be awaited.
        """
        refuse_uncallable(fn)
        racers = list[TaskCall]()
        race = self._race_in_trio if clock.in_trio() else self._race_in_asyncio
        await race(racers, functools.partial(fn, *args, **kwargs))
        result: T = racers.pop().result()
        return result

    def _take_settings(self, other: Hedge) -> None:
        """Go on with the settings of another one; durations that were seen and what is saved up stay."""
        self._delay, self._percentile, self._gain = other._delay, other._percentile, other._gain

    def _forked(self) -> None:
        self._abandoned: set[ThreadCall] = set()
        self._latencies = Latencies()
        self._lock = new_lock()

    def _race(self, racers: list[Any], start: Callable[..., Any]) -> Generator[float | None, None, None]:
        """Yield how many seconds to wait for news of the racers, None for as long as it takes.

        In the end the list holds the first that succeeded, or the first of all if none did; the others are abandoned,
        as all are if the generator is closed early.

        Args:
            racers: Calls that are under way; none yet.
            start: Begins one, given the places that it is to hold, if there are any.
        """
        started, delay = clock.monotonic(), self._begin()
        try:
            racers.append(start())
            if delay is not None:
                yield delay
                if not racers[0].is_over and (places := self._admit()) is not None:
                    with suppress(RuntimeError):  # no thread can be started: the first is the only one
                        racers.append(start(places))
            while (winner := _winner(racers)) is None:
                yield None
            if winner.error is None:
                with self._lock:
                    self._latencies.add(clock.monotonic() - started)
            racers.remove(winner)
        finally:
            for racer in racers:
                racer.abandon()
                racer.error = None  # its traceback leads back to the racer
            racers.clear()
        racers.append(winner)

    async def _race_in_asyncio(self, racers: list[Any], call: Callable[[], Any]) -> None:
        import asyncio

        tasks = list[Any]()
        try:
            await self._race_in_tasks(racers, call, lambda run: tasks.append(asyncio.ensure_future(run())))
        finally:
            for task in tasks:
                task.cancel()

    async def _race_in_trio(self, racers: list[Any], call: Callable[[], Any]) -> None:
        import trio

        async with trio.open_nursery() as nursery:
            await self._race_in_tasks(racers, call, nursery.start_soon)
            nursery.cancel_scope.cancel()

    async def _race_in_tasks(self, racers: list[Any], call: Callable[[], Any], spawn: Callable[[Any], object]) -> None:
        signal = TaskSignal()
        with closing(self._race(racers, functools.partial(TaskCall, call, signal, spawn))) as waits:
            for seconds in waits:
                await signal.wait(seconds)

    def _begin(self) -> float | None:
        """Note that a call begins; return after how many seconds it is hedged, None for never."""
        with self._lock:
            self._saved = min(self._saved + self._gain, _BUCKET * _NANO)
            return self._latencies.percentile(self._percentile) if self._delay is None else self._delay

    def _admit(self) -> Held | None:
        """Pay for a second call and take its places; None if it can't be made."""
        with self._lock:
            if self._saved < _NANO or len(self._abandoned) >= MAX_ABANDONED:
                return None
            self._saved -= _NANO
        places: Held = ()
        for limit, _ in around_and_own(held.get())[1]:
            place = limit._take()
            if place is None:
                give_back_all(places)
                with self._lock:
                    self._saved = min(self._saved + _NANO, _BUCKET * _NANO)
                return None
            places = (*places, (limit, place))
        with self._lock:
            self._made += 1
        return places


def _winner(racers: list[Any]) -> Any:
    """Return the first that succeeded or was interrupted; if all failed, the first; None as long as neither is so."""
    ended = [racer for racer in racers if racer.is_over]
    lost = racers[0] if len(ended) == len(racers) else None
    return next((racer for racer in ended if racer.error is None or not is_a(racer.error, Exception)), lost)
