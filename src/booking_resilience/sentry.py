"""Hands the monitor's records on to Sentry, a few for each group of errors. Extra `sentry`.

`monitor.subscribe(SentrySink())` is all there is to do; what was redacted in the records is redacted in Sentry, too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import sentry_sdk

from booking_resilience import clock
from booking_resilience.checks import check_number
from booking_resilience.locks import new_lock
from booking_resilience.monitor import ErrorRecord, Severity

__all__ = ["SentrySink"]

_REMEMBERED = 1000
_LEVELS = {Severity.CRITICAL: "fatal", Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "info"}


class SentrySink:
    """A listener of a monitor that sends events to Sentry.

    The first record of a group is sent at once. After that the group sends at most one event per interval: the first
    record when the interval is over, with the number of records since the last event. It remembers the 1,000 groups
    that were seen last. It runs on the thread that recorded the error; Sentry's transport has a thread of its own.

    Args:
        interval: Seconds between two events of a group; 0 or more.

    Raises:
        TypeError: If `interval` isn't a number.
        ValueError: If it is negative or not finite.
    """

    def __init__(self, interval: float = 60.0) -> None:
        check_number("interval", interval)
        self._interval = interval
        self._lock = new_lock()
        self._groups: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when one was sent, and how many since

    def __call__(self, record: ErrorRecord) -> None:
        """Send the record, or count it."""
        count = self._due(record.fingerprint)
        if count:
            sentry_sdk.capture_event(event_of(record, count))

    def _due(self, fingerprint: str) -> int:
        """Return how many records an event sent now stands for; 0 if none is due."""
        now = clock.monotonic()
        with self._lock:
            sent, count = self._groups.get(fingerprint, (-math.inf, 0))
            is_due = now - sent >= self._interval
            self._groups[fingerprint] = (now, 0) if is_due else (sent, count + 1)
            self._groups.move_to_end(fingerprint)
            if len(self._groups) > _REMEMBERED:
                self._groups.popitem(last=False)
        return count + 1 if is_due else 0


def event_of(record: ErrorRecord, count: int) -> Any:
    """Return Sentry's event for a record that stands for `count` of its group."""
    exception: dict[str, Any] = {"type": record.error_type, "value": record.message}
    if record.file is not None:
        frame = {"filename": record.file, "lineno": record.line, "function": record.function, "in_app": True}
        exception["stacktrace"] = {"frames": [frame]}
    return {
        "level": _LEVELS[record.severity],
        "logger": "booking_resilience",
        "timestamp": record.timestamp,
        "fingerprint": [record.fingerprint],
        "transaction": record.operation,
        "exception": {"values": [exception]},
        "tags": {"category": record.category.value, "operation": record.operation, "outcome": record.outcome},
        "extra": {
            "count": count,
            "record": record.id,
            "attempts": record.attempts,
            "attempt_errors": list(record.attempt_errors),
            "causes": list(record.causes),
            "notes": list(record.notes),
            "context": record.context,
            "stacktrace": record.stacktrace,
        },
    }


def __dir__() -> list[str]:
    return sorted(__all__)
