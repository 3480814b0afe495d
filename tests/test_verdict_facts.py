"""What each reader makes of an error's facts, at every edge: of errors made up here, without any library."""

from __future__ import annotations

import datetime
import errno
import time
from collections.abc import Iterator
from typing import Any

import pytest

from booking_resilience import (
    CircuitOpenError,
    ErrorCategory,
    LimitExceededError,
    TransientError,
    Verdict,
    classify,
    is_backend_failure,
    is_no_evidence,
    is_transient,
)
from booking_resilience.testing import virtual_time
from booking_resilience.verdicts import (
    holds,
    holds_interrupt,
    is_own_refusal,
    leaves,
    retry_after_of,
    seconds_of,
    told_of,
    waits,
)
from booking_resilience.verdicts.facts import READERS, Found, attribute, by_status, text_of
from booking_resilience.verdicts.find import find
from booking_resilience.verdicts.meanings import Rule
from booking_resilience.verdicts.table import AWS_THROTTLING, ERRNOS, GRPC_CODES, REDIS_WORDS, SQLSTATES, SSL_REASONS


class Fake(Exception):  # noqa: N818 - it is a fake
    """An error with these attributes."""

    def __init__(self, text: str = "", **attributes: Any) -> None:
        super().__init__(text)
        self.__dict__.update(attributes)


class Broken(Exception):  # noqa: N818 - it is a fake
    """An error that can't be asked for anything."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError("no text")

    @property
    def status(self) -> int:
        """Fail."""
        raise RuntimeError("no status")


def read(name: str, error: BaseException, rule: Rule = Rule("answered")) -> Found | None:  # noqa: B008 - a value
    """Return what a reader makes of an error."""
    return READERS[name](error, rule)


def made(kind: str, error_type: str, text: str = "", **attributes: Any) -> Exception:
    """Return an error of a class of that name in that module."""
    error: Exception = type(error_type, (Fake,), {"__module__": kind})(text, **attributes)
    return error


# Reading


def test_an_attribute_is_found_by_a_path() -> None:
    """Dots lead to an attribute's attribute, also through dicts; what is absent or broken is None."""
    error = Fake(response=Fake(headers={"a": 1}), raw={"Error": {"Code": "Slow"}})
    assert attribute(error, "response.headers") == {"a": 1}
    assert attribute(error, "raw.Error.Code") == "Slow"
    assert attribute(error, "raw.Nothing.Code") is None
    assert attribute(error, "nothing") is None
    assert attribute(Broken(), "status") is None


def test_the_text_is_cut_and_may_be_missing() -> None:
    """Only the first 10,000 characters are read; a broken text is empty."""
    assert text_of(Fake("x" * 20_000)) == "x" * 10_000
    assert text_of(Broken()) == ""


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(400, "answered"), (408, "trouble"), (425, "again"), (429, "busy"), (499, "answered"), (500, "trouble"),
     (501, "broken"), (503, "trouble"), (505, "broken"), (599, "broken")],
)  # fmt: skip
def test_a_status_has_a_meaning(status: int, meaning: str) -> None:
    """Below 500 it was answered, from 500 on the server is broken, but for those of the table."""
    assert by_status(status, {"a": "b"}) == Found(meaning, status=status, headers={"a": "b"})


@pytest.mark.parametrize("where", ["status", "response.status"])
def test_a_status_is_read_with_the_headers_beside_it(where: str) -> None:
    """400 to 599 mean what the table says, others are the rule's; anything but a whole number is none."""

    def told(status: object, meaning: str = "answered") -> Found | None:
        facts = {"status": status, "headers": {"a": "b"}}
        error = Fake(**facts) if where == "status" else Fake(response=Fake(**facts))
        return read("status", error, Rule(meaning, where=where))

    for status in (400, 503, 599):
        assert told(status) == by_status(status, {"a": "b"})
    assert told(503, "busy") == by_status(503, {"a": "b"})._replace(meaning="busy")
    for status in (100, 399):
        assert told(status) == Found("answered", status=status)
        assert told(status, "unknown") is None
    assert (told(299, "cut"), told(300, "cut")) == (Found("cut", status=299), Found("answered", status=300))
    for nothing in (99, 600, True, "503", 503.0, None):
        assert told(nothing) is None


