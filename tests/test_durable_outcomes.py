"""How calls of durable workflows are tried and how they end, without a database."""

from __future__ import annotations

import asyncio
import datetime
import json
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("dbos")

from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import ErrorCategory, Pipeline, RetryPolicy, Verdict, deadline
from booking_resilience.appwrite import Row, RowConflictError, SlotTakenError
from booking_resilience.deadlines import remaining_time
from booking_resilience.durable import CallError, GaveUpError, WorkflowCancelledError
from booking_resilience.durable.outcomes import CANCELLED, failed, gave_up, open_outcome, shown, succeeded
from booking_resilience.durable.tries import Attempt, End, begin, handed, through

WHEN = datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.UTC)
ONCE = Pipeline(retry=RetryPolicy(max_attempts=1, deadline=None))


def kept(outcome: Any) -> Any:
    """Return an outcome as a database gives it back."""
    return json.loads(json.dumps(outcome))


def raised(outcome: Any, cause: BaseException | None = None) -> BaseException:
    """Return what an outcome raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - its type is what is asked for
        open_outcome(kept(outcome), cause)
    return caught.value


verdicts = st.builds(
    Verdict,
    st.booleans(),
    st.sampled_from(["no", "maybe", "yes"]),
    st.sampled_from(ErrorCategory),
    st.none() | st.integers(100, 599),
    st.none() | st.text(),
    st.none() | st.floats(0, allow_nan=False),
)


@given(st.builds(CallError, st.text(), st.text(), st.text(), verdicts) | st.builds(GaveUpError, *[st.text()] * 3))
def test_an_error_of_a_call_keeps_all_of_its_facts(error: Any) -> None:
    """An error that a call raised comes out of the workflow, and of each later run, as it was."""
    found = raised(failed("workflow", error))
    assert (type(found), found.args) == (type(error), error.args)


def test_a_value_comes_out_as_it_was() -> None:
    """A JSON-like value is the outcome; another one is a `TypeError` that names it, then and later."""
    assert open_outcome(kept(succeeded("the result of a", {"n": [1]}))) == {"n": [1]}
    outcome = succeeded("the result of a", {1})
    error = raised(outcome)
    assert str(error).startswith("the result of a must be JSON-like data")
    assert isinstance(error, TypeError)
    assert type(error).__name__ == "TypeError"
    assert raised(failed("workflow", error)).args == error.args


def test_an_unknown_error_becomes_facts() -> None:
    """Another error becomes a `CallError`: with its type's full name, its text, what it means, and the original."""
    original = ValueError("no such slot")
    error: Any = raised(failed("store", original), original)
    assert (error.operation, error.type, error.text) == ("store", "ValueError", "no such slot")
    assert error.verdict == Verdict(False, "maybe", ErrorCategory.NETWORK, None, None, None)
    assert error.__cause__ is original
    assert raised(failed("store", asyncio.QueueFull())).args[1:3] == ("asyncio.queues.QueueFull", "QueueFull")


def test_a_cancellation_and_the_end_of_patience_come_out() -> None:
    """A cancelled workflow and a call that was given up say so."""
    assert failed("store", WorkflowCancelledError("x")) == CANCELLED
    assert isinstance(raised(CANCELLED), WorkflowCancelledError)
    assert str(raised(CANCELLED)) == "the workflow was cancelled"
    assert raised(gave_up("store", 3, "away")).args == ("store", 3, "away")


@pytest.mark.parametrize(
    "error",
    [
        RowConflictError("b1", Row("b1", {"slot": "s"}, WHEN, "1")),
        RowConflictError("b1", None),
        SlotTakenError("t1", WHEN),
    ],
    ids=["row", "no row", "slot"],
)
def test_a_conflict_comes_out_as_itself(error: Any) -> None:
    """A row or slot that is another's comes out as that error, with its facts."""
    found = raised(failed("store", error))
    assert (type(found), found.__reduce__()[1]) == (type(error), error.__reduce__()[1])


def test_a_conflict_of_other_data_becomes_facts() -> None:
    """A conflict that somebody made of what isn't JSON-like is an error like any other."""
    errors: list[Any] = [RowConflictError("b1", Row("b1", {"slot": WHEN}, None, "1")), SlotTakenError("t1", None)]  # type: ignore[arg-type] # the point
    for error in errors:
        found: Any = raised(failed("store", error))
        assert isinstance(found, CallError)
        assert found.type.endswith(type(error).__name__)


