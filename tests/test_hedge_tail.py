"""What hedging makes of slow answers and what it costs, under trio's virtual clock, which the library shares here."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from booking_resilience import clock
from booking_resilience.load import Hedge

CALLS = 1_000
QUICK, SLOW = 0.010, 0.300  # seconds


class TrioClock(clock.SystemClock):
    """The time of the event loop."""

    def monotonic(self) -> float:
        """Return it."""
        return trio.current_time()


@pytest.fixture(autouse=True)
def _shared_clock() -> Iterator[None]:
    before = clock.install(TrioClock())
    yield
    clock.install(before)


def latencies(hedge: Hedge | None, share_slow: float, at_once: int = 1) -> tuple[list[float], int]:
    """Make the calls, of which a share is slow; return how long each took, in order, and how many were made in all."""
    rng, made, took = random.Random(1), 0, list[float]()

    async def backend() -> None:
        nonlocal made
        made += 1
        await trio.sleep((SLOW if rng.random() < share_slow else QUICK) * rng.uniform(0.9, 1.1))

    async def caller() -> None:
        for _ in range(CALLS // at_once):
            begun = trio.current_time()
            await (backend() if hedge is None else hedge.call_async(backend))
            took.append(trio.current_time() - begun)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(caller)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return sorted(took), made


def percentile(ordered: list[float], percent: float) -> float:
    """Return the nearest rank."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def test_the_99th_percentile_is_at_most_half() -> None:
    """With 2 % slow answers the 99th percentile falls to a half and less, for at most 6 % more calls."""
    bare, _ = latencies(None, 0.02)
    hedged, made = latencies(Hedge(idempotent=True), 0.02)
    assert percentile(hedged, 99) <= percentile(bare, 99) / 2
    assert made <= 1.06 * len(hedged)


@pytest.mark.parametrize("settings", [{}, {"delay": 0.02}, {"delay": 0.02, "max_extra": 0.2}], ids=repr)
def test_a_brown_out_gets_no_more_than_the_share(settings: dict[str, Any]) -> None:
    """However many answers are slow, there are at most `max_extra` more calls, and those that were saved up."""
    took, made = latencies(Hedge(idempotent=True, **settings), 0.5, 10)
    assert len(took) <= made <= len(took) * (1 + settings.get("max_extra", 0.05)) + 10


def test_a_brown_out_after_a_quiet_time() -> None:
    """What a quiet time saved up is ten second calls, however long it was."""
    hedge = Hedge(idempotent=True, delay=0.05)
    _, made = latencies(hedge, 0.0)
    assert made == CALLS
    took, made = latencies(hedge, 1.0, 10)
    assert made <= len(took) * 1.05 + 10
