"""What is known about all that goes on in a block, for every record that a monitor makes in it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, TypeAlias

from booking_resilience.deadlines import reset
from booking_resilience.monitor.record import ErrorRecord, make_record

Surroundings: TypeAlias = "dict[object, dict[str, Any]]"

surroundings: ContextVar[Surroundings | None] = ContextVar("booking_resilience_monitor_context", default=None)
"""The values around the calling code, by the key of the monitor whose they are; never changed, only replaced."""


class MonitorContext:
    """A block whose values join the context of the records made in it; made by `ErrorMonitor.context`.

    It may be entered as often as wanted, one after the other.
    """

    __slots__ = ("_key", "_tokens", "_values")

    def __init__(self, key: object, values: Mapping[str, Any]) -> None:
        self._key, self._values = key, dict(values)
        self._tokens: list[Token[Surroundings | None]] = []

    def __enter__(self) -> None:
        outer = surroundings.get() or {}
        joined = {**outer, self._key: {**outer.get(self._key, {}), **self._values}}
        self._tokens.append(surroundings.set(joined))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        reset(self._tokens.pop())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)


def with_context(record: ErrorRecord, outer: dict[str, Any]) -> ErrorRecord:
    """Return a record that has no number yet with more context; its own goes before."""
    details = record._details
    context = {**outer, **(details.context or {})}
    return make_record(record._kind, details._replace(context=context), record.message, record._moment)
