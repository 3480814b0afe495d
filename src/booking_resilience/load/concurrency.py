"""At most so many calls at once: a bulkhead."""

from __future__ import annotations

import weakref
from collections.abc import Generator

from booking_resilience import clock
from booking_resilience.checks import check_whole
from booking_resilience.load.limit import Limit, LimitSnapshot, Place, Wait
from booking_resilience.load.queue import Waiter

_WEIGHT = 0.1  # of the newest call in the mean time that a place is held: about the last twenty calls count


class ConcurrencyLimit(Limit):
    """Lets at most `limit` calls run at once; the others wait in line or are rejected.

    The free places lie in a list: taking one out and putting it back are single steps of the interpreter, so that a
    call that needn't wait takes no lock. Share one between threads, tasks of any event loop and signal handlers. A
    forked child begins with all places free.

    Args:
        name: Its name, in errors and snapshots.
        limit: Calls that may run at once; 1 or more.
        max_queue: Callers that may wait; 0 or more, 0 rejects at once.
        max_wait: Seconds that each may wait, 0 or more; None for as long as its deadline lets it, or as it takes.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range, or `max_wait` is given without `max_queue`.

    >>> ConcurrencyLimit("backend", limit=10).call(str.upper, "fine")
    'FINE'
    """

    def __init__(self, name: str, *, limit: int, max_queue: int = 0, max_wait: float | None = None) -> None:
        check_whole("limit", limit)
        self._limit = limit
        self._mean_held: float | None = None  # seconds that a place is held, the newest calls counting most
        super().__init__(name, max_queue, max_wait)

    def snapshot(self) -> LimitSnapshot:
        """Return what is known of the limit, all of one moment."""
        with self._lock:
            return LimitSnapshot(
                name=self._name,
                limit=self._limit,
                in_flight=self._in_flight(),
                queued=len(self._line),
                refused=self._refused,
            )

    def _in_flight(self) -> int:
        return max(0, self._places - len(self._free))

    def _forked(self) -> None:
        super()._forked()
        self._owner: weakref.ref[Limit] = weakref.ref(self)
        self._free: list[Place] = []
        self._places = 0  # how many there are, free or not
        self._resize(self._limit)

    def _take(self) -> Place | None:
        if self._line.waiting:
            return None
        try:
            place = self._free.pop()
        except IndexError:
            return None
        place.started = clock.monotonic()
        return place

    def _give_back(self, place: Place, error: BaseException | None, lost: bool = False) -> None:
        if place.sharers:
            with self._lock:
                if place.sharers:
                    place.sharers -= 1
                    return
        if not lost:
            held, mean = clock.monotonic() - place.started, self._mean_held
            self._mean_held = held if mean is None else mean + _WEIGHT * (held - mean)
        if self._places > self._limit and self._is_one_too_many(place):
            return
        try:
            place.pool.append(place)
        finally:
            if self._line.waiting:
                self._serve()

    def _resize(self, limit: int) -> None:
        """Change the limit; the lock is held. Calls that run go on: places too many are dropped when they come back."""
        self._limit = limit
        while self._places < limit:
            self._free.append(Place(self._owner, self._free))
            self._places += 1
        while self._places > limit and self._free:
            self._drop(self._free.pop())

    def _is_one_too_many(self, place: Place) -> bool:
        """Drop the place if there are more than the limit."""
        with self._lock:
            if self._places > self._limit and place.pool is self._free:
                self._drop(place)
                return True
        return False

    def _drop(self, place: Place) -> None:
        place.retire()
        self._places -= 1

    def _line_up(self, waiter: Waiter) -> Generator[Wait, None, None]:
        seconds = self._time_to_wait()
        try:
            with self._lock:
                if not self._line and (place := self._take()) is not None:  # one has come free just now
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
                self._give_back(place, None, lost=True)
            raise

    def _serve(self) -> None:
        """Give the free places to those who wait, in order."""
        try:
            self._hand_out()
        except BaseException:  # an interrupt; nobody may be left waiting beside a free place
            self._hand_out()
            raise

    def _hand_out(self) -> None:
        with self._lock:
            while (waiter := self._line.first()) is not None:
                if waiter.place is None:
                    try:
                        waiter.place = place = self._free.pop()
                    except IndexError:
                        return
                    place.started = clock.monotonic()
                if not waiter.signal.wake():  # its event loop is gone
                    place, waiter.place = waiter.place, None
                    self._free.append(place)
                self._line.leave(waiter)

    def _retry_after(self) -> float | None:
        if self._mean_held is None:
            return None
        return self._mean_held * (len(self._line) + 1) / self._limit
