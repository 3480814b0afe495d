"""The message to show people when a booking fails: one of four."""

from __future__ import annotations

from typing import Final

from booking_resilience.checks import check_type, is_a
from booking_resilience.verdicts import leaves, told_of

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
_TEXT_LOOKED_AT: Final = 10_000
_cause = BaseException.__dict__["__cause__"].__get__  # past a class that overrides it
_DEEPEST: Final = 20


def message_for(error: BaseException) -> str:
    """Return the message to show people for this error.

    It checks the error and what it was raised from (`__cause__`, and so on), first by their meaning, as `classify`
    knows it, then by their texts. Of an exception group, the first leaf with one of the first three messages decides.

    Returns:
        One of four texts, for refused data, for a network that failed or timed out, for a service that is overloaded,
        down or behind an open breaker, and for anything else.

    >>> message_for(TimeoutError())
    'Network error. Please check your connection and try again.'
    """
    check_type("error", error, is_a(error, BaseException), "an exception")
    return _message(error, set(), 0)


def _message(error: BaseException, seen: set[int], depth: int) -> str:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        links.append(link)
        link = _cause(link)
    for link in links:
        message = _of_group(link, seen, depth) if isinstance(link, BaseExceptionGroup) else _by_kind(link)
        if message:
            return message
    for link in links:
        if message := _by_text(link):
            return message
    return OTHER


def _of_group(group: BaseException, seen: set[int], depth: int) -> str | None:
    if depth < _DEEPEST:
        for leaf in leaves(group):
            if (message := _message(leaf, seen, depth + 1)) != OTHER:
                return message
    return None


def _by_kind(error: BaseException) -> str | None:
    text, status = told_of(error)
    if text:
        return NETWORK if text == "network" else SERVICE
    if status is None:
        return None
    return DATA if status == 400 else OTHER


def _by_text(error: BaseException) -> str | None:
    try:
        text = str(error)[:_TEXT_LOOKED_AT].lower()
    except Exception:  # noqa: BLE001 - a broken __str__ says nothing
        return None
    for message, signs in ((DATA, _DATA_TEXTS), (SERVICE, _SERVICE_TEXTS), (NETWORK, _NETWORK_TEXTS)):
        if any(sign in text for sign in signs):
            return message
    return None
