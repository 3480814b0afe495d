"""At most so many calls in any span of time: a rate limit."""

from __future__ import annotations

import math
import weakref
from collections.abc import Generator

from booking_resilience import clock
from booking_resilience.checks import check, check_number, check_whole
from booking_resilience.load.limit import Limit, LimitSnapshot, Place, Wait
from booking_resilience.load.queue import Waiter

_NANO = 1_000_000_000


class Turns:
    """The generic cell rate algorithm (ITU-T I.371), in whole nanoseconds. Pure: the time comes in as an argument.

    `next_even` is when the next turn would come if turns were taken evenly: it may lie ahead of now by `burst`
    intervals at most, and each turn moves it one interval further.

    Args:
        interval: Nanoseconds between two turns, 1 or more.
        burst: Turns that may be taken at once, 1 or more.
    """

    __slots__ = ("_last", "_next_even", "_paused_for", "_paused_until", "burst", "interval")

    def __init__(self, interval: int, burst: int) -> None:
        self.interval, self.burst = interval, burst
        self._next_even = self._paused_until = self._last = -(1 << 100)
        self._paused_for = 0

    def wait(self, now: int, tokens: int = 1) -> int:
        """Return the nanoseconds until so many turns are free; 0 if they are."""
        if now < self._last:
            self._set_back(now)
        self._last = now
        even = self._next_even + (tokens - self.burst) * self.interval
        due = max(self._paused_until, even)
        return due - now if due > now else 0

    def take(self, now: int, tokens: int = 1) -> bool:
        """Take so many turns; False, and none taken, if they are not free."""
        if self.wait(now, tokens):
            return False
        even = self._next_even
        self._next_even = (max(now, even)) + tokens * self.interval
        return True

    def pause(self, now: int, length: int) -> None:
        """Let no turn fall due for so many nanoseconds; a shorter pause changes nothing of a longer one."""
        self.wait(now)
        begin = max(now, self._paused_until)
        longer = now + length - begin
        if longer > 0:
            self._next_even = max(self._next_even, begin) + longer  # nothing accrues
            self._paused_until, self._paused_for = now + length, length

    def _set_back(self, now: int) -> None:
        """Bear a clock that was set back (a virtual one that ended): nothing lies further ahead than it could."""
        self._paused_until = min(self._paused_until, now + self._paused_for)
        self._next_even = min(self._next_even, max(self._paused_until, now) + self.burst * self.interval)


class RateLimit(Limit):
    """Lets at most `burst + rate · t / per` calls begin in any span of t seconds; the others wait or are rejected.

    Share one between threads and tasks of any event loop. A turn is taken when its call begins: a waiter that is
    cancelled took none. A forked child has a rate of its own.

    Args:
        name: Its name, in errors and snapshots.
        rate: Calls per `per` seconds; above 0.
        per: Seconds; above 0.
        burst: Calls that may begin at once after a quiet time; 1 or more. By default `rate`, rounded down, at least 1.
        max_queue: Callers that may wait for their turn; 0 or more, 0 rejects at once.
        max_wait: Seconds that each may wait, 0 or more; None for as long as its deadline lets it, or as it takes. A
            call whose turn would come later is rejected at once.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range, or `max_wait` is given without `max_queue`.

    >>> limit = RateLimit("mails", rate=2, per=60.0)
    >>> limit.try_acquire(), limit.try_acquire(), limit.try_acquire()
    (True, True, False)
    """

    def __init__(
        self,
        name: str,
        *,
        rate: float,
        per: float = 1.0,
        burst: int | None = None,
        max_queue: int = 0,
        max_wait: float | None = None,
    ) -> None:
        check_number("rate", rate, above=True)
        check_number("per", per, above=True)
        if burst is None:
            burst = max(1, int(rate))
        check_whole("burst", burst)
        interval = per / rate
        check("per", per, interval < 1e9, f"less than 1e9 seconds for each call (rate is {rate!r})")
        self._interval = max(1, math.ceil(interval * _NANO))  # rounded up: the bound holds to the last digit
        self._burst = burst
        super().__init__(name, max_queue, max_wait)

    def snapshot(self) -> LimitSnapshot:
        """Return what is known of the limit, all of one moment."""
        with self._lock:
            return LimitSnapshot(
                name=self._name, limit=self._burst, in_flight=0, queued=len(self._line), refused=self._refused
            )

    def try_acquire(self, tokens: int = 1) -> bool:
        """Take so many turns at once if they are free and nobody waits; False, and none taken, if not.

        Args:
            tokens: How many; 1 to `burst`.

        Raises:
            ValueError: If there are more tokens than `burst`, or less than 1.
            TypeError: If `tokens` isn't a whole number.
        """
        check_whole("tokens", tokens)
        check("tokens", tokens, tokens <= self._burst, f"at most burst ({self._burst})")
        with self._lock:
            if not self._line.waiting and self._turns.take(_now(), tokens):
                return True
            self._refused += 1
            return False

    def pause(self, seconds: float) -> None:
        """Let no call through for so many seconds, as a `Retry-After` asks for; the longest pause counts.

        Args:
            seconds: 0 or more, finite.

        Raises:
            ValueError: If `seconds` is negative, infinite or NaN.
            TypeError: If it isn't a number.
        """
        check_number("seconds", seconds)
        with self._lock:
            self._turns.pause(_now(), math.ceil(seconds * _NANO))

    def _forked(self) -> None:
        super()._forked()
        self._turns = Turns(self._interval, self._burst)
        self._turn = Place(weakref.ref(self), [])  # stands for every turn: none is ever given back

    def _take(self) -> Place | None:
        lock = self._lock
        lock.acquire()
        try:
            return self._turn if not self._line.waiting and self._turns.take(_now()) else None
        finally:
            lock.release()

    def _give_back(self, place: Place, error: BaseException | None, lost: bool = False) -> None:
        """A turn that was taken stays taken."""

    def _line_up(self, waiter: Waiter) -> Generator[Wait, None, None]:
        seconds = self._time_to_wait()
        end = None if seconds is None else clock.monotonic() + seconds
        try:
            with self._lock:
                self._join(waiter)
                ahead = self._line.ahead_of(waiter)
                due = (self._turns.wait(_now()) + ahead * self._interval) / _NANO
                if seconds is not None and due > seconds:
                    raise self._refusal()
            while (wait := self._next_wait(waiter, end)) is not None:
                yield wait
        finally:
            with self._lock:
                self._line.leave(waiter)
                following = self._line.first()
            if following is not None:
                following.signal.wake()  # it is the first now, or looks again

    def _next_wait(self, waiter: Waiter, end: float | None) -> Wait | None:
        """Return how long the waiter waits next; None if it has its turn.

        Who is first sleeps until the turn falls due; the others sleep until they are first.
        """
        left = None if end is None else end - clock.monotonic()
        with self._lock:
            is_first = self._line.first() is waiter
            due = self._turns.wait(_now())
            if is_first and self._turns.take(_now()):
                waiter.place = self._turn
                return None
            if left is not None and (left <= 0 or (is_first and due / _NANO > left)):
                raise self._refusal()
            return (due / _NANO, True) if is_first else (left, False)

    def _retry_after(self) -> float | None:
        return self._turns.wait(_now()) / _NANO


def _now() -> int:
    return int(clock.monotonic() * _NANO)
