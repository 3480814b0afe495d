"""`update_row_once` and `delete_row_once`: once, never over another's change, and an honest answer. Both colours."""

from __future__ import annotations

import dataclasses
import pickle
import time

import pytest
from appwrite.exception import AppwriteException
from appwrite.services.databases import Databases
from appwrite.services.tables_db import TablesDB

from backends import make_database
from booking_resilience import Pipeline
from booking_resilience.appwrite import (
    AppwriteClient,
    Row,
    RowConflictError,
    appwrite_retry,
    classify,
    delete_row_once,
    outcome_unknown,
)
from booking_resilience.testing import AppwriteServer, Fault
from halves import LOOPS, QUICK, Half, at_once
from rawserver import ROW as STORED
from rawserver import RawServer, answer, failure

ROW = "/rows/r1"
COMMIT = "/transactions/"


@pytest.fixture
def embedded(appwrite_server):
    """The embedded server, with a database."""
    return make_database(appwrite_server.client(), appwrite_server)


@pytest.fixture(params=LOOPS[:2])
def half(request, embedded):
    """A table, and one of the colours."""
    return Half(embedded, request.param)


def aged(half, row_id="r1", **data):
    """Return a row whose next change is in another millisecond."""
    row = half.insert(row_id, **data)
    time.sleep(0.003)
    return row


def change(half):
    """Change the row past all scripts, as somebody else would."""
    time.sleep(0.003)
    half.backend.tables.update_row(**half.place("r1"), data={"doctor": "theirs"})


def between_attempts(half, then):
    """Return the pipeline, doing something when an attempt has failed."""

    def retry_on(error):
        then()
        return half_retry.passes(error)

    half_retry = half.pipeline.retry
    return Pipeline(retry=dataclasses.replace(half_retry, retry_on=retry_on), breaker=half.pipeline.breaker)


def script(half, *faults, method="PATCH", path=ROW):
    """Have the requests for the row go wrong."""
    half.server.faults.script(faults, method=method, path=path)


