"""`create_row_once`: never two rows, never none reported as one, never another's row taken for ours."""

from __future__ import annotations

import datetime
import enum
import gc
import json
import pickle
import re
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest
from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.services.databases import Databases
from appwrite.services.tables_db import TablesDB

from backends import setting
from booking_resilience import (
    BreakerState,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorCategory,
    ErrorMonitor,
    Pipeline,
    RetryBudget,
    attempts_of,
    deadline,
)
from booking_resilience.appwrite import (
    AppwriteCallError,
    AppwriteClient,
    AppwriteConnectionError,
    AppwriteTimeoutError,
    Row,
    appwrite_breaker,
    appwrite_retry,
    classify,
    create_row_once,
    outcome_unknown,
)
from booking_resilience.appwrite.evidence import Evidence
from booking_resilience.appwrite.rows import row_of
from booking_resilience.appwrite.sdk import plain_method
from booking_resilience.testing import Fault
from halves import HANGING, QUICK
from rawserver import ROW, RawServer, answer, failure

SERVICES = pytest.mark.parametrize("service", [TablesDB, Databases])
UNIQUE = {"once": {"type": "unique", "columns": ["slot"]}}


class Losing:
    """A client in front of another one that loses what a script says of the creates: on any Appwrite.

    A step is None (all is well), "before" (the request is lost), "after" (the answer is lost), or an error to raise.
    """

    def __init__(self, client, *steps):
        self.client, self.steps, self.calls = client, list(steps), []

    def get_config(self, key):
        return setting(self.client, key)

    def call(self, method, path="", headers=None, params=None, response_type="json"):
        self.calls.append((method, path))
        step = self.steps.pop(0) if self.steps and method == "post" else None
        if isinstance(step, Exception):
            raise step
        if step == "before":
            raise AppwriteConnectionError("lost on the way there", evidence=Evidence("network", "maybe"))
        answer = self.client.call(method, path, headers, params, response_type)
        if step == "after":
            raise AppwriteConnectionError("lost on the way back", evidence=Evidence("network", "maybe"))
        return answer


class Place:
    """A table to create rows in, once, and what is needed for that."""

    def __init__(self, backend, client=None, *, service=TablesDB, indexes=None, pipeline=None, **pipeline_settings):
        self.backend, self.server = backend, backend.server
        self.table_id = backend.make_table(indexes=indexes)
        self.service = service(backend.client if client is None else client)
        settings = {"retry": appwrite_retry(**QUICK), **pipeline_settings}
        self.pipeline = Pipeline(**settings) if pipeline is None else pipeline

    def create(self, row_id="r1", permissions=None, **data):
        return create_row_once(
            self.service,
            database_id=self.backend.database_id,
            table_id=self.table_id,
            row_id=row_id,
            data={"slot": "S", **data},
            permissions=permissions,
            pipeline=self.pipeline,
            operation="createBooking",
        )

    def fails(self, kind=AppwriteException, **data):
        with pytest.raises(kind) as caught:
            self.create(**data)
        return caught.value

    def rows(self):
        return self.backend.rows(self.table_id)

    def script(self, *faults, method="POST"):
        self.server.faults.script(faults, method=method, path=f"/{self.table_id}/")

    def asked(self):
        """Return the methods and statuses of the requests for rows, since the table was made."""
        return [
            (item.method, item.status) for item in self.server.requests if re.search("/(rows|documents)", item.path)
        ]


@pytest.fixture
def embedded(appwrite_server):
    """The embedded server, with a database."""
    from backends import make_database

    return make_database(appwrite_server.client(), appwrite_server)


# On any Appwrite


@SERVICES
@pytest.mark.parametrize("listed", [b"{}", b'{"total": 0}', b'{"total": 0, "rows": null, "documents": null}'])
def test_an_answer_without_a_list_does_not_say_that_the_row_is_absent(service, listed):
    """The models of the SDK make an empty list of it; whether the row was stored stays open."""
    with RawServer(failure(500, "general_unknown"), answer(200, listed)) as server:
        client = AppwriteClient().set_endpoint(server.endpoint).set_project("p").set_key("k")
        pipeline = Pipeline(retry=appwrite_retry(**{**QUICK, "max_attempts": 1}))
        place = {"database_id": "d", "table_id": "t", "row_id": "r1", "data": {"slot": "S"}}
        with client, pytest.raises(AppwriteException) as caught:
            create_row_once(service(client), **place, pipeline=pipeline, operation="x")
    assert caught.value.code == 500
    assert outcome_unknown(caught.value)


class Ids(str, enum.Enum):  # noqa: UP042 - a StrEnum's strings are its values already
    """IDs as an application names them."""

    DATABASE, TABLE, ROW = "d", "t", "r1"


class Dotted(dict):
    """A dict whose items are its attributes as well, None where there is none."""

    __getattr__ = dict.get


