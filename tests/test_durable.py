"""Durable workflows in one process, on a SQLite file."""

from __future__ import annotations

import asyncio
import datetime
import gc
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("dbos")


from booking_resilience import Pipeline
from booking_resilience.appwrite import Row, RowConflictError, SlotTakenError
from booking_resilience.durable import CallError, Durable, DurableStoreError, WorkflowCancelledError
from booking_resilience.durable.run import run_workflow
from booking_resilience.durable.values import decode, encode, is_same
from booking_resilience.web import problem_for
from booking_resilience.web.keys import IdempotentId
from durable_bench import Bench, failing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A Durable that all these tests share."""
    made = Bench(f"sqlite:///{tmp_path_factory.mktemp('durable')}/durable.sqlite")
    yield made
    made.durable.stop(timeout=1.0)


def test_an_id_of_a_key_keeps_its_mark(bench: Bench) -> None:
    """An ID made from a request's key keeps its mark in arguments and in conflicts, so that the answer is 422."""
    key = IdempotentId("0" * 32)
    assert type(decode(encode("id", key))) is IdempotentId
    assert is_same(encode("id", [key]), encode("id", [str(key)]))
    assert not is_same(encode("id", [{"$key": "x"}]), encode("id", ["x"]))
    with pytest.raises(RowConflictError) as caught:
        bench.value(bench.call(failing(1, lambda: RowConflictError(key, None))))
    problem = problem_for(caught.value)
    assert problem is not None
    assert problem.status == 422


def test_a_transient_error_is_tried_again(bench: Bench) -> None:
    """What is transient waits as long as the error asks for, is listed meanwhile, and can be tried now."""
    booking = bench.call(failing(1))
    item = bench.waits(booking)
    assert (item.id, item.operation, item.attempts, item.error) == (booking, "store", 1, "away")
    assert (item.next_try - item.since).total_seconds() >= 600
    assert bench.durable.try_now(booking)
    assert bench.value(booking) == "done"
    assert not bench.durable.try_now(booking)


def test_a_pause_ends_by_itself(bench: Bench) -> None:
    """Without anybody's asking, a call is tried again after its pause."""
    assert bench.value(bench.call(failing(2, lambda: ConnectionError("away")))) == "done"


def test_a_final_error_comes_out_as_facts(bench: Bench) -> None:
    """What isn't transient comes out at once, in the workflow with its cause and of `result`."""
    causes: list[BaseException | None] = []

    async def body(durable: Durable) -> None:
        try:
            await durable.call("store", failing(1, lambda: ValueError("no such slot")))
        except CallError as error:
            causes.append(error.__cause__)
            raise

    with pytest.raises(CallError, match="store failed for good: ValueError: no such slot") as caught:
        bench.value(bench.submit(body))
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
def test_conflicts_come_out_as_themselves(bench: Bench, error: Any) -> None:
    """A row or a slot that is somebody else's comes out as that error, with its facts, also of `result`."""
    with pytest.raises(type(error)) as caught:
        bench.value(bench.call(failing(1, lambda: error)))
    assert caught.value.__reduce__()[1] == error.__reduce__()[1]


def test_cancel_undoes(bench: Bench) -> None:
    """A cancelled workflow hears of it once, at its next call, and undoes what it did."""
    undone: list[str] = []

    async def body(durable: Durable) -> None:
        try:
            await durable.call("store", failing(1))
        except WorkflowCancelledError:
            undone.append(await durable.call("undo", lambda: "undone"))
            raise

    booking = bench.submit(body)
    bench.waits(booking)
    assert bench.durable.cancel(booking)
    with pytest.raises(WorkflowCancelledError):
        bench.value(booking)
    assert undone == ["undone"]
    assert not bench.durable.cancel(booking)


def test_a_try_under_way_ends_before_the_cancellation_is_told(bench: Bench) -> None:
    """The result of a try that was under way is dropped."""
    gate, called = threading.Event(), threading.Event()

    def fn() -> str:
        called.set()
        gate.wait(30)
        return "stored"

    booking = bench.call(fn)
    assert called.wait(20)
    assert bench.durable.cancel(booking)
    gate.set()
    with pytest.raises(WorkflowCancelledError):
        bench.value(booking)


