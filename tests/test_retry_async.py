"""Retrying asynchronous functions, under asyncio and trio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import time
import types
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
import trio

from booking_resilience import (
    CircuitOpenError,
    DeadlineExceededError,
    RetryBudget,
    RetryEvent,
    RetryPolicy,
    TransientError,
    attempts_of,
    deadline,
    remaining_time,
    retry_attempts,
    retrying,
    with_retry_async,
)
from booking_resilience.testing import VirtualClock
from drivers import AT_ONCE, EXACT, LOOPS, Loop, Script, no_cycles, ours, theirs

SOON = 0.02


@pytest.fixture(params=LOOPS, ids=lambda loop: type(loop).__name__)
def loop(request: pytest.FixtureRequest) -> Loop:
    """asyncio, then trio."""
    return request.param


def test_transient_failures_are_tried_again(loop: Loop, virtual_clock: VirtualClock) -> None:
    """Two transient failures cost 0.3 and 0.6 s of waiting that does not block, and then the value comes out."""
    events: list[RetryEvent] = []
    errors = [ConnectionError("a"), TimeoutError("b")]
    script = Script(*errors, 3)
    got = loop.run(lambda: with_retry_async(script.later, policy=EXACT, operation="op", on_event=events.append))
    assert (got, script.calls, virtual_clock.sleeps) == (3, 3, [0.3, 0.6])
    assert [(e.operation, e.attempt, e.outcome, e.reason, e.error, e.delay) for e in events] == [
        ("op", 1, "retrying", None, errors[0], 0.3),
        ("op", 2, "retrying", None, errors[1], 0.6),
        ("op", 3, "recovered", None, errors[1], None),
    ]


def test_giving_up_raises_the_original_error(loop: Loop, virtual_clock: VirtualClock) -> None:
    """When the attempts run out the last error itself comes out, with a note, its attempts and few frames of ours."""
    errors = [ConnectionError(number) for number in range(3)]
    with pytest.raises(ConnectionError) as caught:
        loop.run(lambda: with_retry_async(Script(*errors).later, policy=EXACT, operation="store"))
    assert caught.value is errors[2]
    assert caught.value.__notes__ == ["store: gave up after 3 attempts in 0.90 s (attempts)"]
    assert [(item.number, item.error, item.delay) for item in attempts_of(caught.value)] == [
        (1, errors[0], 0.3), (2, errors[1], 0.6), (3, errors[2], None),
    ]  # fmt: skip
    assert caught.value.__context__ is None
    assert ours(caught.value) <= 3
    assert theirs(caught.value)[-2:] == ["later", "__call__"]


def test_waiting_lets_other_tasks_run(loop: Loop) -> None:
    """While one operation waits for its next attempt, others go on."""
    seen: list[str] = []

    async def flaky() -> None:
        seen.append("attempt")
        if len(seen) == 1:
            raise ConnectionError

    async def other() -> None:
        while not seen:
            await loop.pass_on()
        seen.append("other")

    async def main() -> None:
        retried = functools.partial(with_retry_async, flaky, policy=RetryPolicy(base_delay=0.05))
        if isinstance(loop.cancelled, type) and loop.cancelled is asyncio.CancelledError:
            await asyncio.gather(retried(), other())
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(retried)
                nursery.start_soon(other)

    loop.run(main)
    assert seen == ["attempt", "other", "attempt"]


@pytest.mark.parametrize("how", ["function", "block"])
def test_retries_without_a_delay_let_other_tasks_run(how: str, loop: Loop, virtual_clock: VirtualClock) -> None:
    """Attempts that follow each other at once do not hog the event loop: a cancellation arrives in between."""
    budget = RetryBudget(initial=10.0)
    policy = RetryPolicy(base_delay=0, max_attempts=1000, deadline=None, budget=budget)
    calls: list[int] = []

    async def busy() -> None:
        calls.append(1)
        raise ConnectionError

    async def block() -> None:
        async for attempt in retry_attempts(policy=policy):
            with attempt:
                await busy()

    async def main() -> None:
        function = functools.partial(with_retry_async, busy, policy=policy)
        await loop.cancel_when(block if how == "block" else function, lambda: bool(calls))

    loop.run(main)
    assert len(calls) <= 4
    assert budget.tokens == 10.0 - (len(calls) - 1)  # the retry that was cancelled is not paid
    assert virtual_clock.sleeps == []


class TestCutOff:
    """What takes too long is cut off."""

    def test_at_the_deadline(self, loop: Loop) -> None:
        """An attempt is cancelled at the deadline, which comes out as `DeadlineExceededError`, a `TimeoutError`."""
        ended: list[str] = []
        events: list[RetryEvent] = []

        async def hangs() -> None:
            try:
                await loop.hang()
            finally:
                ended.append("cancelled")

        policy = RetryPolicy(deadline=SOON, retry_on=Exception)
        with pytest.raises(DeadlineExceededError, match="store: the deadline passed") as caught:
            loop.run(lambda: with_retry_async(hangs, policy=policy, operation="store", on_event=events.append))
        assert ended == ["cancelled"]
        assert [(e.attempt, e.outcome, e.reason, e.error) for e in events] == [(1, "gave_up", "deadline", caught.value)]
        assert isinstance(caught.value, TimeoutError)
        assert ours(caught.value) <= 3
        assert caught.value.__cause__ is None
        assert attempts_of(caught.value)[0].error is caught.value

    def test_at_the_deadline_in_a_later_attempt(self, loop: Loop) -> None:
        """The deadline is the operation's: a later attempt gets what the ones before have left of it."""
        first, calls = ConnectionError(), 0

        async def fails_then_hangs() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise first
            await loop.hang()

        policy = RetryPolicy(deadline=SOON, base_delay=0)
        with pytest.raises(DeadlineExceededError) as caught:
            loop.run(lambda: with_retry_async(fails_then_hangs, policy=policy))
        assert [item.error for item in attempts_of(caught.value)] == [first, caught.value]

    def test_an_attempt_that_hangs_is_tried_again(self, loop: Loop) -> None:
        """`attempt_timeout` bounds each attempt with a `TimeoutError`, which is retried; the next may succeed."""
        calls, seen = 0, []
        events: list[RetryEvent] = []

        async def hangs_once() -> int:
            nonlocal calls
            calls += 1
            seen.append(remaining_time())
            return await loop.hang() if calls == 1 else 7

        policy = RetryPolicy(attempt_timeout=SOON, base_delay=0)
        got = loop.run(lambda: with_retry_async(hangs_once, policy=policy, operation="op", on_event=events.append))
        assert got == 7
        assert all(left <= SOON for left in seen)
        error = events[0].error
        assert (type(error), str(error)) == (TimeoutError, "op: the attempt took too long")
        assert [event.outcome for event in events] == ["retrying", "recovered"]

    def test_an_attempt_that_hangs_is_not_tried_again_if_the_policy_says_so(self, loop: Loop) -> None:
        """Whether a cut-off attempt is retried is for `retry_on` to say."""
        policy = RetryPolicy(attempt_timeout=SOON, deadline=None, retry_on=ConnectionError)
        with pytest.raises(TimeoutError) as caught:
            loop.run(lambda: with_retry_async(loop.hang, policy=policy))
        assert len(attempts_of(caught.value)) == 1
        assert ours(caught.value) <= 3

    def test_an_enclosing_deadline_cuts_off_too(self, loop: Loop) -> None:
        """A policy without limits of its own is cut off by the deadline it is called under."""

        async def main() -> None:
            with deadline(SOON):
                await with_retry_async(loop.hang, policy=RetryPolicy(deadline=None, retry_on=Exception))

        with pytest.raises(DeadlineExceededError):
            loop.run(main)

    def test_an_inner_operation_never_outlives_the_outer(self, loop: Loop) -> None:
        """An inner retry gets what is left of the outer's time; neither goes on after it."""
        calls = 0

        async def inner() -> None:
            nonlocal calls
            calls += 1
            await with_retry_async(loop.hang, policy=RetryPolicy(deadline=60, retry_on=Exception))

        with pytest.raises(DeadlineExceededError) as caught:
            loop.run(lambda: with_retry_async(inner, policy=RetryPolicy(deadline=SOON, retry_on=Exception)))
        assert calls == 1
        assert ours(caught.value) <= 3

    def test_an_inner_deadline_is_an_error_like_others_for_the_outer(self, loop: Loop) -> None:
        """If only an inner operation's own time ran out, the outer one tries again while it has time."""
        calls = 0

        async def inner() -> int:
            nonlocal calls
            calls += 1
            if calls == 2:
                return 7
            return await with_retry_async(loop.hang, policy=RetryPolicy(deadline=SOON))

        assert loop.run(lambda: with_retry_async(inner, policy=RetryPolicy(deadline=30, base_delay=0))) == 7
        assert calls == 2

    def test_a_success_despite_the_cut_off_is_a_success(self, loop: Loop) -> None:
        """A call that turns its cancellation into a result has succeeded, if late."""

        async def stubborn() -> int:
            try:
                await loop.hang()
            except loop.cancelled:
                return 7
            raise AssertionError

        assert loop.run(lambda: with_retry_async(stubborn, policy=RetryPolicy(deadline=SOON))) == 7

    def test_what_the_call_raises_when_it_is_cut_off_comes_out(self, loop: Loop) -> None:
        """An error of the call's own, raised while it is being cut off, is the one that comes out."""
        error = ValueError("cleanup")

        async def careless() -> None:
            try:
                await loop.hang()
            finally:
                raise error

        with pytest.raises(ValueError, match="cleanup") as caught:
            loop.run(lambda: with_retry_async(careless, policy=RetryPolicy(deadline=SOON)))
        assert caught.value is error

    def test_a_timeout_of_the_calls_own_is_not_ours(self, loop: Loop, virtual_clock: VirtualClock) -> None:
        """A `TimeoutError` that the call raises itself is an error like others, and stays itself."""
        error = TimeoutError("theirs")

        async def slow() -> None:
            await loop.pass_on()
            raise error

        with pytest.raises(TimeoutError) as caught:
            loop.run(lambda: with_retry_async(slow))
        assert caught.value is error
        assert len(attempts_of(error)) == 3

    def test_nothing_is_called_after_the_deadline(self, loop: Loop, virtual_clock: VirtualClock) -> None:
        """If the deadline is over before the first call, the function is not called, and the event says so."""
        script = Script(1)
        events: list[RetryEvent] = []

        async def main() -> None:
            with deadline(1.0):
                virtual_clock.advance(1.0)
                await with_retry_async(script.later, on_event=events.append)

        with pytest.raises(DeadlineExceededError, match="before the first attempt"):
            loop.run(main)
        assert (script.calls, [(e.attempt, e.reason) for e in events]) == (0, [(0, "deadline")])


