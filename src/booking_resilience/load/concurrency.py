"""At most so many calls at once: a bulkhead."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Literal

from booking_resilience import clock
from booking_resilience.checks import check, check_whole
from booking_resilience.load.limit import Limit, Wait
from booking_resilience.load.places import LimitSnapshot, Place, nobody
from booking_resilience.load.queue import Waiter

MOST = 1_000_000  # places
_WEIGHT = 0.1  # of the newest call in the mean time that a place is held: about the last twenty calls count


class ConcurrencyLimit(Limit):
    """Lets at most `limit` calls run at once; the others wait in line or are rejected.

    The free places lie in a list: taking one out and putting it back are single steps of the interpreter, so that a
    call that needn't wait takes no lock. Share one between threads, tasks of any event loop and signal handlers. A
    forked child begins with all places free.

    Args:
        name: Its name, in errors and snapshots.
        limit: Calls that may run at once; from 1 to 1,000,000, since each has a place of its own.
        max_queue: Callers that may wait; 0 or more, 0 rejects at once.
        max_wait: Seconds that each may wait, 0 or more; None for as long as its deadline lets it, or as it takes.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range, or `max_wait` is given without `max_queue`.

    >>> ConcurrencyLimit("backend", limit=10).call(str.upper, "fine")
    'FINE'
    """

    role: Literal["limit"] = "limit"
    _learns: ClassVar[bool] = False  # from how calls end
    _gradient: Any = None  # what an `AdaptiveLimit` follows

    def __init__(self, name: str, *, limit: int, max_queue: int = 0, max_wait: float | None = None) -> None:
        check_whole("limit", limit)
        check("limit", limit, limit <= MOST, f"a whole number from 1 to {MOST:,}")
        self._limit = limit
        self._mean_held: float | None = None  # seconds that a place is held, the newest calls counting most
        super().__init__(name, max_queue, max_wait)

    def snapshot(self) -> LimitSnapshot:
        """Return what is known of the limit, all of one moment."""
        with self._lock:
            return self._snapshot(self._limit, self._in_flight())

    def _take_settings(self, other: ConcurrencyLimit) -> None:
        """Go on as another one, which nobody uses. Who has a place or waits keeps it, and what was learned stays."""
        with self._lock:
            self._max_queue, self._max_wait = other._max_queue, other._max_wait
            me: Any = self
            limit = other._limit
            if (gradient := other._gradient) is not None:
                if self._gradient is not None:
                    gradient = self._gradient.within(gradient.minimum, gradient.maximum)
                self._gradient, limit = gradient, int(gradient.limit)
            me.__class__ = type(other)  # a fixed one begins to adapt, or the other way round; it has a gradient by now
            self._resize(limit)
        self._serve()

    def _in_flight(self) -> int:
        return max(0, self._places - len(self._free))

    def _forked(self) -> None:
        super()._forked()
        self._owner: weakref.ref[Limit] = weakref.ref(self)
        self._first_epoch = self._epoch
        self._free: list[Place] = []
        self._places = 0  # how many there are, free or not
        self._watchers: tuple[Callable[[], object], ...] = ()  # told when a place comes free
        self._resize(self._limit)

    def _take(self) -> Place | None:
        if self._line:
            return None
        try:
            place = self._free.pop()
        except IndexError:
            return None
        place.started = clock.monotonic()
        return place

    def _end(self, place: Place, error: BaseException | None) -> None:
        now = clock.monotonic()
        seconds = now - place.started
        try:
            if self._learns:  # a call whose thread runs on has ended, too
                self._learn(place, seconds, now, error)
        finally:
            if seconds >= 0.0 and not place.sharers:  # else it began by a virtual clock that ended
                mean = self._mean_held
                self._mean_held = seconds if mean is None else mean + _WEIGHT * (seconds - mean)
            if place.epoch != self._epoch or place.sharers or self._places > self._limit:
                self._give_back(place)
            else:
                try:
                    self._free.append(place)
                    if self._line or self._watchers:
                        self._serve()
                except BaseException:  # an interrupt, before anybody was given the place
                    self._serve()
                    raise

    def _give_back(self, place: Place) -> None:
        try:
            with self._lock:
                if place.sharers:
                    place.sharers -= 1
                elif place.epoch < self._first_epoch:  # the forking process's
                    place.owner = nobody
                elif self._places > self._limit:
                    self._drop(place)
                else:
                    place.epoch = self._epoch
                    self._free.append(place)
        finally:
            self._serve()

    def _begin(self, place: Place) -> None:
        with self._lock:
            place.started = clock.monotonic()
            if place.epoch >= self._first_epoch:
                place.epoch = self._epoch

    def _learn(self, place: Place, seconds: float, now: float, error: BaseException | None) -> None:
        """Note how a call ended that began so many seconds ago."""

    def _share(self, place: Place) -> None:
        with self._lock:
            place.sharers += 1

    def _resize(self, limit: int) -> None:
        """Change the limit; the lock is held. Calls that run go on: places too many are dropped when they come back."""
        self._limit = limit
        while self._places < limit:
            self._free.append(Place(self._owner, self._epoch))
            self._places += 1
        while self._places > limit and self._free:
            self._drop(self._free.pop())

    def _drop(self, place: Place) -> None:
        place.owner = nobody  # no call, after which a signal's handler might strike before the next line
        self._places -= 1

    def _line_up(self, waiter: Waiter) -> Generator[Wait, None, None]:
        seconds = self._time_to_wait()
        try:
            with self._lock:
                if (place := self._take()) is not None:  # one has come free just now
                    waiter.place = place
                    return
                if seconds is not None and seconds <= 0:
                    raise self._refusal()
                self._join(waiter)
            self._serve()
            if waiter.place is None:
                yield seconds, False  # real time: what is waited for is another call, which virtual time doesn't end
            with self._lock:
                self._line.leave(waiter)
            if waiter.place is None:
                raise self._refusal()
        except BaseException:  # refused, cancelled or interrupted
            with self._lock:
                self._line.leave(waiter)
                place, waiter.place = waiter.place, None
            if place is not None:
                self._give_back(place)
            raise

    def _serve(self) -> None:
        """Give the free places to those who wait, in order, and tell those who watch."""
        try:
            self._hand_out()
        except BaseException:  # an interrupt; nobody may be left waiting beside a free place
            self._hand_out()
            raise
        if self._free:
            for told in self._watchers:
                told()

    def _hand_out(self) -> None:
        with self._lock:
            while (waiter := self._line.first()) is not None:
                if waiter.place is None:
                    try:
                        waiter.place = place = self._free.pop()
                    except IndexError:
                        return
                    self._begin(place)
                if not waiter.signal.wake():  # its event loop is gone
                    place, waiter.place = waiter.place, None
                    self._free.append(place)
                self._line.leave(waiter)

    def _has_room(self) -> bool:
        """Tell whether a call would get a place now, or one in line."""
        return len(self._line) < self._max_queue or (bool(self._free) and not self._line)

    def _watch(self, told: Callable[[], object]) -> Callable[[], None]:
        """Have `told` called whenever a place comes free; return what ends that."""

        def end() -> None:
            with self._lock:
                self._watchers = tuple(other for other in self._watchers if other is not told)

        with self._lock:
            self._watchers = (*self._watchers, told)
        return end

    def _retry_after(self) -> float | None:
        if self._mean_held is None:
            return None
        return self._mean_held * (len(self._line) + 1) / self._limit
