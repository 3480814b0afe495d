"""Timing that holds on a noisy machine: interleaved rounds, and ratios within a round.

A round times every contestant of a row once, in shuffled order. What a contestant costs is its time over that of the
bare call in the same round, so that a machine that is slow for a while is slow for both; the median over all rounds
is reported, with quartiles. Time is the processor's, not that on the wall: while others have the processor, nothing
is counted. The garbage collector is off meanwhile, as `timeit` has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import statistics
import threading
from dataclasses import dataclass, field
from itertools import repeat
from time import process_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BARE = "bare"
THREADS = 8


@dataclass(frozen=True)
class Target:
    """What is timed: a function, and the arguments (two at most) that it is called with."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles of one figure over all rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return the spread of the values."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass
class Clocked:
    """The contestants of one row under measurement.

    Attributes:
        targets: What is timed, by name; one of them is `BARE`.
        timer: Times so many calls of a target; returns seconds.
        gauge: Times so many calls to find how many fill a block.
        block: Seconds that one timing should take.
    """

    targets: dict[str, Target]
    timer: Callable[[Target, int], float]
    gauge: Callable[[Target, int], float]
    block: float
    calls: dict[str, int] = field(default_factory=dict)

    def ratios(self, rounds: int, *, seed: int = 0) -> tuple[dict[str, Spread], Spread]:
        """Return the ratio of each contestant to the bare call, and the bare call's own nanoseconds."""
        order, draw = list(self.targets), random.Random(seed)
        per_call: dict[str, list[float]] = {name: [] for name in order}
        with collector_off():
            for name in order:
                self.calls[name] = self._calibrate(self.targets[name])
            for _ in range(rounds):
                draw.shuffle(order)
                for name in order:
                    per_call[name].append(self.timer(self.targets[name], self.calls[name]) / self.calls[name])
                gc.collect()  # what a contestant leaves behind is nobody else's burden
        bare = per_call[BARE]
        ratios = {
            name: Spread.of([time / base for time, base in zip(times, bare, strict=True)])
            for name, times in per_call.items()
            if name != BARE
        }
        return ratios, Spread.of([time * 1e9 for time in bare])

    def _calibrate(self, target: Target) -> int:
        """Return how many calls fill a block; warms the target up on the way (adaptive bytecode, caches)."""
        calls = 8
        while True:
            seconds = self.gauge(target, calls)
            if seconds >= self.block / 4 or calls >= 1_000_000:
                return max(1, round(calls * self.block / max(seconds, 1e-9)))
            calls *= 4


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Keep the cyclic garbage collector off inside the block."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def time_calls(target: Target, calls: int) -> float:
    """Time so many calls; the loops are spelt for each number of arguments, since unpacking would cost as well."""
    function, times = target.function, repeat(None, calls)
    match target.args:
        case ():
            started = process_time()
            for _ in times:
                function()
        case (one,):
            started = process_time()
            for _ in times:
                function(one)
        case (one, two):
            started = process_time()
            for _ in times:
                function(one, two)
        case _:
            raise ValueError("two arguments at most")
    return process_time() - started


def time_refusals(target: Target, calls: int) -> float:
    """Time so many calls that each raise, the catching included."""
    function, times = target.function, repeat(None, calls)
    started = process_time()
    for _ in times:
        try:
            function()
        except Exception:
            pass
    return process_time() - started


def time_threads(target: Target, calls: int) -> float:
    """Time so many calls shared out among `THREADS` threads at once."""
    share = max(1, calls // THREADS)
    ready = threading.Barrier(THREADS + 1)

    def work() -> None:
        ready.wait()
        time_calls(target, share)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    started = process_time()
    ready.wait()
    for thread in threads:
        thread.join()
    return (process_time() - started) * calls / (share * THREADS)


def time_awaits(runner: asyncio.Runner) -> Callable[[Target, int], float]:
    """Return what times so many awaited calls, one after the other, in the runner's event loop."""

    async def timed(target: Target, calls: int) -> float:
        function, times = target.function, repeat(None, calls)
        match target.args:
            case ():
                started = process_time()
                for _ in times:
                    await function()
            case (one,):
                started = process_time()
                for _ in times:
                    await function(one)
            case (one, two):
                started = process_time()
                for _ in times:
                    await function(one, two)
            case _:
                raise ValueError("two arguments at most")
        return process_time() - started

    return lambda target, calls: runner.run(timed(target, calls))