SENT = [{"slot": "S", "kinds": [ErrorCategory.NETWORK]}, {"slot": "S", "more": Dotted(a=Dotted(b=1))}]


@SERVICES
@pytest.mark.parametrize("permissions", [None, [], ['read("any")']])
@pytest.mark.parametrize("data", SENT)
@pytest.mark.parametrize("names", [("d", "t", "r1"), tuple(Ids)])
def test_a_creation_is_the_request_that_the_service_makes(service, permissions, data, names):
    """Line, headers and body are the same; older services send what they weren't given as null, and no Accept."""
    with RawServer(answer(201, {**ROW, "$collectionId": "t"})) as server:
        client = AppwriteClient().set_endpoint(server.endpoint).set_project("p").set_key("k")
        tables = service(client)
        place = dict(zip(("database_id", "table_id", "row_id"), names, strict=True))
        pipeline = Pipeline(retry=appwrite_retry(**QUICK))
        with client:
            create_row_once(tables, **place, data=data, permissions=permissions, pipeline=pipeline, operation="x")
            make = tables.create_row if service is TablesDB else plain_method(tables.create_document)
            make(*names, data, permissions)
    ours, theirs = map(parted, server.requests)
    assert ours == theirs


def parted(request):
    """Return line, headers and JSON of a request, without what is null, the lengths and Accept."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.lower().split(b"\r\n")
    kept = {header for header in headers if not header.startswith((b"content-length:", b"accept:"))}
    return line, kept, {name: value for name, value in json.loads(body).items() if value is not None}


@SERVICES
def test_a_client_that_keeps_no_settings_will_do(service):
    """Those of SDK 16 send the project by themselves."""

    class Old(AppwriteClient):
        @property
        def get_config(self):
            raise AttributeError

    with RawServer() as server, Old().set_endpoint(server.endpoint).add_header("x-appwrite-project", "p") as client:
        place = {"database_id": "d", "table_id": "t", "row_id": "r1", "data": {"slot": "S"}}
        pipeline = Pipeline(retry=appwrite_retry(**QUICK))
        assert create_row_once(service(client), **place, pipeline=pipeline, operation="x").id == "r1"
    assert b"x-appwrite-project: p\r\n" in server.requests[0].lower()


@SERVICES
def test_a_row_is_created_and_comes_back(backend, service):
    """ID, data, moment and sequence, from one request; no column of the system among the data."""
    client = Losing(backend.client)
    place = Place(backend, client, service=service)
    row = place.create(price=2.5, tags=["a"])
    assert isinstance(row, Row)
    assert (row.id, row.data["slot"], row.data["price"], row.data["tags"]) == ("r1", "S", 2.5, ["a"])
    assert not [name for name in row.data if name.startswith("$")]
    assert row.created_at is not None
    assert row.created_at.utcoffset() == datetime.timedelta(0)
    assert row.sequence.isdecimal()
    assert [method for method, _ in client.calls] == ["post"]
    assert list(place.rows()) == ["r1"]


@SERVICES
@pytest.mark.parametrize("steps", [["after"], ["before"], ["after", "after", "after"], ["before", "before", "after"]])
def test_a_lost_answer_makes_no_second_row_and_no_error(backend, service, steps):
    """However often request or answer are lost, there is one row and the caller knows it."""
    place = Place(backend, Losing(backend.client, *steps), service=service)
    assert place.create().id == "r1"
    assert list(place.rows()) == ["r1"]


@SERVICES
def test_the_same_call_again_finds_its_row(backend, service):
    """A 409 on the first attempt may be one's own earlier write."""
    place = Place(backend, service=service)
    first = place.create(price=3)
    assert place.create(price=3) == first
    assert list(place.rows()) == ["r1"]


@SERVICES
@pytest.mark.parametrize("steps", [[], ["before"], ["before", "before"]])
def test_a_unique_value_that_is_taken_is_an_error(backend, service, steps):
    """The 409 of a unique index looks like that of a taken ID; the row is not there, so it is no success."""
    place = Place(backend, Losing(backend.client, None, *steps), service=service, indexes=UNIQUE)
    place.create("other")
    error = place.fails(row_id="mine")
    assert error.code == 409
    assert list(place.rows()) == ["other"]


@SERVICES
@pytest.mark.parametrize("steps", [[], ["before"]])
def test_anothers_row_of_the_same_id_is_not_ours(backend, service, steps):
    """Other content under our ID is a conflict, and stays as it is."""
    place = Place(backend, Losing(backend.client, None, *steps), service=service)
    place.create("r1", doctor="another")
    error = place.fails(doctor="mine")
    assert (error.code, classify(error).transient) == (409, False)
    assert place.rows()["r1"]["doctor"] == "another"


