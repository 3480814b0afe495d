"""The retry policy: when to try again and how long to wait. Pure: time and randomness come in as arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from booking_resilience.checks import check, is_error_filter, is_number, is_positive, is_whole
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.verdicts import LONGEST_WAIT, holds, holds_interrupt, is_transient, retry_after_of

if TYPE_CHECKING:
    from booking_resilience.events import Reason
    from booking_resilience.retry.budget import RetryBudget

FOREVER = 9e9
"""Seconds, some 285 years: `time.sleep` takes no more than 2**63 nanoseconds, so longer delays are not waited for."""

RetryOn: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to try, how long to wait in between, and when to give up. Durations are seconds.

    The delay after attempt n is `min(base_delay * multiplier ** (n - 1), max_delay)`, drawn evenly from `jitter` of
    it to either side and never above `max_delay`.

    Attributes:
        max_attempts: Attempts at most, the first call included; 1 or more.
        base_delay: Delay after the first failed attempt; 0 or more.
        multiplier: Growth of the delay from attempt to attempt; 1 or more.
        max_delay: No delay is longer, but for an error's own `retry_after`; 0 or more.
        jitter: Share of the delay, 0 to 1, by which it is made longer or shorter at random; or `"full"`: from 0 to
            the delay ("full jitter" of M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
        deadline: The whole operation ends within so many seconds, above 0; None for no limit. An asynchronous attempt
            is cut off at it; a synchronous one cannot be interrupted, but sees it in `remaining_time()`.
        attempt_timeout: The same for each single attempt, which may then be retried; above 0, or None.
        retry_on: What is tried again: an exception type, a tuple of them, or a function of the error.
        retry_on_result: A function of the result that is true if the call should be tried again; or None. When the
            attempts run out, the last result is returned.
        budget: A `RetryBudget` shared with other calls, or None.

    Raises:
        ValueError: If a setting is out of its range.

    >>> RetryPolicy().delays()
    (0.3, 0.6)
    """

    max_attempts: int = 3
    base_delay: float = 0.3
    multiplier: float = 2.0
    max_delay: float = 3.0
    jitter: float | Literal["full"] = 0.15
    deadline: float | None = 4.0
    attempt_timeout: float | None = None
    retry_on: RetryOn = is_transient
    retry_on_result: Callable[[Any], bool] | None = None
    budget: RetryBudget | None = None

    def __post_init__(self) -> None:
        number = "a finite number, {} or more"
        check("max_attempts", self.max_attempts, is_whole(self.max_attempts), "a whole number, 1 or more")
        check("base_delay", self.base_delay, is_number(self.base_delay), number.format(0))
        check("multiplier", self.multiplier, is_number(self.multiplier, 1), number.format(1))
        check("max_delay", self.max_delay, is_number(self.max_delay), number.format(0))
        jitter_is_right = self.jitter == "full" or is_number(self.jitter, 0, 1)
        check("jitter", self.jitter, jitter_is_right, "a number from 0 to 1, or 'full'")
        for name, limit in (("deadline", self.deadline), ("attempt_timeout", self.attempt_timeout)):
            check(name, limit, limit is None or is_positive(limit), "a finite number above 0, or None")
        is_filter = is_error_filter(self.retry_on)
        check("retry_on", self.retry_on, is_filter, "an exception type, a tuple of them, or a function of the error")
        judge = self.retry_on_result
        check("retry_on_result", judge, judge is None or callable(judge), "a function of the result, or None")
        check("budget", self.budget, self.budget is None or hasattr(self.budget, "try_spend"), "a RetryBudget or None")

    def delays(self) -> tuple[float, ...]:
        """Return the plan: the seconds waited after each attempt but the last, without jitter."""
        return tuple(self.planned_delay(attempt) for attempt in range(1, self.max_attempts))

    def planned_delay(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number `attempt` (from 1), without jitter."""
        if not self.base_delay:
            return 0.0
        try:
            return min(self.base_delay * float(self.multiplier) ** (attempt - 1), self.max_delay)
        except OverflowError:
            return self.max_delay

    def jittered(self, delay: float, draw: float) -> float:
        """Return the delay with jitter, from the `draw` of a random number in [0, 1); never above `max_delay`."""
        if self.jitter == "full":
            return delay * draw
        low, high = delay * (1 - self.jitter), min(delay * (1 + self.jitter), self.max_delay)
        return min(low + (high - low) * draw, high)  # rounding may pass the bound by its last bit

    def passes(self, error: BaseException) -> bool:
        """Tell whether the error may pass by itself, as `retry_on` has it."""
        retry_on = self.retry_on
        if isinstance(retry_on, (type, tuple)):
            return isinstance(error, retry_on)
        return bool(retry_on(error))


DEFAULT_RETRY = RetryPolicy()


def decide(
    policy: RetryPolicy,
    error: BaseException | None,
    attempt: int,
    now: float,
    end: float | None,
    draw: float,
    circuit_open: bool = False,
    time_is_up: bool = False,
) -> float | Reason:
    """Decide what follows a failed attempt.

    Args:
        policy: The policy.
        error: What the attempt raised; None if its result was found wanting.
        attempt: The attempt's number, from 1.
        now: The monotonic time, in seconds.
        end: When the operation must have ended, on the same clock; None for never.
        draw: A random number in [0, 1), for the jitter.
        circuit_open: Whether the breaker in the way of the next attempt is open by now.
        time_is_up: Whether the attempt was cut off by the operation's deadline.

    Returns:
        The seconds to wait before the next attempt, or the reason why there is none. The budget is not asked here.
    """
    if time_is_up:
        return "deadline"
    if error is not None:
        if holds(error, CircuitOpenError):
            return "circuit_open"
        is_endless = isinstance(error, LimitExceededError) and error.retry_after is None
        if is_endless or holds_interrupt(error) or not policy.passes(error):
            return "not_transient"
    if circuit_open:
        return "circuit_open"
    if attempt >= policy.max_attempts:
        return "attempts"
    delay = policy.jittered(policy.planned_delay(attempt), draw) if policy.base_delay else 0.0
    if error is not None and (retry_after := retry_after_of(error)) is not None:
        if retry_after > LONGEST_WAIT:
            return "deadline"
        delay = max(delay, retry_after)
    if delay >= FOREVER or (end is not None and now + delay >= end):
        return "deadline"
    return delay
