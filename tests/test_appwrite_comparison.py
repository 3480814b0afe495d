"""When a stored row holds what was sent: equal content, as the server normalises it."""

from __future__ import annotations

import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import SLOTS
from booking_resilience import BreakerState
from booking_resilience.appwrite import Row
from booking_resilience.appwrite.comparison import holds
from booking_resilience.testing.appwrite_server.schema import make_column

COLUMNS = {name: facts for name, facts in SLOTS.items() if name != "slot"}
VALUES = {
    "varchar": st.text(max_size=8),
    "float": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**31), 2**31),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "datetime": st.datetimes(
        min_value=datetime.datetime.fromisoformat("1000-01-02"),
        max_value=datetime.datetime.fromisoformat("9990-01-01"),
        timezones=st.none() | st.just(datetime.UTC) | st.just(datetime.timezone(datetime.timedelta(hours=-7))),
    ).map(lambda moment: moment.isoformat()),
}


@given(st.data())
def test_what_the_server_makes_of_a_value_is_the_same_value(data):
    """For each type: what is stored is recognised as what was sent, and what was sent otherwise is not."""
    for name, facts in COLUMNS.items():
        values = VALUES[facts["type"]]
        values = st.none() | (st.lists(values, max_size=3) if facts.get("array") else values)
        sent, other = data.draw(values), data.draw(values)
        column = make_column(facts["type"], {"key": name, **facts}, "")
        stored = json.loads(json.dumps(column.stored(sent)))
        row = Row("r1", {name: stored})
        assert holds(row, {name: sent})
        otherwise = json.loads(json.dumps(column.stored(other)))
        nothing = ([], None)  # are equal
        if otherwise != stored and not (otherwise in nothing and stored in nothing):
            assert not holds(row, {name: other})


@pytest.mark.parametrize(
    ("sent", "stored", "same"),
    [
        (3, 3.0, True),
        (2**53 + 1, 2.0**53, True),
        (2**53 + 3, 2.0**53, False),
        (10**400, 3.0, False),
        (3, 3.1, False),
        (True, 1, False),
        (1, True, False),
        ("1", 1, False),
        (None, None, True),
        (None, [], True),
        ([], None, True),
        (None, "", False),
        (None, 0, False),
        ("", None, False),
        ("2026-11-23T09:00:00Z", "2026-11-23T09:00:00.000+00:00", True),
        ("2026-11-23", "2026-11-23T00:00:00.000+00:00", True),
        ("2026-11-23T09:00:00Z", "2026-11-23T09:00:00Z", True),
        ("2026-11-23T09:00:00+00:00", "2026-11-23T09:00:00Z", False),
        ("soon", "2026-11-23T00:00:00.000+00:00", None),
        ("soon", "later", False),
        ("Mon, 23 Nov 2026 10:00:00 +0100", "2026-11-23T09:00:00.000+00:00", True),
        ("Mon, 23 Nov 2026 10:00:00 +0100", "2026-11-23T10:00:00.000+00:00", False),
        ("23 Nov 2026 09:00 GMT", "2026-11-23T09:00:00.000+00:00", True),
        ("2026-11-23 09:00:00 UTC", "2026-11-23T09:00:00.000+00:00", True),
        ("2026-11-23 09:00:00 utc", "2026-11-23T09:00:00.000+00:00", True),
        ("2026-11-23 09:00:00.5Z", "2026-11-23T09:00:00.500+00:00", True),
        ("2026-11-23 09:00:01 UTC", "2026-11-23T09:00:00.000+00:00", False),
        ("@1795424400", "2026-11-23T09:00:00.000+00:00", True),
        ("@1795424400.25", "2026-11-23T09:00:00.250+00:00", True),
        ("@1795424401", "2026-11-23T09:00:00.000+00:00", False),
        ("@999999999999999", "2026-11-23T09:00:00.000+00:00", None),
        ("first monday of december 2026", "2026-12-07T00:00:00.000+00:00", None),
        ("11/23/2026", "2026-11-23T00:00:00.000+00:00", None),
        (["soon", "@1795424400"], ["2026-11-23T00:00:00.000+00:00", "2026-11-23T09:00:00.000+00:00"], None),
        (["soon", "@0"], ["2026-11-23T00:00:00.000+00:00", "2026-11-23T09:00:00.000+00:00"], False),
        ("doc-1", {"$id": "doc-1", "name": "Ada"}, True),
        ("doc-1", {"$id": "doc-2", "name": "Ada"}, False),
        ("doc-1", {"name": "Ada"}, None),
        ({"$id": "doc-1", "name": "Ada"}, "doc-1", True),
        ({"name": "Ada"}, "doc-1", None),
        ({"name": "Ada", "clinic": "c-1"}, {"$id": "doc-1", "name": "Ada"}, None),
        ({"name": "Ada", "clinic": "c-1"}, {"$id": "doc-1", "name": "Bob"}, False),
        (["doc-1", "doc-2"], [{"$id": "doc-2"}, {"$id": "doc-1"}], True),
        (["doc-1", "doc-3"], [{"$id": "doc-2"}, {"$id": "doc-1"}], False),
        (7, {"$id": "7"}, False),
        ([1, 2], [1.0, 2.0], True),
        ((1, 2), [1, 2], True),
        ([1, 2], [2, 1], False),
        ([1], 1, False),
        ({"a": 1}, {"a": 1.0, "$id": "x"}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, [1], False),
        (BreakerState.OPEN, "open", True),
    ],
)
def test_equal_values(sent, stored, same):
    """Equal are numbers by value, moments by time, null and absent, lists item by item; nothing else."""
    assert holds(Row("r1", {"c": stored}), {"c": sent}) is same


@pytest.mark.parametrize("value", ["doc-1", ["doc-1"], {"$id": "doc-1"}, [{"name": "Ada"}]])
def test_a_related_row_that_the_answer_leaves_out_cannot_be_compared(value):
    """The other columns decide; with none, nothing can be said."""
    row = Row("r1", {"slot": "S"})
    assert holds(row, {"doctor": value}) is None
    assert holds(row, {"slot": "S", "doctor": value}) is True
    assert holds(row, {"slot": "T", "doctor": value}) is False


def test_absent_columns_and_those_of_the_system():
    """What was not sent may hold anything; of the system's fields only the moment of creation is compared."""
    moment = datetime.datetime(2026, 11, 23, 9, tzinfo=datetime.UTC)
    row = Row("r1", {"a": 1, "b": 2}, moment)
    assert holds(row, {"a": 1})
    assert holds(row, {"a": 1, "c": None})
    assert not holds(row, {"a": 1, "c": 1})
    assert holds(row, {"a": 1, "$permissions": ["x"], "$sequence": 7, "$createdAt": "2026-11-23T10:00:00+01:00"})
    assert not holds(row, {"a": 1, "$createdAt": "2026-11-23T10:00:01+01:00"})
    assert holds(row, {"$permissions": ["x"]}) is None


def test_a_column_that_the_answer_lacks_counts_as_null():
    """Unless what was sent may name rows, which the server leaves out."""
    row = Row("r1", {"slot": "S"})
    assert holds(row, {"slot": "S", "doctor": "doc-1"}) is True
    assert holds(row, {"slot": "S", "other": 5}) is False
    assert holds(row, {"slot": "S", "other": [5]}) is False
    assert holds(row, {"other": []}) is True
