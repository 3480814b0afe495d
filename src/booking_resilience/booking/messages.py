"""What to tell people when a booking fails: one of four texts."""

from __future__ import annotations

from booking_resilience.errors import CircuitOpenError

DATA = "Booking data error. Please try again or contact support."
NETWORK = "Network error. Please check your connection and try again."
SERVICE = "Service temporarily unavailable. Please try again in a moment."
OTHER = "Booking creation failed"

_DATA_TYPES = ("invalid_structure", "argument_invalid", "missing_data", "missing_payload", "query_invalid")
_DATA_TEXTS = (
    "missing required attribute",
    "invalid document structure",
    "unknown attribute",
    "param: ",
    "has invalid type",
)
_NETWORK_TEXTS = ("network request failed", "network error", "failed to fetch", "connection refused", "connection reset",
                  "connection aborted", "timed out", "timeout")  # fmt: skip
_NETWORK_NAMES = frozenset({"ConnectionError", "ConnectError", "ConnectTimeout", "ReadTimeout", "Timeout", "NetworkError",
                            "ChunkedEncodingError", "ProtocolError", "ReadError", "RemoteProtocolError"})  # fmt: skip


def message_for(error: BaseException) -> str:
    """Return the text for people that fits the error.

    Looked at are the error, then what it was raised from (`__cause__`, and so on): its type and, of an answer of
    Appwrite, its status and type; only then its text.

    Returns:
        One of the four texts: the data was refused; the network failed or nobody answered in time; the service is
        overloaded, down, or its breaker open; anything else.

    >>> message_for(TimeoutError())
    'Network error. Please check your connection and try again.'
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if message := _by_kind(link) or _by_text(link):
            return message
        link = link.__cause__
    return OTHER


def _by_kind(error: BaseException) -> str | None:
    if isinstance(error, CircuitOpenError):
        return SERVICE
    status, kind = _attribute(error, "code"), _attribute(error, "type")
    if isinstance(status, int) and not isinstance(status, bool) and status >= 100:
        if status in (408, 429) or status >= 500:
            return SERVICE
        if status == 400 or (isinstance(kind, str) and kind.endswith(_DATA_TYPES)):
            return DATA
        return OTHER
    if isinstance(error, (ConnectionError, TimeoutError)):
        return NETWORK
    if any(base.__name__ in _NETWORK_NAMES for base in type(error).__mro__):
        return NETWORK
    inner = _attribute(error, "message")  # the SDK's error for no answer holds that of its HTTP library
    if isinstance(inner, BaseException) and inner is not error:
        return _by_kind(inner)
    return None


def _by_text(error: BaseException) -> str | None:
    try:
        text = str(error)[:10_000].lower()
    except Exception:  # noqa: BLE001 - a broken __str__ says nothing
        return None
    if any(sign in text for sign in _DATA_TEXTS):
        return DATA
    return NETWORK if any(sign in text for sign in _NETWORK_TEXTS) else None


def _attribute(error: BaseException, name: str) -> object:
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001 - a broken property says nothing
        return None
