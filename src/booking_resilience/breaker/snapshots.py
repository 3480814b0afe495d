"""What is known of a circuit breaker, and of the fleet that shares it, at one moment."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from booking_resilience.events import BreakerState


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSnapshot:
    """What a process knows of the fleet that shares a breaker, as it heard it last.

    Attributes:
        connected: Whether Redis can be reached; if not, the rest is what was heard last.
        state: The fleet's state; CLOSED as long as nothing else is known.
        reporters: Machines that reported within one cooldown that a breaker had opened there.
        since: Since when the fleet is in its state, aware UTC by the clock of Redis; None if Redis knows of no change.
    """

    connected: bool
    state: BreakerState
    reporters: int
    since: datetime.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSnapshot:
    """A breaker's state and counts, as of one moment.

    Attributes:
        name: The breaker's name.
        state: Its state.
        epoch: Counts the transitions since it was made.
        consecutive_failures: Failures in a row, up to now.
        failures: Failures since it was last closed.
        refused: Calls refused since it was made or reset; the next four are counted since then, too.
        would_refuse: Calls that it would have refused if it weren't in shadow mode.
        stale: Results that came too late, from an earlier epoch, and changed nothing.
        ignored: Errors that `ignore` matched, which say nothing about the backend.
        trips: How often it opened, failed trials included.
        retry_after: Seconds until the next trial may be made; None if it is closed or isolated.
        reason: Why it is in its state; None if it was never in another.
        shared: What is known of its fleet; None if it is not shared.
    """

    name: str
    state: BreakerState
    epoch: int
    consecutive_failures: int
    failures: int
    refused: int
    stale: int
    ignored: int
    trips: int
    retry_after: float | None
    reason: str | None
    shared: SharedSnapshot | None = None
    would_refuse: int = 0
