"""Keeps an application working while the backends that it calls fail, hang or lose answers.

What is imported from here is loaded when it is first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from booking_resilience.batch import (
        BatchOutcome,
        BatchResult,
        iter_batch,
        iter_batch_async,
        run_batch,
        run_batch_async,
    )
    from booking_resilience.booking import (
        AsyncChatProvider,
        AsyncChatService,
        BookingSource,
        BookingSuccess,
        ChatMessage,
        ChatProvider,
        ChatRoom,
        ChatService,
        Page,
        booking_attribution,
        iter_messages,
        iter_messages_async,
        message_for,
        resolve_source,
    )
    from booking_resilience.breaker import BreakerSnapshot, CircuitBreaker, FailureRate, Permit, SharedSnapshot
    from booking_resilience.breakers import Breakers
    from booking_resilience.deadlines import deadline, remaining_time
    from booking_resilience.errors import (
        CircuitOpenError,
        DeadlineExceededError,
        LimitExceededError,
        ResilienceError,
        TransientError,
    )
    from booking_resilience.events import (
        AlertEvent,
        BreakerEvent,
        BreakerState,
        ErrorCategory,
        FailedAttempt,
        Listener,
        RetryEvent,
        Subscription,
    )
    from booking_resilience.monitor import (
        DEFAULT_REDACTION,
        AlertRule,
        ErrorGroup,
        ErrorMonitor,
        ErrorRecord,
        ErrorStats,
        MonitorSnapshot,
        Redaction,
        Severity,
        load_json,
    )
    from booking_resilience.pipeline import Pipeline
    from booking_resilience.recording import ErrorRecorder
    from booking_resilience.retry import (
        DEFAULT_RETRY,
        RetryBudget,
        RetryPolicy,
        attempts_of,
        retry_attempts,
        retrying,
        with_retry,
        with_retry_async,
    )
    from booking_resilience.settings import Settings
    from booking_resilience.verdicts import Verdict, classify, is_backend_failure, is_no_evidence, is_transient

__all__ = [
    "DEFAULT_REDACTION",
    "DEFAULT_RETRY",
    "AlertEvent",
    "AlertRule",
    "AsyncChatProvider",
    "AsyncChatService",
    "BatchOutcome",
    "BatchResult",
    "BookingSource",
    "BookingSuccess",
    "BreakerEvent",
    "BreakerSnapshot",
    "BreakerState",
    "Breakers",
    "ChatMessage",
    "ChatProvider",
    "ChatRoom",
    "ChatService",
    "CircuitBreaker",
    "CircuitOpenError",
    "DeadlineExceededError",
    "ErrorCategory",
    "ErrorGroup",
    "ErrorMonitor",
    "ErrorRecord",
    "ErrorRecorder",
    "ErrorStats",
    "FailedAttempt",
    "FailureRate",
    "LimitExceededError",
    "Listener",
    "MonitorSnapshot",
    "Page",
    "Permit",
    "Pipeline",
    "Redaction",
    "ResilienceError",
    "RetryBudget",
    "RetryEvent",
    "RetryPolicy",
    "Settings",
    "Severity",
    "SharedSnapshot",
    "Subscription",
    "TransientError",
    "Verdict",
    "attempts_of",
    "booking_attribution",
    "classify",
    "deadline",
    "is_backend_failure",
    "is_no_evidence",
    "is_transient",
    "iter_batch",
    "iter_batch_async",
    "iter_messages",
    "iter_messages_async",
    "load_json",
    "message_for",
    "remaining_time",
    "resolve_source",
    "retry_attempts",
    "retrying",
    "run_batch",
    "run_batch_async",
    "with_retry",
    "with_retry_async",
]

_HOMES = {
    "batch": ("BatchOutcome", "BatchResult", "iter_batch", "iter_batch_async", "run_batch", "run_batch_async"),
    "booking": (
        "AsyncChatProvider",
        "AsyncChatService",
        "BookingSource",
        "BookingSuccess",
        "ChatMessage",
        "ChatProvider",
        "ChatRoom",
        "ChatService",
        "Page",
        "booking_attribution",
        "iter_messages",
        "iter_messages_async",
        "message_for",
        "resolve_source",
    ),
    "breaker": ("BreakerSnapshot", "CircuitBreaker", "FailureRate", "Permit", "SharedSnapshot"),
    "breakers": ("Breakers",),
    "deadlines": ("deadline", "remaining_time"),
    "errors": (
        "CircuitOpenError",
        "DeadlineExceededError",
        "LimitExceededError",
        "ResilienceError",
        "TransientError",
    ),
    "events": (
        "AlertEvent",
        "BreakerEvent",
        "BreakerState",
        "ErrorCategory",
        "FailedAttempt",
        "Listener",
        "RetryEvent",
        "Subscription",
    ),
    "monitor": (
        "DEFAULT_REDACTION",
        "AlertRule",
        "ErrorGroup",
        "ErrorMonitor",
        "ErrorRecord",
        "ErrorStats",
        "MonitorSnapshot",
        "Redaction",
        "Severity",
        "load_json",
    ),
    "pipeline": ("Pipeline",),
    "recording": ("ErrorRecorder",),
    "retry": (
        "DEFAULT_RETRY",
        "RetryBudget",
        "RetryPolicy",
        "attempts_of",
        "retry_attempts",
        "retrying",
        "with_retry",
        "with_retry_async",
    ),
    "settings": ("Settings",),
    "verdicts": ("Verdict", "classify", "is_backend_failure", "is_no_evidence", "is_transient"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # type checkers would take `__getattr__` as leave to import any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
