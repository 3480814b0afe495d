"""The retry policy: when to try again and how long to wait. Pure: time and randomness come in as arguments."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from booking_resilience.callbacks import ask, check_callback, check_filter, matches
from booking_resilience.checks import check, check_number, check_type, check_whole, has_method, is_a, is_number
from booking_resilience.errors import CircuitOpenError, LimitExceededError, TransientError
from booking_resilience.events import Reason, log_raised
from booking_resilience.retry.budget import RetryBudget
from booking_resilience.verdicts import LONGEST_WAIT, holds, holds_interrupt, is_transient, retry_after_of

logger: logging.Logger = logging.getLogger("booking_resilience.retry")

FOREVER = 9e9
"""Seconds, some 285 years: `time.sleep` takes no more than 2**63 nanoseconds, so longer delays are not waited for."""

RetryOn: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool]


_PLAIN = frozenset({ConnectionError, ConnectionResetError, ConnectionRefusedError, TimeoutError, TransientError})
"""The most frequent errors: transient by their type, and nothing to look up in those that carry no attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to try, how long to wait in between, and when to give up. Durations are seconds.

    The delay after attempt n is `min(base_delay * multiplier ** (n - 1), max_delay)`, made longer or shorter at
    random by up to `jitter` of it, and never above `max_delay`.

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
        retry_on: What is tried again: an exception type, a tuple of them, or a function of the error. What the function
            raises is logged, and the error is not retried.
        retry_on_result: A function of the result that is true if the call should be tried again; or None. When the
            attempts run out, the last result is returned, and at once if the function raises, which is logged.
        budget: A `RetryBudget` shared with other calls, or None.

    Raises:
        TypeError: If a setting is of the wrong type, or a coroutine or generator function where a function is asked.
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
        check_whole("max_attempts", self.max_attempts)
        check_number("base_delay", self.base_delay)
        check_number("multiplier", self.multiplier, 1)
        check_number("max_delay", self.max_delay)
        if self.jitter != "full":
            allowed = "a number from 0 to 1, or 'full'"
            is_typed = isinstance(self.jitter, (int, float, str)) and not isinstance(self.jitter, bool)
            check_type("jitter", self.jitter, is_typed, allowed)
            check("jitter", self.jitter, is_number(self.jitter, 0, 1), allowed)
        check_number("deadline", self.deadline, above=True, or_none=True)
        check_number("attempt_timeout", self.attempt_timeout, above=True, or_none=True)
        check_filter("retry_on", self.retry_on)
        if self.retry_on_result is not None:
            check_callback("retry_on_result", self.retry_on_result, "a function of the result, or None")
        fits = self.budget is None or has_method(self.budget, "try_spend")
        check_type("budget", self.budget, fits, "a RetryBudget or None")

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
        """Return the `delay` (seconds) with jitter, from a random `draw` in [0, 1); never above `max_delay`."""
        if self.jitter == "full":
            return delay * draw
        low, high = delay * (1 - self.jitter), min(delay * (1 + self.jitter), self.max_delay)
        return min(low + (high - low) * draw, high)  # rounding may pass the bound by its last bit

    def passes(self, error: BaseException) -> bool:
        """Tell whether `retry_on` accepts the error; if it raises, that is logged, and the answer is no."""
        try:
            return matches(self.retry_on, error, unknown=False, logger=logger)
        except Exception as raised:  # noqa: BLE001 - a rule's error must not replace the caller's
            log_raised(logger, raised, "retry_on raised")
            return False

    def rejects(self, result: object) -> bool:
        """Tell whether `retry_on_result` rejects the result; if it raises, that is logged, and the answer is no."""
        rule = self.retry_on_result
        try:
            return rule is not None and bool(ask(rule, result, unknown=False, logger=logger))
        except Exception as raised:  # noqa: BLE001 - nor here
            log_raised(logger, raised, "retry_on_result raised")
            return False


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
        error: What the attempt raised; None if its result was rejected.
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
    kind = type(error)
    says_nothing = type(kind) is type and kind in _PLAIN and not error.__dict__  # a metaclass may refuse to be compared
    if error is not None and not (says_nothing and policy.retry_on is is_transient):
        if holds(error, CircuitOpenError):
            return "circuit_open"
        is_endless = is_a(error, LimitExceededError) and retry_after_of(error) is None
        if is_endless or holds_interrupt(error) or not policy.passes(error):
            return "not_transient"
    if circuit_open:
        return "circuit_open"
    if attempt >= policy.max_attempts:
        return "attempts"
    delay = policy.jittered(policy.planned_delay(attempt), draw) if policy.base_delay else 0.0
    if error is not None and not says_nothing and (retry_after := retry_after_of(error)) is not None:
        if retry_after > LONGEST_WAIT:
            return "deadline"
        delay = max(delay, retry_after)
    if delay >= FOREVER or (end is not None and now + delay >= end):
        return "deadline"
    return delay