@pytest.mark.parametrize(
    ("text", "status"),
    [("too many 503 error responses", 503), ("x: too many 400 error responses!", 400),
     ("too many 599 error responses", 599), ("too many 399 error responses", None),
     ("too many 600 error responses", None), ("too many redirects", None)],
)  # fmt: skip
def test_urllib3_tells_the_status_in_words(text: str, status: int | None) -> None:
    """A status of 400 to 599 in the text counts as one that was answered."""
    assert read("counted", Fake(text)) == (None if status is None else by_status(status))


def test_an_error_number_has_a_meaning() -> None:
    """Each number of the table means what stands there; any other, and one that is no number, nothing known."""
    for name, meaning in ERRNOS.items():
        if hasattr(errno, name):
            assert read("errno", OSError(getattr(errno, name), "x")) == Found(meaning)
    assert read("errno", OSError(errno.ENOSPC, "x")) == Found("unknown")
    for no_number in ("ECONNREFUSED", []):
        assert read("errno", Fake(errno=no_number)) == Found("unknown")
    assert read("errno", OSError("x")) is None


def test_a_reason_of_tls_may_stay_for_ever() -> None:
    """A reason of the table is one of trust, however it is written; an error of another library is unknown."""
    for reason in SSL_REASONS:
        assert read("ssl", Fake(reason=f"[{reason.lower().replace('_', ' ')}]", library="SSL")) == Found("untrusted")
        assert read("ssl", Fake(reason=reason, library="X509")) == Found("untrusted")
    assert read("ssl", Fake(reason="UNEXPECTED_EOF", library="SSL")) is None
    assert read("ssl", Fake(reason=None, library="X509")) == Found("unknown")
    assert read("ssl", Fake(reason=5, library=None)) is None


class Code:
    """A gRPC code."""

    def __init__(self, name: object) -> None:
        self.name = name


def test_a_code_of_grpc_has_a_meaning() -> None:
    """Each code means what stands in the table, another one that it was answered; what can't be asked has none."""
    for name, (meaning, sent) in GRPC_CODES.items():
        assert read("grpc", Fake(code=lambda name=name: Code(name))) == Found(meaning, sent, type=name)
    assert read("grpc", Fake(code=lambda: Code("NOT_FOUND"))) == Found("answered", "yes", type="NOT_FOUND")
    for code in (None, 5, lambda: None, lambda: Code(5), lambda: 1 / 0):
        assert read("grpc", Fake(code=code)) is None


@pytest.mark.parametrize(
    ("name", "pushback", "found"),
    [
        ("UNAVAILABLE", "250", Found("trouble", "yes", type="UNAVAILABLE", wait=0.25)),
        ("UNAVAILABLE", "-1", Found("broken", "yes", type="UNAVAILABLE")),
        ("ABORTED", "soon", Found("answered", "yes", type="ABORTED")),
        ("DATA_LOSS", "-1", Found("broken", "yes", type="DATA_LOSS")),
        ("NOT_FOUND", "-1", Found("answered", "yes", type="NOT_FOUND")),
    ],
)
def test_grpc_may_ask_to_wait_or_not_to_come_back(name: str, pushback: str, found: Found) -> None:
    """Milliseconds are waited for; a negative or unreadable pushback makes the error one that stays."""
    metadata = [("grpc-retry-pushback-ms", pushback)]
    assert read("grpc", Fake(code=lambda: Code(name), trailing_metadata=lambda: metadata)) == found


