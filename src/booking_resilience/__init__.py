"""Keeps an application working while the backends that it calls fail, hang or lose answers.

What is imported from here is loaded when it is first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    __all__: list[str]

    from booking_resilience.batch import BatchOutcome as BatchOutcome
    from booking_resilience.batch import BatchResult as BatchResult
    from booking_resilience.batch import iter_batch as iter_batch
    from booking_resilience.batch import iter_batch_async as iter_batch_async
    from booking_resilience.batch import run_batch as run_batch
    from booking_resilience.batch import run_batch_async as run_batch_async
    from booking_resilience.booking import AsyncChatProvider as AsyncChatProvider
    from booking_resilience.booking import AsyncChatService as AsyncChatService
    from booking_resilience.booking import BookingSource as BookingSource
    from booking_resilience.booking import BookingSuccess as BookingSuccess
    from booking_resilience.booking import ChatMessage as ChatMessage
    from booking_resilience.booking import ChatProvider as ChatProvider
    from booking_resilience.booking import ChatRoom as ChatRoom
    from booking_resilience.booking import ChatService as ChatService
    from booking_resilience.booking import Page as Page
    from booking_resilience.booking import booking_attribution as booking_attribution
    from booking_resilience.booking import iter_messages as iter_messages
    from booking_resilience.booking import iter_messages_async as iter_messages_async
    from booking_resilience.booking import message_for as message_for
    from booking_resilience.booking import resolve_source as resolve_source
    from booking_resilience.breaker import BreakerSnapshot as BreakerSnapshot
    from booking_resilience.breaker import CircuitBreaker as CircuitBreaker
    from booking_resilience.breaker import FailureRate as FailureRate
    from booking_resilience.breaker import Permit as Permit
    from booking_resilience.breaker import SharedSnapshot as SharedSnapshot
    from booking_resilience.breakers import Breakers as Breakers
    from booking_resilience.deadlines import deadline as deadline
    from booking_resilience.deadlines import remaining_time as remaining_time
    from booking_resilience.errors import CircuitOpenError as CircuitOpenError
    from booking_resilience.errors import DeadlineExceededError as DeadlineExceededError
    from booking_resilience.errors import LimitExceededError as LimitExceededError
    from booking_resilience.errors import ResilienceError as ResilienceError
    from booking_resilience.errors import TransientError as TransientError
    from booking_resilience.events import AlertEvent as AlertEvent
    from booking_resilience.events import BreakerEvent as BreakerEvent
    from booking_resilience.events import BreakerState as BreakerState
    from booking_resilience.events import ErrorCategory as ErrorCategory
    from booking_resilience.events import FailedAttempt as FailedAttempt
    from booking_resilience.events import Listener as Listener
    from booking_resilience.events import RetryEvent as RetryEvent
    from booking_resilience.events import Subscription as Subscription
    from booking_resilience.monitor import DEFAULT_REDACTION as DEFAULT_REDACTION
    from booking_resilience.monitor import AlertRule as AlertRule
    from booking_resilience.monitor import ErrorGroup as ErrorGroup
    from booking_resilience.monitor import ErrorMonitor as ErrorMonitor
    from booking_resilience.monitor import ErrorRecord as ErrorRecord
    from booking_resilience.monitor import ErrorStats as ErrorStats
    from booking_resilience.monitor import MonitorSnapshot as MonitorSnapshot
    from booking_resilience.monitor import Redaction as Redaction
    from booking_resilience.monitor import Severity as Severity
    from booking_resilience.monitor import load_json as load_json
    from booking_resilience.pipeline import Pipeline as Pipeline
    from booking_resilience.recording import ErrorRecorder as ErrorRecorder
    from booking_resilience.retry import DEFAULT_RETRY as DEFAULT_RETRY
    from booking_resilience.retry import RetryBudget as RetryBudget
    from booking_resilience.retry import RetryPolicy as RetryPolicy
    from booking_resilience.retry import attempts_of as attempts_of
    from booking_resilience.retry import retry_attempts as retry_attempts
    from booking_resilience.retry import retrying as retrying
    from booking_resilience.retry import with_retry as with_retry
    from booking_resilience.retry import with_retry_async as with_retry_async
    from booking_resilience.settings import Settings as Settings
    from booking_resilience.verdicts import Verdict as Verdict
    from booking_resilience.verdicts import classify as classify
    from booking_resilience.verdicts import is_backend_failure as is_backend_failure
    from booking_resilience.verdicts import is_no_evidence as is_no_evidence
    from booking_resilience.verdicts import is_transient as is_transient

_NAMES = {
    "batch": "BatchOutcome BatchResult iter_batch iter_batch_async run_batch run_batch_async",
    "booking": (
        "AsyncChatProvider AsyncChatService BookingSource BookingSuccess ChatMessage ChatProvider ChatRoom "
        "ChatService Page booking_attribution iter_messages iter_messages_async message_for resolve_source"
    ),
    "breaker": "BreakerSnapshot CircuitBreaker FailureRate Permit SharedSnapshot",
    "breakers": "Breakers",
    "deadlines": "deadline remaining_time",
    "errors": "CircuitOpenError DeadlineExceededError LimitExceededError ResilienceError TransientError",
    "events": "AlertEvent BreakerEvent BreakerState ErrorCategory FailedAttempt Listener RetryEvent Subscription",
    "monitor": (
        "DEFAULT_REDACTION AlertRule ErrorGroup ErrorMonitor ErrorRecord ErrorStats MonitorSnapshot Redaction "
        "Severity load_json"
    ),
    "pipeline": "Pipeline",
    "recording": "ErrorRecorder",
    "retry": "DEFAULT_RETRY RetryBudget RetryPolicy attempts_of retry_attempts retrying with_retry with_retry_async",
    "settings": "Settings",
    "verdicts": "Verdict classify is_backend_failure is_no_evidence is_transient",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

if not TYPE_CHECKING:  # type checkers would take `__getattr__` as leave to import any name
    # As linters sort such lists: constants, then classes, then the rest.
    __all__ = sorted(_MODULE_OF, key=lambda name: (not name.isupper(), name[0].islower(), name))

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*_MODULE_OF, "__version__"])
