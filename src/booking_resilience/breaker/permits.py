"""What a caller of a circuit breaker holds: permits, the guard of a block, and a snapshot of the breaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_resilience import clock
from booking_resilience.breaker.judging import judge, text_of
from booking_resilience.breaker.tickets import Ticket, Verdict
from booking_resilience.cutoff import timeout_behind

if TYPE_CHECKING:
    import datetime
    from types import TracebackType

    from booking_resilience.breaker.breaker import CircuitBreaker
    from booking_resilience.events import BreakerState


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSnapshot:
    """What a process knows of the fleet that shares a breaker, as it heard it last.

    Attributes:
        connected: Whether Redis can be reached; if not, the rest is of the past and this process goes by itself.
        state: The fleet's state; CLOSED as long as nothing else is known.
        reporters: Processes that reported within one cooldown that their breaker had opened.
        since: Since when the fleet is in its state, aware UTC by the clock of Redis; None if Redis knows of no change.
    """

    connected: bool
    state: BreakerState
    reporters: int
    since: datetime.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSnapshot:
    """What is known of a breaker, all of one moment.

    Attributes:
        name: The breaker's name.
        state: Its state.
        epoch: Counts the transitions since it was made.
        consecutive_failures: Failures in a row, up to now.
        failures: Failures since it was last closed.
        refused: Calls refused since it was made or reset, as the three that follow.
        stale: Results that came too late, from an earlier epoch, and changed nothing.
        ignored: Errors that said nothing of the backend, by the setting `ignore`.
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


class Permit(Ticket):
    """The permission to make one call, to be settled once; settling it again does nothing."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: CircuitBreaker, epoch: int, started: float = 0.0) -> None:
        self._breaker: CircuitBreaker = breaker
        self.epoch: int = epoch
        self.started: float = started
        self.settled: bool = False

    def _admit(self) -> None:
        """Have it admitted, or raise `CircuitOpenError`."""
        self._breaker._admit(self)

    def success(self) -> None:
        """The call succeeded; if it took longer than the breaker's `slow_call`, that is a failure."""
        self._settle(None)

    def failure(self, error: BaseException | None = None) -> None:
        """The call failed; the breaker's `ignore` and `failure_on` judge the error, if there is one."""
        if error is None:
            self._breaker._settle(self, Verdict.FAILURE, clock.monotonic(), None)
        else:
            self._settle(error)

    def release(self) -> None:
        """The call says nothing of the backend: it was cancelled, or never made."""
        self._breaker._settle(self, Verdict.NOTHING, clock.monotonic(), None)

    def _settle(self, error: BaseException | None) -> None:
        breaker, now = self._breaker, clock.monotonic()
        if error is not None:
            error = timeout_behind(error)
        limit = breaker._slow_call
        slow = limit is not None and now - self.started > limit
        verdict = judge(error, ignore=breaker._ignore, failure_on=breaker._failure_on, slow=slow)
        cause = text_of(error) if error is not None and verdict is Verdict.FAILURE else None
        breaker._settle(self, verdict, now, cause)


class Guard:
    """A block that goes through a breaker; made by `CircuitBreaker.guard`, good for one block at a time."""

    __slots__ = ("_breaker", "_permits")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._permits: list[Permit] = []

    def __enter__(self) -> Permit:
        permit = self._breaker._knock()
        try:
            self._permits.append(permit)
            permit._admit()
        except BaseException:
            self._permits.remove(permit)
            permit.release()
            raise
        return permit

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        permit = self._permits.pop()
        if error is None:
            permit.success()
        else:
            permit.failure(error)

    async def __aenter__(self) -> Permit:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)
