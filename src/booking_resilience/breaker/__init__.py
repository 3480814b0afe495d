"""Not calling what keeps failing."""

from booking_resilience.breaker.breaker import CircuitBreaker
from booking_resilience.breaker.permits import Guard, Permit
from booking_resilience.breaker.snapshots import BreakerSnapshot, SharedSnapshot
from booking_resilience.breaker.window import FailureRate

__all__ = ["BreakerSnapshot", "CircuitBreaker", "FailureRate", "Guard", "Permit", "SharedSnapshot"]
