"""Another answer where an operation has none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeAlias

from booking_resilience.callbacks import is_awaitable
from booking_resilience.checks import check_type, is_error_filter
from booking_resilience.errors import CircuitOpenError, DeadlineExceededError, LimitExceededError
from booking_resilience.verdicts import classify

ErrorFilter: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], object]

_REFUSED = (CircuitOpenError, LimitExceededError, DeadlineExceededError)


def is_outage(error: BaseException) -> bool:
    """Tell whether an error means that the backend can't answer now, and nothing else: `Fallback`'s default.

    Rejections by breakers and limits, deadlines, transient errors and answers with a status of 500 or more are. An
    unknown error is not: a fallback must not hide a mistake.
    """
    if isinstance(error, _REFUSED):
        return True
    if not isinstance(error, Exception):
        return False
    verdict = classify(error)
    return verdict.transient or (verdict.status or 0) >= 500


class Fallback:
    """What a pipeline returns where its operation failed: `Pipeline(fallback=Fallback([]))`.

    Args:
        value: The answer; or a function of the error that gives it, in a pipeline's asynchronous calls of either
            colour. If the function fails, its error comes out, with the operation's as its `__cause__`.
        on: Which errors it stands in for: exception types, or a function of the error. By default `is_outage`.

    Raises:
        TypeError: If `on` is neither.

    >>> Fallback([]).answer(TimeoutError())
    []
    """

    __slots__ = ("_on", "_value")

    role: ClassVar[str] = "fallback"

    def __init__(self, value: Any, *, on: ErrorFilter = is_outage) -> None:
        check_type("on", on, is_error_filter(on), "an exception type, a tuple of them, or a function of the error")
        self._value, self._on = value, on

    def __repr__(self) -> str:
        return f"Fallback({self._value!r})"

    def accepts(self, error: BaseException) -> bool:
        """Tell whether it stands in for the error."""
        if not isinstance(error, Exception):
            return False
        if isinstance(self._on, (type, tuple)):
            return isinstance(error, self._on)
        return bool(self._on(error))

    def answer(self, error: BaseException) -> Any:
        """Return the answer in place of the error."""
        if not callable(self._value):
            return self._value
        try:
            return self._value(error)
        except Exception as failed:
            raise failed from error

    async def answer_async(self, error: BaseException) -> Any:
        """Do as `answer`; what the function returns is awaited if it must be."""
        answer = self.answer(error)
        if not is_awaitable(answer):
            return answer
        awaitable: Awaitable[Any] = answer
        try:
            return await awaitable
        except Exception as failed:
            raise failed from error
