from __future__ import annotations

import datetime
import email.utils
import json
import math
import socket
from pathlib import Path

import pytest
from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.services.tables_db import TablesDB
from hypothesis import given
from hypothesis import strategies as st

import booking_resilience
from booking_resilience import clock
from booking_resilience.appwrite import AppwriteClient, Verdict, classify
from booking_resilience.appwrite.classify import is_backend_failure, is_no_evidence, is_transient
from booking_resilience.booking import message_for
from booking_resilience.monitor import ErrorCategory
from booking_resilience.verdicts.waits import wait_in
from rawserver import CREATED, ROW, RawServer, answer, cut, failure, reset

VERDICTS = json.loads((Path(__file__).parent / "data" / "error_verdicts.json").read_text(encoding="utf-8"))
TRANSIENT = {"retry": True, "retry-slow": True, "no": False, "verify": False, "new-transaction": False}
NETWORK, APPWRITE = ErrorCategory.NETWORK, ErrorCategory.APPWRITE


def failed_create(client_type, step):
    """Return the error of a create against a server that does this one thing."""
    with RawServer(step) as server:
        client = client_type().set_endpoint(server.endpoint).set_project("p")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the SDK raises - each kind of error is looked at
            TablesDB(client).create_row("d", "t", "r1", {"slot": "S"})
    return caught.value


@pytest.mark.parametrize("client_type", [Client, AppwriteClient])
def test_every_error_type_of_the_server_has_its_verdict(client_type):
    """Each of the 170 error types, on the wire, is transient or not as the verdicts have it."""
    assert len(VERDICTS) == 170
    with RawServer(*[failure(fact["wire_status"], kind) for kind, fact in VERDICTS.items()]) as server:
        tables = TablesDB(client_type().set_endpoint(server.endpoint).set_project("p"))
        for kind, fact in VERDICTS.items():
            with pytest.raises(AppwriteException) as caught:
                tables.create_row("d", "t", "r1", {"slot": "S"})
            expected = Verdict(TRANSIENT[fact["transient"]], "yes", APPWRITE, fact["wire_status"], kind, None)
            assert classify(caught.value) == expected, kind


ANSWERS = {
    "429 JSON": (failure(429, "general_rate_limit_exceeded"), True, 429, "general_rate_limit_exceeded"),
    "429 HTML": (answer(429, b"<html>", "text/html"), True, 429, None),
    "500 HTML": (answer(500, b"<html>", "text/html"), True, 500, None),
    "502 text": (answer(502, b"Bad Gateway", "text/plain"), True, 502, None),
    "503 HTML": (answer(503, b"<html>", "text/html"), True, 503, None),
    "504 HTML": (answer(504, b"<html>", "text/html"), True, 504, None),
    "520 of a proxy": (answer(520, b"<html>", "text/html"), True, 520, None),
    "501 HTML": (answer(501, b"<html>", "text/html"), False, 501, None),
    "503 without Content-Type": (answer(503, b"", None), True, 503, None),
    "413 without anything": (answer(413, b"", None), False, 413, None),
    "500 JSON that is HTML": (answer(500, b"<html>"), True, 500, None),
    "500 JSON list": (answer(500, []), True, 500, None),
    "500 JSON without message": (answer(500, {"type": "general_codes_disabled"}), False, 500, "general_codes_disabled"),
    "404 HTML": (answer(404, b"<html>", "text/html"), False, 404, None),
    "408 untyped": (answer(408, b"", "text/html"), True, 408, None),
    "503 of another type": (failure(503, "general_unknown"), True, 503, "general_unknown"),
}


@pytest.mark.parametrize("client_type", [Client, AppwriteClient])
@pytest.mark.parametrize("case", ANSWERS)
def test_broken_failures_keep_their_status(client_type, case):
    """A failure whose body or headers are broken is judged by its status, whatever the SDK makes of it."""
    step, transient, status, kind = ANSWERS[case]
    error = failed_create(client_type, step)
    assert classify(error) == Verdict(transient, "yes", APPWRITE, status, kind, None)
    assert client_type is Client or isinstance(error, AppwriteException)