class TestUpdate:
    """`update_row_once`."""

    def test_a_row_as_expected_is_changed(self, half):
        """The row is changed, and comes back as it is stored."""
        row = half.update("r1", aged(half, doctor="A"), doctor="B")
        assert row.data["doctor"] == "B"
        assert row.updated_at == half.read("r1").updated_at
        assert row.updated_at > row.created_at

    @pytest.mark.parametrize("service", [TablesDB, Databases])
    def test_either_service_does(self, embedded, service):
        """The older service does as well."""
        half = Half(embedded, "sync", service=service)
        assert half.update("r1", aged(half), doctor="B").data["doctor"] == "B"

    def test_columns_are_expected(self, half):
        """With a mapping the row is read now; other columns may have changed."""
        aged(half, doctor="A", price=1.0)
        assert half.update("r1", {"doctor": "A"}, price=2.0).data["price"] == 2.0

    @pytest.mark.parametrize("expected", ["row", "columns"])
    def test_anothers_change_stays(self, half, expected):
        """A row that was changed meanwhile is left alone, and comes with the error."""
        row = aged(half, doctor="A")
        half.backend.tables.update_row(**half.place("r1"), data={"doctor": "theirs"})
        with pytest.raises(RowConflictError) as caught:
            half.update("r1", row if expected == "row" else {"doctor": "A"}, doctor="mine")
        assert caught.value.found == half.read("r1")
        assert caught.value.found.data["doctor"] == "theirs"
        assert caught.value.row_id == "r1"
        assert caught.value.code == 409
        assert not outcome_unknown(caught.value)

    @pytest.mark.parametrize("written", ["as the wire does", "as a row has it"])
    def test_the_moment_of_the_last_change_is_expected(self, half, written):
        """A mapping may name that moment: who knows an older one changes nothing."""
        row = aged(half, doctor="A")
        moment = row.updated_at.isoformat() if written == "as the wire does" else row.updated_at
        known = {"$id": "r1", "$updatedAt": moment}
        assert half.update("r1", known, doctor="B").data["doctor"] == "B"
        with pytest.raises(RowConflictError):
            half.update("r1", known, doctor="C")
        with pytest.raises(RowConflictError):
            half.delete("r1", known)
        assert half.read("r1").data["doctor"] == "B"

    @pytest.mark.parametrize("expected", ["row", "columns"])
    def test_a_row_that_is_gone(self, half, expected):
        """A row that is gone is a conflict with nothing found."""
        row = aged(half, doctor="A")
        half.backend.tables.delete_row(**half.place("r1"))
        with pytest.raises(RowConflictError) as caught:
            half.update("r1", row if expected == "row" else {"doctor": "A"}, doctor="mine")
        assert caught.value.found is None
        assert not outcome_unknown(caught.value)

    @pytest.mark.parametrize("expected", ["row", "columns"])
    @pytest.mark.parametrize("fault", [Fault.reset, Fault.close, Fault.cut_body, Fault.invalid_json])
    @pytest.mark.parametrize("after", [True, False])
    def test_a_lost_answer(self, half, expected, fault, after):
        """A lost request or answer, twice in a row: the change is there once, and found."""
        row = aged(half, doctor="A")
        script(half, fault(after_commit=after), fault(after_commit=after))
        changed = half.update("r1", row if expected == "row" else {"doctor": "A"}, doctor="mine")
        assert changed.data["doctor"] == "mine"

    def test_the_same_call_again(self, half):
        """A repeated call finds its own change, whatever it expects."""
        row = aged(half, doctor="A")
        for expected in (row, row, {"doctor": "A"}):
            assert half.update("r1", expected, doctor="mine").data["doctor"] == "mine"

    def test_nothing_can_be_read(self, half):
        """The answer is lost and nothing can be read: the outcome is unknown."""
        row = aged(half, doctor="A")
        script(half, *[Fault.reset(after_commit=True)] * 9)
        script(half, *[Fault.status(503)] * 30, method="GET", path="/rows")
        with pytest.raises(AppwriteException) as caught:
            half.update("r1", row, doctor="mine")
        assert outcome_unknown(caught.value)
        half.server.faults.clear()
        assert half.update("r1", row, doctor="mine").data["doctor"] == "mine"

    @pytest.mark.parametrize(("fault", "is_open"), [(Fault.reset(), True), (Fault.status(503), False)])
    def test_never_carried_out(self, half, fault, is_open):
        """A reading that finds the row as it was settles an answered failure, not one that was cut off."""
        row = aged(half, doctor="A")
        script(half, *[fault] * 9)
        with pytest.raises(AppwriteException) as caught:
            half.update("r1", row, doctor="mine")
        assert outcome_unknown(caught.value) is is_open
        assert outcome_unknown(pickle.loads(pickle.dumps(caught.value))) is is_open
        assert half.read("r1") == row

    @pytest.mark.parametrize("times", [3, 30])
    @pytest.mark.parametrize("fault", [Fault.reset(), Fault.cut_body(), Fault.status(503)])
    def test_a_reading_before_the_change_leaves_nothing_open(self, half, fault, times):
        """Columns are expected and cannot be read: that error comes out, no conflict, and nothing was sent."""
        row = aged(half, doctor="A")
        script(half, *[fault] * times, method="GET", path="/rows")
        with pytest.raises(AppwriteException) as caught:
            half.update("r1", {"doctor": "A"}, doctor="mine")
        assert classify(caught.value).transient
        assert not outcome_unknown(caught.value)
        half.server.faults.clear()
        assert half.read("r1") == row

    def test_a_refusal_after_a_reading_that_failed(self, half):
        """The reading broke off, then the change was refused: nothing is open."""
        aged(half, doctor="A")
        script(half, Fault.reset(), method="GET", path="/rows")
        with pytest.raises(AppwriteException) as caught:
            half.update("r1", {"doctor": "A"}, unheard_of="mine")
        assert caught.value.code == 400
        assert not outcome_unknown(caught.value)

    def test_a_conflict_after_a_lost_answer_is_open(self, half):
        """Another's change after a lost answer: ours may have been stored before it."""
        row = aged(half, doctor="A")
        script(half, Fault.reset(after_commit=True))
        half.pipeline = between_attempts(half, lambda: change(half))
        with pytest.raises(RowConflictError) as caught:
            half.update("r1", row, doctor="mine")
        assert outcome_unknown(caught.value)
        assert half.read("r1").data["doctor"] == "theirs"

    def test_a_unique_index_is_the_servers_409(self, embedded):
        """A value that another row has is the server's 409, with a known outcome."""
        half = Half(embedded, "sync", indexes={"once": {"type": "unique", "columns": ["slot"]}})
        row = aged(half)
        half.insert("r2")
        with pytest.raises(AppwriteException) as caught:
            half.update("r1", row, slot="r2")
        assert caught.value.code == 409
        assert not isinstance(caught.value, RowConflictError)
        assert not outcome_unknown(caught.value)

    @pytest.mark.parametrize(
        ("named", "kind"),
        [
            ({"data": {}}, ValueError),
            ({"data": None}, TypeError),
            ({"data": {5: "S"}}, TypeError),
            ({"expected": {}}, ValueError),
            ({"expected": {"$id": "r1", "$permissions": []}}, ValueError),
            ({"expected": None}, TypeError),
            ({"expected": Row("r1", {})}, ValueError),
            ({"expected": Row("r2", {})}, ValueError),
            ({"row_id": ""}, ValueError),
            ({"row_id": 5}, TypeError),
            ({"pipeline": None}, TypeError),
        ],
        ids=repr,
    )
    def test_wrong_arguments(self, half, named, kind):
        """Wrong arguments are refused before anything is sent."""
        before = len(half.server.requests)
        with pytest.raises(kind):
            half.call("update_row_once", **{**half.place("r1"), "data": {"a": 1}, "expected": {"a": 0}, **named})
        assert len(half.server.requests) == before

    def test_one_winner(self, half):
        """Of 20 callers with one `expected` one wins; the others are told so."""
        row = aged(half, doctor="A")
        results = at_once([lambda name=name: half.update("r1", row, doctor=f"caller {name}") for name in range(20)])
        won = [result for result in results if isinstance(result, Row)]
        assert [row.data["doctor"] for row in won] == [half.read("r1").data["doctor"]]
        assert sum(isinstance(result, RowConflictError) for result in results) == 19


