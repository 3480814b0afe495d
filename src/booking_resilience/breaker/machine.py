"""The state machine of a circuit breaker. Pure: the time comes in as an argument, what happened is left in `moves`.

`TRANSITIONS` is the whole of it: a move that is not in the table cannot be made. Every permit carries the epoch in
which it was issued, every transition begins a new epoch, and a result from an earlier one changes nothing: that is
what makes late answers harmless (sony/gobreaker calls it a generation).

A signal handler or a finalizer may use the breaker between any two calls that a method makes, on the thread that
holds the lock. So each change is computed first and then made in one run of plain assignments, which nothing comes
in between, if `changes` still stands where it stood when the computing began; if not, it is computed anew.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from booking_resilience.breaker.tickets import Verdict
from booking_resilience.breaker.window import SlidingWindow
from booking_resilience.events import BreakerState

if TYPE_CHECKING:
    from booking_resilience.breaker.tickets import Ticket
    from booking_resilience.breaker.window import FailureRate


class Move(enum.Enum):
    """What may happen to a breaker."""

    TRIP = "too many failures"
    TRY = "the cooldown is over and somebody calls"
    RECOVER = "the trial calls succeeded"
    RELAPSE = "a trial call failed or was lost"
    ISOLATE = "isolated by hand"
    RESET = "reset by hand"


# As globals, since Python 3.11 looks a member up with a function call, and so would a signal handler come in between.
CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
TRIP, TRY, RECOVER, RELAPSE, ISOLATE, RESET = Move
SUCCESS, FAILURE, IGNORED, NOTHING = Verdict

TRANSITIONS = {
    (CLOSED, TRIP): OPEN,
    (OPEN, TRY): HALF_OPEN,
    (HALF_OPEN, RECOVER): CLOSED,
    (HALF_OPEN, RELAPSE): OPEN,
    (CLOSED, ISOLATE): ISOLATED,
    (OPEN, ISOLATE): ISOLATED,
    (HALF_OPEN, ISOLATE): ISOLATED,
    (CLOSED, RESET): CLOSED,
    (OPEN, RESET): CLOSED,
    (HALF_OPEN, RESET): CLOSED,
    (ISOLATED, RESET): CLOSED,
}


_SLACK = 1e-6  # seconds: sums of float seconds may miss the end of a cooldown by the last bit, and never by more


def _is_over(since: float, length: float, now: float) -> bool:
    """Tell whether the time is over; it is, too, for a clock set back by more than all of it (a frozen one let go)."""
    return not -length < now - since < length - _SLACK


class Machine:
    """The state of one breaker. Not safe to share by itself: its shell holds a lock around every method.

    Attributes:
        state: The state.
        epoch: Counts the transitions; what a permit carries.
        changes: Counts all changes that a later one is computed from.
        calm: The epoch while the breaker is closed and a success has nothing to change, else -1. Read without the
            lock by the path of a healthy backend.
        moves: Transitions not yet told to anybody: (old, new, reason).
    """

    __slots__ = (
        "calm", "cause", "changes", "consecutive", "cooldown", "cooldown_now", "epoch", "failures", "ignored",
        "max_cooldown", "moves", "opened", "reason", "refused", "stale", "state", "successes", "threshold",
        "trial_calls", "trial_timeout", "trials", "trips", "watches_all", "window",
    )  # fmt: skip

    def __init__(
        self,
        *,
        threshold: int = 5,
        failure_rate: FailureRate | None = None,
        cooldown: float = 30.0,
        max_cooldown: float | None = None,
        trial_calls: int = 1,
        trial_timeout: float = 60.0,
        watches_all: bool = False,
    ) -> None:
        self.threshold: int = threshold
        self.trial_calls: int = trial_calls
        self.trial_timeout: float = trial_timeout
        self.cooldown: float = cooldown
        self.cooldown_now: float = cooldown
        self.max_cooldown: float | None = max_cooldown
        self.window: SlidingWindow | None = None if failure_rate is None else SlidingWindow(failure_rate)
        self.watches_all: bool = watches_all or failure_rate is not None
        self.state: BreakerState = CLOSED
        self.epoch: int = 0
        self.changes: int = 0
        self.calm: int = -1 if self.watches_all else 0
        self.consecutive: int = 0
        self.failures: int = 0
        self.refused: int = 0
        self.stale: int = 0
        self.ignored: int = 0
        self.trips: int = 0
        self.successes: int = 0
        self.opened: float = 0.0
        self.trials: tuple[Ticket, ...] = ()
        self.cause: str | None = None
        self.reason: str | None = None
        self.moves: tuple[tuple[BreakerState, BreakerState, str], ...] = ()

    def refuse(self, now: float) -> tuple[float | None, str | None] | None:
        """Refuse a call, unless `admit` has to be asked.

        Returns:
            Of the refusal, which is counted: the seconds until the next trial and why the breaker is open. None if
            the call may be admitted, or could be after a transition.
        """
        seen, state = self.changes, self.state
        left: float | None = 0.0
        if state is OPEN:
            cooldown, since = self.cooldown_now, now - self.opened
            if not -cooldown < since < cooldown - _SLACK:  # as `_is_over` reckons, to the last bit: else `admit` spins
                return None
            left = cooldown - since if since > 0.0 else cooldown
        elif state is ISOLATED:
            left = None
        elif state is CLOSED or len(self.trials) < self.trial_calls or self._is_trial_lost(now):
            return None
        if self.changes != seen:
            return None
        self.refused += 1
        return left, self.cause

    def admit(self, ticket: Ticket, now: float) -> tuple[float | None, str | None] | None:
        """Admit the call that the ticket stands for, or refuse it; return None or what `refuse` returns."""
        while True:
            seen, state, trials = self.changes, self.state, self.trials
            if state is CLOSED:
                ticket.epoch = self.epoch
                return None
            if state is OPEN and _is_over(self.opened, self.cooldown_now, now):
                self._move(TRY, seen, "the cooldown is over")
            elif self._is_trial_lost(now):
                self._move(RELAPSE, seen, "a trial was lost", opened=now, cause=self.cause)
            elif state is HALF_OPEN and len(trials) < self.trial_calls:
                trials = (*trials, ticket)
                if self.changes == seen:
                    self.changes, self.trials, ticket.epoch = seen + 1, trials, self.epoch
                    return None
            elif (refusal := self.refuse(now)) is not None:
                return refusal

    def settle(self, ticket: Ticket, verdict: Verdict, now: float, cause: str | None = None) -> None:
        """Take the end of a call. One that was settled before, or never admitted, changes nothing.

        Args:
            ticket: What it was admitted with.
            verdict: What its end says.
            now: The monotonic time.
            cause: Text of its error, for `CircuitOpenError.cause`.
        """
        while True:
            seen, lost = self.changes, self._is_trial_lost(now)
            if ticket.settled or ticket.epoch < 0:
                return
            if self.changes != seen:
                continue
            if lost:
                self._move(RELAPSE, seen, "a trial was lost", opened=now, cause=self.cause)
            elif ticket.epoch != self.epoch:
                self.changes, ticket.settled = seen + 1, True
                self.stale += verdict is not NOTHING
            elif verdict is FAILURE:
                self._fail(ticket, seen, now, cause)
            elif self.state is HALF_OPEN:
                self._end_trial(ticket, seen, verdict)
            elif verdict is SUCCESS:
                self._succeed(ticket, seen, now)
            else:
                self.changes, ticket.settled = seen + 1, True
                self.ignored += verdict is IGNORED

    def isolate(self, reason: str) -> None:
        """Refuse every call until `reset`."""
        while True:
            seen = self.changes
            if self.state is ISOLATED:
                self.reason = self.cause = reason
                return
            if self._move(ISOLATE, seen, reason, cause=reason):
                return

    def reset(self, reason: str) -> None:
        """Close, and count from nothing."""
        while not self._move(RESET, self.changes, reason):
            pass

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until the next trial may be made; None where none is awaited (closed, isolated)."""
        if self.state is OPEN:
            return min(max(self.opened + self.cooldown_now - now, 0.0), self.cooldown_now)
        return 0.0 if self.state is HALF_OPEN else None

    def next_move(self) -> tuple[BreakerState, BreakerState, str]:
        """Return the oldest transition that nobody was told of, as told from now on; there must be one."""
        while True:
            seen, moves = self.changes, self.moves
            rest = moves[1:]
            if self.changes == seen:
                self.changes, self.moves = seen + 1, rest
                return moves[0]

    def _is_trial_lost(self, now: float) -> bool:
        trials = self.trials
        return bool(trials) and _is_over(trials[0].started, self.trial_timeout, now)

    def _succeed(self, ticket: Ticket, seen: int, now: float) -> None:
        """Take the success of a call to the closed breaker."""
        window = self.window
        place = 0 if window is None else window.place(now)
        if self.changes == seen:
            self.changes, self.consecutive, ticket.settled = seen + 1, 0, True
            self.calm = -1 if self.watches_all else ticket.epoch
            if window is not None:
                window.calls[place] += 1

    def _fail(self, ticket: Ticket, seen: int, now: float, cause: str | None) -> None:
        """Take a failure, which opens the breaker or not."""
        consecutive, window = self.consecutive + 1, self.window
        if self.state is HALF_OPEN:
            self._move(RELAPSE, seen, "the trial failed", ticket=ticket, opened=now, cause=cause)
            return
        if consecutive >= self.threshold:
            reason = f"{consecutive} consecutive failure{'' if consecutive == 1 else 's'}"
            self._move(TRIP, seen, reason, ticket=ticket, opened=now, cause=cause)
            return
        place = 0
        if window is not None:
            place = window.place(now)
            calls, failures = window.counts(now)
            if window.is_too_much(calls + 1, failures + 1):
                reason = f"{failures + 1} of {calls + 1} recent calls failed"
                self._move(TRIP, seen, reason, ticket=ticket, opened=now, cause=cause)
                return
        if self.changes == seen:
            self.changes, self.consecutive, ticket.settled = seen + 1, consecutive, True
            self.calm = -1
            self.failures += 1
            if window is not None:
                window.calls[place] += 1
                window.failures[place] += 1

    def _end_trial(self, ticket: Ticket, seen: int, verdict: Verdict) -> None:
        """Take the end of a trial that did not fail; the last of enough successes closes."""
        successes = self.successes + (verdict is SUCCESS)
        if successes >= self.trial_calls:
            plural = "" if self.trial_calls == 1 else "s"
            self._move(RECOVER, seen, f"the trial{plural} succeeded", ticket=ticket)
            return
        trials = tuple([other for other in self.trials if other is not ticket])
        if self.changes == seen:
            self.changes, self.trials, self.successes = seen + 1, trials, successes
            self.ignored += verdict is IGNORED
            ticket.settled = True

    def _move(
        self,
        move: Move,
        seen: int,
        reason: str,
        *,
        ticket: Ticket | None = None,
        opened: float = 0.0,
        cause: str | None = None,
    ) -> bool:
        """Make the transition, which settles the ticket; False, and nothing done, if `seen` is of the past."""
        old, epoch, cooldown = self.state, self.epoch + 1, self.cooldown
        new = TRANSITIONS.get((old, move))
        if move is RELAPSE:
            cooldown = self.cooldown_now if self.max_cooldown is None else min(self.cooldown_now * 2, self.max_cooldown)
        elif move is TRY:
            opened, cause, cooldown = self.opened, self.cause, self.cooldown_now
        calm = epoch if new is CLOSED and not self.watches_all else -1
        moves = self.moves if new is old else (*self.moves, (old, new or old, reason))
        window = self.window.emptied() if new is CLOSED and self.window is not None else self.window
        if self.changes != seen:
            return False
        if new is None:
            raise RuntimeError(f"a breaker that is {old.value} cannot {move.name}")
        self.changes, self.state, self.epoch = seen + 1, new, epoch
        self.calm, self.reason, self.moves = calm, reason, moves
        self.opened, self.cause, self.cooldown_now = opened, cause, cooldown
        self.trials, self.successes, self.window = (), 0, window
        if new is OPEN:
            self.trips += 1
            self.failures += 1
            self.consecutive += 1
        elif new is CLOSED:
            self.consecutive = self.failures = 0
            if move is RESET:
                self.refused = self.stale = self.ignored = self.trips = 0
        if ticket is not None:
            ticket.settled = True
        return True
