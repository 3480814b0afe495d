"""`create_rows_once`: all rows or none, each once, and an honest answer, whatever is lost or torn. Both colours."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import pickle
import threading
import time
import weakref

import pytest
from appwrite.exception import AppwriteException
from appwrite.services.databases import Databases
from appwrite.services.tables_db import TablesDB
from hypothesis import given
from hypothesis import strategies as st

from backends import make_database
from booking_resilience import (
    BreakerState,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorMonitor,
    Pipeline,
    attempts_of,
    deadline,
)
from booking_resilience.appwrite import (
    SLOT_TABLE,
    AppwriteChatService,
    NewRow,
    RowConflictError,
    SlotRow,
    SlotTakenError,
    appwrite_breaker,
    appwrite_retry,
    chat_rows,
    outcome_unknown,
    time_slots,
)
from booking_resilience.appwrite.findings import staging_order
from booking_resilience.testing import Fault
from halves import LOOPS, QUICK, Half, at_once, pipeline

COMMIT = {"method": "PATCH", "path": "/transactions/"}
NINE = datetime.datetime(2026, 12, 1, 9, tzinfo=datetime.UTC)
QUARTER = datetime.timedelta(minutes=15)


class Marked(str):
    """A string of a kind of its own, as an idempotent ID is."""

    __slots__ = ()


@pytest.fixture
def embedded(appwrite_server):
    """The embedded server, with a database."""
    return make_database(appwrite_server.client(), appwrite_server)


@pytest.fixture(params=LOOPS[::2])
def half(request, embedded):
    """A table, and one of the colours."""
    return Half(embedded, request.param)


def script(half, *faults, method="PATCH", path="/transactions/"):
    """Have the commits go wrong, or other requests."""
    half.server.faults.script(faults, method=method, path=path)


def ids(rows):
    """Return the rows' IDs."""
    return [row.id for row in rows]


class TestForm:
    """What is taken and what comes back."""

    def test_all_are_stored_in_order(self, half):
        """The rows come back as stored, in the order given, from five requests."""
        before = len(half.server.requests)
        rows = half.create("r2", "r1", doctor="A")
        assert ids(rows) == ["r2", "r1"]
        assert all(row == half.read(row.id) for row in rows)
        asked = [(item.method, item.status) for item in half.server.requests[before:]]
        assert asked[:4] == [("POST", 201), ("POST", 201), ("PATCH", 200), ("GET", 200)]

    @pytest.mark.parametrize("service", [TablesDB, Databases])
    def test_either_service_does(self, embedded, service):
        """The older service does as well, permissions included."""
        half = Half(embedded, "sync", service=service)
        row = NewRow(embedded.database_id, half.table_id, "r1", {"slot": "S"}, ['read("any")'])
        assert ids(half.call("create_rows_once", [row])) == ["r1"]
        assert embedded.tables.get_row(**half.place("r1")).permissions == ['read("any")']

    @pytest.mark.parametrize(
        ("rows", "kind"),
        [
            ([], ValueError),
            ([NewRow("d", "t", str(number), {}) for number in range(101)], ValueError),
            ([NewRow("d", "t", "a", {}), NewRow("d", "t", "A", {})], ValueError),
            ([NewRow("d", "t", "", {})], ValueError),
            ([NewRow("d", "t", "unique()", {})], ValueError),
            ([NewRow("d", "t", 5, {})], TypeError),
            ([NewRow("d", "t", "a", None)], TypeError),
            ([("d", "t", "a", {})], TypeError),
            (None, TypeError),
            ("rows", TypeError),
        ],
        ids=repr,
    )
    def test_wrong_rows(self, half, rows, kind):
        """Wrong rows are refused before anything is sent."""
        before = len(half.server.requests)
        with pytest.raises(kind):
            half.call("create_rows_once", rows)
        assert len(half.server.requests) == before

    @pytest.mark.parametrize(
        ("compare", "kind"), [("slot", TypeError), ((), ValueError), (("no",), ValueError), ((5,), TypeError)]
    )
    def test_wrong_columns_to_compare(self, half, compare, kind):
        """Columns to compare are a collection of columns that are sent."""
        with pytest.raises(kind):
            half.call("create_rows_once", [half.new("r1")], compare=compare)
        with pytest.raises(kind):
            half.call("create_row_once", **half.place("r1"), data={"slot": "S"}, compare=compare)

    @pytest.mark.parametrize(
        ("wrong", "kind"),
        [
            ({"permissions": 'read("any")'}, TypeError),
            ({"permissions": [5]}, TypeError),
            ({"data": {5: "S"}}, TypeError),
            ({"row_id": "a b"}, ValueError),
            ({"row_id": "_a"}, ValueError),
            ({"row_id": "a" * 37}, ValueError),
        ],
    )
    def test_wrong_rows_are_refused_before_anything_is_sent(self, half, wrong, kind):
        """The server checks neither permissions nor IDs of what is staged."""
        row = dataclasses.replace(half.new("r1"), **wrong)
        before = len(half.server.requests)
        with pytest.raises(kind, match=next(iter(wrong))):
            half.call("create_rows_once", [row])
        if "row_id" not in wrong:
            with pytest.raises(kind, match=next(iter(wrong))):
                half.call("create_row_once", **{**half.place("r1"), "data": {"slot": "S"}, **wrong})
        assert len(half.server.requests) == before

    def test_the_order_of_staging(self):
        """Database and table, slot rows by ID, others as given."""
        one, two = NewRow("d", "t", "b", {}), NewRow("d", "t", "a", {})
        other = NewRow("d", "s", "z", {})
        slots = time_slots(
            database_id="d", table_id="r", resource_id="x", holder="h", start=NINE, end=NINE + 4 * QUARTER
        )
        given = [one, *slots, two, other]
        assert staging_order(given) == [*sorted(slots, key=lambda row: row.row_id), other, one, two]


