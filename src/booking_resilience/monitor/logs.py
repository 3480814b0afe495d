"""A logging handler that records what is logged with an exception."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from booking_resilience.monitor.record import Severity

if TYPE_CHECKING:
    from booking_resilience.monitor.monitor import ErrorMonitor


_SEVERITIES = ((50, Severity.CRITICAL), (40, Severity.ERROR), (30, Severity.WARNING))


class MonitorHandler(logging.Handler):
    """Records log records that carry an exception; never raises, prints or logs. Made by `logging_handler`."""

    def __init__(self, monitor: ErrorMonitor) -> None:
        super().__init__()
        self._monitor = monitor

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override] # as in 3.12
        """Emit the record if the filters let it pass, under no lock: listeners are told on the way."""
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return cast("bool", passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Record the exception, unless it is one of the monitor's own listeners'."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            if error is None or record.name == "booking_resilience.monitor":
                return
            severity = next((name for level, name in _SEVERITIES if record.levelno >= level), Severity.INFO)
            self._monitor.record(error, operation=record.name, severity=severity)
        except Exception:  # noqa: BLE001, S110 - a handler that raises would hurt whoever logged
            pass
