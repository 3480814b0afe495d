"""Hands the monitor's records on to OpenTelemetry as log records. Extra `otel`.

`monitor.subscribe(LogRecords())` is all there is to do. What was redacted in the records is redacted here, too.
"""

from __future__ import annotations

from typing import Any

from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber, get_logger

from booking_resilience import clock
from booking_resilience.monitor import ErrorRecord, Severity

__all__ = ["LogRecords"]

_SEVERITIES = {
    Severity.CRITICAL: SeverityNumber.FATAL,
    Severity.ERROR: SeverityNumber.ERROR,
    Severity.WARNING: SeverityNumber.WARN,
    Severity.INFO: SeverityNumber.INFO,
}
_OWN = "booking_resilience"


class LogRecords:
    """A listener of a monitor that emits a log record for each of its records.

    The body is the message; attributes are those of the semantic conventions for exceptions, and this library's own
    with the prefix `booking_resilience.`. The record belongs to the span that was active when the error was recorded.

    Args:
        logger_provider: Where the log records go; by default the global one.
    """

    def __init__(self, *, logger_provider: LoggerProvider | None = None) -> None:
        self._logger = get_logger(_OWN, logger_provider=logger_provider)

    def __call__(self, record: ErrorRecord) -> None:
        """Emit the record."""
        found: dict[str, Any] = {
            "exception.type": record.error_type,
            "exception.message": record.message,
            "exception.stacktrace": record.stacktrace or None,
            "code.function.name": record.function,
            "code.file.path": record.file,
            "code.line.number": record.line,
            f"{_OWN}.operation": record.operation,
            f"{_OWN}.category": record.category.value,
            f"{_OWN}.severity": record.severity.value,
            f"{_OWN}.outcome": record.outcome,
            f"{_OWN}.attempts": record.attempts,
            f"{_OWN}.fingerprint": record.fingerprint,
            f"{_OWN}.record": record.id,
        }
        self._logger.emit(
            LogRecord(
                timestamp=round(record.timestamp.timestamp() * 1e9),
                observed_timestamp=round(clock.utc_now().timestamp() * 1e9),
                trace_id=int(record.trace_id, 16) if record.trace_id else None,
                span_id=int(record.span_id, 16) if record.span_id else None,
                severity_text=record.severity.value,
                severity_number=_SEVERITIES[record.severity],
                body=record.message,
                attributes={name: value for name, value in found.items() if value is not None},
            )
        )


def __dir__() -> list[str]:
    return sorted(__all__)