def test_the_first_word_of_redis_has_a_meaning() -> None:
    """It is read after a pipeline's preface and a minus; where redis-py made a class of it, the rule has it."""
    for word, meaning in REDIS_WORDS.items():
        for text in (f"{word} x", f"-{word} x", f"Command # 1 (GET a) of pipeline caused error: {word} x"):
            assert read("redis", Fake(text)) == Found(meaning, type=word)
    assert read("redis", Fake("WRONGTYPE x")) == Found("answered", type="WRONGTYPE")
    assert read("redis", Fake("no word")) == Found("answered")
    assert read("redis", Fake("LOADING x"), Rule("trouble", where="BUSY")) == Found("trouble", type="BUSY")


def test_a_sqlstate_is_known_by_what_it_begins_with() -> None:
    """The longest beginning that the table has counts."""
    for state, meaning in SQLSTATES.items():
        assert read("sqlstate", Fake(sqlstate=state.ljust(5, "9"))) == Found(meaning, type=state.ljust(5, "9"))
    assert read("sqlstate", Fake(sqlstate="23505")) == Found("answered", type="23505")
    for nothing in (None, 40001, "4000", "400011"):
        assert read("sqlstate", Fake(sqlstate=nothing)) is None


def test_a_connection_that_sqlalchemy_gave_up_is_lost() -> None:
    """Only True means so."""
    assert read("invalidated", Fake(connection_invalidated=True)) == Found("unanswered")
    for nothing in (False, None, 1):
        assert read("invalidated", Fake(connection_invalidated=nothing)) is None


def test_aws_tells_code_status_and_headers() -> None:
    """A code that throttles means busy, whatever the status; without a status the rule's meaning stays."""

    def told(code: object, status: object) -> Found | None:
        meta = {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "3"}}
        return read("aws", Fake(response={"Error": {"Code": code}, "ResponseMetadata": meta}), Rule("answered"))

    headers = {"retry-after": "3"}
    assert told("NoSuchKey", 404) == Found("answered", status=404, type="NoSuchKey", headers=headers)
    for status in (400, 503, 599):
        assert told(None, status) == by_status(status, headers)
    for nothing in (399, 600, True, "503", None):
        assert told("X", nothing) == Found("answered", type="X", headers=headers)
    for code in AWS_THROTTLING:
        assert told(code.title(), 400) == Found("busy", status=400, type=code.title(), headers=headers)


def _request_with_retries_internal(num_retries: int, error: Exception) -> None:
    """Raise as stripe does."""
    assert num_retries >= 0
    raise error


async def _request_with_retries_internal_async(num_retries: int, error: Exception) -> None:
    """Raise as stripe does in an event loop."""
    assert num_retries >= 0
    raise error


@pytest.mark.parametrize(("retries", "sent"), [(0, "no"), (1, "maybe"), (2, "maybe")])
def test_stripe_repeats_by_itself(retries: int, sent: str) -> None:
    """A connection that was refused proves nothing once stripe has repeated the request, in either colour."""
    for is_async in (False, True):
        error = made("stripe", "APIConnectionError")
        error.__cause__ = ConnectionRefusedError()
        with pytest.raises(Fake) as caught:
            if is_async:
                _request_with_retries_internal_async(retries, error).send(None)
            else:
                _request_with_retries_internal(retries, error)
        assert classify(caught.value).sent == sent


# Groups and waits


def test_the_leaves_of_groups_decide() -> None:
    """What a group holds is found at any depth, and in order."""
    first, second = TimeoutError("a"), LimitExceededError("limit", 1.0)
    group = ExceptionGroup("outer", [first, ExceptionGroup("inner", [second, ValueError("b")])])
    assert [str(leaf) for leaf in leaves(group)] == ["a", str(second), "b"]
    assert holds(group, LimitExceededError)
    assert holds(group, KeyError, ValueError)
    assert not holds(group, KeyError)
    assert not holds_interrupt(group)
    assert holds_interrupt(BaseExceptionGroup("x", [first, KeyboardInterrupt()]))
    assert holds_interrupt(SystemExit())