class TestDelete:
    """`delete_row_once`."""

    def test_a_row_is_deleted(self, half):
        """True for the row that was there, False for the one that is not."""
        half.insert("r1")
        assert half.delete("r1") is True
        assert half.read("r1") is None
        assert half.delete("r1") is False

    def test_a_row_whose_id_differs_in_case_is_another_one(self, half):
        """It stays, though the server would take it for the one that is to go."""
        half.insert("r1", doctor="A")
        assert half.delete("R1", {"doctor": "A"}) is False
        assert half.read("r1") is not None

    @pytest.mark.parametrize("service", [TablesDB, Databases])
    def test_either_service_does(self, embedded, service):
        """The older service does as well."""
        half = Half(embedded, "sync", service=service)
        row = half.insert("r1")
        assert half.delete("r1", row) is True
        assert half.delete("r1", row) is False

    @pytest.mark.parametrize("after", [True, False])
    @pytest.mark.parametrize("fault", [Fault.reset, Fault.close, Fault.cut_body, Fault.invalid_json])
    @pytest.mark.parametrize("where", [("POST", "/transactions"), ("POST", "/operations"), ("PATCH", "/transactions/")])
    def test_a_fault_at_each_request(self, half, where, fault, after):
        """Whatever is lost, twice in a row, the row is gone, and this call did it."""
        half.insert("r1")
        script(half, fault(after_commit=after), fault(after_commit=after), method=where[0], path=where[1])
        assert half.delete("r1") is True
        assert half.read("r1") is None

    @pytest.mark.parametrize("told", ["committed", "conflict"])
    @pytest.mark.parametrize("kept", [0, 1])
    def test_a_commit_that_lies(self, half, told, kept):
        """Whatever the commit says, the row is read, and decides."""
        half.insert("r1")
        half.server.faults.script([Fault.torn_commit(told=told, kept=kept)])
        assert half.delete("r1") is True
        assert half.read("r1") is None

    @pytest.mark.parametrize(("fault", "is_open"), [(Fault.reset(), True), (Fault.status(503), False)])
    def test_never_carried_out(self, half, fault, is_open):
        """A commit that was cut off may come later; one that was answered is settled by the reading."""
        half.insert("r1")
        script(half, *[fault] * 9, path=COMMIT)
        with pytest.raises(AppwriteException) as caught:
            half.delete("r1")
        assert outcome_unknown(caught.value) is is_open

    def test_nothing_can_be_read(self, half):
        """The answer is lost and nothing can be read: the outcome is unknown."""
        half.insert("r1")
        script(half, *[Fault.reset(after_commit=True)] * 9, path=COMMIT)
        script(half, *[Fault.status(503)] * 50, method="GET", path="/rows")
        with pytest.raises(AppwriteException) as caught:
            half.delete("r1")
        assert outcome_unknown(caught.value)

    def test_nothing_was_sent(self, half):
        """A failure before the commit leaves nothing open."""
        half.insert("r1")
        script(half, *[Fault.reset()] * 9, method="POST", path="/operations")
        with pytest.raises(AppwriteException) as caught:
            half.delete("r1")
        assert not outcome_unknown(caught.value)
        assert half.read("r1") is not None

    @pytest.mark.parametrize("kind", ["row", "columns"])
    def test_not_as_expected(self, half, kind):
        """A row that was changed meanwhile stays."""
        row = aged(half, doctor="A")
        half.backend.tables.update_row(**half.place("r1"), data={"doctor": "theirs"})
        with pytest.raises(RowConflictError) as caught:
            half.delete("r1", row if kind == "row" else {"doctor": "A"})
        assert caught.value.found.data["doctor"] == "theirs"
        assert not outcome_unknown(caught.value)
        assert half.read("r1") is not None

    def test_a_change_between_staging_and_commit(self, half):
        """A change after the comparison is a conflict at the commit, and so of the call."""
        row = aged(half, doctor="A")
        script(half, Fault.status(503), path=COMMIT)
        half.pipeline = between_attempts(half, lambda: change(half))
        with pytest.raises(RowConflictError):
            half.delete("r1", row)
        assert half.read("r1").data["doctor"] == "theirs"

    @pytest.mark.parametrize("is_expected", [True, False])
    def test_anothers_deletion_is_not_taken_for_ours(self, embedded, is_expected):
        """Another deletes the row and makes it anew before the commit: the new row is another one, or deleted, too."""
        half = Half(embedded, "sync")

        class Meddled(TablesDB):
            def update_transaction(self, *args):
                if half.read("r1") == row:
                    half.backend.tables.delete_row(**half.place("r1"))
                    half.insert("r1", doctor="theirs")
                return super().update_transaction(*args)

        half.service = Meddled
        row = aged(half, doctor="A")
        if is_expected:
            with pytest.raises(RowConflictError) as caught:
                half.delete("r1", row)
            assert caught.value.found.data["doctor"] == "theirs"
            assert not outcome_unknown(caught.value)
        else:
            assert half.delete("r1") is True
            assert half.read("r1") is None

    def test_one_of_twenty(self, half):
        """Of 20 callers one is told True."""
        half.insert("r1")
        results = at_once([lambda: half.delete("r1")] * 20)
        assert sorted(results) == [False] * 19 + [True], results


