"""The exceptions of this library, one tree.

::

    ResilienceError
    ├── TransientError            a transient failure: raise it, or subclass it, to have the call retried
    ├── CircuitOpenError          a circuit breaker rejected the call
    ├── LimitExceededError        a concurrency limit or a rate limit rejected the call
    └── DeadlineExceededError     time ran out (also a TimeoutError)

Facts are attributes; the text is for people. Every one of them can be pickled.
"""

from __future__ import annotations


class ResilienceError(Exception):
    """The root of this library's exceptions."""


class TransientError(ResilienceError):
    """A transient failure; `is_transient` is true for it and for its subclasses.

    Args:
        args: The arguments of an exception, usually its text.
        retry_after: Least seconds to wait before the next attempt, or None.
    """

    retry_after: float | None = None

    def __init__(self, *args: object, retry_after: float | None = None) -> None:
        super().__init__(*args)
        if retry_after is not None:
            self.retry_after = retry_after


class CircuitOpenError(ResilienceError):
    """A circuit breaker rejected the call; the function was not called.

    Args:
        name: The breaker's name.
        retry_after: Seconds until the next trial call may be made, from 0 to the cooldown; 0.0 also while trial calls
            are under way; None for an isolated breaker.
        cause: Text of the error that opened the breaker, if one did; the reason of an isolated one.
    """

    __slots__ = ("cause", "name", "retry_after")  # one for each rejection: half the time of a dictionary's

    def __init__(self, name: str, retry_after: float | None = None, cause: str | None = None) -> None:
        self.name: str = name
        self.retry_after: float | None = retry_after
        self.cause: str | None = cause

    def __reduce__(self) -> tuple[type[CircuitOpenError], tuple[object, ...], dict[str, object]]:
        return type(self), (self.name, self.retry_after, self.cause), self.__dict__

    def __str__(self) -> str:
        if self.retry_after is None:
            return f"Circuit breaker is OPEN: {self.name!r}, isolated: {self.cause}"
        if not self.retry_after:
            return f"Circuit breaker is OPEN: {self.name!r}, a trial call is under way"
        return f"Circuit breaker is OPEN: {self.name!r}, next trial in {self.retry_after:.1f} s"


class LimitExceededError(ResilienceError):
    """A concurrency limit or a rate limit rejected the call; the function was not called.

    Args:
        name: The limit's name.
        retry_after: Seconds until it is worth asking again, 0 or more; None if that isn't known.
    """

    __slots__ = ("name", "retry_after")

    def __init__(self, name: str, retry_after: float | None = None) -> None:
        self.name: str = name
        self.retry_after: float | None = retry_after

    def __reduce__(self) -> tuple[type[LimitExceededError], tuple[object, ...], dict[str, object]]:
        return type(self), (self.name, self.retry_after), self.__dict__

    def __str__(self) -> str:
        if self.retry_after is None:
            return f"Limit exceeded: {self.name!r}"
        return f"Limit exceeded: {self.name!r}, next try in {self.retry_after:.1f} s"


class DeadlineExceededError(ResilienceError, TimeoutError):
    """An operation's deadline passed: before it started, or during an asynchronous attempt.

    Attributes:
        end: The deadline, in seconds on this process's monotonic clock, if known.
    """

    end: float | None = None
