"""When a call is tried again, and what the error of a try means for that."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.errors import CircuitOpenError, DeadlineExceededError, LimitExceededError
from booking_resilience.events import BreakerState
from booking_resilience.pipeline import Pipeline
from booking_resilience.verdicts import LONGEST_WAIT, is_own_refusal, is_transient, leaves, retry_after_of

JITTER: Final = 0.15
LEAST_PAUSE: Final = 0.05  # seconds: with a `base_delay` of 0, nothing is asked in a loop without a pause


@dataclass(frozen=True, slots=True)
class Setback:
    """Why a call must be tried again."""

    is_try: bool  # the function was called
    grows: bool  # the next pause is longer
    least: float  # the seconds that the error or the breaker asks for, or 0
    is_fixed: bool  # a breaker or a limit says when its next chance is, so that the pause doesn't grow


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a call waits, and when it gives up. All in seconds."""

    base_delay: float  # the first pause, and the least
    max_delay: float  # the longest pause that grows by itself
    give_up_after: float  # that long after the first try, no other pause is begun

    def pause(self, setbacks: int, draw: float, last: Setback) -> float:
        """Return the seconds to wait before the next try.

        Args:
            setbacks: The setbacks so far whose `grows` is true, the last one included.
            draw: A random number in [0, 1).
            last: The last setback.
        """
        least = max(self.base_delay, last.least, LEAST_PAUSE)
        if least > LONGEST_WAIT:
            return float("inf")
        doublings = min(max(0, setbacks - 1), 1000)  # no float is larger
        growing = 0.0 if last.is_fixed else min(self.base_delay * 2.0**doublings, self.max_delay)
        planned = max(least, growing)
        low = max(least, planned * (1 - JITTER))
        return low + (planned * (1 + JITTER) - low) * draw

    def is_too_late(self, next_try: float, first_try: float) -> bool:
        """Tell whether it's given up instead of tried again at that moment."""
        return next_try > first_try + self.give_up_after


def refusal_of(pipeline: Pipeline) -> CircuitOpenError | None:
    """Return the error with which the pipeline's breaker would reject a call now; None if it must be asked."""
    breaker = _guard(pipeline)
    if breaker is None:
        return None
    snapshot = breaker.snapshot()
    if snapshot.state is BreakerState.ISOLATED:
        return CircuitOpenError(breaker.name, None, snapshot.reason)
    if snapshot.state is BreakerState.OPEN and snapshot.retry_after:
        return CircuitOpenError(breaker.name, snapshot.retry_after)
    return None


def setback_of(error: BaseException, pipeline: Pipeline) -> Setback | None:
    """Return what the error of a try means for the next; None if it is final."""
    if not isinstance(error, Exception):
        return None
    refused = _refusal_in(error)
    if refused is None and not _may_succeed_later(error, pipeline):
        return None
    least = retry_after_of(error) or 0.0
    is_fixed = refused is not None and refused.retry_after is not None
    breaker = _guard(pipeline)
    if breaker is not None:
        snapshot = breaker.snapshot()
        if snapshot.state is BreakerState.OPEN:
            least = max(least, snapshot.retry_after or 0.0)
        is_fixed = is_fixed or snapshot.state in (BreakerState.OPEN, BreakerState.HALF_OPEN)
    is_try = refused is None or isinstance(error.__cause__, Exception)
    return Setback(is_try, is_try or (refused is not None and refused.retry_after is None), least, is_fixed)


def _guard(pipeline: Pipeline) -> CircuitBreaker | None:
    """Return the pipeline's breaker if it rejects calls: a shadow never does."""
    breaker = pipeline.breaker
    return None if breaker is None or breaker._core.is_shadow else breaker


def _refusal_in(error: Exception) -> CircuitOpenError | LimitExceededError | None:
    if not is_own_refusal(error):
        return None
    return next((leaf for leaf in leaves(error) if isinstance(leaf, (CircuitOpenError, LimitExceededError))), None)


def _may_succeed_later(error: Exception, pipeline: Pipeline) -> bool:
    if isinstance(error, DeadlineExceededError) or is_transient(error) or pipeline.retry.passes(error):
        return True
    appwrite: Any = sys.modules.get("booking_resilience.appwrite")
    unknown = getattr(appwrite, "outcome_unknown", None)  # missing while another thread imports the module
    return unknown is not None and bool(unknown(error))
