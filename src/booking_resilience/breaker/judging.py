"""What the end of a call says of the backend: the settings `ignore`, `failure_on` and `slow_call`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

from booking_resilience.breaker.telling import logger
from booking_resilience.breaker.tickets import Verdict
from booking_resilience.events import log_raised
from booking_resilience.verdicts import is_backend_failure, is_no_evidence, is_own_refusal

ErrorFilter: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]


@functools.wraps(is_no_evidence)
def says_nothing(error: BaseException) -> bool:
    """Be the default of `ignore`: another object than `is_no_evidence`, so that it shows whether one was given."""
    return is_no_evidence(error)


def ignored(failure_on: ErrorFilter, ignore: ErrorFilter) -> ErrorFilter:
    """Return what a breaker ignores: nothing if `failure_on` was given and `ignore` wasn't."""
    return () if ignore is says_nothing and failure_on is not is_backend_failure else ignore


def judge(error: BaseException | None, *, ignore: ErrorFilter, failure_on: ErrorFilter, slow: bool) -> Verdict:
    """Tell what the end of a call says; filters may be user code, so this is never called under a lock.

    Cancellation, interrupts and exits say nothing, nor do the refusals of another breaker or of a limit. A filter that
    raises is logged; the error counts as a failure then, and still comes out.
    """
    if error is None:
        return Verdict.FAILURE if slow else Verdict.SUCCESS
    if is_own_refusal(error):
        return Verdict.NOTHING
    try:
        if _matches(error, ignore):
            return Verdict.IGNORED
        return Verdict.FAILURE if slow or _matches(error, failure_on) else Verdict.SUCCESS
    except Exception as raised:  # noqa: BLE001 - a filter's error must not become the caller's
        log_raised(logger, raised, "a filter raised on %s", type(error).__qualname__)
        return Verdict.FAILURE


def _matches(error: BaseException, errors: ErrorFilter) -> bool:
    if isinstance(errors, (type, tuple)):
        return isinstance(error, errors)
    return bool(errors(error))


def text_of(error: BaseException) -> str:
    """Return the error's text, 200 characters at most; its type's name if it has none, or none that can be had."""
    try:
        return str(error)[:200] or type(error).__name__
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return type(error).__name__
