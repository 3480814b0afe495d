"""A logging handler that records what is logged with an exception."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from booking_resilience.monitor.record import Severity

if TYPE_CHECKING:
    from booking_resilience.monitor.monitor import ErrorMonitor


class MonitorHandler(logging.Handler):
    """Records log records that carry an exception; never raises, prints or logs. Made by `logging_handler`."""

    def __init__(self, monitor: ErrorMonitor) -> None:
        super().__init__()
        self._monitor = monitor

    def emit(self, record: logging.LogRecord) -> None:
        """Record the exception, unless the library itself logged it."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            if error is None or record.name.startswith("booking_resilience"):
                return
            severity = Severity.INFO
            for level, name in ((50, Severity.CRITICAL), (40, Severity.ERROR), (30, Severity.WARNING)):
                if record.levelno >= level:
                    severity = name
                    break
            self._monitor.record(error, operation=record.name, severity=severity)
        except Exception:  # noqa: BLE001, S110 - a handler that raises would hurt whoever logged
            pass