def test_a_row_whose_id_differs_in_case_is_another_one(backend):
    """`dune` refuses `DUNE`; though the content is the same, it is not the row that was asked for."""
    place = Place(backend)
    place.create("dune")
    assert place.fails(row_id="DUNE").code == 409
    assert list(place.rows()) == ["dune"]


@SERVICES
def test_the_content_is_compared_as_the_server_writes_it(backend, service):
    """Equal moments, 3 and 3.0, null and absent, empty lists, a column named `data`: the row is recognised as ours."""
    place = Place(backend, Losing(backend.client, "after", "after", "after"), service=service)
    sent = {
        "at": "2026-11-23T10:00:00.123456+01:00",
        "price": 3,
        "count": 3,
        "doctor": None,
        "tags": [],
        "data": "mine",
    }
    assert place.create(**sent).id == "r1"
    assert place.create(**{**sent, "at": "2026-11-23T09:00:00.123Z", "price": 3.0}).id == "r1"
    assert place.fails(**{**sent, "at": "2026-11-23T09:00:00.124Z"}).code == 409


def test_permissions_are_sent_and_not_compared(backend):
    """The row has them; a repeated call with others finds the row all the same."""
    place = Place(backend)
    place.create(permissions=('read("any")',))
    assert place.create(permissions=[]).id == "r1"
    path = f"/tablesdb/{backend.database_id}/tables/{place.table_id}/rows/r1"
    headers = {"X-Appwrite-Project": setting(backend.client, "project")}
    assert backend.client.call("get", path, headers)["$permissions"] == ['read("any")']


@SERVICES
def test_refused_data_fails_at_once(backend, service):
    """An error that isn't transient is not retried, and nothing is read."""
    client = Losing(backend.client)
    error = Place(backend, client, service=service).fails(unknown=1)
    assert (error.code, [method for method, _ in client.calls]) == (400, ["post"])


def test_callers_at_once_with_the_same_row_all_succeed(backend):
    """Eight threads create the same row; all get it, and there is one."""
    place = Place(backend)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda _: place.create(), range(8)))
    assert {row.id for row in rows} == {"r1"}
    assert len({row.sequence for row in rows}) == 1
    assert list(place.rows()) == ["r1"]


def test_callers_at_once_with_one_slot_one_gets_it(backend):
    """Eight bookings of one slot: one is told that it is stored, and it is; the others get the 409."""
    place = Place(backend, indexes=UNIQUE)

    def book(number):
        try:
            return place.create(f"r{number}").id
        except AppwriteException as error:
            assert error.code == 409
            return None

    with ThreadPoolExecutor(8) as pool:
        told = [row_id for row_id in pool.map(book, range(8)) if row_id]
    assert told == list(place.rows())
    assert len(told) == 1


# On the wire


AMBIGUOUS = [
    Fault.reset, Fault.close, lambda **a: Fault.hang(30, **a), Fault.cut_body, Fault.invalid_json,
    lambda **a: Fault.status(408, **a), lambda **a: Fault.status(500, **a),
    lambda **a: Fault.status(504, html=True, **a),
    lambda **a: Fault.status(503, content_type=None, **a), lambda **a: Fault.status(502, html=True, **a),
]  # fmt: skip


@SERVICES
@pytest.mark.parametrize("after_commit", [True, False])
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_whatever_breaks_around_the_commit_the_caller_is_told_right(embedded, service, fault, times, after_commit):
    """One row or none, as the caller is told: a success for each that was stored, an error for each that was not."""
    settings = HANGING if fault(after_commit=True).kind == "hang" else QUICK
    place = Place(embedded, service=service, retry=appwrite_retry(**settings))
    place.script(*[fault(after_commit=after_commit)] * times)
    if after_commit or times < 3:
        assert place.create().id == "r1"
        assert list(place.rows()) == ["r1"]
    else:
        error = place.fails()
        assert len(attempts_of(error)) == 3
        assert place.rows() == {}


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_the_plain_sdk_client_does_as_well(embedded, fault):
    """What the SDK's own client makes of a failure (a KeyError, say) leads to the same."""
    if fault(after_commit=True).kind == "hang":
        pytest.skip("the SDK's client has no timeout")
    client = Client().set_endpoint(embedded.server.endpoint).set_project("demo").set_key("demo-key")
    place = Place(embedded, client)
    place.script(fault(after_commit=True))
    assert place.create().id == "r1"
    assert list(place.rows()) == ["r1"]


def test_a_5xx_that_does_not_pass_by_itself_is_verified_as_well(embedded):
    """A 500 of another type is not tried again, but it can come after the commit."""
    place = Place(embedded)
    place.script(Fault.status(500, type="general_codes_disabled", after_commit=True))
    assert place.create().id == "r1"
    place.script(Fault.status(500, type="general_codes_disabled"))
    assert place.fails(row_id="r2").type == "general_codes_disabled"
    assert list(place.rows()) == ["r1"]


