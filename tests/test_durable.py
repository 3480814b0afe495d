"""Durable workflows in one process, on a SQLite file."""

from __future__ import annotations

import asyncio
import datetime
import pickle
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("dbos")

from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import CircuitBreaker, Pipeline, RetryPolicy, classify
from booking_resilience.appwrite import Row, RowConflictError, SlotTakenError
from booking_resilience.durable import CallError, Durable, DurableStoreError, GaveUpError, WorkflowCancelledError
from booking_resilience.durable.schedule import Schedule
from booking_resilience.durable.values import canonical, decode, encode
from durable_crew import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["$row", "$dict"]), inner),
    max_leaves=20,
)


class Bench:
    """A started Durable, and one workflow that does whatever a test puts there."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path, self.bodies = path, dict[str, Callable[..., Any]]()
        once = Pipeline(retry=RetryPolicy(max_attempts=1, deadline=None))
        settings = {"version": "1", "pipeline": once, "base_delay": 0.05, "max_delay": 0.2, **settings}
        self.durable = Durable(f"sqlite:///{path}", **settings)

        @self.durable.workflow
        async def case(name: str) -> Any:
            return await self.bodies[name](self.durable)

        self.case = case
        self.durable.start()

    def submit(self, body: Callable[..., Any]) -> str:
        """Submit a body as a workflow."""
        name = f"case-{len(self.bodies)}"
        self.bodies[name] = body
        return self.durable.submit(self.case, name, id=name)

    def call(self, fn: Callable[[], Any]) -> str:
        """Submit a workflow with one call."""

        async def body(durable: Durable) -> Any:
            return await durable.call("store", fn)

        return self.submit(body)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Start a Durable with these settings."""
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(tmp_path / "durable.sqlite", **settings))
        return made[-1]

    yield make
    for one in made:
        one.durable.stop(timeout=1.0)


def failing(times: int, error: Callable[[], Exception] = lambda: ConnectionError("away")) -> Callable[[], str]:
    """Return a function that fails so many times and then returns."""
    left = [times]

    def fn() -> str:
        if left[0]:
            left[0] -= 1
            raise error()
        return "done"

    return fn


@given(JSON)
def test_json_like_data_comes_out_as_it_went_in(value: object) -> None:
    """Whatever JSON-like data goes in comes out equal, also a dict that looks like a row."""
    assert decode(encode("value", value)) == value
    assert canonical(encode("value", value)) == canonical(encode("value", decode(encode("value", value))))


def test_a_row_comes_out_as_a_row() -> None:
    """A row is kept as a row."""
    row = Row("b1", {"slot": "s", "tags": ["a"]}, None, "1")
    assert decode(encode("row", [row])) == [row]


@pytest.mark.parametrize(
    "value", [b"x", {1: 2}, float("nan"), {1}, object(), [[(1, 2j)]]], ids=lambda value: type(value).__name__
)
def test_other_data_is_a_type_error_that_names_it(value: object) -> None:
    """What isn't JSON-like is rejected by name."""
    with pytest.raises(TypeError, match=r"thing.* must be JSON-like data"):
        encode("thing", value)


@given(
    st.integers(1, 2000),
    st.floats(0, 0.999),
    st.none() | st.floats(0, 1e4),
    st.none() | st.floats(0, 100),
    st.booleans(),
)
def test_a_pause_keeps_its_bounds(
    setbacks: int, draw: float, asked: float | None, open_for: float | None, half_open: bool
) -> None:
    """No pause is shorter than base_delay, the error's retry_after or the breaker's cooldown, nor longer by 15 %."""
    schedule = Schedule(1.0, 300.0, 86_400.0)
    pause = schedule.pause(setbacks, draw, asked=asked, open_for=open_for, half_open=half_open)
    least = max(1.0, asked or 0, open_for or 0)
    assert least <= pause <= max(least, 300.0) * 1.15


def test_a_transient_error_is_tried_again(bench: Callable[..., Bench]) -> None:
    """What is transient is tried until it succeeds, and listed while it waits."""
    made = bench(base_delay=1.0, max_delay=1.0)
    booking = made.call(failing(1))
    (item,) = eventually(made.durable.waiting, 20, "it waits")
    assert (item.id, item.operation, item.attempts, item.error) == (booking, "store", 1, "away")
    assert item.next_try > item.since
    assert made.durable.try_now(booking)
    assert made.durable.result(booking, timeout=20) == "done"
    assert not made.durable.try_now(booking)


