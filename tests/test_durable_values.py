"""What durable workflows are made of, without a database."""

from __future__ import annotations

import contextlib
import pickle
import time
from pathlib import Path

import pytest

pytest.importorskip("dbos")

from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import CircuitBreaker, Pipeline, classify
from booking_resilience.appwrite import Row
from booking_resilience.durable import CallError, Durable, DurableStoreError, GaveUpError
from booking_resilience.durable.databases import connect_file, url_of
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


@pytest.mark.parametrize(
    ("setbacks", "draw", "least", "is_fixed", "seconds"),
    [
        (1, 0.0, 0.0, False, 2.0),
        (1, 0.5, 0.0, False, 2.15),
        (2, 0.0, 0.0, False, 4.0 * 0.85),
        (3, 0.0, 0.0, False, 8.0 * 0.85),
        (3, 0.5, 0.0, False, 8.0),
        (9, 0.5, 0.0, False, 50.0),
        (5000, 0.5, 0.0, False, 50.0),
        (3, 0.0, 0.0, True, 2.0),
        (3, 0.0, 3.0, True, 3.0),
        (3, 0.0, 10.0, False, 10.0),
        (3, 0.0, 12.0, True, 12.0),
        (1, 0.0, 86_400.0, False, 86_400.0),
        (1, 0.0, 86_401.0, False, float("inf")),
    ],
)
def test_a_pause_doubles_unless_something_bounds_it(
    setbacks: int, draw: float, least: float, is_fixed: bool, seconds: float
) -> None:
    """The pauses 2, 4, 8, …, at most 50, drawn ±15 %; the breaker's or the error's time only upwards; a day at most."""
    pause = Schedule(2.0, 50.0, 100.0).pause(setbacks, draw, Setback(True, True, least, is_fixed))
    assert pause == pytest.approx(seconds)


def test_without_a_base_delay_there_is_a_short_pause_all_the_same() -> None:
    """With a `base_delay` of 0, 50 ms pass before the next try."""
    assert Schedule(0.0, 50.0, 100.0).pause(9, 0.0, Setback(True, True, 0.0, False)) == 0.05


def test_a_pause_may_end_with_the_time_to_give_up() -> None:
    """A pause that ends `give_up_after` seconds after the first try is begun, a longer one isn't."""
    schedule = Schedule(2.0, 50.0, 100.0)
    assert not schedule.is_too_late(1100.0, 1000.0)
    assert schedule.is_too_late(1100.5, 1000.0)


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


def test_an_old_sqlite_tells_the_time_as_dbos_asks_for_it(tmp_path: Path) -> None:
    """DBOS asks any SQLite for parts of seconds from Python 3.12 on, which it tells from 3.42 on only."""
    with contextlib.closing(connect_file(tmp_path / "x", mode="rwc")) as connection:
        [(seconds,)] = connection.execute("SELECT unixepoch('subsec')")
    assert abs(seconds - time.time()) < 600
