"""The embedded Appwrite server's transactions, bulk requests, upserts and increments, and what goes wrong with them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from booking_resilience.testing import AppwriteServer, Fault, virtual_time
from test_appwrite_server import GUEST, KEYS, ROWS, Wired

TRANSACTIONS = "/v1/tablesdb/transactions"
COLUMNS = {
    "slot": {"type": "varchar", "size": 16, "required": True},
    "n": {"type": "integer", "required": False},
    "x": {"type": "float", "required": False},
    "tags": {"type": "varchar", "size": 8, "required": False, "array": True},
}
UNIQUE = {"u": {"type": "unique", "columns": ["slot"]}}


class Staged(Wired):
    """A server with a table of unique slots, and short words for transactions."""

    def __init__(self, server, columns=COLUMNS, indexes=UNIQUE):
        super().__init__(server, columns, indexes)

    def begin(self, **body):
        """Begin a transaction; return its ID."""
        status, _, answer = self.ask("POST", TRANSACTIONS, body)
        assert status == 201
        return answer["$id"]

    def stage(self, transaction, action, row_id=None, data=None, **more):
        """Stage an operation; return status and body."""
        fields = {"action": action, "databaseId": "d", "tableId": "t", "rowId": row_id, "data": data, **more}
        operation = {key: value for key, value in fields.items() if value is not None}
        status, _, body = self.ask("POST", f"{TRANSACTIONS}/{transaction}/operations", {"operations": [operation]})
        return status, body

    def end(self, transaction, **body):
        """Commit a transaction, or end it otherwise; return status and the state or the error's type."""
        status, _, answer = self.ask("PATCH", f"{TRANSACTIONS}/{transaction}", body or {"commit": True})
        return status, answer.get("status", answer.get("type"))

    def state(self, transaction):
        """Return a transaction's state."""
        return self.ask("GET", f"{TRANSACTIONS}/{transaction}")[2]["status"]

    def row(self, row_id, **query):
        """Return status and body of a row."""
        extra = "&".join(f"{name}={value}" for name, value in query.items())
        status, _, body = self.ask("GET", f"{ROWS}/{row_id}?{extra}")
        return status, body


@pytest.fixture
def staged(appwrite_server):
    """A server with a table of unique slots."""
    return Staged(appwrite_server)


# Transactions


def test_what_is_staged_shows_inside_only_until_the_commit(staged):
    """A staged create, update and delete show with the transaction's ID, and to everybody after the commit."""
    staged.create("old", slot="O", n=1)
    staged.create("gone", slot="G")
    transaction = staged.begin()
    assert staged.stage(transaction, "create", "new", {"slot": "N"})[0] == 201
    assert staged.stage(transaction, "update", "old", {"n": 2})[0] == 201
    assert staged.stage(transaction, "delete", "gone")[1]["operations"] == 3
    assert [staged.row(row_id)[0] for row_id in ("new", "old", "gone")] == [404, 200, 200]
    inside = [staged.row(row_id, transactionId=transaction) for row_id in ("new", "old", "gone")]
    assert [status for status, _ in inside] == [200, 200, 404]
    assert (inside[0][1]["$sequence"], "$createdAt" in inside[0][1], inside[1][1]["n"]) == ("", False, 2)
    listed = staged.ask("GET", f"{ROWS}?transactionId={transaction}")[2]
    assert ({row["$id"] for row in listed["rows"]}, listed["total"]) == ({"old", "new"}, 2)
    assert staged.end(transaction) == (200, "committed")
    assert [staged.row(row_id)[0] for row_id in ("new", "old", "gone")] == [200, 200, 404]


