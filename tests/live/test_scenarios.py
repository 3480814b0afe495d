"""What applications rely on, the same on the embedded server and, with `-m live`, on a real one."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from appwrite.exception import AppwriteException

from backends import Backend, call, setting

COLUMNS: dict[str, dict[str, Any]] = {
    "slot": {"type": "varchar", "size": 64, "required": False},
    "n": {"type": "integer", "required": False},
    "at": {"type": "datetime", "required": False},
}
UNIQUE = {"u": {"type": "unique", "columns": ["slot"]}}


class Rows:
    """A table of its own, and its rows by plain requests."""

    def __init__(self, backend: Backend) -> None:
        self.client, self.table = backend.client, backend.make_table(COLUMNS, UNIQUE)
        self.database = backend.database_id
        self.path = f"/tablesdb/{self.database}/tables/{self.table}/rows"

    def create(self, row_id: str, **data: Any) -> dict[str, Any]:
        """Add a row."""
        return dict(call(self.client, "post", self.path, rowId=row_id, data=data))

    def error(self, method: str, path: str, **params: Any) -> tuple[int, str | None]:
        """Return status and type of the error that a request gets."""
        with pytest.raises(AppwriteException) as caught:
            call(self.client, method, path, **params)
        return int(caught.value.code or 0), caught.value.type

    def begin(self, *operations: dict[str, Any]) -> str:
        """Begin a transaction with operations; return its path."""
        path = f"/tablesdb/transactions/{call(self.client, 'post', '/tablesdb/transactions', ttl=60)['$id']}"
        where = {"databaseId": self.database, "tableId": self.table}
        if operations:
            listed = [{**where, **operation} for operation in operations]
            call(self.client, "post", f"{path}/operations", operations=listed)
        return path

    def update_known(self, row_id: str, known: str, **data: Any) -> dict[str, Any]:
        """Change a row, if nobody has changed it since a moment."""
        headers = {"content-type": "application/json", "X-Appwrite-Project": setting(self.client, "project")}
        headers["X-Appwrite-Timestamp"] = known
        return dict(self.client.call("patch", f"{self.path}/{row_id}", headers, {"data": data}))


@pytest.fixture
def rows(backend: Backend) -> Rows:
    """A table with a unique column."""
    return Rows(backend)


def test_a_taken_id_and_a_taken_value_are_one_conflict(rows: Rows) -> None:
    """Up to 1.9.6 the same 409; values are compared without letter case, accents and trailing blanks."""
    rows.create("r1", slot="Über")
    for row_id, slot in (("R1", "other"), ("r2", "uber "), ("r3", "ÜBER")):
        assert rows.error("post", rows.path, rowId=row_id, data={"slot": slot}) == (409, "row_already_exists")
    rows.create("r4", n=0)
    rows.create("r5", n=0)  # nulls repeat


def test_a_transaction_is_seen_inside_and_whole_outside(rows: Rows) -> None:
    """Its rows show with its ID before the commit, and to all after it; a second commit is refused."""
    path = rows.begin({"action": "create", "rowId": "r1", "data": {"slot": "a"}})
    assert rows.error("get", f"{rows.path}/r1") == (404, "row_not_found")
    inside = call(rows.client, "get", f"{rows.path}/r1", transactionId=path.rsplit("/", 1)[1])
    assert (inside["slot"], inside["$sequence"]) == ("a", "")
    assert call(rows.client, "patch", path, commit=True)["status"] == "committed"
    assert call(rows.client, "get", f"{rows.path}/r1")["slot"] == "a"
    assert rows.error("patch", path, commit=True) == (400, "transaction_not_ready")


def test_a_transaction_that_clashes_leaves_nothing(rows: Rows) -> None:
    """Neither a taken ID nor a taken value lets any of its rows in."""
    rows.create("r1", slot="a")
    for row_id, slot in (("r1", "b"), ("r2", "A")):
        fresh = f"x{uuid.uuid4().hex[:8]}"
        path = rows.begin(
            {"action": "create", "rowId": fresh, "data": {"slot": fresh}},
            {"action": "create", "rowId": row_id, "data": {"slot": slot}},
        )
        assert rows.error("patch", path, commit=True) == (409, "transaction_conflict")
        assert rows.error("get", f"{rows.path}/{fresh}") == (404, "row_not_found")
        assert call(rows.client, "get", path)["status"] == "failed"


def test_an_upsert_overwrites_another_row(rows: Rows) -> None:
    """It is told as stored under its own ID, which then isn't there."""
    rows.create("r1", slot="a", n=1)
    assert call(rows.client, "put", f"{rows.path}/r2", data={"slot": "A"})["$id"] == "r2"
    assert rows.error("get", f"{rows.path}/r2") == (404, "row_not_found")
    query = json.dumps({"method": "equal", "attribute": "$id", "values": ["r1"]})
    found = call(rows.client, "get", rows.path, queries=[query])["rows"]
    assert [(row["slot"], row["n"]) for row in found] == [("A", None)]


def test_an_update_is_refused_after_somebody_elses(rows: Rows) -> None:
    """With the moment that was read; the same moment in another zone passes."""
    made = rows.create("r1", slot="a", n=1)
    moment = made["$updatedAt"]
    changed = rows.update_known("r1", moment.replace("+00:00", "Z"), n=2)
    if changed["$updatedAt"] != moment:  # two changes in one millisecond can't be told apart
        with pytest.raises(AppwriteException) as caught:
            rows.update_known("r1", moment, n=3)
        assert (caught.value.code, caught.value.type) == (409, "row_update_conflict")


def test_an_increment_stops_at_its_bound(rows: Rows) -> None:
    """And a null stays null, though the answer tells a number."""
    rows.create("r1", n=1)
    path = f"{rows.path}/r1/n/increment"
    assert call(rows.client, "patch", path, value=2, max=3)["n"] == 3
    assert rows.error("patch", path, value=1, max=3) == (400, "column_limit_exceeded")
    rows.create("r2", slot="x")
    assert call(rows.client, "patch", f"{rows.path}/r2/n/increment", value=1)["n"] == 1
    assert call(rows.client, "get", f"{rows.path}/r2")["n"] is None


def test_moments_are_stored_in_one_form(rows: Rows) -> None:
    """Whatever form and zone they are sent in."""
    texts = ["2026-03-01T11:00:00+01:00", "2026-03-01 10:00:00 UTC", "Sun, 01 Mar 2026 10:00:00 +0000", "@1772359200"]
    for number, text in enumerate(texts):
        assert rows.create(f"r{number}", at=text)["at"] == "2026-03-01T10:00:00.000+00:00"
