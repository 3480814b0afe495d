"""What durable workflows are made of, without a database."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

pytest.importorskip("dbos")

from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import CircuitBreaker, Pipeline, classify
from booking_resilience.appwrite import Row
from booking_resilience.durable import CallError, Durable, DurableStoreError, GaveUpError
from booking_resilience.durable.databases import url_of
from booking_resilience.durable.schedule import Schedule, Setback, refusal_of
from booking_resilience.durable.values import decode, encode, is_same

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["$row", "$dict", "$key"]), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_like_data_comes_out_as_it_went_in(value: object) -> None:
    """Whatever JSON-like data goes in comes out equal, also a dict that looks like a row."""
    assert decode(encode("value", value)) == value
    assert is_same(encode("value", value), encode("value", decode(encode("value", value))))


def test_a_row_comes_out_as_a_row() -> None:
    """A row is kept as a row."""
    row = Row("b1", {"slot": "s", "tags": ["a"]}, None, "1")
    assert decode(encode("row", [row])) == [row]


@pytest.mark.parametrize(
    "value", [b"x", {1: 2}, float("nan"), {1}, object(), [[(1, 2j)]], 10**5000], ids=lambda value: type(value).__name__
)
def test_other_data_is_a_type_error_that_names_it(value: object) -> None:
    """What isn't JSON-like is rejected by name."""
    with pytest.raises(TypeError, match=r"thing.* must be JSON-like data"):
        encode("thing", value)


@given(st.integers(1, 2000), st.floats(0, 0.999), st.floats(0, 1e4), st.booleans())
def test_a_pause_keeps_its_bounds(setbacks: int, draw: float, asked: float, is_fixed: bool) -> None:
    """No pause is shorter than base_delay or what the error or the breaker asks for, nor longer by 15 %."""
    schedule = Schedule(1.0, 300.0, 86_400.0)
    pause = schedule.pause(setbacks, draw, Setback(True, True, asked, is_fixed))
    least = max(1.0, asked)
    assert least <= pause <= max(least, 0.0 if is_fixed else 300.0) * 1.15


def test_a_shadow_breaker_is_not_waited_for() -> None:
    """A breaker that refuses nothing holds nothing up."""
    breaker = CircuitBreaker("backend", shadow=True)
    breaker.isolate("trying it out")
    assert refusal_of(Pipeline(breaker=breaker)) is None


@pytest.mark.parametrize(
    "error", [CallError("a", "b", "c", classify(ValueError())), GaveUpError("a", 2, "b"), DurableStoreError("full")]
)
def test_errors_can_be_pickled(error: Exception) -> None:
    """Every error pickles with its facts."""
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_a_workflow_must_be_an_async_def() -> None:
    """A plain function is rejected."""
    durable = Durable("sqlite:///x.sqlite", version="1", pipeline=Pipeline())
    with pytest.raises(TypeError, match="async def"):
        durable.workflow(lambda: None)  # type: ignore[arg-type,return-value] # the point of the test


def test_a_file_is_known_by_its_absolute_path() -> None:
    """A process that changes its folder later stays with its file; PostgreSQL is reached by psycopg."""
    assert url_of("sqlite:///x.sqlite").database == str(Path("x.sqlite").absolute())
    assert url_of("postgres://user:secret@host/name").drivername == "postgresql+psycopg"