class TestFaults:
    """One thing goes wrong, or several."""

    @pytest.mark.parametrize("after", [True, False])
    @pytest.mark.parametrize("fault", [Fault.reset, Fault.cut_body, Fault.invalid_json])
    @pytest.mark.parametrize("where", [("POST", "/transactions"), ("POST", "/operations"), ("PATCH", "/transactions/")])
    def test_a_fault_at_each_request(self, half, where, fault, after):
        """Whatever is lost, twice in a row, the rows are there, each once."""
        script(half, fault(after_commit=after), fault(after_commit=after), method=where[0], path=where[1])
        assert ids(half.create("r1", "r2")) == ["r1", "r2"]

    @pytest.mark.parametrize("told", ["committed", "conflict"])
    @pytest.mark.parametrize("kept", [0, 1, 2, 3])
    def test_a_torn_commit_is_made_whole(self, half, told, kept):
        """Rows that a commit dropped are created after it, whatever it said."""
        script(half, Fault.torn_commit(told=told, kept=kept))
        assert ids(half.create("r1", "r2", "r3")) == ["r1", "r2", "r3"]

    @pytest.mark.parametrize("told", ["committed", "conflict"])
    def test_a_torn_commit_is_made_whole_by_one_attempt(self, half, told):
        """The rows are made whole although no attempt is left."""
        half.pipeline = pipeline(max_attempts=1)
        script(half, Fault.torn_commit(told=told, kept=1))
        assert ids(half.create("r1", "r2")) == ["r1", "r2"]

    def test_a_torn_commit_that_is_taken_back(self, half):
        """Where the rest can't be created, what there is is deleted again, and that is known."""
        script(half, Fault.torn_commit(told="conflict", kept=1))
        script(half, *[None, *[Fault.status(503)] * 20], method="POST", path="/operations")
        with pytest.raises(AppwriteException) as caught:
            half.create("r1", "r2")
        assert half.rows() == {}
        assert not outcome_unknown(caught.value)

    def test_a_torn_commit_that_stays(self, half):
        """Where nothing can be done about it, the outcome is unknown; the same call makes it whole later."""
        script(half, Fault.torn_commit(told="conflict", kept=1))
        script(half, *[None, *[Fault.status(503)] * 20], method="POST", path="/operations")
        script(half, *[Fault.status(503)] * 20, method="DELETE", path="/rows")
        with pytest.raises(AppwriteException) as caught:
            half.create("r1", "r2")
        assert len(half.rows()) == 1
        assert outcome_unknown(caught.value)
        half.server.faults.clear()
        assert ids(half.create("r1", "r2")) == ["r1", "r2"]

    def test_anothers_row_beside_a_torn_commit(self, half):
        """What this call stored is deleted again, rows from before never; the conflict names the row."""
        half.create("r0", doctor="mine")
        half.insert("r2", doctor="theirs")
        time.sleep(0.003)
        script(half, Fault.torn_commit(told="conflict", kept=1))
        rows = [half.new("r1", doctor="mine"), half.new("r0", doctor="mine"), half.new("r2", doctor="mine")]
        with pytest.raises(RowConflictError) as caught:
            half.call("create_rows_once", rows)
        assert (caught.value.row_id, caught.value.found.data["doctor"]) == ("r2", "theirs")
        assert sorted(half.rows()) == ["r0", "r2"]
        assert not outcome_unknown(caught.value)

    def test_rows_that_could_not_be_taken_back(self, half):
        """A conflict whose own rows could not be deleted has an unknown outcome."""
        half.insert("r2", doctor="theirs")
        script(half, Fault.torn_commit(told="conflict", kept=1))
        script(half, *[Fault.status(503)] * 20, method="DELETE", path="/rows")
        with pytest.raises(RowConflictError) as caught:
            half.create("r1", "r2", doctor="mine")
        assert outcome_unknown(caught.value)

    def test_a_torn_loser_gives_its_rows_back(self, half):
        """Another's row that is gone at the second look was no obstacle: the rows are created."""
        half.insert("r2", doctor="torn loser")

        def leave():
            half.backend.tables.delete_row(**half.place("r2"))

        timer = threading.Timer(0.05, leave)
        timer.start()
        assert ids(half.create("r1", "r2", doctor="mine")) == ["r1", "r2"]
        timer.join()

    @pytest.mark.parametrize(
        ("fault", "is_open"), [(Fault.reset(), True), (Fault.status(503), False), (Fault.status(502, html=True), False)]
    )
    def test_never_committed(self, half, fault, is_open):
        """A commit that was cut off may come later; one that was answered is settled by the reading."""
        script(half, *[fault] * 9)
        with pytest.raises(AppwriteException) as caught:
            half.create("r1", "r2")
        assert half.rows() == {}
        assert outcome_unknown(caught.value) is is_open
        assert outcome_unknown(pickle.loads(pickle.dumps(caught.value))) is is_open

    def test_a_commit_that_hangs(self, half):
        """The commit has what is left of the deadline; the rows are read in what is kept of it."""
        half.pipeline = pipeline(deadline=1.0)
        script(half, Fault.hang(10.0, after_commit=True))
        started = time.monotonic()
        assert ids(half.create("r1", "r2")) == ["r1", "r2"]
        assert time.monotonic() - started < 10

    def test_a_failure_before_the_commit_leaves_nothing_open(self, half):
        """What was never committed can't have been carried out."""
        script(half, *[Fault.reset()] * 9, method="POST", path="/operations")
        with pytest.raises(AppwriteException) as caught:
            half.create("r1", "r2")
        assert not outcome_unknown(caught.value)
        assert len(attempts_of(caught.value)) == 3

    def test_a_refusal_after_a_commit_without_an_answer_is_open(self, half):
        """A clean refusal that comes after an attempt without an answer carries its doubt."""
        script(half, Fault.reset())
        script(half, None, *[Fault.status(401)] * 9, method="POST", path="/operations")
        with pytest.raises(AppwriteException) as caught:
            half.create("r1", "r2")
        assert caught.value.code == 401
        assert outcome_unknown(caught.value)

    def test_no_time_is_left(self, half):
        """An enclosing deadline that has passed sends nothing, and leaves nothing open."""
        before = len(half.server.requests)
        with deadline(0.0), pytest.raises(DeadlineExceededError) as caught:
            half.create("r1")
        assert len(half.server.requests) == before
        assert not outcome_unknown(caught.value)

    def test_an_open_breaker(self, half):
        """An open breaker rejects, and nothing is open; one that a commit trips doesn't stop the reading."""
        breaker = appwrite_breaker(failure_threshold=1)
        half.pipeline = pipeline(breaker=breaker)
        script(half, Fault.reset(after_commit=True))
        assert ids(half.create("r1", "r2")) == ["r1", "r2"]
        assert breaker.state is BreakerState.OPEN
        with pytest.raises(CircuitOpenError) as caught:
            half.create("r3")
        assert not outcome_unknown(caught.value)

    def test_what_the_monitor_gets(self, half):
        """One record of an operation that failed or recovered, under its name."""
        monitor = ErrorMonitor()
        half.pipeline = Pipeline(retry=appwrite_retry(**QUICK), monitor=monitor)
        script(half, Fault.reset(after_commit=True))
        half.create("r1", "r2")
        half.insert("r3", doctor="theirs")
        with pytest.raises(RowConflictError):
            half.create("r3", doctor="mine")
        records = monitor.recent()
        assert sorted((item.operation, item.severity.value) for item in records) == [("acceptance", "error")], records

    def test_no_circle_is_left(self, embedded):
        """The error that comes out, and its frames, are freed without the collector."""
        half = Half(embedded, "sync", max_attempts=2)
        gc.collect()
        gc.disable()
        try:
            for faults in ([Fault.reset()] * 9, [Fault.torn_commit(told="conflict", kept=0)] * 9):
                half.server.faults.clear()
                script(half, *faults)
                try:
                    half.create("r1", "r2")
                except AppwriteException as error:
                    kept = weakref.ref(error)
                assert kept() is None
        finally:
            gc.enable()