def test_a_final_error_comes_out_as_facts(bench: Callable[..., Bench]) -> None:
    """What isn't transient comes out at once, in the workflow with its cause and of `result`."""
    made, causes = bench(), []

    async def body(durable: Durable) -> None:
        try:
            await durable.call("store", failing(1, lambda: ValueError("no such slot")))
        except CallError as error:
            causes.append(error.__cause__)
            raise

    with pytest.raises(CallError, match="store failed for good: ValueError: no such slot") as caught:
        made.durable.result(made.submit(body), timeout=20)
    assert isinstance(causes[0], ValueError)
    assert (caught.value.operation, caught.value.type) == ("store", "ValueError")
    assert not caught.value.verdict.transient


@pytest.mark.parametrize(
    "error",
    [
        RowConflictError("b1", Row("b1", {"slot": "s"}, None, "1")),
        SlotTakenError("t1", datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.UTC)),
    ],
    ids=["row", "slot"],
)
def test_conflicts_come_out_as_themselves(bench: Callable[..., Bench], error: Any) -> None:
    """A row or a slot that is somebody else's comes out as that error, with its facts, also of `result`."""
    made = bench()
    with pytest.raises(type(error)) as caught:
        made.durable.result(made.call(failing(1, lambda: error)), timeout=20)
    assert caught.value.__reduce__()[1] == error.__reduce__()[1]


def test_a_shadow_breaker_is_not_waited_for(bench: Callable[..., Bench]) -> None:
    """A breaker that refuses nothing holds nothing up."""
    breaker = CircuitBreaker("backend", shadow=True)
    breaker.isolate("trying it out")
    made = bench(pipeline=Pipeline(breaker=breaker))
    assert made.durable.result(made.call(failing(0)), timeout=20) == "done"


def test_it_gives_up(bench: Callable[..., Bench]) -> None:
    """A call that fails for too long ends with the number of its tries."""
    made = bench(give_up_after=0.3)
    with pytest.raises(GaveUpError) as caught:
        made.durable.result(made.call(failing(10_000)), timeout=20)
    assert caught.value.attempts > 1


def test_cancel_undoes(bench: Callable[..., Bench]) -> None:
    """A cancelled workflow hears of it once, at its next call, and undoes what it did."""
    made, undone = bench(base_delay=60.0, max_delay=60.0), []

    async def body(durable: Durable) -> None:
        try:
            await durable.call("store", failing(1))
        except WorkflowCancelledError:
            undone.append(await durable.call("undo", lambda: "undone"))
            raise

    booking = made.submit(body)
    eventually(made.durable.waiting, 20, "it waits")
    assert made.durable.cancel(booking)
    with pytest.raises(WorkflowCancelledError):
        made.durable.result(booking, timeout=20)
    assert undone == ["undone"]
    assert not made.durable.cancel(booking)


def test_a_try_under_way_ends_before_the_cancellation_is_told(bench: Callable[..., Bench]) -> None:
    """The result of a try that was under way is dropped."""
    made, gate, called = bench(), threading.Event(), threading.Event()

    def fn() -> str:
        called.set()
        gate.wait(30)
        return "stored"

    booking = made.call(fn)
    assert called.wait(20)
    assert made.durable.cancel(booking)
    gate.set()
    with pytest.raises(WorkflowCancelledError):
        made.durable.result(booking, timeout=20)


def test_the_same_id_is_the_same_workflow(bench: Callable[..., Bench]) -> None:
    """An ID that exists is that workflow, and with other arguments a `ValueError`; an unknown one a `KeyError`."""
    made, calls = bench(), []
    booking = made.call(lambda: calls.append(1))
    assert made.durable.submit(made.case, booking, id=booking) == booking
    with pytest.raises(ValueError, match="there is a workflow 'case-0'"):
        made.durable.submit(made.case, "other", id=booking)
    made.durable.result(booking, timeout=20)
    assert calls == [1]
    for ask in (made.durable.result, made.durable.try_now, made.durable.cancel):
        with pytest.raises(KeyError):
            ask("unknown")


