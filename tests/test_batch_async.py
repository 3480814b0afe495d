"""Batches in tasks, under asyncio and trio."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import (
    BatchOutcome,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    Pipeline,
    RetryPolicy,
    deadline,
    iter_batch_async,
    remaining_time,
    run_batch_async,
)
from booking_resilience.testing import VirtualClock
from drivers import AT_ONCE, LOOPS, Loop, no_cycles, ours, theirs


@pytest.fixture(params=LOOPS, ids=lambda loop: type(loop).__name__)
def loop(request: pytest.FixtureRequest) -> Loop:
    """asyncio, then trio."""
    return request.param


def tasks() -> int:
    """Return how many tasks there are in the loop that runs."""
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


class Gate:
    """Something to wait for, in either loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.is_open = loop, False

    async def wait(self) -> None:
        """Wait until it is open."""
        while not self.is_open:
            await self.loop.pass_on()


async def double(item: int) -> int:
    """Return twice the item."""
    return item * 2


def test_results_come_in_input_order(loop: Loop) -> None:
    """Outcomes stand in the order of the input, whichever item was finished first."""

    async def main() -> Any:
        gate = Gate(loop)

        async def work(item: str) -> str:
            if item == "a":
                await gate.wait()
            gate.is_open = item == "c" or gate.is_open
            return item.upper()

        return await run_batch_async(work, "abc", max_concurrency=2)

    result = loop.run(main)
    assert result.values() == ["A", "B", "C"]
    assert result.outcomes == tuple(BatchOutcome(index, "abc"[index], "ABC"[index], None, 1) for index in range(3))


@pytest.mark.parametrize("kind", LOOPS, ids=lambda loop: type(loop).__name__)
@given(
    items=st.lists(st.sampled_from(["ok", "flaky", "refused", "down"]), max_size=30), concurrency=st.integers(1, 9),
    is_async=st.booleans(),
)  # fmt: skip
def test_every_item_has_its_own_outcome(kind: Loop, items: list[str], concurrency: int, is_async: bool) -> None:
    """Whatever the items do, and however they come, each has one outcome, its own; none is lost or done twice."""
    calls = dict.fromkeys(range(len(items)), 0)

    async def work(item: tuple[int, str]) -> int:
        index, what = item
        calls[index] += 1
        await kind.pass_on()
        if what == "down" or (what == "flaky" and calls[index] == 1):
            raise ConnectionError(index)
        if what == "refused":
            raise ValueError(index)
        return index

    async def source() -> AsyncIterator[tuple[int, str]]:
        for item in enumerate(items):
            await kind.pass_on()
            yield item

    result = kind.run(
        lambda: run_batch_async(
            work,
            source() if is_async else list(enumerate(items)),
            pipeline=Pipeline(retry=AT_ONCE),
            max_concurrency=concurrency,
        )
    )
    expected = {"ok": (None, 1), "flaky": (None, 2), "refused": (ValueError, 1), "down": (ConnectionError, 3)}
    assert [outcome.index for outcome in result.outcomes] == list(range(len(items)))
    for outcome, what in zip(result.outcomes, items, strict=True):
        error, attempts = expected[what]
        assert outcome.attempts == attempts == calls[outcome.index]
        assert (outcome.value, type(outcome.error)) == (
            outcome.index if error is None else None,
            error or type(None),
        )


@pytest.mark.parametrize("is_async", [False, True], ids=["items", "async items"])
def test_endless_input_is_drawn_as_needed(loop: Loop, is_async: bool) -> None:
    """At most twice the concurrency is ahead of what was taken, at every moment."""
    drawn = 0

    def numbers() -> Iterator[int]:
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield number

    async def numbers_async() -> AsyncIterator[int]:
        for number in numbers():
            yield number
            await loop.pass_on()

    async def main() -> None:
        before = tasks()
        items = numbers_async() if is_async else numbers()
        async with contextlib.aclosing(iter_batch_async(double, items, max_concurrency=3)) as outcomes:
            assert drawn == 0
            taken = 0
            async for _ in outcomes:
                taken += 1
                for _ in range(5):
                    await loop.pass_on()
                assert drawn <= taken + 6
                if taken == 100:
                    break
        assert tasks() == before

    loop.run(main)