def test_it_never_looks_before_it_creates(embedded):
    """A success is one request; the row is looked for only where there are doubts."""
    place = Place(embedded)
    place.create()
    assert place.asked() == [("POST", 201)]
    place.fails(row_id="r2", unknown=1)
    assert place.asked()[1:] == [("POST", 400)]


def test_it_looks_by_a_query_and_not_by_the_id(embedded):
    """A GET of the ID may come from a cache that remembers that there was nothing."""
    place = Place(embedded)
    place.script(Fault.reset(after_commit=True))
    place.create()
    reads = [item.path for item in embedded.server.requests if item.method == "GET" and "/rows" in item.path]
    assert len(reads) == 1
    assert '"attribute":"$id","values":["r1"]' in unquote(reads[0])
    assert reads[0].endswith("&total=false")


def test_it_looks_again_and_again(embedded):
    """A read that fails is tried again as the policy allows."""
    place = Place(embedded)
    place.script(Fault.reset(after_commit=True))
    place.script(Fault.status(503), Fault.reset(), method="GET")
    assert place.create().id == "r1"
    assert [method for method, _ in place.asked()] == ["POST", "POST", "GET", "GET", "GET"]


@pytest.mark.parametrize("stored", [True, False])
def test_what_cannot_be_read_is_the_ambiguous_error(embedded, stored):
    """Not the harmless one that came later: neither a 409 nor a refusal to connect says that the row is not there."""
    place = Place(embedded)
    place.script(Fault.reset(after_commit=stored), Fault.status(409, type="row_already_exists"))
    place.script(*[Fault.status(503)] * 9, method="GET")
    error = place.fails()
    assert isinstance(error, AppwriteConnectionError)
    assert classify(error).sent == "maybe"
    assert [classify(attempt.error).status for attempt in attempts_of(error)] == [None, 409]
    assert any("could not be read" in note for note in error.__notes__)
    assert pickle.loads(pickle.dumps(error)).sent == "maybe"


def test_of_several_ambiguous_errors_the_last_comes_out(embedded):
    """With all three attempts ambiguous and nothing to be read, the error has them all."""
    place = Place(embedded)
    place.script(Fault.reset(after_commit=True), Fault.status(500), Fault.status(502, html=True))
    place.script(*[Fault.reset()] * 9, method="GET")
    error = place.fails()
    assert error.code == 502
    assert [attempt.number for attempt in attempts_of(error)] == [1, 2, 3]


@pytest.mark.parametrize("stored", [True, False])
def test_a_mere_conflict_that_cannot_be_looked_into_is_open(embedded, stored):
    """A 409 on the first attempt may be our own write: it comes out as what the same call may yet settle, and does."""
    place = Place(embedded)
    place.script(Fault.status(409, type="row_already_exists", after_commit=stored))
    place.script(*[Fault.reset()] * 3, method="GET")
    error = place.fails()
    for same in (error, pickle.loads(pickle.dumps(error))):
        assert (same.code, same.type) == (409, "row_already_exists")
        verdict = classify(same)
        assert (verdict.transient, verdict.sent, verdict.status) == (True, "yes", 409)
        assert verdict.category is ErrorCategory.APPWRITE
    assert "createBooking: the row could not be read" in error.__notes__
    assert place.create().id == "r1"


def test_a_conflict_that_was_looked_into_is_none_of_that(embedded):
    """The row is another's: trying again is of no use."""
    place = Place(embedded)
    place.create(doctor="another")
    assert not classify(place.fails(doctor="mine")).transient


def test_an_outage_that_begins_after_the_write_leaves_it_open(embedded):
    """The answer is lost and then nobody is there any more: the error says that the row may be stored."""

    class Vanishing(Losing):
        def call(self, *args):
            if self.calls:
                with self.client_server.outage():
                    return super().call(*args)
            return super().call(*args)

    client = Vanishing(embedded.client, "after")
    client.client_server = embedded.server
    place = Place(embedded, client)
    error = place.fails()
    assert classify(error).sent == "maybe"
    assert list(place.rows()) == ["r1"]


def test_a_row_changed_meanwhile_is_not_taken_for_ours(embedded):
    """Somebody changes the row before it is verified: it holds something else now."""
    place = Place(embedded)

    class Meddling(Losing):
        def call(self, method, *args):
            if method == "get":
                place.backend.tables.update_row(embedded.database_id, place.table_id, "r1", {"doctor": "another"})
            return super().call(method, *args)

    place.service = TablesDB(Meddling(embedded.client, "after", "after", "after"))
    assert place.fails(doctor="mine").code == 409