def test_the_routes_of_rows_stage_with_a_transaction(staged):
    """Create, update, upsert, delete, increment and the bulk routes stage with `transactionId`."""
    staged.create("r1", slot="A", n=1)
    transaction = staged.begin()
    within = {"transactionId": transaction}
    asked = [
        ("POST", ROWS, {"rowId": "r2", "data": {"slot": "B"}}, 201),
        ("PATCH", f"{ROWS}/r1", {"data": {"n": 5}}, 200),
        ("PUT", f"{ROWS}/r3", {"data": {"slot": "C"}}, 201),
        ("PATCH", f"{ROWS}/r1/n/increment", {"value": 2}, 200),
        ("PATCH", f"{ROWS}/r1/n/decrement", {}, 200),
        ("POST", ROWS, {"rows": [{"$id": "r4", "slot": "D"}]}, 200),
        ("PUT", ROWS, {"rows": [{"$id": "r5", "slot": "E"}]}, 200),
        ("PATCH", ROWS, {"data": {"x": 1.5}, "queries": [json.dumps({"method": "isNotNull", "attribute": "n"})]}, 200),
        ("DELETE", f"{ROWS}/r2", {}, 204),
        ("DELETE", ROWS, {"queries": [json.dumps({"method": "equal", "attribute": "$id", "values": ["r5"]})]}, 200),
    ]
    for method, path, body, status in asked:
        assert (staged.ask(method, path, {**body, **within})[0], path) == (status, path)
    assert staged.listed() == ["r1"]
    assert staged.row("r1", transactionId=transaction)[1]["n"] == 6
    assert staged.end(transaction) == (200, "committed")
    assert staged.listed() == ["r1", "r3", "r4"]
    assert (staged.row("r1")[1]["n"], staged.row("r1")[1]["x"]) == (6, 1.5)


@pytest.mark.parametrize(
    ("operations", "meanwhile", "answer"),
    [
        ([("create", "r1", {"slot": "Z"})], None, (409, "transaction_conflict")),
        ([("create", "r9", {"slot": "a "})], None, (409, "transaction_conflict")),
        ([("create", "r8", {"slot": "Y"}), ("create", "r9", {"nope": 1})], None, (400, "document_invalid_structure")),
        ([("create", "r8", {"slot": "Y"}), ("update", "r1", {"n": 2})], "change", (409, "transaction_conflict")),
        ([("delete", "r1", None)], "change", (409, "transaction_conflict")),
        ([("delete", "r1", None)], "delete", (404, "document_not_found")),
        ([("delete", "r1", None)], "again", (409, "transaction_conflict")),
        ([("create", "r9", {"slot": "Y", "$permissions": ["x"]})], None, (500, "general_unknown")),
        ([("bulkCreate", None, [{"$id": "r9", "slot": "Y", "$permissions": [5]}])], None, (500, "general_unknown")),
        ([("increment", "r1", {"column": "n", "value": 5, "max": 3})], None, (400, "attribute_limit_exceeded")),
        ([("update", "r1", {"n": 2}), ("update", "r1", {"n": 3})], None, (200, "committed")),
        ([("delete", "r1", None), ("create", "r1", {"slot": "A"})], None, (200, "committed")),
        ([], None, (200, "committed")),
    ],
)
def test_a_commit_is_whole_or_leaves_nothing(staged, operations, meanwhile, answer):
    """Duplicates, bad columns, rows changed or gone meanwhile: the recorded error, the state `failed`, no trace."""
    staged.create("r1", slot="A", n=1)
    transaction = staged.begin()
    for action, row_id, data in operations:
        assert staged.stage(transaction, action, row_id, data)[0] == 201
    with virtual_time() as clock:  # the server's clock, too: what follows is later
        clock.advance(1)
        if meanwhile == "change":
            assert staged.ask("PATCH", f"{ROWS}/r1", {"data": {"n": 7}})[0] == 200
        if meanwhile in ("delete", "again"):
            assert staged.ask("DELETE", f"{ROWS}/r1")[0] == 204
        if meanwhile == "again":
            assert staged.create("r1", slot="A")[0] == 201
        before = staged.ask("GET")[2]
        assert staged.end(transaction) == answer
        assert staged.state(transaction) == ("committed" if answer[0] == 200 else "failed")
        assert (staged.ask("GET")[2] == before) == (answer[0] != 200 or not operations)
        assert staged.end(transaction) == (400, "transaction_not_ready")


def test_a_rolled_back_transaction_leaves_nothing(staged):
    """Its state is `failed`, and it takes no more operations."""
    transaction = staged.begin()
    staged.stage(transaction, "create", "r1", {"slot": "A"})
    assert staged.end(transaction, rollback=True) == (200, "failed")
    assert staged.listed() == []
    assert staged.stage(transaction, "create", "r2", {"slot": "B"})[1]["type"] == "general_bad_request"
    body = {"rowId": "r2", "data": {"slot": "B"}, "transactionId": transaction}
    assert staged.ask("POST", ROWS, body)[2]["type"] == "transaction_not_ready"


