"""A pipeline: retry around breaker around the call, watched by a monitor.

The order is fixed, outermost first: fallback, deadline, retry with its budget, limit, rate, breaker, hedge, timeout,
call. Each attempt passes through the breaker; an open breaker is not retried, and an attempt that opens it is the last
one. What wraps each attempt is composed in `parts.attempt_through`, what wraps the whole operation in `_driver`; a part
that is absent is in neither.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Literal, ParamSpec, TypeVar

from booking_resilience.awaitables import gives_coroutines, refuse_synchronous, within
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.callbacks import check_callback
from booking_resilience.checks import check, check_text, check_type, has_method
from booking_resilience.events import RetryEvent
from booking_resilience.monitor import ErrorCategory
from booking_resilience.monitor.record import member_of
from booking_resilience.parts import ALLOWED, Part, Role, attempt_through, checked, falling_back
from booking_resilience.recording import ErrorRecorder, Records
from booking_resilience.retry import DEFAULT_RETRY, RetryPolicy
from booking_resilience.retry.plan import Plan
from booking_resilience.retry.run import drive, drive_async

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_KEPT_DRIVERS = 256


class Pipeline:
    """How calls to one backend are made. Make one, share it between threads and tasks.

    Its parts cannot be exchanged. It can be pickled if it has neither breaker nor monitor nor a budget.

    Args:
        retry: When to try again.
        breaker: The breaker that each attempt passes through, or None.
        monitor: Gets one record for each operation that failed, with its attempts, and one of severity `warning` for
            each that recovered; or None. It only watches.
        category: The category of those records.
        limit: A `ConcurrencyLimit` or an `AdaptiveLimit` that each attempt takes a place of, or None.
        rate: A `RateLimit` that each attempt takes a turn of, or None.
        fallback: A `Fallback` that gives another answer where the operation failed, or None.
        hedge: A `Hedge` that makes a slow call once more, or None.
        timeout: A `ThreadTimeout` for each single call, or None.

    Raises:
        TypeError: If a part isn't what its keyword asks for.

    >>> pipeline = Pipeline(breaker=CircuitBreaker("backend"))
    >>> pipeline.call("shout", str.upper, "fine")
    'FINE'
    """

    __slots__ = ("_breaker", "_drivers", "_drivers_async", "_monitor", "_parts", "_plan", "_records", "category")

    def __init__(
        self,
        *,
        retry: RetryPolicy = DEFAULT_RETRY,
        breaker: CircuitBreaker | None = None,
        monitor: ErrorRecorder | None = None,
        category: ErrorCategory = ErrorCategory.NETWORK,
        limit: Part[Literal["limit"]] | None = None,
        rate: Part[Literal["rate"]] | None = None,
        fallback: Part[Literal["fallback"]] | None = None,
        hedge: Part[Literal["hedge"]] | None = None,
        timeout: Part[Literal["timeout"]] | None = None,
    ) -> None:
        check_type("retry", retry, isinstance(retry, RetryPolicy), "a RetryPolicy")
        check_type(
            "breaker", breaker, breaker is None or isinstance(breaker, CircuitBreaker), "a CircuitBreaker or None"
        )
        check_type("monitor", monitor, monitor is None or has_method(monitor, "record"), "an ErrorMonitor or None")
        self._breaker, self._monitor = breaker, monitor
        self.category: ErrorCategory = member_of(ErrorCategory, category)
        self._parts = checked({"limit": limit, "rate": rate, "fallback": fallback, "hedge": hedge, "timeout": timeout})
        self._records: Records | None = None
        if monitor is not None:
            check_callback("monitor", monitor.record, "an object whose `record` is a function")
            self._records = Records(monitor, self.category, breaker, is_replaced=fallback is not None)
        listener = None if self._records is None else self._records.on_event
        self._drivers: dict[str, Callable[..., Any]] = {}
        self._drivers_async: dict[str, Callable[..., Any]] = {}
        self._plan = Plan(retry, "", listener, None if breaker is None else breaker._is_shut)

    @property
    def retry(self) -> RetryPolicy:
        """When to try again."""
        return self._plan.policy

    @property
    def breaker(self) -> CircuitBreaker | None:
        """The breaker that each attempt passes through, or None."""
        return self._breaker

    @property
    def monitor(self) -> ErrorRecorder | None:
        """What gets the records, or None."""
        return self._monitor

    def call(self, operation: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn`, with retries, and return what it returns.

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
        """Do the same as `call` for a function that gives an awaitable, under asyncio or trio.

        Raises:
            TypeError: If `fn` is a synchronous function of this library or of Appwrite's SDK, which was not called
                then; or if it turned out to be synchronous, when it was.
        """
        refuse_synchronous(fn)
        driver = self._drivers_async.get(operation) or self._keep(self._drivers_async, operation, is_async=True)
        result: T = await (driver(fn, *args, **kwargs) if kwargs else driver(fn, *args) if args else driver(fn))
        return result

    def protect(self, operation: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Return a decorator for a function, a method or a coroutine function, which keeps its signature.

        Each call is then an operation of this name.

        Raises:
            TypeError: When it decorates a generator or asynchronous generator function.
        """
        plan = self._plan_of(operation)

        def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
            is_async = gives_coroutines(fn, "Pipeline.protect")
            inner = fn if self._breaker is None else self._breaker(fn)
            if self._parts:
                inner = functools.partial(attempt_through(self._breaker, self._parts, is_async=is_async), fn)
            if is_async:
                driver = drive_async(plan, inner, "@Pipeline.protect", "a function that returns awaitables only")
            else:
                driver = drive(plan, inner, "@Pipeline.protect", "an `async def` function")
            return functools.update_wrapper(self._falling_back(plan.operation, driver, is_async=is_async), fn)

        return functools.partial(within, decorate)

    def part(self, role: Role) -> Any:
        """Return the part for a `role` (`limit`, `rate`, `fallback`, `hedge` or `timeout`), or None if it has none.

        Raises:
            ValueError: If there is no such role.
        """
        check("role", role, role in tuple(ALLOWED), f"one of {', '.join(map(repr, ALLOWED))}")
        return self._parts.get(role)

    def __repr__(self) -> str:
        parts = "".join(f" {role}={part!r}" for role, part in self._parts.items())
        return f"<Pipeline retry={self.retry!r} breaker={self._breaker!r} monitor={self._monitor!r}{parts}>"

    def __reduce__(self) -> tuple[Callable[..., Pipeline], tuple[()]]:
        held: dict[Any, object] = {
            "breaker": self._breaker, "retry.budget": self.retry.budget, "monitor": self._monitor, **self._parts
        }  # fmt: skip
        for name, part in held.items():
            if part is not None:
                raise TypeError(
                    f"a Pipeline with a {name} cannot be pickled or copied: the copy would not share it; make one in "
                    "each process, and let the breakers of a fleet share one state by RedisBreaker"
                )
        return functools.partial(type(self), retry=self.retry, category=self.category), ()

    def _plan_of(self, operation: str) -> Plan:
        check_text("operation", operation)
        return dataclasses.replace(self._plan, operation=operation)

    def _driver(self, plan: Plan, *, is_async: bool, called: str = "Pipeline.call") -> Callable[..., Any]:
        """Return a function that calls its first argument with the others as the plan says, through all parts.

        A function of the wrong colour is refused in the name of what was `called`, or of its twin.
        """
        attempt, instead = attempt_through(self._breaker, self._parts, is_async=is_async), f"{called}_async"
        if is_async:
            there = f"{called}, in an event loop with `asyncio.to_thread`"
            driver: Callable[..., Any] = drive_async(plan, attempt, instead, there, applies=True)
        else:
            driver = drive(plan, attempt, called, instead, applies=True)
        return self._falling_back(plan.operation, driver, is_async=is_async)

    def _falling_back(self, operation: str, driver: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        fallback = self._parts.get("fallback")
        if fallback is None:
            return driver
        told = None if self._records is None else functools.partial(self._records.replaced, operation)
        return falling_back(driver, fallback, told, is_async=is_async)

    def _keep(self, drivers: dict[str, Callable[..., Any]], operation: str, *, is_async: bool) -> Callable[..., Any]:
        """Make the driver of an operation and keep it for the next call; names that are never the same are dropped."""
        driver = self._driver(self._plan_of(operation), is_async=is_async)
        if len(drivers) >= _KEPT_DRIVERS:
            drivers.clear()
        drivers[operation] = driver
        return driver

    def _bind(
        self,
        operation: str,
        fn: Callable[..., Any],
        on_event: Callable[[RetryEvent], object],
        *,
        is_async: bool,
        max_attempts: int | None = None,
    ) -> Callable[[Any], Any]:
        """Return what calls `fn` as `call` does, for a batch; with so many attempts, if they are given.

        If `on_event` returns True, nobody else is told of the event: the batch will try again.
        """

        def listener(event: RetryEvent) -> None:
            if on_event(event) is not True:
                self._plan.tell(event)

        policy = self.retry if max_attempts is None else dataclasses.replace(self.retry, max_attempts=max_attempts)
        plan = dataclasses.replace(self._plan, policy=policy, operation=operation, listener=listener, is_logged=False)
        return functools.partial(self._driver(plan, is_async=is_async, called="run_batch"), fn)
