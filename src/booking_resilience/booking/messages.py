"""What to tell people when a booking fails: one of four texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from booking_resilience.errors import CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA: Final = "Booking data error. Please try again or contact support."
NETWORK: Final = "Network error. Please check your connection and try again."
SERVICE: Final = "Service temporarily unavailable. Please try again in a moment."
OTHER: Final = "Booking creation failed"

_DATA_TEXTS: Final = (
    "missing required attribute",
    "missing required column",
    "invalid document structure",
    "invalid row structure",
    "unknown attribute",
    "unknown column",
    "param: ",
    "has invalid type",
    "has invalid format",
)
_NETWORK_TEXTS: Final = (
    "network request failed",
    "network error",
    "network is unreachable",
    "failed to fetch",
    "connection refused",
    "connection reset",
    "connection aborted",
    "timed out",
    "timeout",
)
_SERVICE_TEXTS: Final = ("circuit breaker is open", "service unavailable", "too many requests", "rate limit")
# Errors of sockets, requests, urllib3 and httpx when no answer came, by name: none of them need be installed.
_NETWORK_NAMES: Final = frozenset(
    {
        "CertificateError", "ChunkedEncodingError", "ConnectTimeoutError", "ConnectionError", "MaxRetryError",
        "NameResolutionError", "NewConnectionError", "ProtocolError", "ReadTimeoutError", "SSLError", "Timeout",
        "TransportError", "gaierror",
    }
)  # fmt: skip
_TEXT_LOOKED_AT: Final = 10_000


def message_for(error: BaseException) -> str:
    """Return the text for people that fits the error.

    Looked at are the error, then what it was raised from (`__cause__`, and so on): the types of all of them and, of an
    answer of Appwrite, its status and type; their texts only if none of that tells.

    Returns:
        One of the four texts: the data was refused; the network failed or nobody answered in time; the service is
        overloaded, down, or its breaker open; anything else.

    >>> message_for(TimeoutError())
    'Network error. Please check your connection and try again.'
    """
    if not isinstance(error, BaseException):
        raise TypeError(f"error must be an exception, not {error!r}")
    links = tuple(_links(error))
    for link in links:
        if message := _by_kind(link):
            return message
    for link in links:
        if message := _by_text(link):
            return message
    return OTHER


def _links(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__


def _by_kind(error: BaseException) -> str | None:
    if isinstance(error, CircuitOpenError):
        return SERVICE
    status = _status(error)
    if status is not None and status >= 300:  # a success that broke off is told by the type of the error
        return _by_status(status)
    if isinstance(error, (ConnectionError, TimeoutError)):
        return NETWORK
    if any(base.__name__ in _NETWORK_NAMES for base in type(error).__mro__):
        return NETWORK
    inner = _attribute(error, "message") if status == 0 else None
    if isinstance(inner, Exception) and _status(inner) is None:  # the SDK's error for no answer holds the real one
        return _by_kind(inner)
    return None


def _by_status(status: int) -> str:
    if status in (408, 429) or status >= 500:
        return SERVICE
    return DATA if status == 400 else OTHER


def _status(error: BaseException) -> int | None:
    """Return the `code` of an AppwriteException, known by its attributes: the HTTP status, 0 if no answer came."""
    code, kind = _attribute(error, "code"), _attribute(error, "type", missing=error)
    if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 600 and isinstance(kind, (str, type(None))):
        return code
    return None


def _by_text(error: BaseException) -> str | None:
    try:
        text = str(error)[:_TEXT_LOOKED_AT].lower()
    except Exception:  # noqa: BLE001 - a broken __str__ says nothing
        return None
    for message, signs in ((DATA, _DATA_TEXTS), (SERVICE, _SERVICE_TEXTS), (NETWORK, _NETWORK_TEXTS)):
        if any(sign in text for sign in signs):
            return message
    return None


def _attribute(error: BaseException, name: str, missing: object = None) -> object:
    try:
        return getattr(error, name, missing)
    except Exception:  # noqa: BLE001 - a broken property says nothing
        return missing