@pytest.mark.parametrize("mode", ["legacy", "new"])
def test_both_409s_of_a_unique_index_are_errors(mode):
    """The old type, which is that of a taken ID, and the new one."""
    from backends import make_database
    from booking_resilience.testing import AppwriteServer

    with AppwriteServer(unique_violation=mode) as server:
        place = Place(make_database(server.client(), server), indexes=UNIQUE)
        place.create("other")
        place.script(Fault.reset())
        error = place.fails(row_id="mine")
        assert error.type == {"legacy": "row_already_exists", "new": "row_unique_constraint_violation"}[mode]
        assert list(place.rows()) == ["other"]


# Breaker


def test_the_read_takes_no_permit_and_settles_none(embedded):
    """The breaker that the lost answer opened stands in the way of the next attempt, not of the read."""
    breaker = appwrite_breaker(failure_threshold=1)
    place = Place(embedded, breaker=breaker)
    place.script(Fault.reset(after_commit=True))
    assert place.create().id == "r1"
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.failures, snapshot.refused, snapshot.epoch) == (BreakerState.OPEN, 1, 0, 1)
    assert place.asked()[-1] == ("GET", 200)


def test_failing_reads_do_not_count(embedded):
    """Only the attempts to create are evidence for the breaker."""
    breaker = appwrite_breaker(failure_threshold=4)
    place = Place(embedded, breaker=breaker)
    place.script(*[Fault.status(503)] * 3)
    place.script(*[Fault.status(503)] * 9, method="GET")
    place.fails()
    assert (breaker.state, breaker.snapshot().consecutive_failures) == (BreakerState.CLOSED, 3)


def test_an_open_breaker_refuses_before_anything_is_sent(embedded):
    """Nothing was attempted, so nothing is read."""
    breaker = appwrite_breaker()
    breaker.isolate("maintenance")
    place = Place(embedded, breaker=breaker)
    assert isinstance(place.fails(CircuitOpenError), CircuitOpenError)
    assert place.asked() == []


@pytest.mark.parametrize("stored", [True, False])
def test_a_breaker_opened_by_others_ends_the_attempts_not_the_verification(embedded, monkeypatch, stored):
    """While the operation waits, others open the breaker: what is stored is found, else the refusal comes out."""
    breaker, monitor = appwrite_breaker(), ErrorMonitor()
    place = Place(embedded, breaker=breaker, monitor=monitor)
    place.script(Fault.reset(after_commit=stored))
    monkeypatch.setattr(time, "sleep", lambda _: breaker.isolate("others"))
    if stored:
        assert place.create().id == "r1"
    else:
        error = place.fails(CircuitOpenError)
        assert isinstance(error.__cause__, AppwriteConnectionError)
    assert [item.outcome for item in monitor.recent()] == ["recovered" if stored else "failed"]


def test_a_refusal_of_the_breaker_does_not_hide_what_is_open(embedded, monkeypatch):
    """If the row cannot be read either, the lost answer comes out, not the refusal that came after it."""
    breaker = appwrite_breaker()
    place = Place(embedded, breaker=breaker)
    place.script(Fault.reset(after_commit=True))
    place.script(*[Fault.status(503)] * 9, method="GET")
    monkeypatch.setattr(time, "sleep", lambda _: breaker.isolate("others"))
    error = place.fails()
    assert classify(error).sent == "maybe"
    assert [type(attempt.error) for attempt in attempts_of(error)] == [AppwriteConnectionError, CircuitOpenError]


# Time


def test_a_backend_that_only_hangs_ends_within_the_deadline(embedded):
    """Creating and reading together take no longer than the policy's deadline."""
    place = Place(embedded, retry=appwrite_retry(base_delay=0.01, attempt_timeout=0.2, deadline=1.0))
    place.script(*[Fault.hang(30)] * 9, method=None)
    started = time.monotonic()
    error = place.fails()
    assert time.monotonic() - started < 15
    assert isinstance(error, AppwriteTimeoutError)
    assert error.sent == "maybe"


def test_time_is_kept_for_reading(embedded):
    """One attempt that eats all the time it gets leaves enough to find the row that it stored."""
    place = Place(embedded, retry=appwrite_retry(attempt_timeout=None, deadline=0.8))
    place.script(Fault.hang(30, after_commit=True))
    started = time.monotonic()
    assert place.create().id == "r1"
    assert 0.6 < time.monotonic() - started < 15


def test_an_outer_deadline_holds(embedded):
    """What an enclosing operation has left bounds the whole; if that is nothing, nothing is sent."""
    place = Place(embedded)
    place.script(*[Fault.hang(30)] * 9, method=None)
    started = time.monotonic()
    with deadline(0.4):
        place.fails()
    assert time.monotonic() - started < 15
    before = len(embedded.server.requests)
    with deadline(0):
        place.fails(DeadlineExceededError)
    assert len(embedded.server.requests) == before


def test_without_a_deadline_it_works_as_well(embedded):
    """A policy without a deadline keeps no time for anything."""
    place = Place(embedded, retry=appwrite_retry(**{**QUICK, "deadline": None}))
    place.script(Fault.reset(after_commit=True), Fault.reset())
    assert place.create().id == "r1"


