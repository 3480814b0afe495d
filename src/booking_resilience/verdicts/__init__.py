"""Verdicts: what an error means, for every common library. No library is imported for it."""

from booking_resilience.checks import leaves
from booking_resilience.verdicts.find import is_timeout
from booking_resilience.verdicts.verdict import (
    Verdict,
    classify,
    holds,
    holds_interrupt,
    is_backend_failure,
    is_no_evidence,
    is_own_refusal,
    is_transient,
    judge,
    retry_after_of,
    told_of,
)
from booking_resilience.verdicts.waits import LONGEST_WAIT, seconds_of

__all__ = [
    "LONGEST_WAIT",
    "Verdict",
    "classify",
    "holds",
    "holds_interrupt",
    "is_backend_failure",
    "is_no_evidence",
    "is_own_refusal",
    "is_timeout",
    "is_transient",
    "judge",
    "leaves",
    "retry_after_of",
    "seconds_of",
    "told_of",
]