def test_asyncio_timeout_around_a_retry() -> None:
    """`asyncio.timeout` around a retry ends it as it ends anything, in a call and in a sleep."""

    async def main(fn: Any) -> None:
        async with asyncio.timeout(SOON):
            await with_retry_async(fn, policy=RetryPolicy(base_delay=3.0))

    for fn in (Script(ConnectionError()).later, LOOPS[0].hang):
        with pytest.raises(TimeoutError) as caught:
            asyncio.run(main(fn))
        assert not isinstance(caught.value, DeadlineExceededError)


def test_trio_scopes_around_and_inside() -> None:
    """A trio cancel scope around a retry ends it, one inside the call is the call's own business."""

    async def main() -> None:
        with trio.move_on_after(SOON) as scope:
            await with_retry_async(Script(ConnectionError()).later, policy=RetryPolicy(base_delay=3.0))
        assert scope.cancelled_caught

        async def gives_up_itself() -> str:
            with trio.move_on_after(SOON):
                await trio.sleep_forever()
            return "moved on"

        assert await with_retry_async(gives_up_itself) == "moved on"

    trio.run(main)


class TestCancellation:
    """Cancellation passes at once."""

    def test_in_the_call(self, loop: Loop) -> None:
        """A cancelled call is not tried again, and nothing is told."""
        calls = 0
        events: list[RetryEvent] = []
        budget = RetryBudget()

        async def hangs() -> None:
            nonlocal calls
            calls += 1
            await loop.hang()

        retried = functools.partial(
            with_retry_async, hangs, policy=RetryPolicy(budget=budget, retry_on=BaseException), on_event=events.append
        )
        loop.run(lambda: loop.cancel_when(retried, lambda: calls > 0))
        assert (calls, events, budget.tokens) == (1, [], 5.0)

    def test_in_the_sleep(self, loop: Loop) -> None:
        """A cancelled sleep is not followed by an attempt, and the retry that was not made is not paid for."""
        events: list[RetryEvent] = []
        budget = RetryBudget()
        script = Script(ConnectionError())
        policy = RetryPolicy(budget=budget, base_delay=3.0, deadline=None)
        retried = functools.partial(with_retry_async, script.later, policy=policy, on_event=events.append)
        loop.run(lambda: loop.cancel_when(retried, lambda: budget.tokens < 5.0))
        assert (script.calls, [event.outcome for event in events], budget.tokens) == (1, ["retrying"], 5.0)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
    def test_other_base_exceptions_pass_at_once(self, error: BaseException, virtual_clock: VirtualClock) -> None:
        """An interrupt, an exit or the like passes at once, untouched, whatever `retry_on` says."""
        script = Script(error)
        coroutine = with_retry_async(script.later, policy=RetryPolicy(retry_on=BaseException, deadline=None))
        with pytest.raises(type(error)) as caught:
            coroutine.send(None)
        assert caught.value is error
        assert (script.calls, attempts_of(error), getattr(error, "__notes__", [])) == (1, (), [])

    def test_an_abandoned_operation_closes_its_call(self) -> None:
        """Closing the coroutine of an operation closes the call inside, cut off or not."""
        for limit in (None, 5.0):
            ended: list[str] = []

            async def hangs(ended: list[str] = ended) -> None:
                try:
                    await LOOPS[0].hang()
                finally:
                    ended.append("closed")

            async def main(ended: list[str] = ended, fn: Any = hangs, limit: float | None = limit) -> None:
                coroutine = with_retry_async(fn, policy=RetryPolicy(deadline=limit))
                coroutine.send(None)
                coroutine.close()
                assert ended == ["closed"]

            asyncio.run(main())


