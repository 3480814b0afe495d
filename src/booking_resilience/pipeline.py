"""A pipeline: retry around breaker around the call, watched by a monitor.

The order is fixed, outermost first: deadline, retry with its budget, breaker, call. Each attempt passes through the
breaker; an open breaker is not retried, and an attempt that opens it is the last one. What wraps each attempt is
composed in `_attempt`, what wraps the whole operation in `_driver`; a part that is absent is in neither.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

from booking_resilience.awaitables import gives_coroutines, refuse_uncallable, within
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.callbacks import check_callback, drop_awaitable, is_awaitable
from booking_resilience.checks import check_text, check_type
from booking_resilience.colours import refuse_synchronous
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import FailedAttempt, Listener, RetryEvent
from booking_resilience.monitor import ErrorCategory, Severity
from booking_resilience.monitor.record import member_of
from booking_resilience.retry import DEFAULT_RETRY, RetryPolicy, attempts_of
from booking_resilience.retry.plan import Plan
from booking_resilience.retry.run import drive, drive_async

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_KEPT_DRIVERS = 256
_logger = logging.getLogger("booking_resilience.retry")


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

    Its parts cannot be exchanged. It can be pickled if it has neither breaker nor monitor nor a budget.

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

    __slots__ = ("_breaker", "_drivers", "_drivers_async", "_monitor", "_plan", "_retry", "category")

    def __init__(
        self,
        *,
        retry: RetryPolicy = DEFAULT_RETRY,
        breaker: CircuitBreaker | None = None,
        monitor: ErrorRecorder | None = None,
        category: ErrorCategory = ErrorCategory.NETWORK,
    ) -> None:
        check_type("retry", retry, isinstance(retry, RetryPolicy), "a RetryPolicy")
        check_type(
            "breaker", breaker, breaker is None or isinstance(breaker, CircuitBreaker), "a CircuitBreaker or None"
        )
        records = not isinstance(monitor, type) and callable(getattr(monitor, "record", None))
        check_type("monitor", monitor, monitor is None or records, "an ErrorMonitor or None")
        if monitor is not None:
            check_callback("monitor", monitor.record, "an object whose `record` is a function")
        self._retry, self._breaker, self._monitor = retry, breaker, monitor
        self.category: ErrorCategory = member_of(ErrorCategory, category)
        listener = None if monitor is None else self._watch
        self._drivers: dict[str, Callable[..., Any]] = {}
        self._drivers_async: dict[str, Callable[..., Any]] = {}
        self._plan = Plan(retry, "", listener, None if breaker is None else self._circuit_open)

    @property
    def retry(self) -> RetryPolicy:
        """When to try again."""
        return self._retry

    @property
    def breaker(self) -> CircuitBreaker | None:
        """The breaker that each attempt passes through, or None."""
        return self._breaker

    @property
    def monitor(self) -> ErrorRecorder | None:
        """What gets the records, or None."""
        return self._monitor

    def call(self, operation: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn`, as often as it takes, and return what it returns.

        Args:
            operation: The operation's name, for events, logs, notes and records.
            fn: What to call with the arguments that follow.

        Raises:
            CircuitOpenError: If the breaker refuses an attempt; its `__cause__` is the failure before, if there was
                one.
            DeadlineExceededError: If an enclosing deadline had passed already.
            TypeError: If `fn` returns an awaitable, or is a generator function.
        """
        driver = self._drivers.get(operation) or self._keep(self._drivers, operation, is_async=False)
        result: T = driver(fn, *args, **kwargs) if kwargs else driver(fn, *args) if args else driver(fn)
        return result

    async def call_async(
        self, operation: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do as `call` for a function that gives an awaitable, under asyncio or trio.

        Raises:
            TypeError: If `fn` is a synchronous function of this library or of Appwrite's SDK, which was not called
                then; or if it turned out to be synchronous, when it was.
        """
        refuse_synchronous(fn)
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
            is_async = gives_coroutines(fn, "Pipeline.protect")
            inner = fn if self._breaker is None else self._breaker(fn)
            if is_async:
                return functools.update_wrapper(drive_async(plan, inner, "@Pipeline.protect"), fn)
            return functools.update_wrapper(drive(plan, inner, "@Pipeline.protect", "an `async def` function"), fn)

        return functools.partial(within, decorate)

    def __repr__(self) -> str:
        return f"<Pipeline retry={self._retry!r} breaker={self._breaker!r} monitor={self._monitor!r}>"

    def __reduce__(self) -> tuple[Callable[..., Pipeline], tuple[()]]:
        held = {"breaker": self._breaker, "retry.budget": self._retry.budget, "monitor": self._monitor}
        for name, part in held.items():
            if part is not None:
                raise TypeError(
                    f"a Pipeline with a {name} cannot be pickled or copied, the copy would not share it; make one in "
                    "each process, and let the breakers of a fleet share one state by RedisBreaker"
                )
        return functools.partial(type(self), retry=self._retry, category=self.category), ()

    def _plan_of(self, operation: str) -> Plan:
        check_text("operation", operation)
        return dataclasses.replace(self._plan, operation=operation)

    def _attempt(self, *, is_async: bool) -> Callable[..., Any]:
        """Return a function that calls its first argument with the others, through all that wraps each attempt."""
        if self._breaker is None:
            return _apply
        return self._breaker.call_async if is_async else self._breaker.call

    def _driver(self, plan: Plan, *, is_async: bool, called: str = "Pipeline.call") -> Callable[..., Any]:
        """Return a function that does so as often as the plan says.

        A function of the wrong colour is refused in the name of what was `called`, or of its twin.
        """
        attempt, instead = self._attempt(is_async=is_async), f"{called}_async"
        if is_async:
            there = f"{called}, in an event loop by `asyncio.to_thread`"
            return drive_async(plan, attempt, instead, there, applies=True)
        return drive(plan, attempt, called, instead, applies=True)

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
        return self._breaker is not None and self._breaker._is_shut()

    def _watch(self, event: RetryEvent) -> None:
        monitor = self._monitor
        if monitor is None or event.error is None or event.outcome == "retrying":
            return
        recovered, refused = event.outcome == "recovered", self._was_refused(event)
        is_mild = recovered or (refused and isinstance(event.error, LimitExceededError))
        made = monitor.record(
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
        if is_awaitable(made):
            drop_awaitable(monitor.record, made, _logger)

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
