"""The state machine of a circuit breaker. Pure: the time comes in as an argument, what happened is left in `moves`.

`TRANSITIONS` is the whole of it: a move that is not in the table cannot be made. Every permit carries the epoch in
which it was issued, every transition begins a new epoch, and a result from an earlier one changes nothing: that is
what makes late answers harmless (sony/gobreaker calls it a generation).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from booking_resilience.breaker.window import SlidingWindow
from booking_resilience.events import BreakerState

if TYPE_CHECKING:
    from booking_resilience.breaker.window import FailureRate

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState


class Move(enum.Enum):
    """What may happen to a breaker."""

    TRIP = "too many failures"
    TRY = "the cooldown is over and somebody calls"
    RECOVER = "the trial calls succeeded"
    RELAPSE = "a trial call failed or was lost"
    ISOLATE = "isolated by hand"
    RESET = "reset by hand"


TRANSITIONS = {
    (CLOSED, Move.TRIP): OPEN,
    (OPEN, Move.TRY): HALF_OPEN,
    (HALF_OPEN, Move.RECOVER): CLOSED,
    (HALF_OPEN, Move.RELAPSE): OPEN,
    (CLOSED, Move.ISOLATE): ISOLATED,
    (OPEN, Move.ISOLATE): ISOLATED,
    (HALF_OPEN, Move.ISOLATE): ISOLATED,
    (CLOSED, Move.RESET): CLOSED,
    (OPEN, Move.RESET): CLOSED,
    (HALF_OPEN, Move.RESET): CLOSED,
    (ISOLATED, Move.RESET): CLOSED,
}


class Verdict(enum.Enum):
    """What the end of a call says of the backend."""

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    IGNORED = enum.auto()
    NOTHING = enum.auto()


_SLACK = 1e-6  # seconds: sums of float seconds may miss the end of a cooldown by the last bit, and never by more


class Machine:
    """The state of one breaker. Not safe to share by itself: its shell holds a lock around every method.

    A signal handler may use the breaker between any two calls that a method makes. So each transition is computed
    first and then made in one run of plain assignments, if the epoch is still the one it was computed for.

    Attributes:
        state: The state.
        epoch: Counts the transitions; what a permit carries.
        calm: The epoch while the breaker is closed and a success has nothing to change, else -1. Read without the
            lock by the path of a healthy backend.
        moves: Transitions not yet told to anybody: (old, new, reason).
    """

    __slots__ = (
        "calm", "cause", "consecutive", "cooldown", "cooldown_now", "epoch", "failures", "ignored", "max_cooldown",
        "moves", "opened", "reason", "refused", "stale", "state", "successes", "threshold", "trial_calls",
        "trial_timeout", "trials", "trips", "watches_all", "window",
    )  # fmt: skip

    def __init__(
        self,
        *,
        threshold: int,
        failure_rate: FailureRate | None,
        cooldown: float,
        max_cooldown: float | None,
        trial_calls: int,
        trial_timeout: float,
        watches_all: bool,
    ) -> None:
        self.threshold, self.trial_calls, self.trial_timeout = threshold, trial_calls, trial_timeout
        self.cooldown, self.cooldown_now, self.max_cooldown = cooldown, cooldown, max_cooldown
        self.window = None if failure_rate is None else SlidingWindow(failure_rate)
        self.watches_all = watches_all or failure_rate is not None
        self.state, self.epoch = CLOSED, 0
        self.calm = -1 if self.watches_all else 0
        self.consecutive = self.failures = self.refused = self.stale = self.ignored = self.trips = self.successes = 0
        self.opened = 0.0
        self.trials: tuple[float, ...] = ()
        self.cause: str | None = None
        self.reason: str | None = None
        self.moves: list[tuple[BreakerState, BreakerState, str]] | None = None

    def admit(self, now: float) -> bool:
        """Tell whether a call may be made; if it is a trial, it counts as begun at `now`."""
        self._expire(now)
        if self.state is CLOSED:
            return True
        if self.state is OPEN and now - self.opened >= self.cooldown_now - _SLACK:
            self._move(Move.TRY, self.epoch, "the cooldown is over")
        if self.state is HALF_OPEN and len(self.trials) < self.trial_calls:
            self.trials = (*self.trials, now)
            return True
        self.refused += 1
        return False

    def settle(self, epoch: int, started: float, verdict: Verdict, now: float, cause: str | None) -> None:
        """Take the end of a call that was admitted in `epoch` at `started`.

        Args:
            epoch: The permit's epoch.
            started: When the call was admitted.
            verdict: What its end says.
            now: The monotonic time.
            cause: Text of its error, for `CircuitOpenError.cause`.
        """
        self._expire(now)
        if epoch != self.epoch:
            self.stale += verdict is not Verdict.NOTHING
            return
        if self.state is HALF_OPEN:
            place = self.trials.index(started)
            self.trials = self.trials[:place] + self.trials[place + 1 :]
        if verdict is Verdict.SUCCESS:
            self._succeeded(epoch, now)
        elif verdict is Verdict.FAILURE:
            self._failed(epoch, now, cause)
        elif verdict is Verdict.IGNORED:
            self.ignored += 1

    def isolate(self, reason: str) -> None:
        """Refuse every call until `reset`."""
        if self.state is ISOLATED:
            self.reason = self.cause = reason
        else:
            self._move(Move.ISOLATE, self.epoch, reason, cause=reason)

    def reset(self, reason: str) -> None:
        """Close, and count from nothing."""
        self._move(Move.RESET, self.epoch, reason)
        self.refused = self.stale = self.ignored = self.trips = 0

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until the next trial may be made; None where none is awaited (closed, isolated)."""
        if self.state is OPEN:
            return min(max(self.opened + self.cooldown_now - now, 0.0), self.cooldown_now)
        return 0.0 if self.state is HALF_OPEN else None

    def _succeeded(self, epoch: int, now: float) -> None:
        if self.state is HALF_OPEN:
            self.successes += 1
            if self.successes >= self.trial_calls:
                plural = "" if self.trial_calls == 1 else "s"
                self._move(Move.RECOVER, epoch, f"the trial{plural} succeeded")
            return
        if self.window is not None:
            self.window.record(now, failed=False)
        if self.epoch == epoch:
            self.consecutive, self.calm = 0, -1 if self.watches_all else epoch

    def _failed(self, epoch: int, now: float, cause: str | None) -> None:
        self.calm = -1
        self.failures += 1
        self.consecutive += 1
        if self.state is HALF_OPEN:
            self._move(Move.RELAPSE, epoch, "the trial failed", opened=now, cause=cause)
            return
        if self.window is not None:
            self.window.record(now, failed=True)
        if self.consecutive >= self.threshold:
            self._move(Move.TRIP, epoch, f"{self.consecutive} consecutive failures", opened=now, cause=cause)
        elif self.window is not None and self.window.trips(now):
            calls, failures = self.window.counts(now)
            self._move(Move.TRIP, epoch, f"{failures} of {calls} recent calls failed", opened=now, cause=cause)

    def _expire(self, now: float) -> None:
        """A trial that has not come back in time is lost, and counts as failed from now on."""
        if self.trials and now - self.trials[0] >= self.trial_timeout - _SLACK:
            self.failures += 1
            self.consecutive += 1
            self._move(Move.RELAPSE, self.epoch, "a trial was lost", opened=now, cause=self.cause)

    def _move(self, move: Move, epoch: int, reason: str, *, opened: float = 0.0, cause: str | None = None) -> None:
        """Make the transition, unless a signal handler that came in between has ended the epoch it belongs to."""
        old = self.state
        new = TRANSITIONS.get((old, move))
        cooldown = self.cooldown
        if move is Move.RELAPSE:
            cooldown = self.cooldown_now if self.max_cooldown is None else min(self.cooldown_now * 2, self.max_cooldown)
        elif move is Move.TRY:
            opened, cause, cooldown = self.opened, self.cause, self.cooldown_now
        calm = epoch + 1 if new is CLOSED and not self.watches_all else -1
        moves = self.moves if new is None or new is old else [*(self.moves or ()), (old, new, reason)]
        if new is CLOSED and self.window is not None:
            self.window.clear()
        if self.epoch != epoch:
            return
        if new is None:
            raise RuntimeError(f"a breaker that is {old.value} cannot {move.name}")
        self.state, self.epoch, self.calm, self.reason, self.moves = new, epoch + 1, calm, reason, moves
        self.opened, self.cause, self.cooldown_now, self.trials, self.successes = opened, cause, cooldown, (), 0
        self.trips += new is OPEN
        if new is CLOSED:
            self.consecutive = self.failures = 0
