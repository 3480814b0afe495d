"""The context of a block joins every record that a monitor makes in it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import pytest
import trio

from booking_resilience import ErrorMonitor, Pipeline, RetryPolicy, run_batch, run_batch_async
from booking_resilience.monitor.capture import Entered


@pytest.fixture
def monitor():
    """A fresh monitor."""
    return ErrorMonitor()


def record(monitor, **context):
    """Record an error and return the record's context."""
    return monitor.record(ConnectionError("down"), operation="op", context=context or None).context


def blocks():
    """Return how many blocks are kept, in whatever context."""
    gc.collect()
    return sum(type(found) is Entered for found in gc.get_objects())


def test_records_of_a_block_have_its_context(monitor):
    """A record made inside has the values, one made after it has none."""
    with monitor.context(request_id="r1", path="/book"):
        assert record(monitor) == {"request_id": "r1", "path": "/book"}
        assert record(monitor, slot=9) == {"request_id": "r1", "path": "/book", "slot": 9}
    assert record(monitor) == {}


def test_inner_values_go_over_outer_ones_and_a_records_own_over_both(monitor):
    """Of the same name the innermost value counts."""
    with monitor.context(a=1, b=1, c=1), monitor.context(b=2, c=2):
        assert record(monitor, c=3) == {"a": 1, "b": 2, "c": 3}
    with monitor.context(a=1):
        with monitor.context(a=2):
            pass
        assert record(monitor) == {"a": 1}


def test_the_context_is_redacted(monitor):
    """Secrets in a block's values stay out, as in a record's own."""
    with monitor.context(password="hunter2", note="api_key=abcdef123456"):
        assert "hunter2" not in str(record(monitor))
    assert "hunter2" not in monitor.to_json()


def test_other_monitors_have_nothing_of_it(monitor):
    """A block is one monitor's; blocks of several monitors nest."""
    other = ErrorMonitor()
    with monitor.context(a=1), other.context(b=2):
        assert record(monitor) == {"a": 1}
        assert record(other) == {"b": 2}


def test_records_of_every_way_have_it(monitor):
    """What a pipeline, a capture, a batch or a log record makes has the context, too."""
    pipeline = Pipeline(retry=RetryPolicy(max_attempts=2, base_delay=0.0), monitor=monitor)

    def fails(_=None):
        raise ConnectionError("down")

    with monitor.context(request_id="r1"):
        with pytest.raises(ConnectionError):
            pipeline.call("op", fails)
        with pytest.raises(ConnectionError), monitor.capture("block"):
            fails()
        run_batch(fails, [1, 2], pipeline=pipeline)
        monitor.log_chat_error("chat", ConnectionError())
    assert {found.context["request_id"] for found in monitor.recent()} == {"r1"}
    assert len(monitor.recent()) == 5


def test_it_holds_in_tasks_threads_and_copied_contexts(monitor):
    """Asyncio's tasks and threads, asynchronous batches and copies of the context take it along; a bare thread not."""
    pipeline = Pipeline(retry=RetryPolicy(max_attempts=1), monitor=monitor)

    async def work(name):
        with monitor.context(task=name):
            await asyncio.sleep(0)
            return record(monitor)

    async def fails(_):
        raise ConnectionError("down")

    async def main():
        async with monitor.context(request_id="r1"):
            found = await asyncio.gather(work("a"), work("b"))
            found.append(await asyncio.to_thread(record, monitor))
            await run_batch_async(fails, [1], pipeline=pipeline)
            return found, contextvars.copy_context()

    found, copied = asyncio.run(main())
    assert found == [
        {"request_id": "r1", "task": "a"},
        {"request_id": "r1", "task": "b"},
        {"request_id": "r1"},
    ]
    assert monitor.recent(1)[0].context == {"request_id": "r1"}
    assert copied.run(record, monitor) == {"request_id": "r1"}
    seen = []
    with monitor.context(request_id="r2"):
        thread = (
            threading.Thread(target=lambda: seen.append(record(monitor)), context=contextvars.Context())
            if ("context" in threading.Thread.__init__.__code__.co_varnames)
            else threading.Thread(target=lambda: seen.append(record(monitor)))
        )
        thread.start()
        thread.join()
    assert seen == [{}]