def test_a_transaction_ends_with_its_time(staged):
    """After its seconds, staging and commit are 500 with a type of their own, as 1.9.6 says it."""
    with virtual_time() as clock:
        transaction = staged.begin(ttl=60)
        staged.stage(transaction, "create", "r1", {"slot": "A"})
        clock.advance(61)
        assert staged.end(transaction) == (500, "transaction_expired")
        assert staged.stage(transaction, "create", "r2", {"slot": "B"})[1]["type"] == "transaction_expired"
    assert staged.listed() == []


def test_a_transaction_holds_a_hundred_operations(staged):
    """The hundred and first is refused, with the numbers."""
    transaction = staged.begin()
    many = [
        {"action": "create", "databaseId": "d", "tableId": "t", "rowId": f"r{n}", "data": {"slot": f"s{n}"}}
        for n in range(101)
    ]
    path = f"{TRANSACTIONS}/{transaction}/operations"
    status, _, body = staged.ask("POST", path, {"operations": many})
    text = "Transaction already has 0 operations, adding 101 would exceed the maximum of 100"
    assert (status, body["type"], body["message"]) == (400, "transaction_limit_exceeded", text)
    assert staged.ask("POST", path, {"operations": many[:100]})[2]["operations"] == 100
    assert staged.stage(transaction, "create", "r100", {"slot": "s100"})[0] == 400
    assert staged.end(transaction) == (200, "committed")
    rows = staged.ask("GET", f"{ROWS}?queries[0]={quote(json.dumps({'method': 'limit', 'values': [100]}))}")[2]["rows"]
    assert [row["$id"] for row in rows] == [f"r{n}" for n in range(100)]  # in the order of staging


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "kind"),
    [
        ("", "POST", {"ttl": 59}, 400, "general_argument_invalid"),
        ("", "POST", {"ttl": 3601}, 400, "general_argument_invalid"),
        ("", "POST", {"ttl": "60"}, 201, None),
        ("/nope", "GET", None, 404, "transaction_not_found"),
        ("/nope", "PATCH", {"commit": True}, 404, "transaction_not_found"),
        ("/nope", "DELETE", None, 404, "transaction_not_found"),
        ("/nope/operations", "POST", {"operations": []}, 400, "general_bad_request"),
        ("/$", "PATCH", {}, 400, "general_bad_request"),
        ("/$", "PATCH", {"commit": True, "rollback": True}, 400, "general_bad_request"),
        ("/$", "PATCH", {"commit": "yes"}, 400, "general_argument_invalid"),
        ("/$/operations", "POST", {"operations": "x"}, 400, "general_argument_invalid"),
        ("/$/operations", "POST", {"operations": [5]}, 400, "general_argument_invalid"),
        ("/$/operations", "POST", {"operations": [{"action": "create"}]}, 400, "general_argument_invalid"),
        ("/$/operations", "POST", {"operations": [{"databaseId": "d", "tableId": "t", "action": "fly"}]}, 400, None),
        ("/$", "DELETE", None, 204, None),
    ],
)
def test_requests_that_make_no_sense_are_refused(staged, path, method, body, status, kind):
    """Each with the recorded status and type."""
    path = path.replace("$", staged.begin())
    found, _, answer = staged.ask(method, f"{TRANSACTIONS}{path}", body)
    assert (found, answer["type"] if kind else None) == (status, kind)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"databaseId": "nope"}, "database_not_found"),
        ({"tableId": "nope"}, "collection_not_found"),
        ({"action": "update", "rowId": "nope"}, "document_not_found"),
        ({"action": "delete", "rowId": "nope"}, "document_not_found"),
        ({"rowId": ""}, "general_argument_invalid"),
        ({"data": 5}, "general_argument_invalid"),
        ({"action": "bulkUpdate", "data": {}}, "general_argument_invalid"),
        ({"action": "increment", "data": {}}, "general_argument_invalid"),
    ],
)
def test_an_operation_that_cannot_be_is_refused_when_it_is_staged(staged, fields, kind):
    """And the transaction goes on without it."""
    transaction = staged.begin()
    given = {"databaseId": "d", "tableId": "t", "rowId": "r1", "data": {"slot": "A"}, "action": "create", **fields}
    body = {"operations": [given]}
    assert staged.ask("POST", f"{TRANSACTIONS}/{transaction}/operations", body)[2]["type"] == kind
    assert staged.end(transaction) == (200, "committed")