def test_a_rate_limit_is_waited_for_or_given_up(embedded):
    """If it ends in time the row is created, else the 429 comes out at once; nothing is read."""
    place = Place(embedded)
    place.script(Fault.rate_limited(600))
    started = time.monotonic()
    error = place.fails()
    assert time.monotonic() - started < 15
    assert (error.code, place.asked()) == (429, [("POST", 429)])
    place.script(Fault.rate_limited(0))
    assert place.create().id == "r1"


def test_an_empty_budget_ends_the_attempts_and_the_row_is_read_once(embedded):
    """Retries are paid for, also those of the read; the first read is none."""
    budget = RetryBudget(initial=0)
    place = Place(embedded, retry=appwrite_retry(**QUICK, budget=budget))
    place.script(Fault.reset(after_commit=True))
    assert place.create().id == "r1"
    assert [method for method, _ in place.asked()] == ["POST", "GET"]


# What is told


def test_the_monitor_gets_one_record_for_each_operation(embedded):
    """A recovery is a warning, a failure an error, each with its attempts; a plain success is nothing."""
    monitor = ErrorMonitor()
    place = Place(embedded, monitor=monitor, category=ErrorCategory.BOOKING)
    place.create("r1")
    assert monitor.stats().total == 0
    place.script(Fault.status(503), Fault.reset(after_commit=True))
    place.create("r2")
    place.script(*[Fault.status(503)] * 3)
    place.fails(row_id="r3")
    place.create("r1")  # a 409 on the first attempt, found to be ours
    place.fails(row_id="r4", unknown=1)
    told = [
        (item.operation, item.outcome, item.severity.value, item.attempts, item.category.value)
        for item in reversed(monitor.recent())
    ]
    assert told == [
        ("createBooking", "recovered", "warning", 3, "booking"),
        ("createBooking", "failed", "error", 3, "booking"),
        ("createBooking", "recovered", "warning", 1, "booking"),
        ("createBooking", "failed", "error", 1, "booking"),
    ]


def test_what_stays_open_is_recorded_once_as_what_it_is(embedded):
    """The record has the error that comes out."""
    monitor = ErrorMonitor()
    place = Place(embedded, monitor=monitor)
    place.script(Fault.reset(after_commit=True), Fault.status(409))
    place.script(*[Fault.status(503)] * 9, method="GET")
    error = place.fails()
    (record,) = monitor.recent()
    assert (record.outcome, record.attempts, record.error_type.endswith("AppwriteConnectionError")) == (
        "failed",
        2,
        True,
    )
    assert isinstance(error, AppwriteConnectionError)


def ends_told(caplog):
    """Return the ends of operations in the log of retries, without the retries of the reading."""
    return [
        (item.levelname, item.operation, item.outcome, item.attempt, item.reason)
        for item in caplog.records
        if item.name == "booking_resilience.retry" and item.outcome != "retrying"
    ]


def test_an_end_is_logged_once_when_it_is_known(embedded, caplog):
    """What gave up and was then found in the table has recovered, and nothing says otherwise before."""
    caplog.set_level("INFO", "booking_resilience.retry")
    place = Place(embedded)
    place.script(*[Fault.reset(after_commit=True)] + [Fault.status(503)] * 2)
    place.create("r1")
    place.create("r1")  # a 409 on the first attempt, found to be ours
    place.script(Fault.status(503))
    place.create("r2")
    place.script(*[Fault.status(503)] * 3)
    place.fails(row_id="r3")
    assert ends_told(caplog) == [
        ("INFO", "createBooking", "recovered", 3, None),
        ("INFO", "createBooking", "recovered", 1, None),
        ("INFO", "createBooking", "recovered", 2, None),
        ("WARNING", "createBooking", "gave_up", 3, "attempts"),
    ]


def test_what_stays_open_is_logged_with_the_error_that_comes_out(embedded, caplog):
    """The end of an operation is told with the type of the ambiguous error, after the reading has given up."""
    caplog.set_level("INFO", "booking_resilience.retry")
    place = Place(embedded)
    place.script(Fault.reset(after_commit=True), Fault.status(409))
    place.script(*[Fault.status(503)] * 9, method="GET")
    place.fails()
    assert ends_told(caplog) == [
        ("WARNING", "createBooking: verify", "gave_up", 3, "attempts"),
        ("WARNING", "createBooking", "gave_up", 2, "not_transient"),
    ]
    assert caplog.records[-1].error_type == "AppwriteConnectionError"