def test_it_holds_in_trio_and_its_worker_threads(monitor):
    """Trio's tasks and worker threads take it along."""

    async def main():
        with monitor.context(request_id="r1"):
            found = [await trio.to_thread.run_sync(record, monitor)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, found)
            return found

    async def child(found):
        found.append(record(monitor))

    assert trio.run(main) == [{"request_id": "r1"}] * 2


def test_a_context_that_is_left_elsewhere_hurts_nobody(monitor):
    """A generator that is closed in another context leaves nothing behind and raises nothing."""

    def generator():
        with monitor.context(a=1):
            yield

    held = generator()
    contextvars.copy_context().run(next, held)
    held.close()
    assert record(monitor) == {}


def test_tasks_may_share_one(monitor):
    """One context that several tasks enter at once ends for each of them when it leaves it."""
    shared = monitor.context(service="chat")

    async def work(left, go_on):
        with shared:
            left.set()
            await go_on.wait()
            found = record(monitor)
        return found, record(monitor)

    async def main():
        events = [asyncio.Event() for _ in range(3)]
        first = asyncio.create_task(work(events[0], events[1]))
        await events[0].wait()
        second = asyncio.create_task(work(events[1], events[2]))
        found = await first
        events[2].set()
        return found, await second

    assert asyncio.run(main()) == (({"service": "chat"}, {}), ({"service": "chat"}, {}))


def test_generators_leave_nothing_behind(monitor):
    """Blocks of generators that go on in turns, and end in any order, leave nothing behind."""

    def generator(context):
        with context:
            yield
            yield

    for _ in range(3):
        first, second = generator(monitor.context(a=1)), generator(monitor.context(b=2))
        next(first), next(second), next(first), next(second)
        first.close()
        second.close()
        assert record(monitor) == {}


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_call_that_schedules_the_next_one_in_its_block_keeps_nothing_of_former_ones(monitor, is_shared):
    """The context of the thousandth of calls that each schedule the next has no more blocks than that of the tenth."""
    capture, kept = monitor.capture("tick"), []

    async def main():
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tick(number):
            if number in (10, 1000):
                kept.append(blocks())
            if number == 1000:
                done.set()
                return
            with capture if is_shared else monitor.capture("tick"), monitor.context(number=number):
                loop.call_soon(tick, number + 1)

        tick(0)
        await done.wait()

    asyncio.run(main())
    assert kept[0] == kept[1]


def test_generators_that_are_closed_elsewhere_leave_no_trail(monitor):
    """However many generators a context has begun and others have closed, few of their blocks are kept."""
    capture, kept = monitor.capture("rows"), []

    async def rows():
        async with capture, monitor.context(a=1):
            yield 1

    def numbers():
        with monitor.capture("numbers"), monitor.context(b=2):
            yield 1

    async def main():
        for _ in range(100):
            async for _row in rows():
                break
            begun = numbers()
            next(begun)
            contextvars.Context().run(begun.close)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            kept.append(blocks())

    asyncio.run(main())
    assert max(kept[50:]) <= max(kept[:50])


def test_a_capture_in_which_a_generators_ended_records_what_is_raised_anew(monitor):
    """A generator's capture that was entered before another one and ends in it takes nothing of that one away."""
    constant = ValueError("constant")
    monitor.record(constant, operation="earlier")

    def generator():
        with monitor.capture("rows"):
            yield

    rows = generator()
    next(rows)
    with pytest.raises(ValueError, match="constant"), monitor.capture("import"):
        assert list(rows) == []
        raise constant
    assert [found.operation for found in monitor.recent()] == ["import", "earlier"]


def test_context_and_record_share_the_bounds_of_one_record(monitor):
    """Of both together 200 values are kept, the record's own first."""
    many = {f"k{n}": list(range(20)) for n in range(12)}
    with monitor.context(rows=many):
        assert record(monitor, booking="b1")["booking"] == "b1"
    with monitor.context(rows=list(range(30))):
        kept = record(monitor, **many)
    assert sum(len(value) for value in kept.values() if isinstance(value, list)) < 200
