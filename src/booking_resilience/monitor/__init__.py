"""What went wrong, how often, since when: the error monitor."""

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.export import load_json
from booking_resilience.monitor.history import AlertTransition, History
from booking_resilience.monitor.monitor import ErrorMonitor
from booking_resilience.monitor.rate import AlertRule
from booking_resilience.monitor.record import ErrorRecord, ErrorStats, MonitorSnapshot, Severity
from booking_resilience.monitor.redact import DEFAULT_REDACTION, Redaction
from booking_resilience.monitor.store import ErrorGroup

__all__ = [
    "DEFAULT_REDACTION",
    "AlertRule",
    "AlertTransition",
    "ErrorCategory",
    "ErrorGroup",
    "ErrorMonitor",
    "ErrorRecord",
    "ErrorStats",
    "History",
    "MonitorSnapshot",
    "Redaction",
    "Severity",
    "load_json",
]