def test_deadline_is_seen_inside_and_handed_down(loop: Loop, virtual_clock: VirtualClock) -> None:
    """The call sees what is left of the time, and outside there is no deadline."""
    seen: list[float | None] = []

    async def call() -> None:
        seen.append(remaining_time())
        await loop.pass_on()
        seen.append(remaining_time())
        raise ConnectionError

    async def main() -> None:
        with pytest.raises(ConnectionError):
            await with_retry_async(call, policy=EXACT)
        assert remaining_time() is None

    loop.run(main)
    assert seen == pytest.approx([4.0, 4.0, 3.7, 3.7, 3.1, 3.1])


def test_deadline_ends_before_a_sleep_that_does_not_fit(loop: Loop, virtual_clock: VirtualClock) -> None:
    """If the next delay does not fit before the deadline, it gives up now and does not sleep first."""
    with pytest.raises(ConnectionError) as caught:
        loop.run(lambda: with_retry_async(Script(ConnectionError()).later, policy=RetryPolicy(jitter=0, deadline=0.5)))
    assert virtual_clock.sleeps == [0.3]
    assert "(deadline)" in caught.value.__notes__[0]


def test_oversleeping_ends_with_the_last_error(
    loop: Loop, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the sleep took so long that the deadline is over, the last error comes out, and the token goes back."""

    async def oversleep(seconds: float) -> None:
        virtual_clock.advance(seconds + 10)

    monkeypatch.setattr("booking_resilience.clock.sleep_async", oversleep)
    budget, script = RetryBudget(), Script(ConnectionError("x"))
    with pytest.raises(ConnectionError) as caught:
        loop.run(lambda: with_retry_async(script.later, policy=RetryPolicy(budget=budget)))
    assert (script.calls, budget.tokens, ours(caught.value) <= 3) == (1, 5.0, True)
    unwanted = RetryPolicy(retry_on_result=lambda _: True)
    assert loop.run(lambda: with_retry_async(Script(7).later, policy=unwanted)) == 7


def test_results_may_be_found_wanting(loop: Loop, virtual_clock: VirtualClock) -> None:
    """`retry_on_result` judges what was awaited; when the attempts run out the last result is returned."""
    policy = RetryPolicy(retry_on_result=lambda value: value is None, jitter=0)
    assert loop.run(lambda: with_retry_async(Script(None, None, 3).later, policy=policy)) == 3
    assert loop.run(lambda: with_retry_async(Script(None).later, policy=policy)) is None
    assert virtual_clock.sleeps == [0.3, 0.6] * 2


def test_retry_after_and_circuit_open(loop: Loop, virtual_clock: VirtualClock) -> None:
    """`retry_after` is waited for in full; the refusal of a breaker has the failure before as its cause."""
    error = TransientError()
    error.retry_after = 1.5
    script = Script(error, CircuitOpenError("x", 1.0))
    with pytest.raises(CircuitOpenError) as caught:
        loop.run(lambda: with_retry_async(script.later, policy=RetryPolicy(retry_on=Exception)))
    assert virtual_clock.sleeps == [1.5]
    assert caught.value.__cause__ is error


class FromIterator:
    """An awaitable whose `__await__` gives a plain iterator."""

    def __await__(self) -> Iterator[None]:  # type: ignore[override] # a generator is not asked for by Python
        return iter([None, None])


@types.coroutine
def old_style() -> Any:
    """Be a coroutine made of a generator."""
    yield
    return 7


@pytest.mark.parametrize("policy", [RetryPolicy(), RetryPolicy(deadline=None)], ids=["deadline", "no deadline"])
def test_every_kind_of_awaitable_is_awaited(policy: RetryPolicy) -> None:
    """Coroutines, tasks, futures, old-style coroutines and what only has `__await__` can be retried."""

    async def seven() -> int:
        await asyncio.sleep(0)
        return 7

    def future() -> Awaitable[int]:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 7)
        return future

    async def main() -> None:
        for fn in (seven, lambda: asyncio.create_task(seven()), future, old_style, lambda: asyncio.gather(seven())):
            assert await with_retry_async(fn, policy=policy) in (7, [7])
        assert await with_retry_async(FromIterator, policy=policy) is None
        awaited = await with_retry_async(functools.partial(Script(asyncio.create_task(seven())).later), policy=policy)
        assert await awaited == 7  # what an asynchronous function returns is its caller's, an awaitable too

    asyncio.run(main())


def test_a_plain_iterator_can_be_cut_off_and_closed() -> None:
    """An awaitable that is no more than an iterator can be cancelled and closed as well."""

    class Endless:
        def __await__(self) -> Iterator[None]:  # type: ignore[override] # a generator is not asked for by Python
            return iter(lambda: None, 1)

    async def main() -> None:
        with pytest.raises(DeadlineExceededError):
            await with_retry_async(Endless, policy=RetryPolicy(deadline=SOON))
        coroutine = with_retry_async(Endless)
        coroutine.send(None)
        coroutine.close()

    asyncio.run(main())


def test_what_cannot_be_awaited_is_refused(loop: Loop) -> None:
    """A function that gives no awaitable is refused with the name of what to call, at its first call."""
    script = Script(3)
    for policy in (RetryPolicy(retry_on=Exception), RetryPolicy(deadline=None, retry_on=Exception)):
        with pytest.raises(TypeError, match=r"is not async and has already run; use with_retry$"):
            loop.run(lambda policy=policy: with_retry_async(script, policy=policy))
    assert script.calls == 2


def test_an_event_loop_of_another_kind_cuts_nothing_off() -> None:
    """Under neither asyncio nor trio a call is awaited as it is, since nothing can cut it off."""

    class Ask:
        def __await__(self) -> Any:
            return (yield "question")

    async def call() -> str:
        return (await Ask()) + (await Ask())

    coroutine = with_retry_async(call)
    assert coroutine.send(None) == "question"
    assert coroutine.send("an") == "question"
    with pytest.raises(StopIteration) as caught:
        coroutine.send("swer")
    assert caught.value.value == "answer"


class TestDecorator:
    """`retrying` on what is asynchronous."""

    def test_functions_methods_and_partials(self, loop: Loop, virtual_clock: VirtualClock) -> None:
        """Coroutine functions, methods, partials and objects with an asynchronous `__call__` stay what they are."""

        class Shop:
            failures = 1

            @retrying(policy=EXACT)
            async def order(self, item: str, *, number: int = 1) -> str:
                """Order something."""
                if self.failures:
                    self.failures -= 1
                    raise ConnectionError
                return item * number

            @classmethod
            @retrying
            async def beneath(cls, fn: int) -> str:
                return f"{cls.__name__} {fn}"

            @retrying
            @classmethod
            async def above(cls, fn: int) -> str:
                return f"{cls.__name__} {fn}"

            @retrying(policy=EXACT)
            @staticmethod
            async def price(operation: str) -> str:
                return operation

            async def __call__(self, item: str) -> str:
                return item

        async def main() -> None:
            assert await Shop().order("ab", number=2) == "abab"
            assert await Shop.beneath(fn=1) == await Shop().above(fn=1) == "Shop 1"
            assert await Shop().price(operation="x") == await Shop.price("x") == "x"
            assert await retrying(functools.partial(Shop().order, "c"))(number=3) == "ccc"
            assert await retrying(Shop())("called") == "called"

        loop.run(main)
        assert inspect.iscoroutinefunction(Shop.order)
        assert (Shop.order.__name__, Shop.order.__doc__) == ("order", "Order something.")
        assert virtual_clock.sleeps == [0.3, 0.3]

    def test_each_call_is_an_operation_of_its_own(self) -> None:
        """Calls of one decorated function at the same time count their attempts apart."""
        calls: list[int] = []

        @retrying(policy=AT_ONCE)
        async def flaky(number: int) -> int:
            calls.append(number)
            await asyncio.sleep(0)
            if calls.count(number) < 3:
                raise ConnectionError
            return number

        async def main() -> None:
            assert await asyncio.gather(*(flaky(number) for number in range(20))) == list(range(20))

        asyncio.run(main())
        assert len(calls) == 60


def test_no_reference_cycles_and_nothing_left(loop: Loop) -> None:
    """Nothing of ours lives on after the caller has dropped the error, whichever way the operation ended."""
    quick = RetryPolicy(base_delay=0, attempt_timeout=0.001, max_attempts=2)

    async def failing() -> None:
        await loop.pass_on()
        raise ConnectionError

    async def refused() -> None:
        raise CircuitOpenError("x", 1.0)

    async def main() -> None:
        for fn, policy in ((failing, AT_ONCE), (refused, AT_ONCE), (loop.hang, quick), (failing, EXACT)):
            for _ in range(3):
                if policy is EXACT:
                    with deadline(0.001):
                        await swallow(fn, policy)
                else:
                    await swallow(fn, policy)
            with no_cycles():
                await swallow(fn, policy)

    async def swallow(fn: Any, policy: RetryPolicy) -> None:
        try:
            await with_retry_async(fn, policy=policy)
        except Exception:
            pass

    loop.run(main)


class TestTaskGroups:
    """A `TaskGroup` inside an attempt leaves the request to cancel its task behind until Python 3.13."""

    @staticmethod
    async def failing_group(*, waits_in_body: bool = False) -> None:
        """Have a group fail while it waits for its children, or while its body waits."""

        async def fails() -> None:
            await asyncio.sleep(0)
            raise LookupError

        with contextlib.suppress(BaseExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                group.create_task(asyncio.sleep(60))
                if waits_in_body:
                    await asyncio.sleep(60)

    @pytest.mark.parametrize("waits_in_body", [False, True])
    @pytest.mark.parametrize("is_caught", ["suppressed", "being handled"])
    def test_the_cut_off_after_a_failed_group_is_a_timeout(self, waits_in_body: bool, is_caught: str) -> None:
        """An attempt that hangs after a group of its own has failed ends with a `TimeoutError`, and can be retried."""
        calls: list[int] = []

        async def attempt() -> int:
            calls.append(1)
            if len(calls) == 3:
                return 7
            if is_caught == "suppressed":
                await self.failing_group(waits_in_body=waits_in_body)
                await asyncio.sleep(60)
            try:
                await self.failing_group(waits_in_body=waits_in_body)
                raise LookupError
            except LookupError:
                await asyncio.sleep(60)
            return 0

        policy = RetryPolicy(attempt_timeout=0.05, base_delay=0.0, deadline=None)
        assert asyncio.run(with_retry_async(attempt, policy=policy)) == 7
        calls.clear()
        with pytest.raises(DeadlineExceededError):
            asyncio.run(with_retry_async(attempt, policy=RetryPolicy(deadline=0.05)))

    @pytest.mark.parametrize("when", ["before", "same moment", "during the clean-up", "clean-up before the cut-off"])
    def test_a_cancellation_from_elsewhere_stays_one(self, when: str) -> None:
        """A task that somebody else has cancelled is cancelled, although a group has failed and the time is up."""
        is_waiting = asyncio.Event()

        async def attempt() -> None:
            await self.failing_group()
            try:
                is_waiting.set()
                await asyncio.sleep(60)
            finally:
                if "clean-up" in when:
                    if when == "during the clean-up":
                        asyncio.get_running_loop().call_soon(tasks[0].cancel)
                    await asyncio.sleep(0.2 if when == "clean-up before the cut-off" else 0.01)

        tasks: list[asyncio.Task[None]] = []

        async def main() -> None:
            limit = 60.0 if when == "before" else 0.1
            policy = RetryPolicy(attempt_timeout=limit, deadline=None, max_attempts=1)
            tasks.append(asyncio.create_task(with_retry_async(attempt, policy=policy)))
            await is_waiting.wait()
            if when == "same moment":
                await asyncio.sleep(0)
                time.sleep(0.15)  # noqa: ASYNC251 - it blocks: the event loop finds both due at once
                tasks[0].cancel()
            elif when != "during the clean-up":
                tasks[0].cancel()
            await asyncio.wait(tasks)

        asyncio.run(main())
        assert tasks[0].cancelled()
