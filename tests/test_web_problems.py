"""`problem_for`: which errors are answered, and how."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from booking_resilience import (
    CircuitOpenError,
    DeadlineExceededError,
    ErrorMonitor,
    LimitExceededError,
    deadline,
    message_for,
)
from booking_resilience.appwrite import RowConflictError
from booking_resilience.testing import virtual_time
from booking_resilience.web import IdempotencyKey, Resilience, ResilienceDjango, ResilienceWSGI, problem_for
from booking_resilience.web.keys import IdempotentId
from webdrive import wsgi


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CircuitOpenError("backend", 1.0), 503),
        (LimitExceededError("backend", None), 503),
        (DeadlineExceededError("late"), 504),
        (RowConflictError("b1", None), 409),
        (RowConflictError(IdempotentId("b1"), None), 422),
    ],
)
def test_a_known_error_is_answered_with_the_text_for_people(error: Exception, status: int) -> None:
    """Refusals, deadlines and conflicts have a status each, and the body says what a person is told."""
    problem = problem_for(error)
    assert problem is not None
    body = json.loads(problem.body)
    assert type(problem.status) is int
    assert (problem.status, body["status"], body["detail"]) == (status, status, message_for(error))


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (None, None), (math.inf, None)]
)
def test_retry_after_is_whole_seconds_or_left_out(seconds: float | None, header: str | None) -> None:
    """It is rounded up, at least 1, and left out where the error knows no end, or none that ever comes."""
    for error in (CircuitOpenError("backend", seconds), LimitExceededError("backend", seconds)):
        problem = problem_for(error)
        assert problem is not None
        assert problem.headers.get("Retry-After") == header


def test_other_errors_are_not_answered() -> None:
    """An error that isn't known goes on; one without an answer is answered once the request's deadline is over."""
    assert problem_for(KeyError("x")) is None
    assert problem_for(KeyboardInterrupt()) is None
    assert problem_for(TimeoutError()) is None
    with deadline(0.0):
        found = problem_for(TimeoutError())
        assert found is not None
        assert found.status == 504
        assert problem_for(KeyError("x")) is None
        assert problem_for(http.client.IncompleteRead(b"half")) is None
    with virtual_time() as clock, deadline(1.0):
        clock.advance(0.99)
        assert problem_for(TimeoutError()) is None
        clock.advance(0.0095)  # where a timer that was set to the deadline may strike
        assert problem_for(TimeoutError()) is not None


def test_a_group_is_answered_if_each_of_its_errors_is() -> None:
    """The first error's status counts and the longest wait; a bug among them is the framework's to answer."""
    refusals = [CircuitOpenError("backend", 1.0), ExceptionGroup("inner", [LimitExceededError("limit", 7.0)])]
    problem = problem_for(ExceptionGroup("tasks", [*refusals, DeadlineExceededError("late")]))
    assert problem is not None
    assert (problem.status, problem.headers["Retry-After"]) == (503, "7")
    assert problem_for(ExceptionGroup("tasks", [*refusals, KeyError("x")])) is None
    assert problem_for(BaseExceptionGroup("tasks", [*refusals, KeyboardInterrupt()])) is None


@pytest.mark.parametrize("middleware", [Resilience, ResilienceWSGI, ResilienceDjango])
def test_a_deadline_header_has_a_name_that_a_header_can_have(middleware: Any) -> None:
    """What no client could send is refused when the middleware is made, not with each request."""
    for name in ("", "€", "a b", "a:"):
        with pytest.raises(ValueError, match="deadline_header must be"):
            middleware(lambda *_: None, deadline_header=name)


@pytest.mark.parametrize("middleware", [Resilience, ResilienceWSGI, ResilienceDjango, IdempotencyKey])
def test_what_is_no_application_or_monitor_is_refused(middleware: Any) -> None:
    """A mistake is told when the middleware is made, not with each request; a class is no monitor."""
    with pytest.raises(TypeError, match=r"^(app|get_response) must be"):
        middleware(None)
    if middleware is not IdempotencyKey:
        with pytest.raises(TypeError, match="monitor must be an ErrorMonitor or None"):
            middleware(lambda *_: None, monitor=ErrorMonitor)


def test_a_wsgi_response_without_content_is_replaced() -> None:
    """An error that comes after nothing but empty chunks is still answered."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        yield b""
        raise CircuitOpenError("backend", 1.0)

    reply = wsgi(ResilienceWSGI(app))
    assert (reply.status, reply.problem["title"]) == (503, "Service Unavailable")


def test_a_wsgi_answer_to_head_has_no_body() -> None:
    """Servers would send it, and clients take it for the beginning of the next answer."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        raise CircuitOpenError("backend", 1.0)

    reply = wsgi(ResilienceWSGI(app), method="HEAD")
    assert (reply.status, reply.body) == (503, b"")
    assert int(reply.headers["content-length"]) > 0


def test_a_wsgi_response_with_content_is_not_replaced() -> None:
    """Once some content went out the server is given the error itself."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        yield b"part"
        yield b""
        raise CircuitOpenError("backend", 1.0)

    with pytest.raises(CircuitOpenError):
        wsgi(ResilienceWSGI(app))
