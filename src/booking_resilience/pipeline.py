"""A pipeline: retry around breaker around the call, watched by a monitor.

The order is fixed, outermost first: deadline, retry with its budget, breaker, call. Each attempt passes through the
breaker; an open breaker is not retried, and an attempt that opens it is the last one.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar

from booking_resilience.awaitables import gives_coroutines, refuse_uncallable, within
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import BreakerState, RetryEvent
from booking_resilience.monitor import ErrorCategory, Severity
from booking_resilience.monitor.build import member_of
from booking_resilience.retry import DEFAULT_RETRY, RetryPolicy, attempts_of
from booking_resilience.retry.plan import Plan
from booking_resilience.retry.run import drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from booking_resilience.events import FailedAttempt, Listener

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_KEPT_DRIVERS = 256
_SHUT = (BreakerState.OPEN, BreakerState.ISOLATED)


class ErrorRecorder(Protocol):
    """What a pipeline asks of its monitor; `ErrorMonitor` is one, and so is what adds a context and hands on to it."""

    def record(
        self,
        error: BaseException,
        *,
        operation: str,
        category: ErrorCategory,
        severity: Severity,
        attempts: int | tuple[FailedAttempt, ...] | None,
        outcome: Literal["failed", "recovered", "refused", "fell_back"],
    ) -> object:
        """Record how an operation ended."""
        ...


class Pipeline:
    """How calls to one backend are made. Make one, share it between threads and tasks.

    Args:
        retry: When to try again.
        breaker: The breaker that each attempt passes through, or None.
        monitor: Gets one record for each operation that failed, with its attempts, and one of severity `warning` for
            each that recovered; or None. It only watches.
        category: The category of those records.

    >>> pipeline = Pipeline(breaker=CircuitBreaker("backend"))
    >>> pipeline.call("shout", str.upper, "fine")
    'FINE'
    """

    __slots__ = ("_drivers", "_drivers_async", "_plan", "breaker", "category", "monitor", "retry")

    def __init__(
        self,
        *,
        retry: RetryPolicy = DEFAULT_RETRY,
        breaker: CircuitBreaker | None = None,
        monitor: ErrorRecorder | None = None,
        category: ErrorCategory = ErrorCategory.NETWORK,
    ) -> None:
        if not isinstance(retry, RetryPolicy):
            raise TypeError(f"retry must be a RetryPolicy, not {retry!r}")
        if breaker is not None and not isinstance(breaker, CircuitBreaker):
            raise TypeError(f"breaker must be a CircuitBreaker or None, not {breaker!r}")
        if monitor is not None and (isinstance(monitor, type) or not callable(getattr(monitor, "record", None))):
            raise TypeError(f"monitor must be an ErrorMonitor or None, not {monitor!r}")
        self.retry: RetryPolicy = retry
        self.breaker: CircuitBreaker | None = breaker
        self.monitor: ErrorRecorder | None = monitor
        self.category: ErrorCategory = member_of(ErrorCategory, category)
        listener = None if monitor is None else self._watch
        self._drivers: dict[str, Callable[..., Any]] = {}
        self._drivers_async: dict[str, Callable[..., Any]] = {}
        self._plan = Plan(retry, "", listener, None if breaker is None else self._circuit_open)

    def call(self, operation: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn`, as often as it takes, and return what it returns.

        Args:
            operation: The operation's name, for events, logs, notes and records.
            fn: What to call with the arguments that follow.

        Raises:
            CircuitOpenError: If the breaker refuses an attempt; its `__cause__` is the failure before, if there was
                one.
            DeadlineExceededError: If an enclosing deadline had passed already.
            TypeError: If `fn` returns an awaitable.
        """
        driver = self._drivers.get(operation) or self._keep(self._drivers, operation, is_async=False)
        result: T = driver(fn, *args, **kwargs) if kwargs else driver(fn, *args) if args else driver(fn)
        return result

    async def call_async(
        self, operation: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do as `call` for a function that gives an awaitable, under asyncio or trio."""
        driver = self._drivers_async.get(operation) or self._keep(self._drivers_async, operation, is_async=True)
        result: T = await (driver(fn, *args, **kwargs) if kwargs else driver(fn, *args) if args else driver(fn))
        return result

    def protect(self, operation: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Return a decorator for a function, a method or a coroutine function; its signature stays.

        Raises:
            TypeError: When it decorates a generator or asynchronous generator function.
        """
        plan = self._plan_of(operation)

        def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
            driver: Callable[..., Any] = drive_async if gives_coroutines(fn, "Pipeline.protect") else drive
            inner = fn if self.breaker is None else self.breaker(fn)
            return functools.update_wrapper(driver(plan, inner), fn)

        return functools.partial(within, decorate)

    def _plan_of(self, operation: str) -> Plan:
        if not isinstance(operation, str):
            raise TypeError(f"operation must be a text, not {operation!r}")
        return dataclasses.replace(self._plan, operation=operation)

    def _driver(self, plan: Plan, *, is_async: bool, called: str = "Pipeline.call") -> Callable[..., Any]:
        """Return a function of a function and its arguments, which calls it as the plan says.

        A function of the wrong colour is refused in the name of what was `called`, or of its twin.
        """
        if is_async:
            inner: Callable[..., Any] = _apply if self.breaker is None else self.breaker.call_async
            return drive_async(plan, inner, f"{called}_async", called)
        return drive(plan, _apply if self.breaker is None else self.breaker.call, called, f"{called}_async")

    def _keep(self, drivers: dict[str, Callable[..., Any]], operation: str, *, is_async: bool) -> Callable[..., Any]:
        """Make the driver of an operation and keep it for the next call; names that are never the same are dropped."""
        driver = self._driver(self._plan_of(operation), is_async=is_async)
        if len(drivers) >= _KEPT_DRIVERS:
            drivers.clear()
        drivers[operation] = driver
        return driver

    def _bind(self, operation: str, fn: Callable[..., Any], on_event: Listener[RetryEvent], *, is_async: bool) -> Any:
        """Return what calls `fn` as `call` does, and tells `on_event` as well; for batches."""

        def listener(event: RetryEvent) -> None:
            on_event(event)
            self._watch(event)

        plan = dataclasses.replace(self._plan, operation=operation, listener=listener)
        return functools.partial(self._driver(plan, is_async=is_async, called="run_batch"), fn)

    def _circuit_open(self) -> bool:
        return self.breaker is not None and self.breaker.state in _SHUT

    def _watch(self, event: RetryEvent) -> None:
        if self.monitor is None or event.error is None or event.outcome == "retrying":
            return
        recovered, refused = event.outcome == "recovered", self._was_refused(event)
        is_mild = recovered or (refused and isinstance(event.error, LimitExceededError))
        self.monitor.record(
            event.error,
            operation=event.operation,
            category=self.category,
            severity=Severity.WARNING if is_mild else Severity.ERROR,
            attempts=event.attempt
            if recovered
            else 0
            if refused
            else attempts_of(event.error) or event.attempt or None,
            outcome="recovered" if recovered else "refused" if refused else "failed",
        )

    def _was_refused(self, event: RetryEvent) -> bool:
        """Tell whether no attempt was made: a limit rejected the first, or the breaker of this pipeline itself."""
        error = event.error
        if event.attempt != 1:
            return False
        if isinstance(error, CircuitOpenError):
            return self.breaker is not None and error.name == self.breaker.name
        return isinstance(error, LimitExceededError)


def _apply(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Stand where the breaker would."""
    try:
        return fn(*args, **kwargs)
    except TypeError:
        refuse_uncallable(fn)
        raise
