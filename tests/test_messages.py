from __future__ import annotations

import socket
import ssl

import pytest
import requests
import urllib3
from appwrite.exception import AppwriteException

from booking_resilience.booking import message_for
from booking_resilience.errors import CircuitOpenError, DeadlineExceededError

DATA = "Booking data error. Please try again or contact support."
NETWORK = "Network error. Please check your connection and try again."
SERVICE = "Service temporarily unavailable. Please try again in a moment."
OTHER = "Booking creation failed"


def raised_from(error, cause):
    """Return the error as if it had been raised from the cause."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (400, "row_invalid_structure", DATA),
        (400, "document_invalid_structure", DATA),
        (400, "general_argument_invalid", DATA),
        (400, "row_missing_data", DATA),
        (400, None, DATA),
        (408, "database_timeout", SERVICE),
        (429, "general_rate_limit_exceeded", SERVICE),
        (429, None, SERVICE),
        (500, "general_unknown", SERVICE),
        (502, None, SERVICE),
        (503, None, SERVICE),
        (401, "user_unauthorized", OTHER),
        (403, "project_id_missing", OTHER),
        (404, "table_not_found", OTHER),
        (409, "row_already_exists", OTHER),
        (413, None, OTHER),
    ],
)
def test_an_answer_of_appwrite_is_judged_by_its_status_not_its_text(status, kind, text):
    """The status of an answer decides, even if its text speaks of something else."""
    assert message_for(AppwriteException("timeout: missing required attribute", status, kind)) == text


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError("slow"),
        DeadlineExceededError("late"),
        requests.ConnectionError("x"),
        requests.Timeout("x"),
        requests.exceptions.ChunkedEncodingError("x"),
        urllib3.exceptions.ProtocolError("x"),
        socket.gaierror(-2, "Name or service not known"),
        ssl.SSLCertVerificationError("not trusted"),
        urllib3.exceptions.SSLError("x"),
        AppwriteException(requests.ConnectionError("refused")),
        AppwriteException(TimeoutError()),
    ],
)
def test_no_answer_is_a_network_error(error):
    """Errors of connections and timeouts, of whichever library, get the network text."""
    assert message_for(error) == NETWORK


def test_an_http_library_is_known_by_its_names():
    """A library that is not installed is recognised by the module and the name of its error types."""
    transport = type("TransportError", (Exception,), {"__module__": "httpx"})
    assert message_for(type("ConnectError", (transport,), {"__module__": "httpx"})("no route")) == NETWORK


def test_an_open_breaker_is_a_service_error():
    """The refusal of a breaker gets the service text, whatever it was opened by."""
    assert message_for(CircuitOpenError("appwrite", 3.0, "TimeoutError: timed out")) == SERVICE
    assert message_for(raised_from(RuntimeError("no"), CircuitOpenError("appwrite", 3.0))) == SERVICE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Missing required attribute", DATA),
        ('Invalid document structure: Missing required attribute "slot"', DATA),
        ("Unknown attribute: x", DATA),
        ("Network request failed", NETWORK),
        ("network REQUEST failed: dns", NETWORK),
        ("Failed to fetch", NETWORK),
        ("connection timed out", NETWORK),
        ("Circuit breaker is OPEN", SERVICE),
        ("503 Service Unavailable", SERVICE),
        ("something else", OTHER),
        ("", OTHER),
    ],
)
def test_texts_are_the_last_resort(text, expected):
    """A plain exception is recognised by what it says, in any case of letters."""
    assert message_for(Exception(text)) == expected


def test_the_causes_are_looked_at_in_order():
    """The first error along `__cause__` that tells something decides; a context alone does not."""
    chain = raised_from(ValueError("x"), raised_from(RuntimeError("y"), AppwriteException("z", 400, "t")))
    assert message_for(chain) == DATA
    nearest = raised_from(AppwriteException("x", 404, "row_not_found"), TimeoutError())
    assert message_for(nearest) == OTHER
    error = RuntimeError("x")
    error.__context__ = TimeoutError()
    assert message_for(error) == OTHER


def test_the_type_of_a_cause_beats_the_text_of_the_error():
    """Text is asked only if no type in the whole chain tells."""
    assert message_for(raised_from(RuntimeError("timeout"), AppwriteException("x", 400, "t"))) == DATA


def test_circular_causes_end():
    """A chain that leads back to itself is looked at once."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert message_for(first) == OTHER
    held = AppwriteException("x")
    held.message = held
    assert message_for(held) == OTHER


def test_a_code_that_is_no_status_means_nothing():
    """Another library's `code` is not taken for a status: without a `type`, out of range, or no number."""
    for attributes in ({"code": 503}, {"code": 1205, "type": "x"}, {"code": "503", "type": None}, {"code": 1 > 0}):
        assert message_for(type("OtherError", (Exception,), attributes)()) == OTHER


def test_a_missing_parameter_of_the_sdk_is_no_network_error():
    """Code 0 without an exception inside is an error of the calling program."""
    assert message_for(AppwriteException('Missing required parameter: "row_id"')) == OTHER


def test_errors_that_cannot_be_read_get_the_last_text():
    """Broken properties and a broken `__str__` change nothing."""

    class BrokenError(Exception):
        @property
        def code(self):
            raise ValueError

        def __str__(self):
            raise ValueError

    assert message_for(BrokenError()) == OTHER


def test_a_failed_name_lookup_is_a_network_error_also_when_it_is_wrapped():
    """`socket.gaierror` is no `ConnectionError`, but nobody answered."""
    error = raised_from(urllib3.exceptions.NameResolutionError("host", None, socket.gaierror()), socket.gaierror())
    assert message_for(error) == NETWORK


def test_what_is_no_exception_is_refused():
    """A text instead of the error is refused by name."""
    with pytest.raises(TypeError, match="error must be an exception, not 'Network request failed'"):
        message_for("Network request failed")