def test_guests_begin_transactions_that_nobody_reaches(staged):
    """Without a key, or with one of another form, a transaction begins and staging is a 404; a wrong key is a 401."""
    for headers, status in (
        (GUEST, 201),
        ({**KEYS, "x-appwrite-key": "malformed"}, 201),
        ({**KEYS, "x-appwrite-key": "standard_wrong"}, 401),
    ):
        found, _, body = staged.ask("POST", TRANSACTIONS, {}, headers)
        assert found == status
        if status == 201:
            path = f"{TRANSACTIONS}/{body['$id']}"
            assert staged.ask("GET", path, headers=GUEST)[2]["type"] == "transaction_not_found"


def test_of_commits_at_once_one_wins(staged):
    """However many commit one transaction, its rows are there once and one is told so."""
    transaction = staged.begin()
    staged.stage(transaction, "create", "r1", {"slot": "A"})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: staged.end(transaction), range(16)))
    assert sorted(status for status, _ in answers) == [200] + [400] * 15
    assert staged.listed() == ["r1"]


def test_of_transactions_for_one_slot_one_wins(staged):
    """Of twenty claims of a slot at once one is committed, and the others are conflicts without a trace."""

    def claim(number):
        transaction = staged.begin()
        staged.stage(transaction, "create", f"b{number}", {"slot": f"B{number}"})
        staged.stage(transaction, "create", "slot", {"slot": "S", "n": number})
        return staged.end(transaction)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(claim, range(20)))
    assert sorted(answers) == [(200, "committed")] + [(409, "transaction_conflict")] * 19
    assert len(staged.listed()) == 2


def test_a_server_without_transactions_has_not_those_routes():
    """They are unknown routes, as of an older server; rows work as ever."""
    with AppwriteServer(transactions=False) as server:
        wired = Wired(server)
        status, headers, body = wired.ask("POST", TRANSACTIONS, {})
        assert (status, headers["Content-Type"]) == (404, "text/html; charset=UTF-8")
        assert body.startswith(b"<!DOCTYPE html>")
        assert wired.create("r1")[0] == 201


# What goes wrong


REQUESTS = {
    "update": ("PATCH", f"{ROWS}/r1", {"data": {"n": 2}}),
    "upsert": ("PUT", f"{ROWS}/r1", {"data": {"slot": "A", "n": 2}}),
    "delete": ("DELETE", f"{ROWS}/r1", {}),
    "increment": ("PATCH", f"{ROWS}/r1/n/increment", {"value": 1}),
    "bulk create": ("POST", ROWS, {"rows": [{"$id": "b1", "slot": "B"}]}),
    "bulk update": ("PATCH", ROWS, {"data": {"n": 2}}),
    "bulk upsert": ("PUT", ROWS, {"rows": [{"$id": "b1", "slot": "B"}]}),
    "bulk delete": ("DELETE", ROWS, {}),
    "stage": ("POST", f"{TRANSACTIONS}/$/operations", None),
    "commit": ("PATCH", f"{TRANSACTIONS}/$", {"commit": True}),
    "rollback": ("PATCH", f"{TRANSACTIONS}/$", {"rollback": True}),
    "begin": ("POST", TRANSACTIONS, {}),
}


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_fault_comes_before_or_after_what_a_request_does(staged, name, after_commit):
    """With an answer lost before, nothing has happened; lost after, all has."""
    staged.create("r1", slot="A", n=1)
    transaction = staged.begin()
    operation = {"action": "create", "databaseId": "d", "tableId": "t", "rowId": "s1", "data": {"slot": "S"}}
    path = f"{TRANSACTIONS}/{transaction}"
    if name in ("commit", "rollback"):
        staged.ask("POST", f"{path}/operations", {"operations": [operation]})
    method, where, body = REQUESTS[name]
    where = where.replace("$", transaction)
    body = {"operations": [operation]} if body is None else body

    def seen():
        """Return all that can be seen of the server."""
        return [staged.ask("GET", one)[2] for one in (ROWS, path, TRANSACTIONS)]

    before = seen()
    staged.server.faults.script([Fault.status(503, after_commit=after_commit)])
    assert staged.ask(method, where, body)[0] == 503
    assert (seen() == before) == (not after_commit)


