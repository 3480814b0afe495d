"""Policies for load: limits of concurrency and rate, fallbacks, hedging, and timeouts for synchronous calls."""

from booking_resilience.load.concurrency import ConcurrencyLimit
from booking_resilience.load.limit import LimitSnapshot
from booking_resilience.load.queue import priority
from booking_resilience.load.rate import RateLimit

__all__ = ["ConcurrencyLimit", "LimitSnapshot", "RateLimit", "priority"]
