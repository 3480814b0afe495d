"""Policies for load: limits of concurrency and rate, fallbacks, hedging, and timeouts for synchronous calls."""

from booking_resilience.errors import LimitExceededError
from booking_resilience.load.adaptive import AdaptiveLimit
from booking_resilience.load.concurrency import ConcurrencyLimit
from booking_resilience.load.fallback import Fallback
from booking_resilience.load.hedge import Hedge
from booking_resilience.load.places import LimitSnapshot
from booking_resilience.load.queue import priority
from booking_resilience.load.rate import RateLimit
from booking_resilience.load.timeout import ThreadTimeout

__all__ = [
    "AdaptiveLimit",
    "ConcurrencyLimit",
    "Fallback",
    "Hedge",
    "LimitExceededError",
    "LimitSnapshot",
    "RateLimit",
    "ThreadTimeout",
    "priority",
]


def __dir__() -> list[str]:
    return sorted(__all__)