@pytest.mark.parametrize(
    ("told", "status"), [("committed", (200, "committed")), ("conflict", (409, "transaction_conflict"))]
)
@pytest.mark.parametrize("kept", [0, 1, 2, 9])
def test_a_torn_commit_keeps_the_first_operations_and_lies(staged, told, status, kept):
    """The first operations are applied, whatever is told; the fault waits for a commit and is recorded with it."""
    torn = Fault.torn_commit(told=told, kept=kept)
    staged.server.faults.script([torn])
    transaction = staged.begin()
    for number in range(3):
        staged.stage(transaction, "create", f"r{number}", {"slot": f"S{number}"})
    assert staged.end(transaction) == status
    assert staged.server.requests[-1].fault == torn
    assert staged.listed() == [f"r{number}" for number in range(min(kept, 3))]
    assert staged.state(transaction) == ("committed" if told == "committed" else "failed")
    assert staged.create("healthy", slot="H")[0] == 201


# Upserts, bulk requests, increments


def test_an_upsert_overwrites_the_row_that_has_its_unique_value(staged):
    """As recorded: 200 with the new ID, which is not there then; the other row has the new data and its own ID."""
    staged.create("r1", slot="A", n=1, tags=["t"])
    status, _, body = staged.ask("PUT", f"{ROWS}/r2", {"data": {"slot": "á"}})
    assert (status, body["$id"], body["$sequence"]) == (200, "r2", "")
    assert staged.row("r2")[0] == 404
    assert [staged.row("r1")[1][key] for key in ("slot", "n", "tags")] == ["á", None, []]
    assert staged.ask("PATCH", f"{ROWS}/r1", {"data": {"slot": "B"}})[0] == 200
    assert staged.create("r3", slot="a")[0] == 201  # the old value is free again


def test_an_upsert_keeps_what_it_does_not_name(staged):
    """Of a row that is there; the timestamp header is ignored."""
    staged.create("r1", slot="A", n=1)
    old = {**KEYS, "x-appwrite-timestamp": "2000-01-01T00:00:00.000+00:00"}
    status, _, body = staged.ask("PUT", f"{ROWS}/R1", {"data": {"n": 2}}, old)
    assert (status, body["slot"], body["n"]) == (200, "A", 2)
    assert staged.listed() == ["r1"]


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("POST", {"rows": [{"$id": "b1", "slot": "B"}, {"$id": "R1", "slot": "C"}]}, 409),
        ("POST", {"rows": [{"$id": "b1", "slot": "B"}, {"$id": "b2", "slot": "b"}]}, 409),
        ("POST", {"rows": [{"$id": "b1", "slot": "B"}, {"$id": "b2"}]}, 400),
        ("POST", {"rows": [{"$id": "b1", "slot": "B"}, {"$id": "-", "slot": "C"}]}, 400),
        ("POST", {"rows": [{"slot": "B"}], "rowId": "b1"}, 400),
        ("PUT", {"rows": [{"$id": "b1", "slot": "B"}, {"$id": "b2", "nope": 1}]}, 400),
        ("PATCH", {"data": {"slot": "same"}}, 409),
        ("PATCH", {"data": {"nope": 1}}, 400),
        ("PATCH", {"data": {}}, 400),
        ("DELETE", {"queries": ["nonsense"]}, 400),
    ],
)
def test_a_bulk_request_does_all_or_nothing(staged, method, body, status):
    """One bad row, and none is written."""
    staged.create("r1", slot="A", n=1)
    staged.create("r2", slot="Z", n=1)
    before = staged.ask("GET")[2]
    found, _, answer = staged.ask(method, ROWS, body)
    assert (found, staged.ask("GET")[2]) == (status, before), answer


def test_bulk_requests_take_queries(staged):
    """They update and delete what is found, in an order, up to a limit; an update moves `$updatedAt` in any case."""
    with virtual_time() as clock:
        for number in range(5):
            staged.create(f"r{number}", slot=f"S{number}", n=number)
        clock.advance(1)
        small = json.dumps({"method": "lessThan", "attribute": "n", "values": [3]})
        body = staged.ask("PATCH", ROWS, {"data": {"n": 0}, "queries": [small]})[2]
        assert (body["total"], [row["n"] for row in body["rows"]]) == (3, [0, 0, 0])
        assert all(row["$updatedAt"] > row["$createdAt"] for row in body["rows"])
        newest = json.dumps({"method": "orderDesc", "attribute": "$sequence"})
        body = staged.ask("DELETE", ROWS, {"queries": [newest, json.dumps({"method": "limit", "values": [2]})]})[2]
        assert [row["$id"] for row in body["rows"]] == ["r4", "r3"]
        assert staged.listed() == ["r0", "r1", "r2"]