def test_the_time_of_an_end_includes_the_reading(embedded, caplog, virtual_clock):
    """`elapsed` is that of the operation, also where it was the reading that waited."""
    caplog.set_level("INFO", "booking_resilience.retry")
    place = Place(embedded, retry=appwrite_retry(jitter=0.0))
    place.script(Fault.reset(after_commit=True), Fault.status(409))
    place.script(Fault.status(503), Fault.status(503), method="GET")
    place.create()
    assert virtual_clock.sleeps == [0.3, 0.3, 0.6]
    assert [item.elapsed for item in caplog.records if item.operation == "createBooking"] == pytest.approx([0.0, 1.2])


@pytest.mark.parametrize("faults", [[Fault.status(503)], [Fault.reset(after_commit=True)], [Fault.status(503)] * 3])
def test_a_monitor_that_raises_changes_nothing(embedded, faults, caplog):
    """What a monitor raises is logged, and the operation ends as it would have."""

    class Broken:
        def record(self, error, **facts):
            raise RuntimeError("the monitor is broken")

    place = Place(embedded, monitor=Broken())
    place.script(*faults)
    if len(faults) == 3:
        assert place.fails().code == 503
    else:
        assert place.create().id == "r1"
    assert "the monitor is broken" in caplog.text


def test_what_is_logged_names_the_operation_and_no_data(embedded, caplog):
    """A verified success and an open end are logged without the row's content."""
    caplog.set_level("DEBUG", "booking_resilience")
    place = Place(embedded)
    place.script(Fault.reset(after_commit=True))
    place.create(doctor="Dr Secret")
    place.script(Fault.reset(after_commit=True))
    place.script(*[Fault.reset()] * 9, method="GET")
    place.fails(row_id="r2", doctor="Dr Secret")
    texts = [record.getMessage() for record in caplog.records if record.name == "booking_resilience.appwrite"]
    assert texts == [
        "createBooking: an earlier attempt had been carried out",
        "createBooking: it may or may not have been carried out (AppwriteConnectionError)",
    ]
    assert "Secret" not in caplog.text


def test_the_error_has_its_own_traceback_and_goes_when_it_is_dropped(embedded):
    """The original error comes out, with its attempts, and nothing keeps it alive: no cycles."""
    place = Place(embedded)
    for get_fails in (False, True):
        place.script(Fault.reset(), Fault.status(503), Fault.reset())
        if get_fails:
            place.script(*[Fault.status(503)] * 9, method="GET")
        gc.collect()
        gc.disable()
        try:
            try:
                place.create()
            except AppwriteException as error:
                assert len(attempts_of(error)) == 3
                frames = []
                tb = error.__traceback__
                while tb is not None:
                    frames.append(tb.tb_frame.f_code.co_name)
                    tb = tb.tb_next
                assert frames[-1] == "_converse"
                gone = weakref.ref(error)
                del tb
            assert gone() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("row_id", ["", "unique()"])
def test_the_id_must_be_ours(embedded, row_id):
    """An ID that the server makes would be another one in each attempt."""
    place = Place(embedded)
    with pytest.raises(ValueError, match="row_id must be an ID of your own"):
        place.create(row_id)
    assert place.asked() == []


@pytest.mark.parametrize("row_id", [None, 5, b"r1"])
def test_an_id_that_is_no_string_is_a_type_error(embedded, row_id):
    """Nothing is sent."""
    place = Place(embedded)
    with pytest.raises(TypeError, match="row_id must be a string"):
        place.create(row_id)
    assert place.asked() == []


class Stored(Client):
    """A client that stores the row and tells otherwise, and reads it as it was told to."""

    def __init__(self, read, *failures):
        super().__init__()
        self.read, self.failures = read, list(failures)

    def call(self, method, *_, **__):
        if method == "get":
            return {"rows": [{"$id": "r1", **self.read}]}
        raise self.failures.pop(0) if len(self.failures) > 1 else self.failures[0]


def conflict():
    """Return the 409 of an ID that is taken."""
    evidence = Evidence("answer", "yes", 409, "row_already_exists")
    return AppwriteCallError("taken", 409, "row_already_exists", "{}", evidence=evidence)


