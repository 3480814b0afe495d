"""How long an answer asks its client to wait: the headers Retry-After and X-Ratelimit-Reset."""

from __future__ import annotations

import datetime
import email.utils
import math
from typing import TYPE_CHECKING, Final

from booking_resilience import clock

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUSY: Final = 429
_LONGEST: Final = 366 * 86_400.0  # a year: what asks for more makes no sense, but must not be retried sooner either


def retry_after_of(status: int | None, headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that an answer asks for, 0 or more; None if it asks for nothing sane.

    `Retry-After` (RFC 9110, section 10.2.3) holds seconds or an HTTP date and counts with any failure.
    `X-Ratelimit-Reset` is Appwrite's: Unix seconds. It comes with successes, too, so it counts with a 429 only.

    Args:
        status: The answer's status.
        headers: Its headers; the case of their names does not matter.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    seconds = _retry_after(lowered.get("retry-after", ""))
    if seconds is None and status == _BUSY:
        seconds = _until(_number(lowered.get("x-ratelimit-reset", "")))
    return None if seconds is None else min(max(0.0, seconds), _LONGEST)


def _retry_after(text: str) -> float | None:
    seconds = _number(text)
    if seconds is not None:
        return seconds if seconds >= 0 else None
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return _until(moment.timestamp())


def _until(epoch: float | None) -> float | None:
    return None if epoch is None or epoch <= 0 else epoch - clock.utc_now().timestamp()


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