def test_refusals_of_our_own_are_known_from_others() -> None:
    """Breakers' and limits' refusals and interrupts are, alone and together; anything beside them isn't."""
    refusals = [CircuitOpenError("b"), LimitExceededError("limit", 1.0), KeyboardInterrupt()]
    for error in (*refusals, BaseExceptionGroup("all", refusals)):
        assert is_own_refusal(error)
    for error in (TimeoutError(), BaseExceptionGroup("some", [*refusals, TimeoutError()])):
        assert not is_own_refusal(error)


def test_the_longest_wait_counts() -> None:
    """An error's own wish goes before its answer's; of a group, the longest counts, and none is None."""
    answer = Fake(status_code=503, headers={"Retry-After": "7"})
    asks = made("httpx", "HTTPStatusError", response=answer)
    assert retry_after_of(asks) == 7.0
    assert retry_after_of(made("httpx", "HTTPStatusError", response=answer, retry_after=2)) == 2.0
    assert retry_after_of(ExceptionGroup("x", [asks, Fake(retry_after=9), ValueError()])) == 9.0
    assert retry_after_of(ValueError()) is None
    assert told_of(asks) == ("service", 503)
    assert told_of(ValueError()) == ("", None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0.0), (-0.0, 0.0), (1.5, 1.5), (" 30 ", 30.0), (b"30", 30.0), ("-1", None), (-1, None), (float("nan"), None),
     ("nan", None), ("inf", float("inf")), (10**400, float("inf")), (-(10**400), None), (None, None), (True, None),
     (datetime.timedelta(minutes=2), 120.0), (datetime.timedelta(seconds=-1), None), ("soon", None), (object(), None),
     ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("1" * 5000, float("inf"))],
)  # fmt: skip
def test_a_wish_to_wait_in_any_form(value: object, seconds: float | None) -> None:
    """Seconds, a date or a `timedelta`; what isn't a sane wish is None."""
    assert seconds_of(value) == seconds


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Be in Tokyo, where the system can be told so."""
    if not hasattr(time, "tzset"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_a_date_without_a_zone_is_utc() -> None:
    """A date ends with "-0000" where the zone isn't known; it may also come as bytes."""
    with virtual_time():
        seconds = seconds_of("Thu, 01 Jan 2099 00:00:00 GMT")
        assert seconds is not None
        assert seconds > 0
        assert seconds_of("Thu, 01 Jan 2099 00:00:00 -0000") == seconds
        assert seconds_of(b"Thu, 01 Jan 2099 00:00:00 GMT") == seconds
        assert seconds_of("Thu, 01 Jan 2099 01:00:00 +0100") == seconds


def test_a_header_is_found_without_case() -> None:
    """In a mapping, or in pairs of strings or bytes; only the first thousand are read."""
    assert waits.header({"Retry-After": "1"}, "retry-after") == "1"
    assert waits.header([(b"RETRY-AFTER", b"1")], "retry-after") == b"1"
    many = [("x", "0")] * 999
    assert waits.header([*many, ("retry-after", "1")], "retry-after") == "1"
    assert waits.header([*many, ("x", "0"), ("retry-after", "1")], "retry-after") is None
    for nothing in (None, 5, {}, [("retry-after",)]):
        assert waits.header(nothing, "retry-after") is None


def test_the_reset_of_appwrite_counts_with_a_429_only() -> None:
    """`X-RateLimit-Reset` comes with every answer; `Retry-After` goes before it."""
    past, headers = {"x-ratelimit-reset": "1"}, {"retry-after": "4", "x-ratelimit-reset": "1"}
    assert waits.wait_in(past, 429, True) == 0.0
    assert waits.wait_in(past, 429) is None
    assert waits.wait_in(past, 503, True) is None
    assert waits.wait_in({"x-ratelimit-reset": "0"}, 429, True) is None
    assert waits.wait_in({"x-ratelimit-reset": "inf"}, 429, True) is None
    assert waits.wait_in(headers, 429, True) == 4.0
    assert waits.wait_in(None, 429, True) is None


