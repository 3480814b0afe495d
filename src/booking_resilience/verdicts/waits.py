"""How long an error asks its caller to wait: one parser for every form in which it may say so."""

from __future__ import annotations

import datetime
import math
from typing import Any, Final

from booking_resilience import clock

LONGEST_WAIT: Final = 86_400.0
"""Seconds, a day: what asks for more is not waited for, whatever time there is."""

_TEXT_READ: Final = 4096
_HEADERS_READ: Final = 1000


def seconds_of(value: object) -> float | None:
    """Return the seconds that a wish stands for, 0 or more, infinity included; None if it isn't a sane one.

    Args:
        value: A number of any kind or its text, in seconds; an HTTP date (RFC 9110, 5.6.7), as text; a `timedelta`.

    >>> seconds_of(" 30 "), seconds_of(datetime.timedelta(minutes=2)), seconds_of("soon"), seconds_of(-1)
    (30.0, 120.0, None, None)
    """
    try:
        if value is None or isinstance(value, bool):
            return None
        if isinstance(value, datetime.timedelta):
            seconds = value.total_seconds()
        elif isinstance(value, (str, bytes)):
            seconds = _of_text(value if isinstance(value, str) else value.decode("latin-1"))
        else:
            seconds = _number(value)
    except Exception:  # noqa: BLE001 - what can't be read asks for nothing
        return None
    return seconds if seconds >= 0 else None  # neither a negative one nor NaN


def header(headers: object, name: str) -> object:
    """Return a header's value; None if there is none. `headers` is any mapping, or an iterable of pairs.

    Where a library keeps a list of values (`grpc.aio` does), the first counts.

    Args:
        headers: The headers, as whatever library keeps them.
        name: The header's name, in lower case; theirs are compared without case.
    """
    try:
        items = getattr(headers, "items", None)
        pairs: Any = items() if callable(items) else headers
        for number, (key, value) in enumerate(pairs):
            if number >= _HEADERS_READ:
                break
            if (key.decode("latin-1") if isinstance(key, bytes) else str(key)).lower() == name:
                return value[0] if isinstance(value, list) else value
    except Exception:  # noqa: BLE001 - what can't be read has no headers
        return None
    return None


def wait_in(headers: object, status: int | None, of_appwrite: bool = False) -> float | None:
    """Return the seconds to wait that an answer's headers ask for; None if they name no usable time.

    `Retry-After` (RFC 9110, 10.2.3) counts with any failure; `X-RateLimit-Reset` of Appwrite, Unix seconds, comes with
    successes, too, so it counts with a 429 only.
    """
    if headers is None:
        return None
    seconds = seconds_of(header(headers, "retry-after"))
    if seconds is None and of_appwrite and status == 429:
        epoch = seconds_of(header(headers, "x-ratelimit-reset"))
        if epoch and math.isfinite(epoch):
            seconds = _until(epoch)
    return seconds


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _of_text(text: str) -> float:
    text = text[:_TEXT_READ].strip()
    try:
        return float(text)
    except ValueError:
        from email.utils import parsedate_to_datetime

        moment = parsedate_to_datetime(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return _until(moment.timestamp())


def _until(epoch: float) -> float:
    """Return the seconds until then; 0.0 if it is over."""
    return max(0.0, epoch - clock.utc_now().timestamp())
