"""What takes input from outside, given anything: it answers within its promises, or refuses as it says.

These run with all tests, for a few examples each; `nox -f .ci/noxfile.py -s fuzz` runs them for as long as you like.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import ssl
import string
from typing import Any

import pytest
import requests
import urllib3
from appwrite.exception import AppwriteException
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import DEFAULT_REDACTION, CircuitOpenError, ErrorMonitor, load_json, message_for
from booking_resilience.appwrite.classify import classify, is_backend_failure, is_no_evidence
from booking_resilience.monitor.redact import Cleaner
from booking_resilience.monitor.scanner import REDACTED
from booking_resilience.testing.appwrite_server.dialect import DIALECTS, ApiError
from booking_resilience.testing.appwrite_server.filters import SYSTEM
from booking_resilience.testing.appwrite_server.kinds import Column
from booking_resilience.testing.appwrite_server.listing import carry_out
from booking_resilience.testing.appwrite_server.queries import METHODS, Listing, check, parse
from booking_resilience.testing.appwrite_server.store import Journal, Row, Table
from booking_resilience.verdicts.waits import wait_in

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | st.floats() | st.text(max_size=30)
    | st.binary(max_size=20) | st.dates() | st.sampled_from([math.inf, -math.inf, math.nan, 2**63, -(2**63), "\ud800"])
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(SCALARS, inner, max_size=6) | st.tuples(inner, inner),
    max_leaves=40,
)


# -- classify


class Broken(Exception):  # noqa: N818 - it is a fake
    """An error whose attributes cannot be read."""

    @property
    def code(self) -> int:
        raise RuntimeError("no")

    @property
    def response(self) -> Any:
        raise ZeroDivisionError

    def __str__(self) -> str:
        raise ValueError("no text")


def response(status: Any, headers: Any, body: bytes) -> requests.Response:
    """Return an answer as requests would have it."""
    made = requests.Response()
    made.status_code, made._content = status, body
    made.headers.update(headers)
    return made


HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after", "X-Ratelimit-Reset", "x-ratelimit-reset", "Content-Type"]),
    st.text(string.printable, max_size=30)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(["Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359", "1e999", "0x10", "١٢"]),
    max_size=3,
)
TYPES = st.sampled_from(["general_unknown", "row_already_exists", "general_smtp_disabled", ""]) | st.text(max_size=20)
RESPONSES = st.builds(
    response,
    st.integers(-1, 700),
    HEADERS,
    st.binary(max_size=40) | st.fixed_dictionaries({"type": JSON}).map(lambda body: json.dumps(body).encode()),
)
LEAVES = (
    st.builds(AppwriteException, JSON | SCALARS, st.integers(-5, 700) | SCALARS, TYPES | SCALARS, SCALARS)
    | st.builds(requests.HTTPError, st.text(max_size=10), response=RESPONSES)
    | st.builds(requests.RequestException, response=RESPONSES | st.none())
    | st.sampled_from(
        [requests.ConnectTimeout, requests.ReadTimeout, requests.exceptions.SSLError, ssl.SSLCertVerificationError,
         requests.exceptions.InvalidURL, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError,
         ConnectionRefusedError, BrokenPipeError, TimeoutError, OSError, KeyError, TypeError, ValueError, Broken,
         KeyboardInterrupt, GeneratorExit, MemoryError]
    ).map(lambda kind: kind())
    | st.builds(CircuitOpenError, st.text(max_size=5), st.none() | st.floats(0, 60), st.none() | st.text(max_size=5))
    | st.builds(UnicodeDecodeError, st.just("utf-8"), st.binary(max_size=5), st.just(0), st.just(1), st.just("no"))
)  # fmt: skip


@st.composite
def errors(draw: st.DrawFn) -> BaseException:
    """Return an error with a chain of others, which may run in a circle."""
    chain = draw(st.lists(LEAVES, min_size=1, max_size=5))
    for error, other in zip(chain, [*chain[1:], draw(st.sampled_from([*chain, None]))], strict=True):
        if other is error or other is None:
            continue
        how = draw(st.sampled_from(["__cause__", "__context__", "args", "message", "reason"]))
        try:
            setattr(error, how, (other,) if how == "args" else other)
        except (AttributeError, TypeError):
            error.__context__ = other
    return chain[0]


@given(errors())
def test_any_error_is_classified(error: BaseException) -> None:
    """Whatever the error, the verdict is one that a retry can go by, and the same when asked again."""
    verdict = classify(error)
    assert verdict == classify(error)
    assert verdict.sent in ("no", "maybe", "yes")
    assert isinstance(verdict.transient, bool)
    assert verdict.status is None or (isinstance(verdict.status, int) and verdict.sent == "yes")
    assert verdict.type is None or isinstance(verdict.type, str)
    assert verdict.retry_after is None or (verdict.transient and verdict.retry_after >= 0)
    assert is_backend_failure(error) in (True, False)
    assert is_no_evidence(error) in (True, False)
    assert message_for(error)


@given(st.integers(0, 700) | st.none(), HEADERS)
def test_any_headers_ask_for_a_sane_wait_or_none(status: int | None, headers: dict[str, str]) -> None:
    """Whatever the headers say, the wait is a number of seconds, 0 or more, or there is none."""
    wait = wait_in(headers, status, of_appwrite=True)
    assert wait is None or wait >= 0


# -- redaction

ALPHABET = string.ascii_letters + string.digits
SECRET = st.text(ALPHABET, min_size=24, max_size=48).map(lambda text: f"S3cr{text}")
CARRIERS = (
    "https://user:{}@example.org/x", "https://{}@example.org", "https://a.org/?token={}&a=1", "https://a.org/?a=b&api_key={}",
    "Bearer {}", "bearer {}", "Authorization: Basic {}", "standard_0123456789abcdef{}", "ephemeral_0123456789abcdef{}",
    "dynamic_0123456789abcdef{}",
    "a_session_console={}", "password={}", "x-appwrite-key={}", "secret={}", "eyJ{}.eyJ9.abc",
)  # fmt: skip
BREAKS = st.text(" \t\n,;()", max_size=2).map(lambda text: f" {text}")


@given(
    st.lists(st.tuples(st.sampled_from(CARRIERS), SECRET, st.text(max_size=60), BREAKS), min_size=1, max_size=8),
    st.integers(0, 1100),
)
def test_no_secret_stays_in_a_text(parts: list[tuple[str, str, str, str]], before: int) -> None:
    """Whatever stands around them, and wherever the text is cut, nothing of the secrets stays."""
    text = " " * before + "".join(f"{noise}{gap}{carrier.format(secret)} " for carrier, secret, noise, gap in parts)
    clean = Cleaner(DEFAULT_REDACTION).text(text)
    assert len(clean.encode("utf-8", "surrogatepass").decode("utf-8")) <= 10 * 1024
    for _, secret, noise, _ in parts:
        assert secret not in clean
        assert secret[:12] not in clean or secret[:12] in noise


@given(NESTED, st.sampled_from([DEFAULT_REDACTION, None]))
def test_any_context_becomes_plain_and_bounded(context: Any, redact: Any) -> None:
    """Whatever is handed over comes out as strict JSON of bounded depth and size."""
    copy = Cleaner(redact).context(context if isinstance(context, dict) else {"value": context})
    text = json.dumps(copy, allow_nan=False)
    assert json.loads(text) == copy
    text.encode("ascii")
    assert text.count('"') < 4 * 400


@given(st.sampled_from(["password", "API-Key", "x_token", "Session Id", "cvv"]), NESTED)
def test_the_value_of_a_sensitive_key_never_stays(key: str, value: Any) -> None:
    """Whatever the value of a sensitive key is, only a marker stays; a number, a boolean or None may be harmless."""
    may_stay = key in ("x_token", "Session Id") and type(value) in (int, float, bool, type(None))
    assert may_stay or Cleaner(DEFAULT_REDACTION).context({key: value}) == {key: REDACTED}


# -- exports


@given(
    st.lists(st.tuples(st.text(max_size=40), st.text(max_size=20), NESTED, st.integers(1, 5)), max_size=6),
    st.booleans(),
)
def test_any_record_comes_back_from_json_and_csv(facts: list[tuple[Any, ...]], recovered: bool) -> None:
    """Whatever was recorded comes back equal from JSON and JSON Lines; no field of the CSV begins a formula."""
    monitor = ErrorMonitor()
    for message, operation, value, attempts in facts:
        outcome: Any = "recovered" if recovered else "failed"
        monitor.record(ValueError(message), operation=operation, context={"value": value}, attempts=attempts,
                       outcome=outcome)  # fmt: skip
    records = monitor.recent(100)
    assert load_json(monitor.to_json()) == load_json(monitor.to_jsonl()) == records
    monitor.to_json().encode("ascii")
    rows = list(csv.reader(io.StringIO(monitor.to_csv(), newline="")))
    assert len(rows) == len(records) + 1
    for row, record in zip(rows[1:], records, strict=True):
        assert len(row) == len(rows[0])
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\0")) for cell in row)
        assert row[6].removeprefix("'") == record.message  # exactly one comes off, whatever the text begins with


SCHEMA = "booking-resilience/errors/1"


@given(
    st.text(max_size=60) | JSON.map(json.dumps)
    | st.fixed_dictionaries({"schema": st.just(SCHEMA), "errors": JSON}).map(json.dumps)
    | st.lists(JSON, max_size=3).map(
        lambda lines: "\n".join(map(json.dumps, [{"schema": SCHEMA}, *lines]))
    )
)  # fmt: skip
def test_a_text_that_is_no_export_is_refused(text: str) -> None:
    """What is no export of the monitor's is refused with `ValueError`, or holds no record."""
    try:
        assert load_json(text) == []
    except ValueError:
        pass