def test_the_same_id_is_the_same_workflow(bench: Bench) -> None:
    """An ID that exists is that workflow, and with other arguments a `ValueError`; an unknown one a `KeyError`."""
    calls: list[int] = []
    booking = bench.call(lambda: calls.append(1))
    assert bench.durable.submit(bench.case, booking, id=booking) == booking
    assert bench.durable.submit(bench.case, name=booking, id=booking) == booking
    with pytest.raises(ValueError, match=f"there is a workflow {booking!r}"):
        bench.durable.submit(bench.case, "other", id=booking)
    bench.value(booking)
    assert calls == [1]
    for ask in (bench.durable.result, bench.durable.try_now, bench.durable.cancel):
        with pytest.raises(KeyError):
            ask("unknown")


@pytest.mark.parametrize("name", ["", " ", "a\0b", "\ud800", "x" * 256], ids=ascii)
def test_an_id_that_no_database_keeps_is_rejected(bench: Bench, name: str) -> None:
    """Such an ID is named when it is submitted, and unknown elsewhere."""
    with pytest.raises(ValueError, match=r"^id must be a string .*, not '"):
        bench.durable.submit(bench.case, "name", id=name)
    asks: list[Any] = [bench.durable.result, bench.durable.try_now, bench.durable.cancel]
    for ask in asks:
        with pytest.raises(KeyError):
            ask(name)
        with pytest.raises(TypeError, match="id must be a string, not 5"):
            ask(5)


def test_a_result_that_is_not_json_like_is_a_type_error(bench: Bench) -> None:
    """It is one in the workflow, after the call was made, and of `result`."""
    calls: list[int] = []

    def fn() -> set[int]:
        calls.append(1)
        return {1}

    with pytest.raises(TypeError, match="the result of store must be JSON-like data") as caught:
        bench.value(bench.call(fn))
    assert caught.type.__name__ == "TypeError"
    assert calls == [1]


def test_an_error_with_any_text_is_tried_again(bench: Bench) -> None:
    """A text that no database keeps as it is stops nothing."""
    assert bench.value(bench.call(failing(2, lambda: ConnectionError("\ud800\0")))) == "done"


def test_calls_follow_one_another(bench: Bench) -> None:
    """A second call of a workflow while the first runs is a `RuntimeError`, and so is one outside."""

    async def body(durable: Durable) -> list[str]:
        calls = [durable.call("a", lambda: "a"), durable.call("b", lambda: "b")]
        return [type(end).__name__ for end in await asyncio.gather(*calls, return_exceptions=True)]

    assert bench.value(bench.submit(body)) == ["str", "RuntimeError"]
    with pytest.raises(RuntimeError, match="only be called in a workflow"):
        asyncio.run(bench.durable.call("store", failing(0)))


def test_a_workflow_that_cuts_a_call_off_begins_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It has no result that a later run could read; a warning tells why nothing comes of it."""
    limits = [0.01, None]

    async def body(durable: Durable) -> Any:
        async with asyncio.timeout(limits.pop(0)):
            return await durable.call("slow", asyncio.sleep, 0.5, "done")

    assert bench.value(bench.submit(body)) == "done"
    assert "begins again, since its own code cut 'slow' off" in caplog.text


def test_what_needs_a_start_says_how_to_start() -> None:
    """Submitting before the start is a `RuntimeError` that says how to start."""
    durable = Durable("sqlite:///never-made.db", version="1", pipeline=Pipeline())

    @durable.workflow
    async def book() -> None: ...

    with pytest.raises(RuntimeError, match="not started: use `with durable:`"):
        durable.submit(book, id="b1")


@pytest.mark.parametrize(
    "database", ["bookings.db", "ann:secret@host", "mysql://ann:secret@host/db", "mysql://host?password=secret"]
)
def test_a_database_that_is_no_url_is_shown_as_it_was_given(database: str) -> None:
    """The error shows what was given, without a password."""
    shown = database.replace("ann:secret@", "").replace("?password=secret", "")
    with pytest.raises(ValueError, match=rf"not '{shown}'$"):
        Durable(database, version="1", pipeline=Pipeline())


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


def test_a_workflow_that_is_stopped_is_not_reported() -> None:
    """An event loop that ends doesn't report the workflows that are left where they are."""
    loop, reported = asyncio.new_event_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    crew: Any = SimpleNamespace(is_stopping=True)
    task = loop.create_task(run_workflow(crew, "id", "name", "[]"))
    loop.run_until_complete(asyncio.wait({task}))
    loop.close()
    del task
    gc.collect()
    assert reported == []


def test_one_at_a_time(bench: Bench, tmp_path: Path) -> None:
    """A second Durable can't be started in the same process."""
    with pytest.raises(RuntimeError, match="one Durable"):
        Durable(f"sqlite:///{tmp_path}/other", version="1", pipeline=Pipeline()).start()
    assert bench.value(bench.call(failing(0))) == "done"