def test_an_adapter_that_is_being_imported_hinders_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread imports the adapter, its errors can't be met, and others are kept."""
    name = "booking_resilience.appwrite"
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert failed("store", ValueError("no"))["type"] == "ValueError"


def test_a_text_is_kept_without_secrets_and_without_nul() -> None:
    """An error's text is redacted, a NUL is written out, and an error without a text is called by its type."""
    assert shown(ValueError("password=hunter2")) != "password=hunter2"
    assert "hunter2" not in shown(ValueError("password=hunter2"))
    assert shown(ValueError("a\0b")) == "a\\0b"
    assert shown(KeyError()) == "KeyError"


def ended(attempt: Attempt) -> End:
    """Return how a try ended."""

    async def wait() -> End:
        return await begin(attempt)

    return asyncio.run(wait())


async def name_async(*args: Any, **kwargs: Any) -> Any:
    """Return the arguments and the thread."""
    return args, kwargs, threading.current_thread()


def name(*args: Any, **kwargs: Any) -> Any:
    """Do the same."""
    return args, kwargs, threading.current_thread()


def broken() -> None:
    """Raise."""
    raise SystemExit(3)


async def broken_async() -> None:
    """Raise."""
    raise SystemExit(3)


ways = pytest.mark.parametrize("make", [lambda *call: through(ONCE, "store", *call), handed], ids=["through", "handed"])


@ways
def test_a_function_runs_in_a_thread_and_a_coroutine_on_the_loop(make: Callable[..., Attempt]) -> None:
    """A try gives what the function returned, called with its arguments, off the event loop if it may block."""
    (args, kwargs, thread), error = ended(make(name, (1, 2), {"c": 3}))
    assert (args, kwargs, error) == ((1, 2), {"c": 3}, None)
    assert (thread.name, thread.daemon) == ("booking-resilience-durable-try", True)
    (args, kwargs, thread), error = ended(make(name_async, (1, 2), {"c": 3}))
    assert (args, kwargs, error) == ((1, 2), {"c": 3}, None)
    assert thread is threading.main_thread()


@ways
def test_a_try_gives_whatever_was_raised(make: Callable[..., Attempt]) -> None:
    """What the function raises is the end of the try, and of nothing else."""
    for fn in (broken, broken_async):
        value, error = ended(make(fn, (), {}))
        assert value is None
        assert type(error) is SystemExit


def test_a_try_goes_through_the_pipeline() -> None:
    """What is called through a pipeline is one operation of it, under its name."""
    records: list[Any] = []

    class Watching(Pipeline):
        def call(self, operation: str, /, *args: Any, **kwargs: Any) -> Any:
            records.append(operation)
            return super().call(operation, *args, **kwargs)

        async def call_async(self, operation: str, /, *args: Any, **kwargs: Any) -> Any:
            records.append(operation)
            return await super().call_async(operation, *args, **kwargs)

    for fn in (name, name_async):
        ended(through(Watching(), "store", fn, (), {}))
    assert records == ["store", "store"]


def test_what_returns_an_awaitable_is_told_how_to_be_called() -> None:
    """A plain function that returns a coroutine is a `TypeError` that says what to give instead."""
    value, error = ended(handed(lambda: name_async(), (), {}))
    assert value is None
    assert str(error) == (
        "Durable.call_once was given a function that returns an awaitable; use an `async def` function"
    )


@ways
def test_a_deadline_of_the_surroundings_does_not_count(make: Callable[..., Attempt]) -> None:
    """The deadline of whoever begins a try bounds nothing in it."""

    async def left_async() -> float | None:
        return remaining_time()

    for fn in (remaining_time, left_async):
        with deadline(5.0):
            assert ended(make(fn, (), {})) == (None, None)


def test_nobody_waits_for_the_thread_of_a_cancelled_try() -> None:
    """A try that is cancelled ends at once, whatever its thread does."""
    began, release, over = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        release.wait(60)
        over.set()

    async def cancel() -> bool:
        task = begin(handed(hang, (), {}))
        await asyncio.to_thread(began.wait, 60)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled() or isinstance(task.result()[1], asyncio.CancelledError)

    try:
        assert asyncio.run(cancel())
        assert not over.is_set()
    finally:
        release.set()
