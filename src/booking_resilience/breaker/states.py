"""The states of a circuit breaker, what may happen to it, and where that may lead. Nothing here ever changes."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from booking_resilience.breaker.window import Buckets
from booking_resilience.events import BreakerState


class Move(enum.Enum):
    """What may happen to a breaker."""

    TRIP = "too many failures"
    TRY = "the cooldown is over and somebody calls"
    RECOVER = "the trial calls succeeded"
    RELAPSE = "a trial call failed or was lost"
    ISOLATE = "isolated by hand"
    RESET = "reset by hand"


class Verdict(enum.Enum):
    """What the end of a call says of the backend."""

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    IGNORED = enum.auto()
    NOTHING = enum.auto()


# As globals: Python 3.11 looks a member up with a function call.
CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
SUCCESS, FAILURE, IGNORED, NOTHING = Verdict

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


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A trial call; each is equal to itself alone.

    Attributes:
        started: When it asked to be admitted, in monotonic seconds.
        holder: Returns the permit it was admitted with; None once that was dropped.
    """

    started: float
    holder: Callable[[], object | None] = object


class State(NamedTuple):
    """All of a breaker that a later decision depends on.

    Attributes:
        kind: The state.
        epoch: Counts the transitions; what a permit carries.
        consecutive: Failures in a row.
        failures: Failures since it was last closed.
        trips: How often it opened.
        opened: When it opened, in monotonic seconds.
        cooldown: Seconds that it stays open, from then on.
        trials: The trial calls under way.
        successes: Trial calls that succeeded since it's half-open.
        needed: How many of them close it.
        cause: Text of the error that opened it, or the reason of an isolated one.
        reason: Why it's in its state.
        window: What was counted for the failure rate.
    """

    kind: BreakerState = CLOSED
    epoch: int = 0
    consecutive: int = 0
    failures: int = 0
    trips: int = 0
    opened: float = 0.0
    cooldown: float = 0.0
    trials: tuple[Trial, ...] = ()
    successes: int = 0
    needed: int = 1
    cause: str | None = None
    reason: str | None = None
    window: Buckets = ()

    @property
    def has_recovered(self) -> bool:
        """Whether trials closed it: a reset empties `trips`."""
        return self.kind is CLOSED and self.trips > 0


class Acquire(NamedTuple):
    """A call asks to be admitted.

    Attributes:
        trial: What it's known as if it becomes a trial.
        needed: How many successes from now on close the breaker, if its fleet says so; 0 to have a trial refused.
    """

    trial: Trial
    needed: int | None = None


class Settle(NamedTuple):
    """A call ended.

    Attributes:
        epoch: The epoch in which it was admitted; below 0 if it wasn't.
        trial: What it's known as if it's a trial.
        verdict: What its end says.
        cause: Text of its error, for `CircuitOpenError.cause`.
    """

    epoch: int
    trial: Trial | None
    verdict: Verdict
    cause: str | None = None


class Isolate(NamedTuple):
    """Refuse every call, until a reset; with `epoch`, only if that still is the epoch here."""

    reason: str
    epoch: int | None = None


class Reset(NamedTuple):
    """Close, and count from nothing; with `epoch`, only if that still is the epoch here."""

    reason: str
    epoch: int | None = None


class FleetOpens(NamedTuple):
    """The fleet is open since `opened`, for `cooldown` seconds; with `epoch`, only if that still is the epoch here."""

    opened: float
    cooldown: float
    reason: str
    epoch: int | None = None


class FleetCloses(NamedTuple):
    """A trial of the fleet succeeded, in another process; with `epoch`, only if that still is the epoch here."""

    reason: str
    epoch: int | None = None


Event = Acquire | Settle | Isolate | Reset | FleetOpens | FleetCloses
Transition = tuple[BreakerState, BreakerState, str]  # old, new, why
Count = Literal["refused", "stale", "ignored"]


class Change(NamedTuple):
    """What an event made of a state.

    Attributes:
        before: The state.
        after: The next one; `before` itself if nothing changed.
        event: The event.
        counts: What the event counts as, if no decision depends on the count.
        told: The transitions on the way.
    """

    before: State
    after: State
    event: Event
    counts: Count | None
    told: tuple[Transition, ...]