def test_a_row_that_appears_once_nothing_was_deleted_is_another_one():
    """There was none when it was read, so nothing was sent; it isn't said that the server lied about a deletion."""
    gone, there = answer(200, {"rows": []}), answer(200, {"rows": [STORED]})
    with RawServer(failure(404, "general_route_not_found"), gone, there) as server:
        client = AppwriteClient().set_endpoint(server.endpoint).set_project("p")
        place = {"database_id": "d", "table_id": "t", "row_id": "r1", "expected": {"slot": "S"}}
        pipeline = Pipeline(retry=appwrite_retry(**QUICK))
        with client:
            assert delete_row_once(TablesDB(client), **place, pipeline=pipeline, operation="x") is False
    assert [request.partition(b" ")[0] for request in server.requests] == [b"POST", b"GET"]


@pytest.fixture(scope="module")
def plain():
    """A server without transactions."""
    with AppwriteServer(transactions=False) as server:
        yield make_database(server.client(), server)


@pytest.mark.parametrize("loop", LOOPS)
class TestWithoutTransactions:
    """A server that has none."""

    def test_several_rows_are_refused(self, plain, loop):
        """`create_rows_once` raises ValueError before anything is written."""
        half = Half(plain, loop)
        with pytest.raises(ValueError, match="no transactions") as caught:
            half.create("r1", "r2")
        assert half.rows() == {}
        assert not outcome_unknown(caught.value)

    def test_a_row_is_deleted(self, plain, loop):
        """True for the row that was there, False for the one that is not."""
        half = Half(plain, loop)
        row = half.insert("r1", doctor="A")
        assert half.delete("R1", {"doctor": "A"}) is False  # another one, whose ID differs in case
        assert half.delete("r1", row) is True
        assert half.delete("r1") is False

    def test_a_lost_answer(self, plain, loop):
        """After a lost answer the row that is gone may be ours: True."""
        half = Half(plain, loop)
        half.insert("r1")
        script(half, Fault.reset(after_commit=True), method="DELETE")
        assert half.delete("r1") is True

    def test_not_as_expected(self, plain, loop):
        """A row that was changed meanwhile stays."""
        half = Half(plain, loop)
        row = aged(half, doctor="A")
        half.backend.tables.update_row(**half.place("r1"), data={"doctor": "theirs"})
        with pytest.raises(RowConflictError):
            half.delete("r1", row)
        assert half.read("r1") is not None
