"""Where the items of a batch wait while the breaker is open or a limit is full.

The gate shuts when an item is sent back. From then on one item at a time goes through, when it is due; the others
follow once one was let through and the breaker is closed. Nobody polls: whoever is first in line sleeps until the next
try is due, and the others until they are woken.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Generator
from typing import Any, TypeAlias

from booking_resilience import clock
from booking_resilience.checks import is_a
from booking_resilience.deadlines import remaining_time
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import BreakerEvent, BreakerState, RetryEvent
from booking_resilience.locks import new_lock, run_if_free
from booking_resilience.pipeline import Pipeline

logger: logging.Logger = logging.getLogger("booking_resilience.retry")

Wait: TypeAlias = tuple[float, bool]
"""Seconds to wait; whether by a sleep on the library's clock, or for the signal."""

_SLACK = 1e-6  # seconds by which a sum of floats may miss a moment
_ASK_FLEET = 0.1  # seconds between two tries to make the trial of a fleet, whose lease no event announces
_TRIED = (BreakerState.OPEN, BreakerState.HALF_OPEN)


class Gate:
    """Lets the items of one batch through.

    Args:
        pipeline: What they go through.
        operation: Its name, for the log.
        max_open_wait: Seconds without a success after which nobody waits any more.
    """

    def __init__(self, pipeline: Pipeline, operation: str, max_open_wait: float) -> None:
        self._breaker, self._limit = pipeline.breaker, pipeline.part("limit")
        self._max_attempts, self._operation = pipeline.retry.max_attempts, operation
        self._max_open_wait = max_open_wait
        self._names = {part.name for part in (self._limit, pipeline.part("rate")) if part is not None}
        self._lock = new_lock()
        self._line: collections.deque[Any] = collections.deque()  # the signals of those who wait
        self._is_closed = False
        self.is_shut: bool = False
        self._due = 0.0  # when the next try may be made
        self._needs_place = False  # whether it needs a free place, too
        self._is_trial_out = False  # whether it waits for the end of somebody else's trial, which is real time
        self._prober: object = None  # who makes it
        self._since: float | None = None  # when waiting began, or the last success was if that came later
        self._told: collections.deque[str] = collections.deque()  # what the log is to be told
        self._is_logging = new_lock()
        self._ends: list[Any] = []
        if self._breaker is not None:
            self._ends.append(self._breaker.subscribe(self._on_event).close)
        if self._limit is not None:
            self._ends.append(self._limit._watch(self._on_place))

    def takes_back(self, event: RetryEvent, made: int) -> bool:
        """Tell whether an item that ends like this is to wait, having made so many attempts in all."""
        error, breaker = event.error, self._breaker
        if made >= self._max_attempts or self.has_given_up():
            return False
        if breaker is not None and is_a(error, CircuitOpenError) and error.name == breaker.name:
            return error.retry_after is not None  # else it is isolated
        if is_a(error, LimitExceededError):
            return error.name in self._names or error.retry_after is not None
        return event.reason == "circuit_open" and breaker is not None and breaker.state in _TRIED

    def enter(self, signal: Any) -> Generator[Wait, None, None]:
        """Yield one wait after another, until the item may be tried, or nobody waits any more.

        The signal ends a wait early. Closed early, the generator leaves nothing behind.
        """
        try:
            with self._lock:
                self._line.append(signal)
            while (wait := self._next_wait(signal)) is not None:
                yield wait
        finally:
            with self._lock:
                if signal in self._line:
                    self._line.remove(signal)
                self._wake()
            self._log()

    def sent_back(self, signal: object, error: BaseException | None) -> None:
        """Take an item back, with the signal that it came in by or None; nobody else begins until a try is due.

        There is no error where a result was rejected.
        """
        with self._lock:
            now = clock.monotonic()
            if self._prober is signal:
                self._prober = None
            if is_a(error, LimitExceededError):
                # A rate counts in nanoseconds: the last of them must be slept, or no virtual time passes.
                self._due = now + (max(error.retry_after, 2 * _SLACK) if error.retry_after else 0.0)
                self._is_trial_out = False
                self._needs_place = self._limit is not None and error.name == self._limit.name
                self._shut(now, "a limit is full")
            elif self._follow_breaker(now):
                self._shut(now, "the circuit breaker is open")
            self._wake()
        self._log()

    def ended(self, signal: object, *, succeeded: bool) -> None:
        """Note that an item has its outcome; `signal` as for `sent_back`."""
        with self._lock:
            if succeeded:
                self._since = clock.monotonic() if self.is_shut else None
            if self._prober is signal and signal is not None:
                self._prober = None
                if not self._follow_breaker(clock.monotonic()):
                    self._open()
                self._wake()
        self._log()

    def close(self) -> None:
        """Let everybody go: the batch has ended or was left."""
        for end in self._ends:
            end()
        with self._lock:
            self._is_closed = True
            self._wake_all()

    def has_given_up(self) -> bool:
        """Tell whether nobody waits any more: the time or the deadline is over, or the breaker isolated."""
        is_isolated = self._breaker is not None and self._breaker.state is BreakerState.ISOLATED
        return is_isolated or self._left() <= _SLACK

    def _next_wait(self, signal: Any) -> Wait | None:
        with self._lock:
            if not self.is_shut or self._is_closed or self.has_given_up():
                return None
            now, left = clock.monotonic(), self._left()
            if self._prober is not None or self._line[0] is not signal:
                return left, False
            if (wait := self._due - now) > _SLACK:
                return min(wait, left), clock.is_virtual() and not self._is_trial_out
            if self._needs_place and not self._limit._has_room():
                return left, False
            self._prober = signal
            return None

    def _left(self) -> float:
        """Return for how many seconds anybody waits yet."""
        left, since, outer = self._max_open_wait, self._since, remaining_time()  # another thread may end `_since`
        if since is not None:
            left += since - clock.monotonic()
        return max(0.0, left if outer is None else min(left, outer))

    def _follow_breaker(self, now: float) -> bool:
        """Set when the next try is due, by the breaker; tell whether it holds anybody back."""
        breaker = self._breaker
        if breaker is None or (snapshot := breaker.snapshot()).state not in _TRIED:
            return False
        self._needs_place = False
        state, machine = breaker._core.state, breaker._core.machine
        self._is_trial_out = state.kind is BreakerState.HALF_OPEN and len(state.trials) >= machine.trial_calls
        soon = 0.0 if breaker._core.link is None else _ASK_FLEET
        self._due = now + (machine.trial_timeout if self._is_trial_out else snapshot.retry_after or soon)
        return True

    def _shut(self, now: float, why: str) -> None:
        if not self.is_shut:
            self.is_shut = True
            self._since = now if self._since is None else self._since
            self._told.append(f"waits: {why}")

    def _open(self) -> None:
        if self.is_shut:
            self.is_shut = False
            self._told.append("goes on")
            self._wake_all()

    def _wake(self) -> None:
        """Have the first in line look again; everybody, if nobody waits any more."""
        if self._line:
            self._line[0].wake()
        if self.is_shut and self.has_given_up():
            self._wake_all()

    def _wake_all(self) -> None:
        for signal in tuple(self._line):
            signal.wake()

    def _on_event(self, event: BreakerEvent) -> None:
        with self._lock:
            if self.is_shut and not self._follow_breaker(clock.monotonic()) and event.new is BreakerState.CLOSED:
                self._open()
            self._wake()
        self._log()

    def _on_place(self) -> None:
        with self._lock:
            if self.is_shut and self._needs_place:
                self._wake()

    def _log(self) -> None:
        """Log what happened, in order; a thread that finds another one at it leaves it to that."""
        while self._told and run_if_free(self._is_logging, self._log_one):
            pass

    def _log_one(self) -> None:
        if self._told:
            logger.info("%s: the batch %s", self._operation, self._told.popleft())