def test_a_slow_source_holds_back_no_outcome(loop: Loop) -> None:
    """What is finished comes out while the next item is still to come."""

    async def main() -> None:
        gate = Gate(loop)

        async def items() -> AsyncIterator[int]:
            yield 1
            await gate.wait()
            yield 2

        outcomes = iter_batch_async(double, items())
        assert (await anext(outcomes)).value == 2
        gate.is_open = True
        assert (await anext(outcomes)).value == 4
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)

    loop.run(main)


def test_two_hung_items_starve_nobody(loop: Loop) -> None:
    """Two items that hang take up two places; hundreds of others go on past them."""

    async def main() -> None:
        async def work(item: int) -> int:
            return await loop.hang() if item in (0, 1) else item

        seen = []
        async with contextlib.aclosing(iter_batch_async(work, range(300), max_concurrency=3)) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome.item)
                if len(seen) == 298:
                    break
        assert sorted(seen) == list(range(2, 300))

    loop.run(main)


def test_an_item_that_hangs_is_cut_off(loop: Loop) -> None:
    """Each item has the policy's deadline to itself, from when it is begun."""

    async def work(item: int) -> int:
        return await loop.hang() if item % 3 == 0 else item

    pipeline = Pipeline(retry=RetryPolicy(deadline=0.02))
    result = loop.run(lambda: run_batch_async(work, range(9), pipeline=pipeline, max_concurrency=1))
    assert result.values() == [1, 2, 4, 5, 7, 8]
    assert [type(outcome.error) for outcome in result.failed] == [DeadlineExceededError] * 3
    assert all(ours(outcome.error) <= 3 for outcome in result.failed)
    with pytest.raises(ExceptionGroup, match="3 of 9 items failed"):
        result.raise_if_failed()


