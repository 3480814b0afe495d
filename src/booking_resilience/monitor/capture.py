"""Recording what comes out of a block or a function: `with monitor.capture("chargeCard"): ...`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from booking_resilience.awaitables import gives_coroutines

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from booking_resilience.events import ErrorCategory
    from booking_resilience.monitor.monitor import ErrorMonitor
from booking_resilience.monitor.record import Severity

P = ParamSpec("P")
R = TypeVar("R")


class Capture:
    """Records what its block raises, and lets it pass; a decorator, too. Made by `ErrorMonitor.capture`."""

    __slots__ = ("_context", "_facts", "_monitor")

    def __init__(
        self,
        monitor: ErrorMonitor,
        operation: str,
        category: ErrorCategory,
        severity: Severity,
        context: dict[str, Any],
    ) -> None:
        self._monitor = monitor
        self._facts = {"operation": operation, "category": category, "severity": severity}
        self._context = context

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, Exception):
            self._monitor.record(error, context=self._context, **cast("Any", self._facts))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or a coroutine function."""
        if gives_coroutines(fn, "ErrorMonitor.capture"):

            async def captured_async(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await cast("Any", fn)(*args, **kwargs)

            return cast("Callable[P, R]", functools.update_wrapper(captured_async, fn))

        def captured(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return fn(*args, **kwargs)

        return functools.update_wrapper(captured, fn)