def test_what_passes_through_find_keeps_its_rank() -> None:
    """A wrapped error counts where it tells more than the class around it, and an interrupt is nobody's failure."""
    outer = made("httpx", "ConnectError")
    assert find(outer).meaning == "unsent"
    outer.__cause__ = made("ssl", "SSLCertVerificationError")
    assert find(outer).meaning == "untrusted"
    answered = made("aiohttp", "ClientResponseError", status=404)
    answered.__cause__ = ConnectionResetError()
    assert find(answered) == Found("answered", status=404)
    assert find(KeyboardInterrupt()).meaning == "nothing"
    assert find(TransientError()).meaning == "unanswered"


def chain(length: int, last: BaseException) -> BaseException:
    """Return the first of a chain of that many errors, each caused by the next."""
    error = last
    for _ in range(length - 1):
        outer = made("httpx", "ConnectError")
        outer.__cause__ = error
        error = outer
    return error


def test_a_chain_is_followed_for_twelve_links_and_in_no_circle() -> None:
    """The twelfth error of a chain is looked at, the next isn't, and errors that cause one another come to an end."""
    certificate = made("ssl", "SSLCertVerificationError")
    assert find(chain(12, certificate)).meaning == "untrusted"
    assert find(chain(13, certificate)).meaning == "unsent"
    first, second = made("httpx", "ConnectError"), made("httpx", "ConnectError")
    first.__cause__, second.__cause__ = second, first
    assert find(first) == Found("unsent")


def test_a_context_counts_where_there_is_no_cause() -> None:
    """What an error was raised from goes before what was being handled."""
    error = made("httpx", "ConnectError")
    error.__context__ = made("ssl", "SSLCertVerificationError")
    assert find(error).meaning == "untrusted"
    error.__cause__ = ConnectionRefusedError()
    assert find(error).meaning == "unsent"


def test_what_cannot_be_inspected_is_unknown() -> None:
    """An error whose cause raises is unknown, and a class without a readable module means what its base means."""
    refuse = property(lambda self: 1 / 0)
    hostile = type("ConnectError", (Fake,), {"__module__": "httpx", "__cause__": refuse})()
    assert find(hostile) == Found("unknown")
    assert find(type("Odd", (ConnectionResetError,), {"__module__": 5})()).meaning == "unanswered"
    with pytest.raises(TypeError, match="error must be an exception, not 5"):
        classify(5)  # type: ignore[arg-type] # that is the point


def test_urllib3_that_gave_up_is_known_by_the_last_reason() -> None:
    """A mistake was never sent however often it was tried; the status of a last answer counts; else no answer came."""
    gave_up = made("urllib3.exceptions", "MaxRetryError", reason=made("urllib3.exceptions", "LocationValueError"))
    assert (find(gave_up).meaning, find(gave_up).reached) == ("mistake", "no")
    for status, meaning in ((503, "trouble"), (404, "answered")):
        text = f"Max retries exceeded with url: / (Caused by ResponseError('too many {status} error responses'))"
        assert find(made("urllib3.exceptions", "MaxRetryError", text)) == Found(meaning, status=status)
    redirects = "Max retries exceeded with url: / (Caused by ResponseError('too many redirects'))"
    for text, meaning in ((redirects, "answered"), ("Max retries exceeded", "unanswered")):
        assert find(made("urllib3.exceptions", "MaxRetryError", text)).meaning == meaning


