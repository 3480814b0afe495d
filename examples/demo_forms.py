"""Reads requests to the demo server: bodies of limited size, and bookings as JSON with everything that is wrong."""

from __future__ import annotations

import asyncio
import datetime
import json
import unicodedata
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.exceptions import HTTPException

from booking_flow import DURATIONS, BookingRequest
from booking_resilience import resolve_source
from booking_resilience.web import idempotent_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

BODY_LIMIT = 16 * 1024
BODY_TIME = 5.0
BOOKING_TYPES = ("immediate", "scheduled")
RUN = "demo"
_SHOWN = 60


class FormError(ValueError):
    """A booking that can't be made as requested.

    Attributes:
        problems: What is wrong, by field; the key `body` stands for the whole.
    """

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in problems.items()))
        self.problems = problems


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: 413 if it is larger than `BODY_LIMIT` bytes, 408 if it takes longer than `BODY_TIME` seconds.
        ClientDisconnect: If the client disconnects.
    """
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_TIME):
            async for chunk in request.stream():  # to its end: a client in the middle of sending hears no answer
                size += len(chunk)
                if size <= BODY_LIMIT:
                    body += chunk
                else:
                    body.clear()
    except TimeoutError:
        status = 408 if size <= BODY_LIMIT else 413
        raise HTTPException(status, "the request took too long", {"Connection": "close"}) from None
    if size > BODY_LIMIT:
        raise HTTPException(413, f"the request must have at most {BODY_LIMIT} bytes")
    return bytes(body)


def parse_booking(body: bytes) -> BookingRequest:
    """Return the requested booking.

    Raises:
        FormError: With everything that is wrong.
    """
    facts = _parse_object(body)
    problems = {field: "is not known" for field in facts if field not in _CHECKS}
    for field, check in _CHECKS.items():
        value = facts.get(field)
        if value is None and field in _OPTIONAL:
            continue
        if field not in facts:
            problems[field] = "is missing"
        elif problem := check(value):
            problems[field] = problem
    if problems:
        raise FormError({_shown(field).strip('"'): problem for field, problem in problems.items()})
    return BookingRequest(
        therapist_id=facts["therapistId"],
        therapist_name=facts["therapistName"],
        user_id=facts["userId"],
        booking_type=facts["bookingType"],
        duration=facts["duration"],
        start=None if facts.get("start") is None else datetime.datetime.fromisoformat(facts["start"]),
        source=facts.get("source"),
        chat_window_open=facts.get("chatWindowOpen") is True,
        booking_id=idempotent_id("booking", facts["userId"]),
        run=RUN,
    )


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(body.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise FormError({"body": "must be JSON"}) from None
    if not isinstance(facts, dict):
        raise FormError({"body": "must be a JSON object"})
    return facts


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)  # NaN and its kin are Python's, not JSON's


def _text(longest: int) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return f"must be a string, not {_shown(value)}"
        if not value.strip() or len(value) > longest:
            return f"must have 1 to {longest} characters, not only blanks"
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
            return "must have no control characters"
        return None

    return check


def _booking_type(value: object) -> str | None:
    if isinstance(value, str) and value in BOOKING_TYPES:
        return None
    return f"must be one of {', '.join(BOOKING_TYPES)}, not {_shown(value)}"


def _minutes(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value in DURATIONS:
        return None
    return f"must be a whole number of minutes from {DURATIONS.start} to {DURATIONS.stop - 1}, not {_shown(value)}"


def _start(value: object) -> str | None:
    try:
        moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None or not 1970 <= moment.year < 9999:
        return f"must be a moment with a time zone, as 2027-01-04T09:00:00+00:00, not {_shown(value)}"
    return None


def _source(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be a string, not {_shown(value)}"
    try:
        resolve_source(source=value[:_SHOWN])
    except ValueError as error:
        return str(error)
    return None


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else f"must be true or false, not {_shown(value)}"


def _shown(value: object) -> str:
    """Return the value as JSON, of a reasonable length."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "therapistId": _text(64),
    "therapistName": _text(128),
    "userId": _text(64),
    "bookingType": _booking_type,
    "duration": _minutes,
    "start": _start,
    "source": _source,
    "chatWindowOpen": _flag,
}
_OPTIONAL = ("start", "source", "chatWindowOpen")
