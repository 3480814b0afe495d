"""What the end of a call says of the backend's load."""

from __future__ import annotations

import enum

from booking_resilience.awaitables import timeout_behind
from booking_resilience.errors import DeadlineExceededError, ResilienceError

_REJECTED = frozenset({429, 503})


class Sign(enum.Enum):
    """What the end of a call says."""

    ANSWER = enum.auto()
    OVERLOAD = enum.auto()
    NOTHING = enum.auto()


def sign_of(error: BaseException) -> Sign:
    """Return what an error says of the backend's load."""
    error = timeout_behind(error)
    if not isinstance(error, Exception) or isinstance(error, (DeadlineExceededError, ResilienceError)):
        return Sign.NOTHING
    if isinstance(error, TimeoutError):
        return Sign.OVERLOAD
    return Sign.NOTHING
