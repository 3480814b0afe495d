"""What a fault makes of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from booking_resilience import clock
from booking_resilience.testing.appwrite_server.dialect import VERSION, ApiError
from booking_resilience.testing.appwrite_server.exchange import JSON, Answer
from booking_resilience.testing.faults import TYPES

if TYPE_CHECKING:
    from booking_resilience.testing.faults import Fault

_MESSAGES = {
    408: "Database timed out. Try adjusting your queries or adding an index.",
    429: "Rate limit for the current endpoint has been exceeded. Please try again after some time.",
}
_PROXY_PAGE = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr></body></html>"


def faulty(fault: Fault, answer: Answer | None) -> Answer | None:
    """Return what a fault makes of an answer; None if nothing is answered."""
    if fault.kind in ("reset", "close", "hang"):
        return None
    if fault.kind == "rate_limited":
        limit = ApiError(429, TYPES[429], _MESSAGES[429])
        reset = str(int(-(-(clock.utc_now().timestamp() + fault.reset_in) // 1)))
        headers = {"X-Ratelimit-Limit": "120", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": reset}
        return Answer(429, limit.body(), headers)
    if fault.kind == "status":
        return _status(fault)
    if fault.kind == "invalid_json":
        return Answer(201 if answer is not None and answer.status == 201 else 200, b'{"$id": "')
    return answer or Answer(500, ApiError(500, TYPES[500], "Server Error").body())


def _status(fault: Fault) -> Answer:
    if fault.html:
        body: Any = _PROXY_PAGE % (fault.code, fault.code)
        natural = "text/html"
    else:
        type_ = fault.type or TYPES.get(
            fault.code, "general_unknown" if fault.code >= 500 else "general_argument_invalid"
        )
        usual = "Server Error" if fault.code >= 500 else "A fault of the embedded server."
        body = ApiError(fault.code, type_, _MESSAGES.get(fault.code, usual)).body()
        natural = JSON
        if fault.type is None and fault.code == 500 and (fault.content_type or "").startswith("text/html"):
            body = {"message": "Error: Server Error", "code": 500, "version": VERSION}  # of the HTTP library
    content_type = natural if fault.content_type == "" else fault.content_type
    return Answer(fault.code, body, content_type=content_type or "")
