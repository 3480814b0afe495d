"""What an error of a call to Appwrite means: may it pass by itself, did the request arrive, how long to wait.

The rules are those of the server's source and of what it was seen to do. A status alone does not tell: Appwrite sends
unknown codes as 500 with their own type, so a 500 is only the server's trouble if its type says so.
"""

from __future__ import annotations

from typing import Final

from booking_resilience.appwrite.evidence import evidence_of
from booking_resilience.appwrite.waits import retry_after_of
from booking_resilience.events import ErrorCategory
from booking_resilience.verdicts import Verdict

TOO_MANY_REQUESTS: Final = 429
REQUEST_TIMEOUT: Final = 408
_TROUBLE: Final = frozenset({None, "general_unknown", "general_server_error"})
_DISABLED: Final = frozenset({"general_smtp_disabled", "general_phone_disabled"})
_NEVER: Final = frozenset({501, 505})  # not implemented; HTTP version: the same request meets the same answer
_PASSING: Final = frozenset(
    {"general_resource_locked", "column_not_available", "attribute_not_available", "database_timeout"}
)


def classify(error: BaseException) -> Verdict:
    """Return what an error means: one of `AppwriteClient`, of the plain SDK client, or of an HTTP library.

    Anything else, and what the SDK raises before it sends (a missing parameter, say), is the calling program's
    mistake: not transient, not sent.

    >>> verdict = classify(ConnectionRefusedError())
    >>> verdict.transient, verdict.sent, verdict.category.value
    (True, 'no', 'network')
    """
    kind, sent, status, error_type, headers = evidence_of(error)
    if kind == "answer" and status is not None:
        transient = is_passing(status, error_type)
        wait = retry_after_of(status, headers) if transient else None
        return Verdict(transient, sent, ErrorCategory.APPWRITE, status, error_type, wait)
    category = ErrorCategory.NETWORK if kind in ("network", "cut", "certificate") else ErrorCategory.APPWRITE
    return Verdict(kind not in ("certificate", "local"), sent, category, status, error_type, None)


def is_passing(status: int, error_type: str | None) -> bool:
    """Tell whether an answer with this status and type may be another one later.

    Args:
        status: The HTTP status of a failure.
        error_type: Appwrite's error type, or None.
    """
    if status in (REQUEST_TIMEOUT, TOO_MANY_REQUESTS) or error_type in _PASSING:
        return True
    if status < 500 or status in _NEVER:
        return False
    if status in (502, 504):
        return True
    return error_type not in _DISABLED if status == 503 else error_type in _TROUBLE


def is_transient(error: BaseException) -> bool:
    """Tell whether an error may pass by itself; what `appwrite_retry` retries on."""
    return classify(error).transient


def is_backend_failure(error: BaseException) -> bool:
    """Tell whether an error says that the backend is in trouble: no answer, no readable one, a timeout, a 5xx."""
    evidence = evidence_of(error)
    if evidence.status is not None and evidence.kind == "answer":
        return evidence.status >= 500 or evidence.status == REQUEST_TIMEOUT
    return evidence.kind != "local"


def is_no_evidence(error: BaseException) -> bool:
    """Tell whether an error says nothing of the backend's health: it was told to slow down, or was never asked."""
    evidence = evidence_of(error)
    return evidence.status == TOO_MANY_REQUESTS or evidence.kind == "local"