def test_an_increment_is_exact_and_bounded(staged):
    """Twenty at once up to a bound of seven: seven succeed, and the number is seven."""
    staged.create("r1", slot="A", n=0)

    def add(_):
        return staged.ask("PATCH", f"{ROWS}/r1/n/increment", {"value": 1, "max": 7})[0]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(20))) == [200] * 7 + [400] * 13
    assert staged.row("r1")[1]["n"] == 7


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("r1/n/increment", {"value": 0}, 400, "Value must be numeric and greater than 0"),
        ("r1/n/increment", {"value": "x"}, 400, "Invalid `value` param: Value must be a valid number"),
        ("r1/slot/increment", {}, 400, 'tablesDB "slot" is not a number'),
        ("r1/tags/decrement", {}, 400, 'tablesDB "tags" is not a number'),
        ("r1/nope/increment", {}, 404, "Column with the requested key '%s' could not be found."),
        ("nope/n/increment", {}, 404, "Column with the requested key '%s' could not be found."),
        ("r1/n/decrement", {"value": 9, "min": 0}, 400, 'tablesDB "n" has reached the minimum value of 0'),
    ],
)
def test_an_increment_that_cannot_be_is_refused(staged, path, body, status, says):
    """In the recorded words."""
    staged.create("r1", slot="A", n=1)
    found, _, answer = staged.ask("PATCH", f"{ROWS}/{path}", body)
    assert (found, answer["message"]) == (status, says)
    assert staged.row("r1")[1]["n"] == 1


def test_an_increment_of_null_answers_a_number_and_stays_null(staged):
    """As measured; and the answer has the old `$updatedAt`."""
    staged.create("r1", slot="A")
    body = staged.ask("PATCH", f"{ROWS}/r1/n/increment", {})[2]
    assert body["n"] == 1
    assert staged.row("r1")[1]["n"] is None


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_the_timestamp_header_guards_updates_and_deletes(staged, method):
    """Equal or later passes, in any form and zone; earlier is a 409; empty is no check; unreadable is a 400."""
    with virtual_time():
        _, body = staged.create("r1", slot="A", n=1)
        moment = body["$updatedAt"]
        text = "Remote row is newer than local."
        for header, status in (
            ("2000-01-01T00:00:00Z", 409),
            (moment.replace("T", " ").partition(".")[0], 409 if ".000" not in moment else None),
            ("nonsense", 400),
        ):
            if status is not None:
                found, _, answer = staged.ask(
                    method, f"{ROWS}/r1", {"data": {"n": 2}}, {**KEYS, "x-appwrite-timestamp": header}
                )
                assert (found, status == 400 or answer["message"] == text) == (status, True)
        for header in (moment, moment.replace("+00:00", "Z"), "2099-01-01", ""):
            staged.create("r1", slot="A", n=1)
            found, _, answer = staged.ask(
                method, f"{ROWS}/r1", {"data": {"n": 2}}, {**KEYS, "x-appwrite-timestamp": header}
            )
            assert found == (200 if method == "PATCH" else 204), answer


def test_a_refused_commit_puts_back_what_it_removed(staged):
    """Rows deleted and changed before the refusal are as before, in their order, and their unique values taken."""
    for number in range(3):
        staged.create(f"r{number}", slot=f"S{number}", n=number)
    before = staged.ask("GET")[2]
    transaction = staged.begin()
    staged.stage(transaction, "delete", "r0")
    staged.stage(transaction, "update", "r1", {"slot": "other"})
    staged.stage(transaction, "upsert", "r9", {"slot": "S2", "$id": "r2"})
    staged.stage(transaction, "create", "r2", {"slot": "new"})
    assert staged.end(transaction) == (409, "transaction_conflict")
    assert staged.ask("GET")[2] == before
    assert staged.create("r3", slot="s0")[0] == 409
    assert staged.create("r3", slot="other")[0] == 201