def test_a_text_nested_without_end_is_refused() -> None:
    """A text that nests deeper than Python's parser goes is refused as any other that is no export."""
    with pytest.raises(ValueError, match="nested"):
        load_json("[" * 100_000)


@given(st.data())
def test_an_export_that_was_meddled_with_is_refused_or_read(data: st.DataObject) -> None:
    """An export with a fact replaced by anything is read, or refused with `ValueError`."""
    monitor = ErrorMonitor()
    monitor.log_booking_error("createBooking", ValueError("no slot"), user_id="u1")
    document = json.loads(monitor.to_json())
    record = document["errors"][0]
    record[data.draw(st.sampled_from(sorted(record)))] = data.draw(JSON)
    try:
        assert len(load_json(json.dumps(document))) == 1
    except ValueError:
        pass


# -- the embedded server's queries

BOUNDS = (-(2**63), 2**63 - 1)
COLUMNS = {"name": "string", "size": "integer", "price": "float", "open": "boolean", "at": "datetime", "tags": "string"}


def table() -> Table:
    """Return a table with rows of all sorts."""
    made = Table("t", "t", [], False, True, "now", "now", 1, Journal())
    for key, kind in COLUMNS.items():
        made.columns[key] = Column(key, kind, False, key == "tags", None, "now", "now", 64, BOUNDS, status="available")
    values: list[dict[str, Any]] = [
        {"name": "Ada", "size": 3, "price": 1.5, "open": True, "at": "2026-01-01T00:00:00.000+00:00", "tags": ["a"]},
        {"name": "Äda", "size": -(2**63), "price": -0.0, "open": False, "at": None, "tags": []},
        {"name": None, "size": None, "price": None, "open": None, "at": None, "tags": None},
        {"name": "", "size": 2**63 - 1, "price": 1e308, "open": True, "at": "2030-01-01T00:00:00.000+00:00"},
    ]
    for number, row in enumerate(values):
        moment = datetime.datetime(2026, 1, number + 1, tzinfo=datetime.UTC).isoformat()
        made.insert(Row(f"row{number}", 0, moment, moment, [], row))
    return made


