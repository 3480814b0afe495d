"""Errors as HTTP answers: RFC 9457 problem details, with the text for people and nothing else of the error."""

from __future__ import annotations

import http
import json
import math
from dataclasses import dataclass

from booking_resilience.booking import message_for
from booking_resilience.deadlines import remaining_time
from booking_resilience.errors import CircuitOpenError, DeadlineExceededError, LimitExceededError
from booking_resilience.verdicts import classify, leaves, retry_after_of
from booking_resilience.web.keys import IdempotentId

_OVER = 0.001  # seconds left: a timer that was set to the deadline may be that early, as uvloop's are
_CONFLICTS = frozenset({"RowConflictError", "SlotTakenError"})  # by name: the Appwrite extra need not be installed


@dataclass(frozen=True, slots=True)
class Problem:
    """An HTTP answer to an error.

    Attributes:
        status: The HTTP status.
        headers: Its headers.
        body: JSON of type `application/problem+json`.
    """

    status: int
    headers: dict[str, str]
    body: bytes


def problem_for(error: BaseException) -> Problem | None:
    """Return the answer to an error that a handler let out; None if it is not for this library to answer.

    A rejection by a breaker or a limit is 503, with `Retry-After` where the error knows it; the end of a deadline 504,
    and so is a transient error without an answer once the request's deadline is over; another's row in the way 409,
    or 422 where the row's ID came from `idempotent_id`: the same key was used for another request. A group, a
    `TaskGroup`'s say, is answered as its first error, if each of them would be answered.

    >>> problem_for(CircuitOpenError("backend", 0.2)).headers["Retry-After"]
    '1'
    """
    status = _status_for(error)
    if status is None and isinstance(error, ExceptionGroup):
        each = [_status_for(leaf) for leaf in leaves(error)]
        status = None if None in each else each[0]
    if status is None:
        return None
    retry_after = retry_after_of(error) if status == http.HTTPStatus.SERVICE_UNAVAILABLE else None
    if retry_after is None or not math.isfinite(retry_after):
        return problem(status, message_for(error))
    return problem(status, message_for(error), {"Retry-After": str(max(1, math.ceil(retry_after)))})


def problem(status: int, detail: str, more: dict[str, str] | None = None) -> Problem:
    """Return the answer with that status and text."""
    title = http.HTTPStatus(status).phrase
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
    headers = {"Content-Type": "application/problem+json", "Content-Length": str(len(body)), **(more or {})}
    return Problem(int(status), headers, body)


def _status_for(error: BaseException) -> int | None:
    if isinstance(error, (CircuitOpenError, LimitExceededError)):
        return http.HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, DeadlineExceededError):
        return http.HTTPStatus.GATEWAY_TIMEOUT
    if not isinstance(error, Exception):
        return None
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("booking_resilience.")}
    if names & _CONFLICTS:
        is_reused = "SlotTakenError" not in names and isinstance(getattr(error, "row_id", None), IdempotentId)
        return http.HTTPStatus.UNPROCESSABLE_ENTITY if is_reused else http.HTTPStatus.CONFLICT
    left = remaining_time()
    if left is not None and left < _OVER:
        verdict = classify(error)
        if verdict.transient and verdict.sent != "yes":
            return http.HTTPStatus.GATEWAY_TIMEOUT
    return None
