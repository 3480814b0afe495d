"""What a reading of several rows tells of the call that was to create them, and in which order rows are staged."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.appwrite import NewRow, Row, RowConflictError, SlotTakenError, time_slots
from booking_resilience.appwrite.findings import Findings, checked_rows, findings_of, staged_data, staging_order

NINE = datetime.datetime(2026, 12, 1, 9, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
NEW = NewRow("d", "t", "r1", {"a": 1})
UNIQUE = "row_id must be unique in its table, regardless of case"


def slots(minutes):
    """Return slot rows from nine o'clock on."""
    end = NINE + datetime.timedelta(minutes=minutes)
    return time_slots(database_id="d", resource_id="r", holder="h", start=NINE, end=end)


@given(st.lists(st.sampled_from(["ours", "absent", "foreign", "unclear"]), min_size=1, max_size=6))
def test_what_a_reading_tells(states):
    """Every row is told once, by what is stored; whole is all ours, torn is ours and absent and nothing else."""
    rows = [
        NewRow("d", "t", f"r{n}", {"data": "x"} if state == "unclear" else {"a": 1}) for n, state in enumerate(states)
    ]
    stored = {
        row.row_id: Row(row.row_id, {"ours": {"a": 1}, "foreign": {"a": 2}, "unclear": {}}[state])
        for row, state in zip(rows, states, strict=True)
        if state != "absent"
    }
    found = findings_of(rows, {("d", "t"): stored}, None)
    told = {"ours": found.ours, "absent": found.absent, "foreign": found.foreign, "unclear": found.unclear}
    for state, some in told.items():
        expected = [row for row, its in zip(rows, states, strict=True) if its == state]
        assert [one if isinstance(one, NewRow) else one[0] for one in some] == expected
        assert all(isinstance(one, NewRow) or one[1] is stored[one[0].row_id] for one in some)
    assert found.rows() == [stored[row.row_id] for row, state in zip(rows, states, strict=True) if state == "ours"]
    assert found.is_whole is (set(states) == {"ours"})
    assert found.is_torn is (set(states) == {"ours", "absent"})


def test_rows_are_looked_for_in_their_own_table_and_compared_by_what_is_asked():
    """The same ID in another table is another row; the columns of the system are no part of what is sent."""
    rows = [NEW, NewRow("d", "u", "r1", {"a": 1, "b": 2, "$createdAt": "x"})]
    stored = {("d", "t"): {"r1": Row("r1", {"a": 1})}, ("d", "u"): {"r1": Row("r1", {"a": 1, "b": 3})}}
    assert findings_of(rows, stored, None).foreign == ((rows[1], stored["d", "u"]["r1"]),)
    assert findings_of(rows, stored, ["a"]).is_whole
    assert staged_data(rows[1]) == {"a": 1, "b": 2}


def test_only_what_this_call_has_stored_is_taken_back():
    """What is as old as its first transaction, or younger; nothing while there was none, or without a moment."""
    ages = {"old": NINE - SECOND, "same": NINE, "new": NINE + SECOND, "none": None}
    rows = {name: NewRow("d", "t", name, {}) for name in ages}
    found = Findings(tuple((rows[name], Row(name, {}, created_at=moment)) for name, moment in ages.items()))
    assert found.stored_since(NINE) == [rows["same"], rows["new"]]
    assert found.stored_since(None) == []


def test_a_conflict_names_the_first_row_that_is_anothers():
    """A slot by its resource and beginning, any other row by its ID and what is there."""
    slot, theirs = slots(15)[0], Row("x", {"holder": "another"})
    first = Findings(foreign=((slot, theirs), (NEW, theirs))).conflict()
    assert isinstance(first, SlotTakenError)
    assert (first.resource_id, first.start) == ("r", NINE)
    other = Findings(foreign=((NEW, theirs), (slot, theirs))).conflict()
    assert type(other) is RowConflictError
    assert (other.row_id, other.found) == ("r1", theirs)


def test_rows_are_staged_by_place_and_slots_by_id():
    """Database, then table; other rows stay as given within it."""
    later, sooner = NewRow("d", "t", "b", {}), NewRow("d", "t", "a", {})
    elsewhere, before = NewRow("d", "a", "z", {}), NewRow("c", "z", "z", {})
    ordered = sorted(slots(45), key=lambda slot: slot.row_id)
    assert staging_order([*ordered[::-1], later, sooner, elsewhere, before]) == [
        before, elsewhere, *ordered, later, sooner,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "kind", "says"),
    [
        (NEW, TypeError, "rows must be a sequence of NewRow, not "),
        ("r1", TypeError, "rows must be a sequence of NewRow, not 'r1'"),
        (b"r1", TypeError, "rows must be a sequence of NewRow, not b'r1'"),
        ([NEW, {}], TypeError, "rows must be a sequence of NewRow, not {}"),
        ([NewRow("d", "t", "r1", [])], TypeError, "data must be a mapping, not []"),
        ([], ValueError, "the number of rows must be 1 to 100, not 0"),
        ([NEW] * 101, ValueError, "the number of rows must be 1 to 100, not 101"),
        (
            [NEW, NewRow("d", "t", "R1", {})],
            ValueError,
            "row_id must be unique in its table, regardless of case, not 'R1'",
        ),
        ([NewRow("d", "t", "", {})], ValueError, "row_id must be "),
    ],
)
def test_rows_that_cannot_be_stored_together_are_refused(rows, kind, says):
    """Before anything is sent, in words that name what is wrong."""
    with pytest.raises(kind) as caught:
        checked_rows(rows)
    assert str(caught.value).startswith(says)


def test_rows_that_can_be_stored_come_back_as_given():
    """One of them or a hundred; one ID in two tables, or in two databases, is no repetition."""
    rows = (
        NEW,
        NewRow("d", "u", "r1", {}),
        NewRow("e", "t", "r1", {}),
        *(NewRow("d", "t", f"s{n}", {}) for n in range(97)),
    )
    assert checked_rows(rows) == list(rows)
