"""The state machine of a circuit breaker: one pure function from a state, an event and a time to the next state.

`Machine.step` changes nothing and knows no lock, clock or thread; core.py puts what it returns into force.

Every permit carries the epoch in which it was issued, every transition begins a new epoch, and a result from an
earlier one changes nothing: that makes late answers harmless (sony/gobreaker calls it a generation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from booking_resilience.breaker.states import (
    CLOSED,
    FAILURE,
    HALF_OPEN,
    IGNORED,
    ISOLATED,
    NOTHING,
    OPEN,
    SUCCESS,
    TRANSITIONS,
    Acquire,
    Change,
    Count,
    Event,
    FleetCloses,
    FleetOpens,
    Isolate,
    Move,
    Reset,
    Settle,
    State,
    Transition,
)
from booking_resilience.breaker.window import FailureRate, is_too_much, recent, with_call

_SLACK = 1e-6  # seconds: sums of float seconds may miss the end of a cooldown by the last bit, and never by more


@dataclass(frozen=True, slots=True)
class Machine:
    """The settings of a breaker, as `CircuitBreaker` has them, and what they make of its states."""

    threshold: int = 5
    failure_rate: FailureRate | None = None
    cooldown: float = 30.0
    max_cooldown: float | None = None
    trial_calls: int = 1
    trial_timeout: float = 60.0
    slow_call: float | None = None

    def step(self, state: State, event: Event, now: float) -> Change:
        """Return what the event makes of the state at `now`, in monotonic seconds."""
        if not isinstance(event, (Acquire, Settle)) and event.epoch not in (None, state.epoch):
            return Change(state, state, event, None, ())
        told: list[Transition] = []
        after, counts = state, None
        if isinstance(event, (Acquire, Settle)) and self._is_trial_lost(state, now):
            after = self._opened(state, Move.RELAPSE, "a trial was lost", told, now, state.cause)
        match event:
            case Acquire():
                after, counts = self._acquire(after, event, told, now)
            case Settle():
                after, counts = self._settle(after, event, told, now)
            case Isolate(reason, _) if state.kind is ISOLATED:
                after = state._replace(reason=reason, cause=reason)
            case Isolate(reason, _):
                after = _moved(state, Move.ISOLATE, reason, told, cause=reason)
            case Reset(reason, _):
                after = _closed(state, Move.RESET, reason, told)._replace(trips=0)
            case FleetOpens():
                after = _opened_by_fleet(state, event, told)
            case FleetCloses():
                after = _closed_by_fleet(state, event, told)
        return Change(state, after, event, counts, tuple(told))

    def is_calm(self, state: State) -> bool:
        """Tell whether the success of a call would change nothing."""
        watches_all = self.failure_rate is not None or self.slow_call is not None
        return state.kind is CLOSED and state.consecutive == 0 and not watches_all

    def refusal(self, state: State, now: float) -> tuple[float | None, str | None] | None:
        """Return how a call would be refused that changes nothing: the seconds until the next trial, and the cause.

        None if it would be admitted, or could be after a transition; None for the seconds of an isolated breaker.
        """
        if state.kind is OPEN:
            since, cooldown = now - state.opened, state.cooldown
            if not -cooldown < since < cooldown - _SLACK:  # it is over; also by a frozen clock that was let go
                return None
            return cooldown - since if since > 0.0 else cooldown, state.cause
        if state.kind is HALF_OPEN:
            is_full = len(state.trials) >= self.trial_calls and not self._is_trial_lost(state, now)
            return (0.0, state.cause) if is_full else None
        return (None, state.cause) if state.kind is ISOLATED else None

    def may_try(self, state: State, now: float) -> bool:
        """Tell whether a call might become a trial."""
        return state.kind in (OPEN, HALF_OPEN) and self.refusal(state, now) is None

    def retry_after(self, state: State, now: float) -> float | None:
        """Return the seconds until the next trial may be made; None where none is awaited (closed, isolated)."""
        if state.kind in (CLOSED, ISOLATED):
            return None
        refusal = self.refusal(state, now)
        return 0.0 if refusal is None else refusal[0]

    def _acquire(self, state: State, event: Acquire, told: list[Transition], now: float) -> tuple[State, Count | None]:
        if state.kind is CLOSED:
            return state, None
        if event.needed == 0 or self.refusal(state, now) is not None:
            return state, "refused"
        if state.kind is OPEN:
            state = _moved(state, Move.TRY, "the cooldown is over", told)
        needed = self.trial_calls if event.needed is None else state.successes + event.needed
        return state._replace(trials=(*state.trials, event.trial), needed=needed), None

    def _settle(self, state: State, event: Settle, told: list[Transition], now: float) -> tuple[State, Count | None]:
        ignored: Count | None = "ignored" if event.verdict is IGNORED else None
        if event.trial in state.trials:
            return self._end_trial(state, event, told, now), ignored
        if event.epoch != state.epoch:
            return state, None if event.epoch < 0 or event.verdict is NOTHING else "stale"
        if state.kind is CLOSED and event.verdict in (SUCCESS, FAILURE):
            return self._end_call(state, event, told, now), None
        return state, ignored

    def _end_call(self, state: State, event: Settle, told: list[Transition], now: float) -> State:
        """Take the success or failure of a call to the closed breaker; a failure opens it or not."""
        failed, rate, window = event.verdict is FAILURE, self.failure_rate, state.window
        if rate is not None:
            window = with_call(rate, window, now, failed=failed)
        elif not failed and state.consecutive == 0:
            return state
        if not failed:
            return state._replace(consecutive=0, window=window)
        state = state._replace(consecutive=state.consecutive + 1, failures=state.failures + 1, window=window)
        calls, failures = (0, 0) if rate is None else recent(rate, window, now)
        if state.consecutive >= self.threshold:
            reason = f"{state.consecutive} consecutive failure{'' if state.consecutive == 1 else 's'}"
        elif rate is not None and is_too_much(rate, calls, failures):
            reason = f"{failures} of {calls} recent calls failed"
        else:
            return state
        return self._opened(state, Move.TRIP, reason, told, now, event.cause)

    def _end_trial(self, state: State, event: Settle, told: list[Transition], now: float) -> State:
        """Take the end of a trial: a failure opens, the last of enough successes closes."""
        if event.verdict is FAILURE:
            return self._opened(state, Move.RELAPSE, "the trial failed", told, now, event.cause)
        successes = state.successes + (event.verdict is SUCCESS)
        if successes >= state.needed:
            return _closed(state, Move.RECOVER, f"the trial{'' if successes == 1 else 's'} succeeded", told)
        trials = tuple(trial for trial in state.trials if trial is not event.trial)
        return state._replace(trials=trials, successes=successes)

    def _opened(
        self, state: State, move: Move, reason: str, told: list[Transition], now: float, cause: str | None
    ) -> State:
        cooldown = self.cooldown
        if move is Move.RELAPSE:
            cooldown = state.cooldown if self.max_cooldown is None else min(state.cooldown * 2, self.max_cooldown)
            state = state._replace(consecutive=state.consecutive + 1, failures=state.failures + 1)
        trips = state.trips + 1
        return _moved(state, move, reason, told, opened=now, cooldown=cooldown, cause=cause, trips=trips)

    def _is_trial_lost(self, state: State, now: float) -> bool:
        return bool(state.trials) and _is_over(state.trials[0].started, self.trial_timeout, now)


def _opened_by_fleet(state: State, event: FleetOpens, told: list[Transition]) -> State:
    """Stand open as the fleet does; no call failed here, so the counts of failures stay."""
    if state.kind in (CLOSED, HALF_OPEN):
        move = Move.TRIP if state.kind is CLOSED else Move.RELAPSE
        state = _moved(state, move, event.reason, told, trips=state.trips + 1, cause=None)
    elif state.kind is ISOLATED:
        return state
    return state._replace(opened=event.opened, cooldown=event.cooldown)


def _closed_by_fleet(state: State, event: FleetCloses, told: list[Transition]) -> State:
    if state.kind is OPEN:
        state = _moved(state, Move.TRY, event.reason, told)
    return _closed(state, Move.RECOVER, event.reason, told) if state.kind is HALF_OPEN else state


def _closed(state: State, move: Move, reason: str, told: list[Transition]) -> State:
    return _moved(state, move, reason, told, consecutive=0, failures=0, window=(), cause=None)


def _moved(state: State, move: Move, reason: str, told: list[Transition], **changes: Any) -> State:
    """Make a move of the table, which begins a new epoch; a reset of a closed breaker is nothing to tell."""
    new = TRANSITIONS.get((state.kind, move))
    if new is None:
        raise RuntimeError(f"a breaker that is {state.kind.value} cannot {move.name}")
    if new is not state.kind:
        told.append((state.kind, new, reason))
    epoch = state.epoch + 1
    return state._replace(kind=new, epoch=epoch, reason=reason, trials=(), successes=0, **changes)


def _is_over(since: float, length: float, now: float) -> bool:
    """Tell whether the time is over; it is, too, for a clock set back by more than all of it (a frozen one let go)."""
    return not -length < now - since < length - _SLACK
