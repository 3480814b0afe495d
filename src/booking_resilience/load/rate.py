"""At most so many calls in any span of time: a rate limit."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, Literal, TypeAlias

from booking_resilience import clock
from booking_resilience.checks import check, check_number, check_whole
from booking_resilience.load.limit import Limit, Wait
from booking_resilience.load.places import Place, around_and_own, held, nobody
from booking_resilience.load.queue import Waiter

_NANO = 1_000_000_000
_SHORTEST = 1e-6  # seconds of sleep that move every clock, also one that counts in floats
_LONGEST = 1e9  # seconds of sleep: clocks can't sleep as long as a pause may be
_FOR_EVER = 1e15  # seconds of pause: whoever asks for more gets 30 million years
_LONG_AGO = -(1 << 62)

State: TypeAlias = tuple[int, int, int, dict[str, Any]]
"""When the next turn would come if turns were taken evenly; the end of a pause and its length; what came after."""


class Turns:
    """The generic cell rate algorithm (ITU-T I.371), in whole nanoseconds of the library's clock.

    The next even turn may lie ahead of now by `burst` intervals at most, and each turn moves it one interval further.
    A change makes a new state and hangs it on the old one, by one step of the interpreter: of two that try at once
    (threads, or a signal's handler) the later one finds the successor there, and goes on from that. So there is no
    lock. The clock is read after the state: whoever was kept waiting in between doesn't take others' turns for ones
    that lie too far ahead.

    Args:
        interval: Nanoseconds between two turns, 1 or more.
        burst: Turns that may be taken at once, 1 or more.
    """

    __slots__ = ("_span", "_state", "burst", "interval")

    def __init__(self, interval: int, burst: int) -> None:
        self.interval: int = interval
        self.burst: int = burst
        self._span = burst * interval  # so far ahead the next even turn may lie
        self._state: State = (_LONG_AGO, _LONG_AGO, 0, {})

    def take(self, tokens: int = 1) -> bool:
        """Take so many turns; False, and none taken, if they are not free, or are more than ever will be."""
        while tokens <= self.burst:
            even, paused_until, paused_for, after = self._state
            now = clock.monotonic_ns()
            even = even if even > now else now  # noqa: FURB136 - `max` costs as much as all the rest
            even += self.interval if tokens == 1 else tokens * self.interval
            if even - now <= self._span and paused_until <= now:
                new: State = (even, paused_until, paused_for, {})
                if after.setdefault("", new) is new:
                    self._state = new
                    return True
            if self.wait(tokens):
                break
        return False

    def wait(self, tokens: int = 1) -> int:
        """Return the nanoseconds until so many turns are free; 0 if they are."""
        (even, paused_until, *_), now = self._newest()
        return max(0, paused_until - now, even + tokens * self.interval - self._span - now)

    def pause(self, length: int) -> None:
        """Let no turn fall due for so many nanoseconds; a shorter pause changes nothing of a longer one."""
        while True:
            state, now = self._newest()
            begin = max(now, state[1])
            longer = now + length - begin
            # Nothing accrues: the next even turn moves along with the end of the pause.
            if longer <= 0 or self._follow(state, max(state[0], begin) + longer, now + length, length):
                return

    def changed(self, interval: int, burst: int) -> Turns:
        """Return what goes on from here with other figures: as many turns are taken as were, a pause goes on."""
        other, ((even, paused_until, paused_for, _), now) = Turns(interval, burst), self._newest()
        begin = max(now, paused_until)
        other._state = (begin + max(0, even - begin) * interval // self.interval, paused_until, paused_for, {})
        return other

    def _newest(self) -> tuple[State, int]:
        """Return the state and the time. If a clock was set back (a virtual one ended) nothing lies too far ahead."""
        while True:
            state = self._state
            while "" in state[3]:  # whoever hung it there has yet to say so, or was interrupted
                state = state[3][""]  # not by `get`, which may hang beside a first key on CPython 3.13t
            now = clock.monotonic_ns()
            even, paused_until, paused_for, _ = self._state = state
            paused_until = min(paused_until, now + paused_for)
            even = min(even, max(paused_until, now) + self._span)
            if (even, paused_until) == state[:2]:
                return state, now
            self._follow(state, even, paused_until, paused_for)

    def _follow(self, old: State, even: int, paused_until: int, paused_for: int) -> bool:
        new: State = (even, paused_until, paused_for, {})
        if old[3].setdefault("", new) is not new:
            return False
        self._state = new
        return True


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

    role: Literal["rate"] = "rate"

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
        super().__init__(name, burst, max_queue, max_wait)

    def try_acquire(self, tokens: int = 1) -> bool:
        """Take `tokens` turns at once if they are free and nobody waits; otherwise take none and return False.

        Args:
            tokens: How many; 1 to `burst`.

        Raises:
            ValueError: If there are more tokens than `burst`, or less than 1.
            TypeError: If `tokens` isn't a whole number.
        """
        check_whole("tokens", tokens)
        check("tokens", tokens, tokens <= self._limit, f"at most burst ({self._limit})")
        if not self._line and self._turns.take(tokens):
            return True
        with self._lock:
            self._refused += 1
        return False

    def pause(self, seconds: float) -> None:
        """Let no call through for `seconds`, as a `Retry-After` asks for; the longest pause counts.

        Args:
            seconds: 0 or more, finite.

        Raises:
            ValueError: If `seconds` is negative, infinite or NaN.
            TypeError: If it isn't a number.
        """
        check_number("seconds", seconds)
        self._turns.pause(math.ceil(min(seconds, _FOR_EVER) * _NANO))

    def _forked(self) -> None:
        super()._forked()
        self._turns = Turns(self._interval, self._limit)
        self._turn = Place(nobody)  # stands for every turn: none is ever given back

    def _take_settings(self, other: RateLimit) -> None:
        """Go on as another one, which nobody uses; turns that were taken stay taken."""
        with self._lock:
            self._max_queue, self._max_wait = other._max_queue, other._max_wait
            self._turns = self._turns.changed(other._interval, other._limit)
            self._interval, self._limit = other._interval, other._limit
        self._serve()

    def _take(self) -> Place | None:
        return self._turn if not self._line and self._turns.take() else None

    def _line_up(self, waiter: Waiter) -> Generator[Wait, None, None]:
        yield from super()._line_up(waiter)
        for limit, place in around_and_own(held.get())[1]:
            limit._begin(place)

    def _next_wait(self, waiter: Waiter, end: float | None) -> Wait | None:
        """Do as said there: the first sleeps until its turn falls due, by its clock, the others until they are first.

        Who would get its turn too late need not wait for that.
        """
        left = None if end is None else end - clock.monotonic()
        with self._lock:
            waiter.is_awake = False  # before it looks: a signal's handler may wake it again meanwhile
            ahead = self._line.ahead_of(waiter)
            if not ahead and self._turns.take():
                waiter.place = self._turn
                self._line.leave(waiter)
                self._line.wake(1)
                return None
            due = (self._turns.wait() + ahead * self._interval) / _NANO
            if left is not None and due > left:
                raise self._refusal()
            return (left, False) if ahead else (min(max(due, _SHORTEST), _LONGEST), clock.is_virtual())

    def _serve(self) -> None:
        with self._lock:
            self._line.wake(1)

    def _retry_after(self) -> float | None:
        return self._turns.wait() / _NANO
