"""The ways to record an error that all come down to `record`."""

from __future__ import annotations

import abc
import logging
from collections.abc import Mapping
from typing import Any

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.capture import Capture, MonitorHandler
from booking_resilience.monitor.context import MonitorContext
from booking_resilience.monitor.record import ErrorRecord, Severity, member_of


class Recorder:
    """What `ErrorMonitor` can do by its method `record` alone."""

    def __init__(self) -> None:
        self._key = object()  # what `surroundings` knows it by

    @abc.abstractmethod
    def record(
        self,
        error: BaseException,
        *,
        operation: str,
        category: ErrorCategory | str = ErrorCategory.NETWORK,
        severity: Severity | str = Severity.ERROR,
        context: Mapping[str, Any] | None = None,
    ) -> ErrorRecord:
        """Record an error."""
        ...

    def capture(
        self,
        operation: str,
        *,
        category: ErrorCategory | str = ErrorCategory.NETWORK,
        severity: Severity | str = Severity.ERROR,
        **context: Any,
    ) -> Capture:
        """Return a context manager (`with`, `async with`) and decorator that records an exception and lets it pass.

        Cancellation, interrupts and exits pass unrecorded.
        """
        return Capture(
            self.record, operation, member_of(ErrorCategory, category), member_of(Severity, severity), context
        )

    def context(self, **values: Any) -> MonitorContext:
        """Return a context manager whose values join the context of every record that this monitor makes inside.

        Also in tasks and threads that take the block's context variables along. The values of an inner block go before
        those of an outer one, a record's own before both.
        """
        return MonitorContext(self._key, values)

    def logging_handler(self) -> logging.Handler:
        """Return a handler that records what is logged with an exception; the operation is the logger's name."""
        return MonitorHandler(self.record)

    def log_booking_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `booking`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.BOOKING, context=context)

    def log_chat_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `chat`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.CHAT, context=context)

    def log_payment_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `payment`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.PAYMENT, context=context)

    def log_appwrite_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `appwrite`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.APPWRITE, context=context)

    def log_network_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `network`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.NETWORK, context=context)