class TestConflicts:
    """Something is in the way."""

    def test_the_same_again(self, half):
        """The same rows again are found, equal moments in another notation included."""
        for _ in range(2):
            assert ids(half.create("r1", "r2", at="2026-12-01T10:00:00+01:00", price=3)) == ["r1", "r2"]

    def test_some_are_there(self, half):
        """Rows that are there as they were sent count, the others are created."""
        half.insert("r1", doctor="mine")
        assert ids(half.create("r1", "r2", doctor="mine")) == ["r1", "r2"]

    def test_compared_columns(self, half):
        """With `compare` other columns may have changed, and stay."""
        half.create("r1", doctor="A")
        rows = half.call("create_rows_once", [half.new("r1", doctor="B")], compare=("slot",))
        assert rows[0].data["doctor"] == "A"
        with pytest.raises(RowConflictError):
            half.call("create_rows_once", [half.new("r1", doctor="B")], compare=["slot", "doctor"])

    def test_a_unique_index(self, embedded):
        """A value that another row has is the server's 409, with a known outcome."""
        half = Half(embedded, "sync", indexes={"once": {"type": "unique", "columns": ["doctor"]}})
        half.insert("r1", doctor="A")
        with pytest.raises(AppwriteException) as caught:
            half.create("r2", doctor="A")
        assert (caught.value.code, caught.value.type) == (409, "transaction_conflict")
        assert not outcome_unknown(caught.value)

    def test_another_row_is_a_conflict_of_one_row_too(self, half):
        """`create_row_once` names another's row as well; a unique index in the way is the server's 409."""
        half.insert("r1", doctor="theirs")
        with pytest.raises(RowConflictError) as caught:
            half.call("create_row_once", **half.place("r1"), data={"slot": "S"})
        assert caught.value.found == half.read("r1")

    def test_opposite_orders(self, half):
        """Of ten callers who want the same two rows, in either order, one gets both."""
        orders = [("r1", "r2"), ("r2", "r1")] * 5
        results = at_once(
            [lambda order=order, n=n: half.create(*order, doctor=f"caller {n}") for n, order in enumerate(orders)]
        )
        won = [result for result in results if isinstance(result, list)]
        assert len(won) == 1
        assert {row["doctor"] for row in half.rows().values()} == {won[0][0].data["doctor"]}


