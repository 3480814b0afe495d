"""Retrying what failed for a moment."""

from booking_resilience.retry.budget import RetryBudget
from booking_resilience.retry.calls import retrying, with_retry, with_retry_async
from booking_resilience.retry.history import attempts_of
from booking_resilience.retry.loop import retry_attempts
from booking_resilience.retry.policy import DEFAULT_RETRY, RetryPolicy

__all__ = [
    "DEFAULT_RETRY",
    "RetryBudget",
    "RetryPolicy",
    "attempts_of",
    "retry_attempts",
    "retrying",
    "with_retry",
    "with_retry_async",
]
