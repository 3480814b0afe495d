"""Ways to record without calling `record`: what comes out of a block or function, and what is logged."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from booking_resilience.awaitables import gives_coroutines, within
from booking_resilience.checks import check_type
from booking_resilience.events import ErrorCategory, recorded, tell_began
from booking_resilience.monitor.record import Severity
from booking_resilience.monitor.redact import text_of

P = ParamSpec("P")
R = TypeVar("R")
_SEVERITIES = ((50, Severity.CRITICAL), (40, Severity.ERROR), (30, Severity.WARNING))


class Capture:
    """Records what its block raises, and lets it pass; a decorator, too. Made by `ErrorMonitor.capture`."""

    __slots__ = ("_began", "_facts", "_record")

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
        self._began: list[int] = []  # of the blocks that are entered, the innermost last

    def __enter__(self) -> Self:
        self._began.append(recorded.last)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        began = self._began.pop() if self._began else 0
        if isinstance(error, Exception):
            tell_began(began, self._record, error, **self._facts)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, a coroutine function, or a `classmethod` or `staticmethod` of either."""
        return cast("Callable[P, R]", within(self._decorate, fn))

    def _decorate(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        record, facts = self._record, self._facts
        if gives_coroutines(fn, "ErrorMonitor.capture"):

            async def captured_async(*args: Any, **kwargs: Any) -> Any:
                with Capture(record, **facts):
                    return await fn(*args, **kwargs)

            return functools.update_wrapper(captured_async, fn)

        def captured(*args: Any, **kwargs: Any) -> Any:
            with Capture(record, **facts):
                return fn(*args, **kwargs)

        return functools.update_wrapper(captured, fn)


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
        try:
            error = record.exc_info[1] if record.exc_info else None
            if error is None or record.name == "booking_resilience.monitor":
                return
            severity = next((name for level, name in _SEVERITIES if record.levelno >= level), Severity.INFO)
            context = {"log_message": text_of(record, logging.LogRecord.getMessage)}
            self._record(error, operation=record.name, severity=severity, context=context)
        except Exception:  # noqa: BLE001, S110 - a handler that raises would hurt whoever logged
            pass