BROKEN = {
    "close before the answer": (None, "maybe", "maybe"),
    "reset before the answer": (reset, "maybe", "maybe"),
    "garbage": (b"garbage\r\n\r\n", "yes", "maybe"),
    "body cut by FIN": (cut(CREATED[:-9]), "yes", "yes"),
    "body cut by RST": (cut(CREATED[:-9], with_reset=True), "yes", "yes"),
    "chunks cut": (
        cut(b'HTTP/1.1 201 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"$id"'),
        "yes",
        "yes",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_without_a_whole_answer_it_is_open_whether_it_was_carried_out(case):
    """A connection that breaks after the request is transient; it arrived if an answer began."""
    step, plain, ours = BROKEN[case]
    for client_type, sent in ((Client, plain), (AppwriteClient, ours)):
        error = failed_create(client_type, step)
        verdict = classify(error)
        assert (verdict.transient, verdict.sent, verdict.category) == (True, sent, NETWORK)
        assert message_for(error).startswith("Network error")


UNREADABLE = {
    "no JSON": answer(201, b"{"),
    "empty": answer(201, b""),
    "a list": answer(200, []),
    "null": answer(200, None),
    "HTML": answer(200, b"<html>", "text/html"),
    "204": answer(204, b"", "text/html"),
    "wrong type": answer(201, {**ROW, "$id": ["r1"]}),
}


@pytest.mark.parametrize("client_type", [Client, AppwriteClient])
@pytest.mark.parametrize("case", UNREADABLE)
def test_a_success_that_cannot_be_read_is_transient_and_was_sent(client_type, case):
    """Whatever the SDK raises about an answer of success, the request has arrived and may be tried again."""
    verdict = classify(failed_create(client_type, UNREADABLE[case]))
    assert (verdict.transient, verdict.sent, verdict.category) == (True, "yes", APPWRITE)


def test_what_the_models_reject_was_sent_also_where_the_sdk_wraps_it():
    """The services wrap pydantic's error in one of their own without a status: the request has arrived all the same."""
    with RawServer(answer(201, {"$id": ["x"]})) as server, pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the SDK raises
        TablesDB(AppwriteClient().set_endpoint(server.endpoint).set_project("p")).create("d", "D")
    for verdict in (classify(caught.value), booking_resilience.classify(caught.value)):
        assert (verdict.transient, verdict.sent) == (True, "yes")


def test_a_success_without_content_type_and_bad_gzip_are_unreadable():
    """The plain SDK raises a KeyError, or hides the status; AppwriteClient reads the one and tells the other."""
    verdict = classify(failed_create(Client, answer(201, ROW, None)))
    assert (verdict.transient, verdict.sent) == (True, "yes")
    gzip = answer(201, b"no gzip", Content_Encoding="gzip")
    assert classify(failed_create(Client, gzip)).sent == "yes"
    verdict = classify(failed_create(AppwriteClient, gzip))
    assert (verdict.transient, verdict.sent, verdict.status) == (True, "yes", 201)


@pytest.mark.parametrize("client_type", [Client, AppwriteClient])
def test_a_refused_connection_was_provably_not_sent(client_type):
    """Nobody listens: transient, and nothing has left."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tables = TablesDB(client_type().set_endpoint(f"http://127.0.0.1:{port}/v1").set_project("p"))
    with pytest.raises(AppwriteException) as caught:
        tables.create_row("d", "t", "r1", {"slot": "S"})
    assert classify(caught.value) == Verdict(True, "no", NETWORK, None, None, None)


@pytest.mark.parametrize("client_type", [Client, AppwriteClient])
def test_an_unknown_host_was_provably_not_sent(client_type):
    """A name that does not resolve: transient, and nothing has left."""
    tables = TablesDB(client_type().set_endpoint("http://no-such-host.invalid/v1").set_project("p"))
    with pytest.raises(AppwriteException) as caught:
        tables.create_row("d", "t", "r1", {"slot": "S"})
    verdict = classify(caught.value)
    assert (verdict.transient, verdict.sent, verdict.category) == (True, "no", NETWORK)


@pytest.mark.parametrize("client_type", [Client, AppwriteClient])
def test_tls_to_a_plain_port_was_provably_not_sent(client_type):
    """The handshake fails, so the request never left."""
    with RawServer(b"HTTP/1.1 400 X\r\n\r\n") as server:
        endpoint = server.endpoint.replace("http:", "https:")
        server._wrap = lambda sock: (sock.recv(9), sock.sendall(b"plain text, no TLS at all\r\n"), sock)[-1]
        with pytest.raises(AppwriteException) as caught:
            TablesDB(client_type().set_endpoint(endpoint).set_project("p")).create_row("d", "t", "r", {"slot": "S"})
    verdict = classify(caught.value)
    assert (verdict.sent, verdict.category) == ("no", NETWORK)


@pytest.mark.parametrize("client_type", [Client, AppwriteClient])
def test_mistakes_of_the_caller_are_not_transient_and_were_not_sent(client_type):
    """A missing parameter, data that is no JSON and a bad address never left this program."""
    with RawServer() as server:
        tables = TablesDB(client_type().set_endpoint(server.endpoint).set_project("p"))
        with pytest.raises(AppwriteException) as missing:
            tables.create_row("d", "t", None, {"slot": "S"})
        with pytest.raises(TypeError) as no_json:
            tables.create_row("d", "t", "r1", {"slot": object()})
        assert server.requests == []
    for error in (missing.value, no_json.value, ValueError("x"), KeyError("x"), RuntimeError("x"), OSError("disk")):
        verdict = classify(error)
        assert (verdict.transient, verdict.sent, verdict.category) == (False, "no", APPWRITE)
        assert is_no_evidence(error)
        assert not is_backend_failure(error)


def named(name, *bases, module="httpx"):
    """Return an error type of a library that is not imported."""
    return type(name, bases or (Exception,), {"__module__": module})


@pytest.mark.parametrize(
    ("error", "transient", "sent"),
    [
        (named("ConnectError", named("TransportError"))("x"), True, "no"),
        (named("ConnectTimeout", named("TransportError"))("x"), True, "no"),
        (named("PoolTimeout", named("TransportError"))("x"), True, "no"),
        (named("ReadTimeout", named("TransportError"))("x"), True, "maybe"),
        (named("RemoteProtocolError", named("TransportError"))("x"), True, "maybe"),
        (ConnectionRefusedError(), True, "no"),
        (socket.gaierror("x"), True, "no"),
        (ConnectionResetError(), True, "maybe"),
        (TimeoutError(), True, "maybe"),
        (AppwriteException(TimeoutError("x")), True, "maybe"),
        (named("SSLCertVerificationError", ConnectionError, module="ssl")("x"), False, "no"),
        (AppwriteException(named("InvalidURL", ValueError)("x")), False, "no"),
    ],
)
def test_other_transports_are_known_by_their_names(error, transient, sent):
    """Errors of httpx and of Python itself are judged without importing what raised them."""
    verdict = classify(error)
    assert (verdict.transient, verdict.sent) == (transient, sent)
    assert is_transient(error) is transient


def test_a_status_hung_on_another_librarys_error_counts():
    """An error with a response, as httpx raises it, is judged by the response."""
    error = named("HTTPStatusError")("x")
    error.response = type("Response", (), {"status_code": 503, "headers": {"Retry-After": "2"}})()
    assert classify(error) == Verdict(True, "yes", APPWRITE, 503, None, 2.0)


def test_an_earlier_call_does_not_count():
    """What was raised while an earlier error was being handled is judged by itself."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    refused = TablesDB(Client().set_endpoint(f"http://127.0.0.1:{port}/v1").set_project("p"))
    with RawServer(None) as server:
        tables = TablesDB(Client().set_endpoint(server.endpoint).set_project("p"))
        try:
            refused.create_row("d", "t", "r1", {"slot": "S"})
        except AppwriteException:
            with pytest.raises(AppwriteException) as caught:
                tables.create_row("d", "t", "r1", {"slot": "S"})
    assert classify(caught.value).sent == "maybe"


def test_circular_chains_end():
    """An error that leads back to itself is looked at once."""
    first, second = AppwriteException("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    first.message = first
    assert classify(first).sent == "no"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 412, 413])
def test_an_answered_refusal_is_no_failure_of_the_backend(status):
    """A 4xx shows that the backend is well; 408 and 5xx that it is not; 429 shows nothing."""
    assert not is_backend_failure(AppwriteException("x", status, "t"))
    assert not is_no_evidence(AppwriteException("x", status, "t"))
    assert is_no_evidence(AppwriteException("x", 429))
    for bad in (408, 500, 501, 503, 504):
        assert is_backend_failure(AppwriteException("x", bad, "general_codes_disabled"))


@pytest.mark.parametrize("client_type", [Client, AppwriteClient])
def test_a_429_tells_how_long_to_wait(client_type):
    """`Retry-After` counts first, else `X-Ratelimit-Reset` relative to now."""
    reset_at = int(clock.utc_now().timestamp()) + 30
    error = failed_create(client_type, failure(429, "general_rate_limit_exceeded", X_RateLimit_Reset=reset_at))
    assert 25 < classify(error).retry_after <= 30
    both = failure(429, "general_rate_limit_exceeded", X_RateLimit_Reset=reset_at, Retry_After="7")
    error = failed_create(client_type, both)
    assert classify(error).retry_after == 7.0
    assert client_type is Client or error.retry_after == 7.0


def test_the_limits_reset_counts_with_a_429_only():
    """Successes and other failures carry the header, too; waiting for it would be waiting for nothing."""
    error = failed_create(AppwriteClient, failure(500, "general_unknown", X_RateLimit_Reset="99999999999"))
    assert classify(error).retry_after is None
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("1.5", 1.5), (" 3 ", 3.0), ("-1", None), ("nan", None), ("inf", math.inf), ("soon", None), ("", None),
     ("Mon, 99 Foo", None), ("1e99", 1e99)],
)  # fmt: skip
def test_retry_after_in_seconds(text, seconds):
    """Seconds are taken as they are, however many; what is not sane is ignored."""
    assert wait_in({"Retry-After": text}, 503, of_appwrite=True) == seconds


def test_retry_after_as_a_date(virtual_clock):
    """An HTTP date is relative to now, with or without a zone, and never negative."""
    now = virtual_clock.utc_now().replace(microsecond=0)
    for moment, least, most in ((now + datetime.timedelta(seconds=60), 58, 60), (now - datetime.timedelta(60), 0, 0)):
        text = email.utils.format_datetime(moment.astimezone(datetime.UTC), usegmt=True)
        for written in (text, text.replace("GMT", "-0000")):
            assert least <= wait_in({"retry-after": written}, 429, of_appwrite=True) <= most


@given(st.dictionaries(st.sampled_from(["Retry-After", "X-Ratelimit-Reset"]), st.text()), st.integers(400, 599))
def test_headers_that_make_no_sense_never_raise(headers, status):
    """Whatever the headers hold, the wait is None or a number of seconds, 0 or more."""
    seconds = wait_in(headers, status, of_appwrite=True)
    assert seconds is None or seconds >= 0
