"""Another answer where an operation has none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from booking_resilience.awaitables import AWAITABLE_NEVER, refuse_awaitable
from booking_resilience.callbacks import check_filter, is_awaitable, matches
from booking_resilience.checks import leaves
from booking_resilience.errors import CircuitOpenError, DeadlineExceededError, LimitExceededError
from booking_resilience.events import log_raised
from booking_resilience.verdicts import classify

ErrorFilter: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], object]

logger: logging.Logger = logging.getLogger("booking_resilience.load")

_REFUSED = (CircuitOpenError, LimitExceededError, DeadlineExceededError)


def is_outage(error: BaseException) -> bool:
    """Tell whether an error means that the backend can't answer now, and nothing else: `Fallback`'s default.

    Rejections by breakers and limits, deadlines, transient errors and answers with a status of 500 or more are, and
    groups of such alone. An unknown error is not: a fallback must not hide a mistake.
    """
    return all(map(_is_outage, leaves(error)))


def _is_outage(error: BaseException) -> bool:
    if issubclass(type(error), _REFUSED):
        return True
    verdict = classify(error)
    return verdict.transient or (verdict.status or 0) >= 500


class Fallback:
    """What a pipeline returns where its operation failed: `Pipeline(fallback=Fallback([]))`.

    Args:
        value: The answer; or a function of the error that gives it; in asynchronous calls it may be a
            coroutine function. If the function fails, its error comes out, with the operation's as its `__cause__`.
        on: Which errors it stands in for: exception types, or a function of the error. By default `is_outage`.

    Raises:
        TypeError: If `on` is neither.

    >>> Fallback([]).answer(TimeoutError())
    []
    """

    __slots__ = ("_on", "_value")

    role: Literal["fallback"] = "fallback"

    def __init__(self, value: Any, *, on: ErrorFilter = is_outage) -> None:
        check_filter("on", on)
        self._value, self._on = value, on

    def __repr__(self) -> str:
        return f"Fallback({self._value!r})"

    def accepts(self, error: BaseException) -> bool:
        """Tell whether it replaces the error; if `on` raises, that is logged, and the answer is no."""
        if not issubclass(type(error), Exception):
            return False
        try:
            return matches(self._on, error, unknown=False, logger=logger)
        except Exception as raised:  # noqa: BLE001 - a filter's error must not replace the caller's
            log_raised(logger, raised, "on raised")
            return False

    def answer(self, error: Exception) -> Any:
        """Return the answer in place of the error.

        Raises:
            TypeError: If the function returns an awaitable.
            Exception: What the function raises; the error is its cause.
        """
        answer = self._made(error)
        if callable(self._value) and type(answer) not in AWAITABLE_NEVER:
            try:
                refuse_awaitable(answer, "Fallback, in a synchronous call,", "a plain function")
            except TypeError as refused:
                raise refused from error
        return answer

    async def answer_async(self, error: Exception) -> Any:
        """Do the same as `answer`; what the function returns is awaited if it must be."""
        answer = self._made(error)
        if not callable(self._value) or not is_awaitable(answer):
            return answer
        try:
            return await answer
        except Exception as failed:
            raise failed from _cause(error, failed)

    def _made(self, error: Exception) -> Any:
        if not callable(self._value):
            return self._value
        try:
            return self._value(error)
        except Exception as failed:
            raise failed from _cause(error, failed)


def _cause(error: Exception, failed: Exception) -> BaseException | None:
    """Return the cause of a function's own failure; if it raised the very error that it was given, that has its own."""
    return failed.__cause__ if failed is error else error
