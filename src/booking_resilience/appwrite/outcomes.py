"""Whether a write that failed may have been carried out all the same: `outcome_unknown`.

What a `*_once` function found out hangs on the error that it raises. Of any other error, its own meaning tells, and
those of the attempts before it.
"""

from __future__ import annotations

import contextlib
from typing import Final

from booking_resilience.checks import is_a
from booking_resilience.errors import DeadlineExceededError
from booking_resilience.retry import attempts_of
from booking_resilience.verdicts import classify, is_no_evidence, leaves

_KEY: Final = "__booking_resilience_open__"


def outcome_unknown(error: BaseException) -> bool:
    """Tell whether a write may have been carried out although this error came out of it.

    True for a transient error of a request that may have arrived, other than a request to slow down (a 429, say);
    for any error of an operation one of whose attempts ended so; and for what a `*_once` function couldn't settle. An
    error of such a function is false once a reading found that nothing was stored, unless an attempt got no answer at
    all: such writes have been carried out later. The same call again, with the same ID, finds out.

    Raises:
        TypeError: If `error` isn't an exception.

    >>> outcome_unknown(TimeoutError()), outcome_unknown(ConnectionRefusedError())
    (True, False)
    """
    if not is_a(error, BaseException):
        raise TypeError(f"error must be an exception, not {error!r}")
    return any(map(_is_open, leaves(error)))


def mark_outcome(error: BaseException, *, is_open: bool) -> None:
    """Note on an error whether the write that it came out of may have been carried out."""
    with contextlib.suppress(Exception):  # an error may refuse attributes
        error.__dict__[_KEY] = is_open


def _is_open(error: BaseException) -> bool:
    told = _told(error)
    if told is not None:
        return told
    return _says_open(error) or any(_says_open(attempt.error) for attempt in attempts_of(error))


def _told(error: BaseException) -> bool | None:
    try:
        told = error.__dict__.get(_KEY)
    except Exception:  # noqa: BLE001 - an error may hide its attributes
        return None
    return told if isinstance(told, bool) else None


def _says_open(error: BaseException) -> bool:
    if is_a(error, DeadlineExceededError):
        return bool(attempts_of(error))  # one was cut off; without any, nothing was sent
    verdict = classify(error)
    return verdict.transient and verdict.sent != "no" and not is_no_evidence(error)