def test_concurrency_is_bounded_and_reached(loop: Loop) -> None:
    """As many items as allowed run at a time, and never more."""
    running = most = 0

    async def work(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await loop.pass_on()
        running -= 1

    assert len(loop.run(lambda: run_batch_async(work, range(40), max_concurrency=4)).succeeded) == 40
    assert most == 4


def test_breaker_is_shared(loop: Loop, virtual_clock: VirtualClock) -> None:
    """All items of a batch share the pipeline's breaker."""

    async def work(_: int) -> None:
        raise ConnectionError("x")

    pipeline = Pipeline(retry=RetryPolicy(max_attempts=1), breaker=CircuitBreaker("b", failure_threshold=5))
    how = {"pipeline": pipeline, "max_concurrency": 1, "max_open_wait": 0}
    result = loop.run(lambda: run_batch_async(work, range(9), **how))
    assert [type(outcome.error) for outcome in result.outcomes] == [ConnectionError] * 5 + [CircuitOpenError] * 4
    error = result.outcomes[0].error
    assert error is not None
    assert (ours(error) <= 3, theirs(error)) == (True, ["work"])


def test_on_item_is_told_and_may_raise(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """`on_item` is told of each outcome; what it raises is logged."""
    told: list[int] = []

    def on_item(outcome: BatchOutcome[int, int]) -> None:
        told.append(outcome.index)
        raise RuntimeError("progress bar is broken")

    assert loop.run(lambda: run_batch_async(double, range(5), on_item=on_item)).values() == [0, 2, 4, 6, 8]
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert caplog.text.count("RuntimeError: progress bar is broken") == 5


@pytest.mark.parametrize("is_async", [False, True], ids=["items", "async items"])
def test_items_that_break_off_end_the_batch(loop: Loop, is_async: bool) -> None:
    """An iterator of items that raises ends the batch with its error, after the outcomes of what was drawn before."""
    error = OSError("disk")

    def items() -> Iterator[int]:
        yield from range(5)
        raise error

    async def items_async() -> AsyncIterator[int]:
        for item in items():
            yield item

    async def main() -> list[int]:
        seen = []
        with pytest.raises(OSError, match="disk") as caught:
            async for outcome in iter_batch_async(double, items_async() if is_async else items(), max_concurrency=2):
                seen.append(outcome.item)  # noqa: PERF401 - the error comes in between
        assert caught.value is error
        return seen

    assert sorted(loop.run(main)) == [0, 1, 2, 3, 4]
    assert ours(error) <= 3


@pytest.mark.parametrize("where", ["function", "items", "async items"])
def test_what_is_no_exception_ends_the_batch_at_once(loop: Loop, where: str) -> None:
    """An exit raised by the function or by the items comes out at once, and no task is left."""

    async def work(item: int) -> int:
        if where == "function" and item == 3:
            raise SystemExit(4)
        return item

    def items() -> Iterator[int]:
        for item in itertools.count():
            if where != "function" and item == 3:
                raise SystemExit(4)
            yield item

    async def items_async() -> AsyncIterator[int]:
        for item in items():
            yield item

    async def main() -> None:
        before = tasks()
        with pytest.raises(SystemExit) as caught:
            await run_batch_async(work, items_async() if where == "async items" else items(), max_concurrency=2)
        assert caught.value.code == 4
        assert tasks() == before

    if loop.cancelled is asyncio.CancelledError and where != "items":
        with pytest.raises(SystemExit):  # asyncio lets the exit of any task through to `run` as well
            loop.run(main)
    else:
        loop.run(main)


def test_leaving_early_cancels_what_is_under_way(loop: Loop) -> None:
    """When the iterator is closed, the items under way are cancelled, and all tasks have ended."""
    begun, cancelled = [], []

    async def work(item: int) -> int:
        begun.append(item)
        if item:
            try:
                await loop.hang()
            finally:
                cancelled.append(item)
        return item

    async def main() -> None:
        before = tasks()
        async with contextlib.aclosing(iter_batch_async(work, itertools.count(), max_concurrency=4)) as outcomes:
            async for outcome in outcomes:
                assert outcome.item == 0
                break
        assert tasks() == before

    loop.run(main)
    assert sorted(cancelled) == [item for item in sorted(begun) if item]


def test_a_batch_that_was_left_begins_nothing_more(loop: Loop) -> None:
    """Neither an item that ends its cancellation by an error nor a source that swallows it begins anything more."""
    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=600.0)
    pipeline, begun = Pipeline(retry=RetryPolicy(base_delay=0.0), breaker=breaker), []

    async def items() -> AsyncIterator[int]:
        for item in range(9):
            with contextlib.suppress(loop.cancelled):
                await (loop.hang() if item == 3 else loop.pass_on())
            yield item

    async def work(item: int) -> int:
        begun.append(item)
        if item:
            try:
                await loop.hang()
            except loop.cancelled:
                raise ConnectionError from None
        return item

    async def main() -> None:
        before = tasks()
        outcomes = iter_batch_async(work, items(), pipeline=pipeline, max_concurrency=4)
        async with contextlib.aclosing(outcomes):
            assert (await anext(outcomes)).item == 0
            while len(begun) < 3:
                await loop.pass_on()
        assert tasks() == before

    loop.run(main)
    assert len(begun) == 3


@pytest.mark.parametrize("is_async", [False, True], ids=["items", "async items"])
def test_cancellation_leaves_no_task_behind(loop: Loop, is_async: bool) -> None:
    """A cancelled batch cancels its items and waits until they have ended, however long they clean up."""
    running: list[int] = []

    async def work(item: int) -> None:
        running.append(item)
        try:
            await loop.hang()
        finally:
            if loop.cancelled is trio.Cancelled:
                with trio.CancelScope(shield=True):
                    await loop.pass_on()
            else:
                await loop.pass_on()
                await loop.pass_on()
            running.remove(item)

    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2
        await loop.hang()

    async def main() -> None:
        before = tasks()
        source = items() if is_async else [1, 2]
        await loop.cancel_when(lambda: run_batch_async(work, source), lambda: len(running) == 2)
        assert running == []
        assert tasks() == before

    loop.run(main)


def test_a_batch_cancelled_before_it_began_begins_nothing() -> None:
    """Under trio, too, tasks that were made but not begun are not begun after a cancellation."""
    begun: list[int] = []

    async def work(item: int) -> None:
        begun.append(item)
        await trio.sleep_forever()

    async def main() -> None:
        before = tasks()
        with trio.CancelScope() as scope:
            scope.cancel()
            await run_batch_async(work, range(50))
        assert scope.cancelled_caught
        assert tasks() == before

    for _ in range(20):  # trio runs its tasks in random order
        trio.run(main)


def test_a_second_cancellation_leaves_no_task_behind() -> None:
    """Under asyncio a batch that is cancelled while it waits for its cancelled items waits all the same."""
    cleaned, gate = [], None

    async def work(item: int) -> None:
        assert gate is not None
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await gate.wait()
            cleaned.append(item)

    async def main() -> None:
        nonlocal gate
        gate = asyncio.Event()
        task = asyncio.create_task(run_batch_async(work, range(3)))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert sorted(cleaned) == [0, 1, 2]


INTERRUPTED = """
import asyncio, itertools, sys
from booking_resilience import run_batch_async
async def work(item):
    if item == 20:
        print("ready", flush=True)
    if item >= 20:
        await asyncio.Event().wait()
asyncio.run(run_batch_async(work, itertools.count(), max_concurrency=4))
"""


def test_ctrl_c_stops_promptly() -> None:
    """Ctrl-C ends an asyncio batch, and the process, at once, also while every call hangs."""
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - started < 10
        assert process.returncode == -signal.SIGINT
        assert errors.rstrip().endswith(b"KeyboardInterrupt")
    finally:
        process.kill()
        process.communicate()


def test_tasks_inherit_context_deadline_and_virtual_time(loop: Loop, virtual_clock: VirtualClock) -> None:
    """Each item sees the caller's context variables and deadline, nothing of its neighbours, and virtual time."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    failed: set[int] = set()

    async def work(item: int) -> tuple[str, float | None]:
        if item not in failed:
            failed.add(item)
            raise ConnectionError
        seen = user.get(), remaining_time()
        user.set(f"item {item}")
        return seen

    async def main() -> None:
        user.set("ada")
        policy = RetryPolicy(jitter=0, deadline=None)
        with deadline(50.0):
            result = await run_batch_async(work, range(3), pipeline=Pipeline(retry=policy), max_concurrency=1)
        assert result.values() == [("ada", pytest.approx(50 - 0.3 * passed)) for passed in (1, 2, 3)]
        assert virtual_clock.sleeps == [0.3] * 3
        assert user.get() == "ada"

    loop.run(main)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "8"])
def test_absurd_concurrency_is_refused(value: Any) -> None:
    """`max_concurrency` is a whole number, 1 or more; anything else is refused before anything is drawn."""
    kind = ValueError if type(value) in {int, float} else TypeError
    with pytest.raises(kind, match="max_concurrency must be a whole number, 1 or more"):
        iter_batch_async(double, [1], max_concurrency=value)
    with pytest.raises(kind, match="max_concurrency must be a whole number, 1 or more"):
        asyncio.run(run_batch_async(double, [1], max_concurrency=value))


def test_plain_functions_fail_their_items(loop: Loop) -> None:
    """A function that gives no awaitable fails each item with a `TypeError`."""
    result = loop.run(lambda: run_batch_async(len, ["a"]))  # type: ignore[arg-type] # that is the point
    assert isinstance(result.outcomes[0].error, TypeError)


def test_memory_stays_flat(loop: Loop) -> None:
    """A batch of many trivial items holds no more memory at the end than early on."""
    early = late = 0
    pipeline = Pipeline(retry=RetryPolicy(deadline=None))  # trio keeps the deadlines of a thousand calls that are over

    async def main() -> None:
        nonlocal early, late
        number = 0
        async for _ in iter_batch_async(double, iter(range(2_500)), pipeline=pipeline):
            number += 1
            if number == 800:
                early = tracemalloc.get_traced_memory()[0]
            if number == 2_450:
                late = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        loop.run(main)
    finally:
        tracemalloc.stop()
    assert late - early < 50_000


def test_no_reference_cycles() -> None:
    """Nothing lives on after a batch that failed or broke off."""

    async def fails(_: int) -> None:
        raise ConnectionError

    def breaks() -> Iterator[int]:
        yield 1
        raise OSError

    async def all_ways() -> None:
        await run_batch_async(fails, range(3), pipeline=Pipeline(retry=AT_ONCE))
        with contextlib.suppress(OSError):
            await run_batch_async(double, breaks())
        async with contextlib.aclosing(iter_batch_async(double, range(9))) as outcomes:
            async for _ in outcomes:
                break

    async def main() -> None:
        await all_ways()
        gc.collect()
        with no_cycles():
            await all_ways()

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_need_no_deep_recursion() -> None:
    """Under an eager task factory, too, many items that end at once end one after the other."""
    gate: asyncio.Event

    async def work(item: int) -> int:
        if item < 2000:
            await gate.wait()
        return item

    async def main() -> None:
        nonlocal gate
        gate = asyncio.Event()
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - new in 3.12
        asyncio.get_running_loop().call_later(0.01, gate.set)
        patient = Pipeline(retry=RetryPolicy(deadline=None))  # a loaded machine takes its time
        result = await run_batch_async(work, range(6000), pipeline=patient, max_concurrency=2000)
        assert result.values() == list(range(6000))

    asyncio.run(main())


class TestSources:
    """What the items are drawn from: a generator is closed when the batch ends, anything else is its owner's."""

    @pytest.mark.parametrize("end", ["left early", "at the end", "source raises", "cancelled", "an exit", "is_sync"])
    def test_generators_are_closed(self, loop: Loop, end: str) -> None:
        """However the batch ends, its generator has been closed by then, in the batch's own task."""
        closed: list[str] = []

        async def stream() -> AsyncIterator[int]:
            try:
                for number in range(3 if end == "at the end" else 1_000_000):
                    if end == "source raises" and number == 5:
                        raise LookupError
                    yield number
            finally:
                closed.append(end)
                await loop.pass_on()

        def plain_stream() -> Iterator[int]:
            try:
                yield from range(1_000_000)
            finally:
                closed.append(end)

        async def work(number: int) -> int:
            await loop.pass_on()
            if end == "an exit":
                raise SystemExit
            return number

        async def main() -> None:
            items: Any = plain_stream() if end == "is_sync" else stream()
            if end in {"left early", "is_sync"}:
                async with contextlib.aclosing(iter_batch_async(work, items)) as outcomes:
                    async for _ in outcomes:
                        break
            elif end == "cancelled":
                seen: list[Any] = []
                with contextlib.suppress(loop.cancelled):
                    await loop.cancel_when(
                        lambda: run_batch_async(work, items, on_item=seen.append), lambda: bool(seen)
                    )
            else:
                with contextlib.suppress(LookupError):
                    await run_batch_async(work, items)

        with contextlib.suppress(SystemExit, BaseExceptionGroup):
            loop.run(main)
        assert closed == [end]

    def test_a_batch_that_was_left_leaves_no_cycle(self, loop: Loop) -> None:
        """Neither source nor crew of a batch that was left early waits for the cycle collector."""

        async def stream() -> AsyncIterator[int]:
            for number in range(1_000_000):
                yield number

        async def leave() -> None:
            async with contextlib.aclosing(iter_batch_async(double, stream())) as outcomes:
                async for _ in outcomes:
                    break

        async def main() -> None:
            await leave()
            with no_cycles():
                await leave()
                await loop.pass_on()

        loop.run(main)

    def test_other_iterators_are_their_owners(self, loop: Loop) -> None:
        """An iterator that is no generator can be drawn from after the batch."""

        class Numbers:
            def __init__(self) -> None:
                self.number = 0

            def __aiter__(self) -> Numbers:
                return self

            async def __anext__(self) -> int:
                await loop.pass_on()
                self.number += 1
                return self.number

        async def main() -> int:
            numbers, plain = Numbers(), iter(range(100))
            for items in (numbers, plain):
                async with contextlib.aclosing(iter_batch_async(double, items)) as outcomes:
                    async for _ in outcomes:
                        break
            return await anext(numbers) + next(plain)

        assert loop.run(main) > 0
