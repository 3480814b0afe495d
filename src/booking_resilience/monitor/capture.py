"""Blocks that record errors or add context to their records, and a logging handler."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from booking_resilience.awaitables import decorated, within
from booking_resilience.callbacks import text_of
from booking_resilience.checks import check_type
from booking_resilience.events import ErrorCategory, recorded, tell_began
from booking_resilience.monitor.record import Severity

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class Entered:
    """A block around the running code: the `id()` of its object, what it brings, and the block around it.

    It is kept with the running code, since threads and tasks may share the object; there `last` is for an end in
    another context only, such as that of an asynchronous generator which the event loop closes. Nor does it keep the
    object alive: a task that outlives the block has it, too.
    """

    block: int
    brings: Any
    outer: Entered | None
    is_left: bool = False


surroundings: ContextVar[Entered | None] = ContextVar("booking_resilience_monitor_context", default=None)
"""The innermost `MonitorContext`, which brings the context by each monitor's key."""
_captures: ContextVar[Entered | None] = ContextVar("booking_resilience_captures", default=None)
_SEVERITIES = ((50, Severity.CRITICAL), (40, Severity.ERROR), (30, Severity.WARNING))


def _enter(innermost: ContextVar[Entered | None], block: int, brings: Any, outer: Entered | None) -> Entered:
    """Enter a block. Of blocks that were left elsewhere only the innermost is kept, however often that happens."""
    if outer is not None and outer.is_left:
        while outer.outer is not None and outer.outer.is_left:
            outer.outer = outer.outer.outer
    entered = Entered(block, brings, outer)
    innermost.set(entered)
    return entered


def _leave(innermost: ContextVar[Entered | None], block: int, last: Entered | None) -> Any:
    """Leave a block, and those in it that were not left: a generator's. Return what it brought.

    Where it was entered in another context, it is the `last` that its object has entered; None if that is none.
    """
    entered = innermost.get()
    while entered is not None and entered.block != block:
        entered = entered.outer
    if entered is not None:
        innermost.set(entered.outer)
    elif (entered := last) is None:
        return None
    entered.is_left = True
    return entered.brings


class Capture:
    """Records an exception that its block raises and lets it pass; also a decorator. Made by `ErrorMonitor.capture`."""

    __slots__ = ("_facts", "_last", "_record")

    def __init__(
        self,
        record: Callable[..., object],
        operation: str,
        category: ErrorCategory,
        severity: Severity,
        context: dict[str, Any],
    ) -> None:
        check_type("operation", operation, isinstance(operation, str), "a string")
        self._record = record
        self._facts: dict[str, Any] = {
            "operation": operation, "category": category, "severity": severity, "context": context,
        }  # fmt: skip
        self._last: Entered | None = None

    def __enter__(self) -> Self:
        self._last = _enter(_captures, id(self), recorded.last, _captures.get())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        began = _leave(_captures, id(self), self._last) or 0
        if isinstance(error, Exception):
            tell_began(began, self._record, error, **self._facts)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, a coroutine function, or a `classmethod` or `staticmethod` of either.

        Raises:
            TypeError: If it is a class, a generator function, or cannot be called.
        """
        if isinstance(fn, type) and not issubclass(fn, BaseException):
            raise TypeError(f"ErrorMonitor.capture decorates functions, not {fn!r}; decorate the methods of the class")
        block = functools.partial(Capture, self._record, **self._facts)
        return cast("Callable[P, R]", within(functools.partial(decorated, block, decorator="ErrorMonitor.capture"), fn))


class MonitorContext:
    """Adds values to the context of records made in its block. Made by `ErrorMonitor.context`; can be entered again."""

    __slots__ = ("_key", "_last", "_values")

    def __init__(self, key: object, values: Mapping[str, Any]) -> None:
        self._key, self._values = key, dict(values)
        self._last: Entered | None = None

    def __enter__(self) -> None:
        outer = surroundings.get()
        around = {} if outer is None else outer.brings
        joined = {**around, self._key: {**around.get(self._key, {}), **self._values}}
        self._last = _enter(surroundings, id(self), joined, outer)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _leave(surroundings, id(self), self._last)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)


class MonitorHandler(logging.Handler):
    """Records log records that carry an exception; never raises, prints or logs. Made by `logging_handler`."""

    def __init__(self, record: Callable[..., object]) -> None:
        super().__init__()
        self._record = record

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override] # as in 3.12
        """Emit the record if the filters let it pass, under no lock: listeners are told on the way."""
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return cast("bool", passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Record the exception with the logged message, unless it is one of the monitor's own listeners'."""
        with contextlib.suppress(Exception):  # a handler that raises would hurt whoever logged
            error = record.exc_info[1] if record.exc_info else None
            if error is None or record.name == "booking_resilience.monitor":
                return
            severity = next((name for level, name in _SEVERITIES if record.levelno >= level), Severity.INFO)
            context = {"log_message": text_of(record, logging.LogRecord.getMessage)}
            self._record(error, operation=record.name, severity=severity, context=context)
