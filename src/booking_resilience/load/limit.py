"""What the limits share: the forms of a call, waiting in line in both colours, and the snapshot."""

from __future__ import annotations

import abc
import functools
from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from types import CoroutineType
from typing import Any, ParamSpec, TypeAlias, TypeVar

from booking_resilience import clock
from booking_resilience.awaitables import (
    AWAITABLE_NEVER,
    gives_coroutines,
    not_awaitable,
    refuse_awaitable,
    refuse_uncallable,
    within,
)
from booking_resilience.callbacks import is_awaitable
from booking_resilience.checks import check, check_number, check_text, check_whole
from booking_resilience.cutoff import is_cut_off
from booking_resilience.deadlines import remaining_time
from booking_resilience.errors import LimitExceededError
from booking_resilience.load.calls import renewed_by_forks
from booking_resilience.load.places import LimitGuard, LimitSnapshot, Place, held
from booking_resilience.load.queue import Line, Waiter
from booking_resilience.locks import new_lock

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Wait: TypeAlias = tuple[float | None, bool]
"""A waiter's next wait: seconds (None: as long as it takes), and whether on the library's clock or for its signal."""


class Limit(abc.ABC):
    """A limit that calls pass through. What they wait for, and its role in a pipeline, stand in the subclasses."""

    def __init__(self, name: str, limit: int, max_queue: int, max_wait: float | None) -> None:
        check_text("name", name)
        check_whole("max_queue", max_queue, 0)
        check_number("max_wait", max_wait, or_none=True)
        check("max_wait", max_wait, max_wait is None or max_queue > 0, "None where max_queue is 0")
        self._name, self._limit, self._max_queue, self._max_wait = name, limit, max_queue, max_wait
        self._refused = 0
        self._forked()
        renewed_by_forks.add(self)

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    def snapshot(self) -> LimitSnapshot:
        """Return its numbers, as of one moment."""
        with self._lock:
            admitted = min(len(self._line), self._room())
            return LimitSnapshot(
                name=self._name,
                limit=self._limit,
                in_flight=self._in_flight() + admitted,
                queued=len(self._line) - admitted,
                refused=self._refused,
            )

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn` once the limit lets it, and return what it returns.

        Raises:
            LimitExceededError: If there is no place, and none came free while it waited; `fn` was not called.
            TypeError: If `fn` returns an awaitable, or is a generator function.
        """
        place = self._take() or self._enter()
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args) if args else fn()  # type: ignore[call-arg] # none is asked for
            if type(result) not in AWAITABLE_NEVER:
                refuse_awaitable(result, f"{type(self).__name__}.call", "call_async", fn)
        except BaseException as error:
            self._end(place, error)
            refuse_uncallable(fn)
            raise
        self._end(place, None)
        return result

    async def call_async(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call and await `fn` once the limit lets it, under asyncio or trio.

        Raises:
            LimitExceededError: If there is no place, and none came free while it waited; `fn` was not called.
            TypeError: If `fn` gives something that can't be awaited.
        """
        place = self._take() or await self._enter_async()
        try:
            awaitable = fn(*args, **kwargs)
            if type(awaitable) is not CoroutineType and not is_awaitable(awaitable):
                raise not_awaitable(fn, f"{type(self).__name__}.call_async", "call")
            result = await awaitable
        except BaseException as error:
            self._end(place, error)
            refuse_uncallable(fn)
            raise
        self._end(place, None)
        return result

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function, a method or a coroutine function; its signature stays.

        Raises:
            TypeError: When it decorates a generator or asynchronous generator function.
        """
        decorated: Callable[P, R] = within(self._decorate, fn)
        return decorated

    def guard(self) -> LimitGuard:
        """Return a context manager, for one `with` or `async with`, whose block passes through the limit."""
        return LimitGuard(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"{self!r} can't be copied or pickled: a copy would admit calls of its own; share the object, and make one "
            "in each process"
        )

    def _decorate(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        if gives_coroutines(fn, type(self).__name__):

            async def limited_async(*args: Any, **kwargs: Any) -> Any:
                return await self.call_async(fn, *args, **kwargs)

            return functools.update_wrapper(limited_async, fn)

        call = self.call

        def limited(*args: Any, **kwargs: Any) -> Any:
            return call(fn, *args, **kwargs) if kwargs else call(fn, *args)

        return functools.update_wrapper(limited, fn)

    def _call_holding(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do the same as `call`, and let what is inside know of the place, in `held`.

        The variable is put back by value, not by a token, which a signal's handler may keep from being stored.
        """
        with (guard := self.guard()):
            around = held.get()
            inside = (*around, (self, guard.place))
            try:
                held.set(inside)
                return fn(*args, **kwargs)
            finally:
                if held.get() is inside:  # else this is another context: the coroutine was closed elsewhere
                    held.set(around)

    async def _call_holding_async(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        async with (guard := self.guard()):
            around = held.get()
            inside = (*around, (self, guard.place))
            try:
                held.set(inside)
                return await fn(*args, **kwargs)
            finally:
                if held.get() is inside:
                    held.set(around)

    def _enter(self) -> Place:
        """Wait in line, blocking the thread."""
        waiter = Waiter(is_async=False)
        with closing(self._line_up(waiter)) as waits:
            for seconds, by_clock in waits:
                if by_clock and seconds is not None:
                    clock.sleep(seconds)
                else:
                    waiter.is_late = not waiter.signal.wait(seconds)
        place: Place = waiter.place
        return place

    async def _enter_async(self) -> Place:
        """Wait in line, without blocking the event loop."""
        waiter = Waiter(is_async=True)
        with closing(self._line_up(waiter)) as waits:
            for seconds, by_clock in waits:
                try:
                    if by_clock and seconds is not None:
                        await clock.sleep_async(seconds)
                    else:
                        waiter.is_late = not await waiter.signal.wait(seconds)
                except BaseException as error:
                    if not is_cut_off(error):
                        raise
                    waits.close()  # a refusal tells of those who still wait
                    raise self._refusal() from None  # the time is over for an attempt that was not even made
        place: Place = waiter.place
        return place

    def _time_to_wait(self) -> float | None:
        """Return how many seconds a caller may wait, 0 or more; None for as long as it takes."""
        left = remaining_time()
        if left is None or self._max_wait is None:
            return self._max_wait if left is None else left
        return min(left, self._max_wait)

    def _line_up(self, waiter: Waiter) -> Generator[Wait, None, None]:
        """Yield one wait after another until the waiter has its place; closed early, it leaves nothing behind.

        Raises:
            LimitExceededError: If the line is full, or the time to wait is over.
        """
        seconds = self._time_to_wait()
        end = None if seconds is None else clock.monotonic() + seconds
        try:
            with self._lock:
                if len(self._line) - self._room() >= self._max_queue:
                    raise self._refusal()
                self._line.join(waiter)
                ahead = self._line.ahead_of(waiter)
            if ahead:  # some of them may wait in an event loop that is gone
                self._serve()
            while (wait := self._next_wait(waiter, end)) is not None:
                yield wait
        except BaseException:
            try:
                self._leave(waiter)
            except BaseException:  # an interrupt; everybody would wait behind one who is gone
                self._leave(waiter)
                raise
            raise

    def _leave(self, waiter: Waiter) -> None:
        with self._lock:
            self._line.leave(waiter)
        self._serve()

    def _refusal(self) -> LimitExceededError:
        """Count a rejected call and return its error."""
        with self._lock:
            self._refused += 1
            return LimitExceededError(self._name, self._retry_after())

    def _forked(self) -> None:
        """Begin anew: in a forked child no call runs and nobody waits."""
        self._lock = new_lock()
        self._line = Line()

    def _room(self) -> int:
        """Return how many could be admitted now: so many of those in line are as good as admitted."""
        return 0

    def _in_flight(self) -> int:
        return 0

    @abc.abstractmethod
    def _take(self) -> Place | None:
        """Return a place if one is free and nobody waits; None if not."""

    @abc.abstractmethod
    def _next_wait(self, waiter: Waiter, end: float | None) -> Wait | None:
        """Return how long a waiter in line waits next; None if it has its place, and so left the line in the same step.

        Raises:
            LimitExceededError: If its time is over.
        """

    @abc.abstractmethod
    def _serve(self) -> None:
        """Have those in line look who may be next."""

    @abc.abstractmethod
    def _retry_after(self) -> float | None:
        """Return the seconds until it is worth asking again; None if that isn't known. The lock is held."""

    # What follows does nothing for turns: one that was taken is never given back.

    def _end(self, place: Place, error: BaseException | None) -> None:  # noqa: B027 - as above
        """Take a place back from a call that ended, with this error or well."""

    def _give_back(self, place: Place) -> None:  # noqa: B027 - as above
        """Take a place back, and let the next in line have it."""

    def _begin(self, place: Place) -> None:  # noqa: B027 - as above
        """Have the call that holds the place begin now: what it waited for until now is no latency."""

    def _share(self, place: Place) -> None:  # noqa: B027 - as above
        """Let one more hold the place: it comes back when all have given it back."""
