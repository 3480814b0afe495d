"""At most so many calls at once: a bulkhead."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from booking_resilience import clock
from booking_resilience.checks import check, check_whole
from booking_resilience.load.limit import Limit, Wait
from booking_resilience.load.places import Place, nobody
from booking_resilience.load.queue import Waiter

MOST = 1_000_000  # places
_AT_ONCE = 16  # places are made together, so that the list of the free ones needn't shrink and grow
_WEIGHT = 0.1  # of the newest call in the mean time that a place is held: about the last twenty calls count


class ConcurrencyLimit(Limit):
    """Lets at most `limit` calls run at once; the others wait in line or are rejected.

    The free places lie in a list: taking one out and putting it back are single steps of the interpreter, so that a
    call that needn't wait takes no lock. Share one between threads, tasks of any event loop and signal handlers. A
    forked child begins with all places free.

    Args:
        name: Its name, in errors and snapshots.
        limit: Calls that may run at once; from 1 to 1,000,000.
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
        self._cuts = 0  # an adaptive one's
        self._mean_held: float | None = None  # seconds that a place is held, the newest calls counting most
        super().__init__(name, limit, max_queue, max_wait)

    def _take_settings(self, other: ConcurrencyLimit) -> None:
        """Go on as another one, which nobody uses. Who has a place or waits keeps it, and what was learned stays."""
        try:
            with self._lock:
                self._max_queue, self._max_wait = other._max_queue, other._max_wait
                me: Any = self
                limit = other._limit
                if (gradient := other._gradient) is not None:
                    if self._gradient is not None:
                        gradient = self._gradient.within(gradient.minimum, gradient.maximum)
                    self._gradient, limit = gradient, int(gradient.limit)
                me.__class__ = type(other)  # a fixed one begins to adapt, or the other way round; it has a gradient now
                self._resize(limit)
            self._serve()
        except BaseException:  # an interrupt; nobody may be left waiting beside a free place
            self._serve()
            raise

    def _forked(self) -> None:
        super()._forked()
        self._owner: Callable[[], Any] = weakref.WeakMethod(self._give_back)  # another one for each process
        self._free: list[Place] = []
        self._places = 0  # how many there are, free or not; they are made when they are needed
        self._watchers: tuple[Callable[[], object], ...] = ()  # told when a place comes free

    def _room(self) -> int:
        return len(self._free) + max(0, self._limit - self._places)

    def _in_flight(self) -> int:
        return max(0, self._places - len(self._free))

    def _take(self, *, is_next: bool = False) -> Place | None:
        if self._line and not is_next:
            return None
        try:
            place = self._free.pop()
        except IndexError:
            return self._take(is_next=is_next) if self._make_places() else None
        place.started = clock.monotonic()
        place.cuts = self._cuts
        return place

    def _make_places(self) -> bool:
        """Make some of the places that there may be; return False if there are as many."""
        with self._lock:
            missing = self._limit - self._places
            for _ in range(min(missing, _AT_ONCE)):
                place = Place(nobody)
                self._places += 1
                place.owner = self._owner  # no call, after which a signal's handler might strike, before this line
                self._free.append(place)
        return missing > 0

    def _end(self, place: Place, error: BaseException | None) -> None:
        now = clock.monotonic()
        seconds = now - place.started
        try:
            if self._learns:  # a call whose thread runs on has ended, too
                self._learn(place, seconds, now, error)
        finally:
            if seconds >= 0.0 and not place.sharers:  # else it began by a virtual clock that ended, or goes on
                mean = self._mean_held
                self._mean_held = seconds if mean is None else mean + _WEIGHT * (seconds - mean)
            if error is not None or place.sharers or place.owner is not self._owner or self._places > self._limit:
                self._give_back(place)
            else:
                try:
                    self._free.append(place)
                    if self._line or self._watchers:
                        self._serve()
                except BaseException:  # an interrupt; nobody may be left waiting beside a free place
                    self._serve()
                    raise

    def _give_back(self, place: Place) -> None:
        try:
            with self._lock:
                if place.sharers:
                    place.sharers -= 1
                elif place.owner is not self._owner:  # the forking process's
                    place.owner = nobody
                elif self._places > self._limit:
                    self._drop(place)
                else:  # another one, since the collector of garbage may end a call and finalise its place as well
                    place.owner, other = nobody, Place(nobody)
                    other.owner = self._owner
                    self._free.append(other)
            self._serve()
        except BaseException:
            self._serve()
            raise

    def _begin(self, place: Place) -> None:
        place.started, place.cuts = clock.monotonic(), self._cuts

    def _learn(self, place: Place, seconds: float, now: float, error: BaseException | None) -> None:
        """Note how a call ended that began so many seconds ago."""

    def _share(self, place: Place) -> None:
        with self._lock:
            place.sharers += 1

    def _resize(self, limit: int) -> None:
        """Change the limit; the lock is held. Calls that run go on: places too many are dropped when they come back."""
        self._limit = limit
        with contextlib.suppress(IndexError):  # no more of them are free
            while self._places > limit:
                self._drop(self._free.pop())

    def _drop(self, place: Place) -> None:
        place.owner = nobody  # no call, after which a signal's handler might strike before the next line
        self._places -= 1

    def _next_wait(self, waiter: Waiter, end: float | None) -> Wait | None:
        with self._lock:
            waiter.is_awake = False  # before it looks: a signal's handler may wake it again meanwhile
            if self._line.ahead_of(waiter) < self._room():
                waiter.place = self._take(is_next=True)
            if waiter.place is not None:
                self._line.leave(waiter)
                return None
            left = None if end is None else end - clock.monotonic()
            if left is not None and (left <= 0 or waiter.is_late):
                self._line.leave(waiter)
                raise self._refusal()
            return left, False  # real time: what is waited for is another call, which virtual time doesn't end

    def _serve(self) -> None:
        with self._lock:
            self._line.wake(self._room())
        for told in self._watchers:
            told()

    def _has_room(self) -> bool:
        """Tell whether a call would get a place now, or one in line."""
        return len(self._line) - self._room() < self._max_queue

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
        queued = max(0, len(self._line) - self._room())
        return self._mean_held * (queued + 1) / self._limit