def test_calls_follow_one_another(bench: Callable[..., Bench]) -> None:
    """A second call of a workflow while the first runs is a `RuntimeError`, and so is one outside."""
    made = bench()

    async def body(durable: Durable) -> list[str]:
        calls = [durable.call("a", lambda: "a"), durable.call("b", lambda: "b")]
        return [type(end).__name__ for end in await asyncio.gather(*calls, return_exceptions=True)]

    assert made.durable.result(made.submit(body), timeout=20) == ["str", "RuntimeError"]
    with pytest.raises(RuntimeError, match="only be called in a workflow"):
        asyncio.run(made.durable.call("store", failing(0)))


def test_an_isolated_breaker_is_waited_for(bench: Callable[..., Bench]) -> None:
    """Nothing is called while the breaker is isolated."""
    breaker = CircuitBreaker("backend")
    breaker.isolate("maintenance")
    made, calls = bench(pipeline=Pipeline(breaker=breaker)), []
    booking = made.call(lambda: calls.append(1))
    eventually(made.durable.waiting, 20, "it waits")
    assert not calls
    breaker.reset()
    made.durable.result(booking, timeout=20)
    assert calls == [1]


def test_it_goes_on_after_stop(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """What waits when a Durable stops goes on with the next one, with its tries counted on."""
    first = bench(base_delay=60.0, max_delay=60.0)
    booking = first.call(failing(1))
    eventually(first.durable.waiting, 20, "it waits")
    first.durable.stop()
    second = Bench(first.path)
    try:
        second.bodies[booking] = first.bodies[booking]
        (item,) = eventually(second.durable.waiting, 20, "it waits again")
        assert item.attempts == 1
        eventually(lambda: second.durable.try_now(booking), 20, "it is woken")
        assert second.durable.result(booking, timeout=20) == "done"
    finally:
        second.durable.stop(timeout=1.0)


def test_a_full_or_locked_database_acknowledges_nothing(bench: Callable[..., Bench]) -> None:
    """A file that another holds rejects submissions within seconds; what runs goes on afterwards."""
    made = bench()
    booking = made.call(failing(10))
    other = sqlite3.connect(made.path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DurableStoreError):
            made.call(failing(0))
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert made.durable.result(booking, timeout=60) == "done"


def test_a_file_that_is_gone_is_not_made_anew(bench: Callable[..., Bench]) -> None:
    """A submission doesn't make a new file in the place of the old one."""
    made = bench()
    away = made.path.with_suffix(".away")
    made.path.rename(away)
    with pytest.raises(DurableStoreError, match="is gone"):
        made.call(failing(0))
    assert not made.path.exists()
    away.rename(made.path)
    assert made.durable.result(made.call(failing(0)), timeout=60) == "done"


@pytest.mark.parametrize("content", [b"no database" * 100, None], ids=["text", "other tables"])
def test_a_foreign_file_is_left_untouched(tmp_path: Path, content: bytes | None) -> None:
    """A file that holds something else is rejected and not changed."""
    path = tmp_path / "foreign"
    if content is None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE other (x)")
        connection.commit()
        connection.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(DurableStoreError):
        Durable(f"sqlite:///{path}", version="1", pipeline=Pipeline()).start()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_one_at_a_time(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """A second Durable can't be started in the same process."""
    made = bench()
    with pytest.raises(RuntimeError, match="one Durable"):
        Durable(f"sqlite:///{tmp_path}/other", version="1", pipeline=Pipeline()).start()
    assert made.durable.result(made.call(failing(0)), timeout=20) == "done"


def test_finished_workflows_are_removed(bench: Callable[..., Bench]) -> None:
    """A finished workflow is unknown after `keep_finished`."""
    made = bench(keep_finished=0.0)
    booking = made.call(failing(0))
    made.durable.result(booking, timeout=20)

    def is_gone() -> bool:
        try:
            made.durable.result(booking, timeout=0)
        except KeyError:
            return True
        return False

    eventually(is_gone, 70, "it is removed")


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