ANY_METHOD = [*sorted(METHODS), "limits", ""]
VALUES = (
    JSON | st.sampled_from(["row0", "row3", "ROW1", "Ada", 0, 1, -1, 25, 2**63 - 1, 2**63, True, 3.0, "name"])
    | st.integers(0, 8)
)  # fmt: skip
QUERY = st.recursive(
    st.fixed_dictionaries(
        {"method": st.sampled_from(ANY_METHOD) | JSON},
        optional={
            "attribute": st.sampled_from([*COLUMNS, *SYSTEM, "nope", "$permissions", "*"]) | JSON,
            "values": st.lists(VALUES, max_size=3) | JSON,
        },
    ),
    lambda inner: st.builds(
        lambda method, values, as_text: {
            "method": method,
            "values": [json.dumps(value) if as_text else value for value in values],
        },
        st.sampled_from(["and", "or"]),
        st.lists(inner | JSON | st.text(max_size=10), max_size=3),
        st.booleans(),
    ),
    max_leaves=5,
)


def asked(texts: list[str], rows: Table) -> Listing:
    """Return what queries ask for."""
    return check(parse(texts), rows)


@given(st.lists(QUERY.map(json.dumps) | st.text(max_size=20) | JSON.map(json.dumps), max_size=4))
def test_any_query_is_carried_out_or_refused(queries: list[str]) -> None:
    """Whatever a list is asked for, it answers with rows of the table, each once, or with an error of the API."""
    rows = table()
    try:
        listing = asked(queries, rows)
        total, page = carry_out(listing, rows, DIALECTS["tablesdb"], default=25)
    except ApiError as error:
        assert error.status in (400, 500)  # 1.9.6 falls over what is nested as text, and over `exists`
        assert error.body()["message"]
        return
    assert len(page) <= total <= len(rows.rows)
    assert len({row.id for row in page}) == len(page)
    assert len(page) <= (25 if listing.limit is None else listing.limit)


@pytest.mark.parametrize("depth", [50, 900])
def test_a_deeply_nested_query_is_carried_out_or_refused(depth: int) -> None:
    """A query inside a query inside a query is no way to bring the server down."""
    query = '{"method":"or","values":[' * depth + '{"method":"isNull","attribute":"name"}' + "]}" * depth
    try:
        asked([query], table())
    except ApiError as error:
        assert error.status == 400


@pytest.mark.parametrize(
    ("method", "value"),
    [("limit", 1), ("cursorAfter", "row0"), ("select", "name"), ("orderAsc", 1), ("orderRandom", 1)],
)
def test_only_filters_stand_inside_of_and_and_or(method: str, value: Any) -> None:
    """What pages or orders a list is no part of a condition, and is refused inside of one."""
    inner = {"method": method, "attribute": "name", "values": [value]}
    with pytest.raises(ApiError, match="can only contain filter queries") as caught:
        asked([json.dumps({"method": "and", "values": [inner]})], table())
    assert caught.value.status == 400