class TestSlots:
    """Times that bookings take."""

    @given(st.integers(0, 200), st.integers(1, 60), st.integers(0, 200), st.integers(1, 60), st.integers(1, 30))
    def test_who_overlaps_shares_a_step(self, begins, lasts, other_begins, other_lasts, step):
        """Two times share an ID exactly if they touch one step."""
        minute = datetime.timedelta(minutes=1)

        def taken(first, length):
            start = NINE + first * minute
            rows = time_slots(
                database_id="d",
                resource_id="t",
                holder="h",
                start=start,
                end=start + length * minute,
                step=step * minute,
            )
            offset = (NINE - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // minute + first
            assert len(rows) == -(-(offset + length) // step) - offset // step
            return {row.row_id for row in rows}, set(range(offset // step, -(-(offset + length) // step)))

        one, steps = taken(begins, lasts)
        two, others = taken(other_begins, other_lasts)
        assert len(one & two) == len(steps & others)

    @pytest.mark.parametrize(("begins", "ends", "count"), [((2, 45, 0), (2, 0, 1), 1), ((2, 15, 1), (2, 45, 0), None)])
    def test_the_hour_that_comes_twice(self, begins, ends, count):
        """In the night when clocks are put back, what is later counts, not what the clocks show."""

        class PutBack(datetime.tzinfo):
            def utcoffset(self, moment):
                return datetime.timedelta(hours=2 - moment.fold)

        zone = PutBack()
        start, end = (NINE.replace(hour=h, minute=m, fold=fold, tzinfo=zone) for h, m, fold in (begins, ends))
        named = {"database_id": "d", "resource_id": "t", "holder": "h", "start": start, "end": end}
        if count is None:
            with pytest.raises(ValueError, match="end must be after start"):
                time_slots(**named)
        else:
            assert len(time_slots(**named)) == count

    def test_what_a_slot_row_is(self):
        """A slot row is a new row with resource, start and holder; equal moments in another zone are equal."""
        zone = datetime.timezone(datetime.timedelta(hours=2))
        one = time_slots(database_id="d", resource_id="t", holder="h", start=NINE, end=NINE + QUARTER)
        two = time_slots(database_id="d", resource_id="t", holder="h", start=NINE.astimezone(zone), end=NINE + QUARTER)
        assert one == two
        row = one[0]
        assert isinstance(row, NewRow)
        assert isinstance(row, SlotRow)
        assert (row.table_id, row.resource_id, row.start, row.data["holder"]) == ("slots", "t", NINE, "h")
        assert set(row.data) == set(SLOT_TABLE["slots"]["columns"])
        assert len(row.row_id) <= 36
        other = time_slots(database_id="d", resource_id="u", holder="h", start=NINE, end=NINE + QUARTER)
        assert other[0].row_id != row.row_id
        assert pickle.loads(pickle.dumps(row)) == row

    @pytest.mark.parametrize(
        ("named", "kind"),
        [
            ({"start": NINE.replace(tzinfo=None)}, ValueError),
            ({"end": NINE}, ValueError),
            ({"end": NINE + 96 * QUARTER + datetime.timedelta(seconds=1)}, ValueError),
            ({"step": datetime.timedelta(0)}, ValueError),
            ({"step": datetime.timedelta(microseconds=1500)}, ValueError),
            ({"step": 15}, TypeError),
            ({"start": "2026-12-01T09:00:00Z"}, TypeError),
            ({"resource_id": ""}, ValueError),
            ({"holder": 5}, TypeError),
        ],
        ids=repr,
    )
    def test_wrong_times(self, named, kind):
        """Wrong times are refused, a day and a second included."""
        arguments = {"database_id": "d", "resource_id": "t", "holder": "h", "start": NINE, "end": NINE + 96 * QUARTER}
        assert len(time_slots(**arguments)) == 96
        with pytest.raises(kind):
            time_slots(**{**arguments, **named})

    @pytest.mark.parametrize("loop", LOOPS)
    def test_a_time_is_taken_once(self, embedded, loop):
        """Of overlapping bookings one is stored whole; the others are told the time that is taken."""
        half = Half(embedded, loop, attempt_timeout=1.0)
        half.table_id = embedded.make_table(SLOT_TABLE["slots"]["columns"])

        def book(number):
            start = NINE + (number % 3) * QUARTER
            slots = time_slots(
                database_id=embedded.database_id, table_id=half.table_id, resource_id="t", holder=f"b{number}",
                start=start, end=NINE + 4 * QUARTER,
            )  # fmt: skip
            return half.call("create_rows_once", slots)

        results = at_once([lambda number=number: book(number) for number in range(8)])
        won = [result for result in results if isinstance(result, list)]
        lost = [result for result in results if isinstance(result, SlotTakenError)]
        assert (len(won), len(lost)) == (1, 7), results
        assert {row["holder"] for row in half.rows().values()} == {won[0][0].data["holder"]}
        assert len(half.rows()) == len(won[0])
        assert all(error.resource_id == "t" and NINE <= error.start < NINE + 4 * QUARTER for error in lost)


class TestChatRows:
    """The rows of a chat."""

    def test_the_chat_service_finds_them(self, embedded):
        """The room and the messages are those that the chat service makes, in their order."""
        from booking_resilience.appwrite import CHAT_TABLES

        for table_id, table in CHAT_TABLES.items():
            embedded.make_table(table["columns"], table["indexes"], named=table_id)
        half = Half(embedded, "sync")
        rows = chat_rows(database_id=embedded.database_id, booking_id="b1", participants=["u", "t"])
        half.call("create_rows_once", rows)
        chat = AppwriteChatService(embedded.tables, database_id=embedded.database_id, pipeline=half.pipeline)
        room = chat.create_chat_room(booking_id="b1", participants=["u", "t"])
        sent = [chat.send_welcome_message(room.id), chat.send_booking_received_message(room.id, "b1")]
        assert [room.id, *(message.id for message in sent)] == [row.row_id for row in rows]
        assert [item.id for item in chat.list_messages(room.id, newest_first=False).items] == [item.id for item in sent]
        assert len(embedded.rows("chat_messages")) == 2
