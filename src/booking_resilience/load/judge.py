"""What the end of a call says of the backend's load."""

from __future__ import annotations

import enum

from booking_resilience.cutoff import timeout_behind
from booking_resilience.errors import DeadlineExceededError
from booking_resilience.verdicts import classify, is_no_evidence, is_own_refusal

_OVERLOADED = ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


class Sign(enum.Enum):
    """What the end of a call says."""

    ANSWER = enum.auto()
    OVERLOAD = enum.auto()
    NOTHING = enum.auto()


def sign_of(error: BaseException) -> Sign:
    """Return what an error says of the backend's load.

    Overload is a request to slow down (429 and its kin), a 503 and a timeout, the attempt's own cut-off among them.
    """
    error = timeout_behind(error, at_deadline=False)
    if is_own_refusal(error) or issubclass(type(error), DeadlineExceededError):  # interrupts, too
        return Sign.NOTHING
    verdict = classify(error)
    if verdict.type in _OVERLOADED:  # also if gRPC's pushback says that no retry helps
        return Sign.OVERLOAD
    if verdict.sent == "yes":
        is_overload = verdict.status == 503 or (verdict.transient and is_no_evidence(error))
        return Sign.OVERLOAD if is_overload else Sign.ANSWER
    return Sign.OVERLOAD if _is_timeout(error) else Sign.NOTHING


def _is_timeout(error: BaseException) -> bool:
    if issubclass(type(error), TimeoutError):
        return True
    return any("Timeout" in base.__name__ for base in type(error).__mro__) and classify(error).transient