def test_a_group_has_the_riskiest_sent_and_no_status() -> None:
    """Of a group nobody knows a status or a type; what may have been sent is riskier than what arrived."""
    refused, answered = Fake(response=Fake(status_code=404)), made("psycopg", "Error", sqlstate="23505")
    group = classify(ExceptionGroup("x", [refused, TimeoutError(), ConnectionRefusedError()]))
    assert (group.sent, group.status, group.type) == ("maybe", None, None)
    assert classify(ExceptionGroup("x", [answered])).type is None
    assert (classify(refused).status, classify(answered).type) == (404, "23505")


def test_appwrite_and_grpc_ask_to_wait_in_their_own_ways() -> None:
    """Appwrite's reset and gRPC's pushback are heard, and what Appwrite's SDK holds is looked through."""
    answer = Fake(status_code=429, headers={"x-ratelimit-reset": "1"})
    error = made("appwrite.exception", "AppwriteException", code=429, type="x", response=answer)
    verdict = classify(error)
    assert (verdict.category, verdict.status, verdict.type) == (ErrorCategory.APPWRITE, 429, "x")
    assert verdict.retry_after == 0.0
    unsent = made("appwrite.exception", "AppwriteException", code=0, message=ConnectionRefusedError())
    assert find(unsent).meaning == "unsent"
    metadata = [("grpc-retry-pushback-ms", "250")]
    pushed = made("grpc", "RpcError", code=lambda: Code("UNAVAILABLE"), trailing_metadata=lambda: metadata)
    assert classify(pushed).retry_after == 0.25


def test_words_and_items_tell_where_a_class_does_not() -> None:
    """The text of an error at the login tells, and so does what stands among an error's arguments."""
    starting = "connection failed: FATAL:  the database system is starting up"
    assert find(made("psycopg", "OperationalError", starting)) == Found("trouble")
    assert find(made("psycopg", "OperationalError", "no")).meaning == "unanswered"
    error = made("requests.exceptions", "ConnectionError")
    error.args = ("x", ConnectionRefusedError())
    assert find(error) == Found("unsent")
    assert classify(made("redis.exceptions", "MaxConnectionsError")).sent == "maybe"


@pytest.mark.parametrize(
    ("file", "calls", "sent"), [("connectionpool", 1, "no"), ("connectionpool", 2, "maybe"), ("elsewhere", 1, "maybe")]
)
def test_urllib3_repeats_by_calling_itself(file: str, calls: int, sent: str) -> None:
    """A connection that was refused proves nothing where `urlopen` called itself, or nobody knows."""
    body = "def urlopen(calls, error):\n    if calls == 1:\n        raise error\n    urlopen(calls - 1, error)"
    names: dict[str, Any] = {}
    exec(compile(body, f"/urllib3/{file}.py", "exec"), names)
    refused = made("urllib3.exceptions", "NewConnectionError")
    with pytest.raises(Fake) as caught:
        names["urlopen"](calls, made("urllib3.exceptions", "MaxRetryError", reason=refused))
    assert classify(caught.value).sent == sent


def test_three_questions_about_every_leaf() -> None:
    """Transient are all leaves or none; one failure is a failure; one piece of evidence is evidence."""
    lost, busy, missing = TimeoutError(), Fake(response=Fake(status_code=429)), Fake(response=Fake(status_code=404))
    assert classify(lost) == Verdict(True, "maybe", ErrorCategory.NETWORK, None, None, None)
    for error, answers in (
        (lost, (True, True, False)), (busy, (True, False, True)), (missing, (False, False, False)),
        (TypeError(), (False, False, True)), (ExceptionGroup("x", [lost, busy]), (True, True, False)),
        (ExceptionGroup("x", [missing, lost]), (False, True, False)),
        (ExceptionGroup("x", [busy, TypeError()]), (False, False, True)),
    ):  # fmt: skip
        assert (is_transient(error), is_backend_failure(error), is_no_evidence(error)) == answers
    for ask in (is_transient, is_backend_failure, is_no_evidence):
        with pytest.raises(TypeError, match="error must be an exception, not None"):
            ask(None)  # type: ignore[arg-type] # that is the point