def test_operations_of_every_action_are_committed(staged):
    """Staged by `operations`; an upsert's ID is the one in its data, as measured, else a new one."""
    staged.create("r1", slot="A", n=5)
    transaction = staged.begin()
    every = json.dumps({"method": "isNotNull", "attribute": "n"})
    staged.stage(transaction, "decrement", "r1", {"column": "n", "value": "2"})
    staged.stage(transaction, "upsert", "r2", {"slot": "B"})
    staged.stage(transaction, "upsert", "r2", {"slot": "C", "$id": "r3"})
    staged.stage(transaction, "bulkCreate", None, [{"$id": "r4", "slot": "D", "$permissions": ['write("any")']}])
    staged.stage(transaction, "bulkUpsert", None, [{"$id": "r4", "n": 1}])
    staged.stage(transaction, "bulkUpdate", None, {"data": {"x": 2.5}, "queries": [every]})
    staged.stage(
        transaction, "bulkDelete", None, {"queries": [json.dumps({"method": "equal", "attribute": "n", "values": [1]})]}
    )
    assert staged.end(transaction) == (200, "committed")
    rows = staged.ask("GET")[2]["rows"]
    assert [row["slot"] for row in rows] == ["A", "B", "C"]
    assert [rows[0]["n"], rows[0]["x"], rows[2]["$id"], rows[1]["$id"] != "r2"] == [3, 2.5, "r3", True]


@pytest.mark.parametrize("action", ["bulkCreate", "bulkUpsert"])
def test_what_is_no_object_in_a_staged_bulk_is_an_empty_row(staged, action):
    """It gets an ID like any row without one."""
    transaction = staged.begin()
    staged.stage(transaction, action, None, ["text", 5, {"n": 1}])
    answer = staged.end(transaction)
    assert answer in ((200, "committed"), (400, "document_invalid_structure"))
    rows = staged.ask("GET")[2]["rows"]
    assert len(rows) == (3 if answer[0] == 200 else 0)


def test_a_commit_finds_its_table_gone(staged):
    """A table removed after staging is a missing row."""
    transaction = staged.begin()
    staged.stage(transaction, "create", "r1", {"slot": "A"})
    assert staged.ask("DELETE", ROWS.removesuffix("/rows"))[0] == 204
    assert staged.end(transaction) == (404, "document_not_found")


@pytest.mark.parametrize(
    ("action", "data", "says"),
    [
        ("bulkUpdate", {"queries": []}, "Key 'data' is required in data for bulkUpdate"),
        ("bulkUpdate", {"queries": [], "data": 5}, "Key 'data.data' must be an array for bulkUpdate"),
        ("bulkDelete", {"queries": "x"}, "Key 'queries' must be an array for bulkDelete"),
        ("decrement", {"column": "n", "value": "x"}, "Key 'value' must be a numeric value for decrement"),
        ("update", None, "Missing required key: data"),
        ("fly", {}, "Key 'action' must be one of: create, update, upsert, delete, increment, decrement, bulkCreate,"),
    ],
)
def test_an_operation_says_what_it_lacks(staged, action, data, says):
    """In the real server's words."""
    status, body = staged.stage(staged.begin(), action, "r1", data)
    assert (status, body["type"]) == (400, "general_argument_invalid")
    assert says in body["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_bulk_requests_are_for_keys_only(staged, method):
    """A guest lacks the scope, whatever the table grants."""
    body = {"POST": {"rows": [{"slot": "A"}]}, "PUT": {"rows": [{"slot": "A"}]}, "PATCH": {"data": {"n": 1}}}
    status, _, answer = staged.ask(method, ROWS, body.get(method, {}), GUEST)
    assert (status, answer["type"]) == (401, "general_unauthorized_scope")


@pytest.mark.parametrize(
    "rows", [[{"$id": True, "slot": "A", "$permissions": 5}], [{"$id": "r1", "slot": "A", "$permissions": ["x"]}]]
)
def test_a_bulk_create_checks_permissions_of_each_row(staged, rows):
    """A bad one is a bad request."""
    assert staged.ask("POST", ROWS, {"rows": rows})[2]["type"] == "general_bad_request"
    assert staged.ask("POST", ROWS, {"rows": [{"$id": True, "slot": "A"}]})[2]["rows"][0]["$id"] == "1"
    body = {"rows": [{"slot": "B"}], "permissions": ['read("any")']}
    assert staged.ask("POST", ROWS, body)[2]["type"] == "general_bad_request"
    body = {"data": {"$permissions": ["x"], "n": 1}}
    assert staged.ask("PATCH", ROWS, body)[2]["type"] == "general_bad_request"