def lost():
    """Return the error of an answer that got lost."""
    return AppwriteConnectionError("lost", evidence=Evidence("network", "maybe"))


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"slot": "S", "doctor": "doc-1"}, {"slot": "S", "doctor": {"$id": "doc-1", "name": "Ada"}}),
        ({"slot": "S", "doctor": "doc-1"}, {"slot": "S"}),
        ({"slot": "S", "start": "2026-03-01 10:00:00 UTC"}, {"slot": "S", "start": "2026-03-01T10:00:00.000+00:00"}),
        ({"slot": "S", "start": "tomorrow noon"}, {"slot": "S", "start": "2026-03-01T12:00:00.000+00:00"}),
    ],
)
@pytest.mark.parametrize("failures", [(conflict(),), (lost(), conflict())])
def test_a_stored_row_is_ours_by_what_can_be_compared(sent, read, failures):
    """A related row and a date that only the server reads don't make it another's."""
    pipeline = Pipeline(retry=appwrite_retry(**QUICK))
    tables = TablesDB(Stored(read, *failures))
    row = create_row_once(
        tables, database_id="d", table_id="t", row_id="r1", data=sent, pipeline=pipeline, operation="x"
    )
    assert row.data == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"doctor": "doc-1"}, {}),
        ({"start": "tomorrow noon"}, {"start": "2026-03-01T12:00:00.000+00:00"}),
    ],
)
@pytest.mark.parametrize("failures", [(conflict,), (lost, conflict)])
def test_a_row_in_which_nothing_can_be_compared_is_never_refused_for_good(sent, read, failures):
    """Nobody can say whose it is: the error says that it is open."""
    tables = TablesDB(Stored(read, *(make() for make in failures)))
    pipeline = Pipeline(retry=appwrite_retry(**QUICK))
    with pytest.raises(AppwriteException) as caught:
        create_row_once(tables, database_id="d", table_id="t", row_id="r1", data=sent, pipeline=pipeline, operation="x")
    assert classify(caught.value).transient


def test_the_service_must_be_one_of_two(embedded):
    """Anything else is a TypeError that names it."""
    place = Place(embedded)
    place.service = object()
    with pytest.raises(TypeError, match="TablesDB or Databases"):
        place.create()


def test_the_sdks_warnings_stay_as_they_are(embedded):
    """The older service's methods are deprecated; calling them here changes no warning filter of the process."""
    import warnings

    before = list(warnings.filters)
    Place(embedded, service=Databases).create()
    assert warnings.filters == before


# The policy and the breaker


def test_the_policy_for_appwrite():
    """The default one, but for what it retries on and the second for each attempt; settings can be changed."""
    policy = appwrite_retry()
    assert (policy.max_attempts, policy.deadline, policy.attempt_timeout, policy.delays()) == (3, 4.0, 1.0, (0.3, 0.6))
    assert policy.retry_on(AppwriteException("x", 503, "general_unknown"))
    assert not policy.retry_on(AppwriteException("x", 400, "row_invalid_structure"))
    changed = appwrite_retry(max_attempts=5, attempt_timeout=None, retry_on=KeyError)
    assert (changed.max_attempts, changed.attempt_timeout, changed.retry_on) == (5, None, KeyError)
    with pytest.raises(ValueError, match="max_attempts"):
        appwrite_retry(max_attempts=0)


def test_the_breaker_for_appwrite():
    """Five failures of the backend open it; a 429 and one's own mistakes say nothing; a refusal is a success."""
    breaker = appwrite_breaker()
    assert breaker.name == "appwrite"
    assert appwrite_breaker("other", failure_threshold=2).name == "other"

    def answered(*errors):
        for error in errors:
            with pytest.raises(type(error)):
                breaker.call(raising, error)

    def raising(error):
        raise error

    down = [AppwriteException("x", 503), AppwriteException("x", 500, "general_codes_disabled"), ConnectionError("x")]
    answered(*down, AppwriteException("x", 404, "row_not_found"))
    assert breaker.snapshot().consecutive_failures == 0
    answered(*down, AppwriteException("x", 429), TypeError("x"), AppwriteException("missing parameter"))
    assert breaker.snapshot().consecutive_failures == 3
    answered(AppwriteException("x", 408), TimeoutError("x"))
    assert breaker.state is BreakerState.OPEN


@pytest.mark.parametrize("answer", [{"$id": "r1"}, {"$id": "r1", "slot": "S", "$sequence": 7, "$createdAt": ""}])
def test_a_row_is_made_of_what_the_wire_has(answer):
    """A dict becomes a row; what is missing is None, a sequence is a text."""
    row = row_of(answer)
    assert (row.id, row.created_at) == ("r1", None)
    assert row.sequence in (None, "7")


@pytest.mark.parametrize("answer", [{}, {"$id": ""}, {"$id": 5}, {"$id": None}])
def test_a_row_without_an_id_is_none(answer):
    """What has no ID is no row."""
    with pytest.raises((KeyError, ValueError)):
        row_of(answer)


@pytest.mark.parametrize("is_stored", [True, False])
def test_an_answer_that_is_no_row_is_no_success(embedded, is_stored, monkeypatch):
    """An object that is no row, of which the SDK makes one without an ID, tells nothing: the stored row does."""
    place = Place(embedded)
    call = embedded.client.call

    def answered_by_another(method, path, headers, params):
        if method == "get" or is_stored:
            answer = call(method, path, headers, params)
        return answer if method == "get" else {}

    monkeypatch.setattr(embedded.client, "call", answered_by_another)
    if is_stored:
        assert place.create().id == "r1"
    else:
        error = place.fails()
        assert classify(error).transient
        assert len(attempts_of(error)) == 3
        assert not outcome_unknown(error)
    assert list(place.rows()) == ["r1"] * is_stored
