"""Races for the limits: threads, tasks of two event loops, cancellations, deadlines, signals and forks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import trio
import trio.lowlevel

from booking_resilience import LimitExceededError, Pipeline, RetryPolicy, deadline
from booking_resilience.load import AdaptiveLimit, ConcurrencyLimit, Hedge, RateLimit, ThreadTimeout, priority
from booking_resilience.load.queue import current_priority
from drivers import LOOPS, no_cycles
from fresh import run_fresh
from racing import StrikeError, Strikes, needs_fork, needs_timer, taking_turns

LIMIT = 7


class Gauge:
    """Counts who is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.total = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


def assert_whole(limit: ConcurrencyLimit, places: int) -> None:
    """Fail unless exactly so many calls can run at once, and nobody waits."""
    gc.collect()
    until(lambda: (limit.snapshot().in_flight, limit.snapshot().queued) == (0, 0))
    taken = [limit._take() for _ in range(places + 1)]
    assert [place is not None for place in taken] == [True] * places + [False]
    for place in filter(None, taken):
        limit._give_back(place)


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Crowd:
    """50 threads, and 500 tasks of asyncio and trio at a time, that use one limit until they are told to stop."""

    def __init__(self, limit: ConcurrencyLimit) -> None:
        self.limit, self.gauge, self.stop = limit, Gauge(), threading.Event()
        self.overfull: list[int] = []  # how many others were inside while a call of the main thread was
        self._errors: list[BaseException] = []
        jobs = [*(functools.partial(self._in_a_thread, seed) for seed in range(50)), self._in_asyncio, self._in_trio]
        self._threads = [threading.Thread(target=self._watched, args=(job,), daemon=True) for job in jobs]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        assert self._errors == []

    def call(self, rng: random.Random) -> None:
        """Make one call that may be struck anywhere, in a context of its own: a strike may leave a priority behind."""
        seconds, refusals = rng.choice([0.0, 0.002, 60.0]), contextlib.suppress(LimitExceededError)
        with refusals, deadline(seconds), priority(rng.randrange(3)):
            self.limit.call(self._look)

    def _look(self) -> None:
        if (others := self.gauge.now) >= LIMIT:
            self.overfull.append(others)

    def _watched(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            self._errors.append(error)

    def _in_a_thread(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self.stop.is_set():
            seconds, ends = rng.choice([0.0, 0.002, 60.0]), contextlib.suppress(LimitExceededError, TimeoutError)
            with ends, deadline(seconds), priority(rng.randrange(3)), self.limit.guard(), self.gauge:
                time.sleep(rng.choice([0.0, 0.0005]))
                end_badly(rng)

    async def _in_a_task(self, sleep: Callable[[float], Any], rng: random.Random) -> None:
        for _ in range(2):
            with contextlib.suppress(LimitExceededError, TimeoutError), deadline(rng.choice([0.002, 60.0])):
                async with self.limit.guard():
                    with self.gauge:
                        await sleep(rng.choice([0.0, 0.0005]))
                        end_badly(rng)

    def _in_asyncio(self) -> None:
        rng = random.Random(1)

        async def main() -> None:
            while not self.stop.is_set():
                tasks = [asyncio.ensure_future(self._in_a_task(asyncio.sleep, rng)) for _ in range(250)]
                for task in rng.sample(tasks, 80):
                    await asyncio.sleep(rng.choice([0.0, 0.0005]))
                    task.cancel()
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    assert ended is None or isinstance(ended, asyncio.CancelledError)

        asyncio.run(main())

    def _in_trio(self) -> None:
        rng = random.Random(2)

        async def task(seconds: float) -> None:
            with trio.move_on_after(seconds):
                await self._in_a_task(trio.sleep, rng)

        async def main() -> None:
            while not self.stop.is_set():
                async with trio.open_nursery() as nursery:
                    for _ in range(250):
                        nursery.start_soon(task, rng.choice([60.0, rng.random() / 20]))

        trio.run(main)


def end_badly(rng: random.Random) -> None:
    """Time out, once in a hundred calls."""
    if rng.random() < 0.01:
        raise TimeoutError


@needs_timer
@pytest.mark.parametrize(
    "make",
    [
        lambda: ConcurrencyLimit("l", limit=LIMIT, max_queue=2_000),
        lambda: AdaptiveLimit("l", initial=LIMIT, minimum=2, maximum=LIMIT, max_queue=2_000),
    ],
    ids=["fixed", "adaptive"],
)
def test_threads_and_tasks_of_two_loops_and_signals(
    make: Callable[[], ConcurrencyLimit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 threads, 500 tasks of two loops and signals share a limit, with cancellations and deadlines at random."""
    limit, rng = make(), random.Random(0)
    ignore_strikes_in_finalisers(monkeypatch)

    def calls() -> None:
        for _ in range(5):
            contextvars.copy_context().run(crowd.call, rng)

    with Crowd(limit) as crowd, Strikes(rng) as strikes:
        start = time.monotonic()
        while (lasted := time.monotonic() - start) < 30 and (lasted < 1.2 or not strikes.count):
            strikes.during(calls, 0.00002, 0.004)
    assert strikes.count
    assert 0 < crowd.gauge.most <= LIMIT
    assert crowd.overfull == []
    assert crowd.gauge.now == 0
    assert_whole(limit, limit.snapshot().limit)


def ignore_strikes_in_finalisers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody told of a strike in a finaliser, which can't hand it on."""
    others = sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None if args.exc_type is StrikeError else others(args))


@needs_timer
@pytest.mark.parametrize("max_queue", [0, 50])
def test_signals_lose_no_place(max_queue: int) -> None:
    """A signal whose handler raises, between any two instructions, leaves every place and nobody in line."""
    limit = ConcurrencyLimit("l", limit=2, max_queue=max_queue)
    stop = threading.Event()

    def others() -> None:
        while not stop.is_set():
            with contextlib.suppress(LimitExceededError):
                limit.call(time.sleep, 0.0001)

    def calls() -> None:
        for _ in range(30):
            with contextlib.suppress(LimitExceededError):
                limit.call(int)

    threads = [threading.Thread(target=others) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 1.5
    try:
        with Strikes() as strikes:
            while time.monotonic() < end:
                strikes.during(calls, 0.00002, 0.0008)
    finally:
        stop.set()
    for thread in threads:
        thread.join(30)
    assert strikes.count
    assert_whole(limit, 2)


def test_an_adaptive_limit_that_moves_keeps_its_places() -> None:
    """While answers and refusals move the limit up and down, no place is lost and none invented."""
    limit = AdaptiveLimit("l", initial=20, minimum=2, maximum=40, max_queue=200)

    def work(seed: int) -> None:
        rng = random.Random(seed)

        def call() -> None:
            if rng.random() < 0.01:
                raise TimeoutError

        for _ in range(300):
            with contextlib.suppress(TimeoutError):
                limit.call(call)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 2 <= limit.snapshot().limit <= 40
    assert_whole(limit, limit.snapshot().limit)


def test_turns_that_many_threads_take() -> None:
    """Threads that take turns get exactly as many as there are."""
    rate, got = RateLimit("r", rate=0.001, burst=5_000), []

    def take() -> None:
        got.append(sum(rate.try_acquire() for _ in range(1_000)))

    threads = [threading.Thread(target=take) for _ in range(8)]
    with taking_turns():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sum(got) == 5_000


def test_a_waiter_whose_loop_is_closed_is_passed_over() -> None:
    """A task that waited in a loop that is gone gets no place; the next in line does."""
    limit = ConcurrencyLimit("l", limit=1, max_queue=5)
    loop = asyncio.new_event_loop()

    async def wait() -> None:
        async with limit.guard():
            pass

    guard = limit.guard()
    guard.__enter__()
    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    assert limit.snapshot().queued == 1
    loop.close()
    guard.__exit__(None, None, None)
    assert limit.call(int) == 0
    task.get_coro().close()  # type: ignore[union-attr] # so that it isn't reported as never finished
    task._log_destroy_pending = False  # type: ignore[attr-defined] # as above
    assert_whole(limit, 1)


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "trio"])
def test_a_higher_priority_comes_while_the_first_sleeps(loop: Any) -> None:
    """A task that was first for a rate's turn, and no longer is, waits without keeping the event loop busy."""
    rate, order = RateLimit("r", rate=2, burst=1, max_queue=9), list[int]()
    assert rate.try_acquire()

    async def take(rank: int) -> None:
        with priority(rank):
            async with rate.guard():
                order.append(rank)

    async def main() -> None:
        if loop is LOOPS[1]:
            async with trio.open_nursery() as nursery:
                for rank in range(3):
                    nursery.start_soon(take, rank)
                    while rate.snapshot().queued <= rank:
                        await trio.lowlevel.checkpoint()
        else:
            tasks = []
            for rank in range(3):
                tasks.append(asyncio.ensure_future(take(rank)))
                while rate.snapshot().queued <= rank:  # noqa: ASYNC110 - what is waited for is state
                    await asyncio.sleep(0)
            await asyncio.gather(*tasks)

    loop.run(main)
    assert order == [2, 1, 0]


@needs_fork
def test_a_forked_child_begins_with_all_places() -> None:
    """A child has every place and every turn, also those that its parent's calls hold; the parent keeps its own."""
    limit, rate = ConcurrencyLimit("l", limit=1), RateLimit("r", rate=0.001)
    assert rate.try_acquire()
    with limit.guard():
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                limit.call(int)
                code = 0 if rate.try_acquire() and limit.snapshot().in_flight == 0 else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert limit.snapshot().in_flight == 1
    assert_whole(limit, 1)


@needs_fork
def test_a_forked_child_has_no_abandoned_threads() -> None:
    """A child is not refused a thread because of its parent's, nor kept waiting by a lock that one of them held."""
    timeout, hedge, release = ThreadTimeout(0.01, max_abandoned=1), Hedge(idempotent=True), threading.Event()
    with pytest.raises(TimeoutError):
        timeout.call(release.wait, 30)
    with hedge._lock:
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                worker = threading.Thread(target=lambda: hedge.call(int), daemon=True)
                worker.start()
                worker.join(20)
                os._exit(0 if not worker.is_alive() and timeout.call(int) == 0 else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    release.set()


def test_a_priority_is_used_by_many_tasks() -> None:
    """One `priority` may be used by several tasks at once; each has its own again afterwards."""
    high, ranks = priority(10), list[float]()

    async def task(rank: int) -> None:
        with priority(rank):
            with high, priority(20):
                await asyncio.sleep(0)
            ranks.append(current_priority())

    async def main() -> None:
        await asyncio.gather(*[task(rank) for rank in range(5)])

    asyncio.run(main())
    assert ranks == [0, 1, 2, 3, 4]
    assert current_priority() == 0


def test_no_circles() -> None:
    """A limit that is dropped leaves nothing to the cycle collector, nor do refusals, waits and hedges that fail."""

    def all_ways() -> None:
        limit = AdaptiveLimit("l", initial=1, max_queue=1, max_wait=0.0)
        limit.call(int)
        with limit.guard(), contextlib.suppress(LimitExceededError):
            limit.call(int)
        RateLimit("r", rate=1).try_acquire()
        with contextlib.suppress(ZeroDivisionError):
            Hedge(idempotent=True, delay=0.0, max_extra=1.0).call(fail_late)
        until(lambda: threading.active_count() <= running)

    def fail_late() -> None:
        time.sleep(0.01)
        raise ZeroDivisionError

    running = threading.active_count()
    all_ways()
    with no_cycles():
        all_ways()


def test_a_strike_anywhere_in_a_pipeline_loses_no_place() -> None:
    """Whatever instruction of a call through limit and rate an interrupt strikes, the place is free afterwards."""
    run_fresh(strike_at_every_instruction)


def strike_at_every_instruction() -> None:
    """Make the call again and again, each time struck one instruction later."""
    left = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if "booking_resilience" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise StrikeError
        return trace

    for number in itertools.count(1):
        limit = ConcurrencyLimit("l", limit=1)
        pipeline = Pipeline(retry=RetryPolicy(max_attempts=1), limit=limit, rate=RateLimit("r", rate=1e6))
        pipeline.call("op", int)
        left = number
        sys._getframe().f_trace_opcodes = True  # before tracing begins, as CPython 3.12 wants it
        sys.settrace(trace)
        try:
            with contextlib.suppress(StrikeError):
                pipeline.call("op", int)
        finally:
            sys.settrace(None)
        assert limit.snapshot().in_flight == 0, number
        if left > 0:
            break
    assert number > 100
