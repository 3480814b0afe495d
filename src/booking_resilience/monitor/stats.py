"""The monitor's numbers, as it tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from booking_resilience.events import AlertEvent, ErrorCategory
    from booking_resilience.monitor.record import ErrorRecord, Severity


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """The monitor's numbers, all of one moment, since it was made or cleared.

    Attributes:
        total: Records made: the sum of the four that follow.
        failed: Operations that failed.
        recovered: Operations that succeeded after a retry.
        refused: Operations of which no attempt was made, as a breaker or a limit rejected them.
        fell_back: Operations in which something else took the place of the result.
        by_category: `total` by category; all categories are there.
        by_severity: `total` by severity; all severities are there.
        error_rate: Errors and critical errors per minute, over the window.
        alert: The alert as it fires, else None.
        dropped: Records no longer kept.
        groups: How many groups of errors there are.
    """

    total: int
    failed: int
    recovered: int
    refused: int
    fell_back: int
    by_category: dict[ErrorCategory, int]
    by_severity: dict[Severity, int]
    error_rate: float
    alert: AlertEvent | None
    dropped: int
    groups: int


@dataclass(frozen=True, slots=True)
class MonitorSnapshot:
    """What a dashboard shows, all of one moment; `recent_errors` are the newest 50, newest first."""

    stats: ErrorStats
    recent_errors: list[ErrorRecord]
    error_rate: float
    alerting: bool
