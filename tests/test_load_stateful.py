"""The queue and the limits against one model: whatever happens, no place is lost and none invented."""

from __future__ import annotations

import gc
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from booking_resilience import LimitExceededError
from booking_resilience.load import ConcurrencyLimit, priority
from booking_resilience.load.queue import Waiter

MOST_WAITING = 4


class Waiting:
    """A caller that waits, by the steps of its waiting."""

    def __init__(self, limit: ConcurrencyLimit, rank: int) -> None:
        self.rank, self.waiter = rank, Waiter(is_async=False)
        with priority(rank):
            self.steps: Any = limit._line_up(self.waiter)
            self.is_admitted = next(self.steps, None) is None


class Limits(RuleBasedStateMachine):
    """One limit, with calls that come, wait, end, give up, are cancelled and are dropped; and that is resized."""

    running, waiting = Bundle[Any]("running"), Bundle[Any]("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.limit = ConcurrencyLimit("l", limit=2, max_queue=MOST_WAITING)
        self.now_running = 0
        self.line: list[Waiting] = []  # in the order in which the model serves them
        self.refused = 0

    def _has_room(self) -> bool:
        return self.now_running < self.limit.snapshot().limit

    def _serve(self) -> None:
        """Admit in the model whoever is due, and look that the limit has admitted the same."""
        while self.line and self._has_room():
            first = self.line.pop(0)
            assert first.waiter.place is not None
            assert not first.waiter.signal._lock.locked()
            self.now_running += 1

    @rule(target=running)
    def begin(self) -> Any:
        """Ask for a place without waiting: there is one if nobody waits and one is free."""
        place = self.limit._take()
        assert (place is not None) == (self._has_room() and not self.line)
        self.now_running += place is not None
        return [place] if place is not None else []

    @rule(target=waiting, rank=st.integers(-1, 1))
    def line_up(self, rank: int) -> Any:
        """Wait: first come first served within a priority; a full line refuses."""
        if len(self.line) >= MOST_WAITING:
            try:
                Waiting(self.limit, rank)
            except LimitExceededError:
                self.refused += 1
                return None
            raise AssertionError
        had_room = self._has_room()
        waiting = Waiting(self.limit, rank)
        assert waiting.is_admitted == had_room
        if waiting.is_admitted:
            self.now_running += 1
        else:
            self.line.append(waiting)
            self.line.sort(key=lambda other: -other.rank)  # stable
        return waiting

    @rule(target=running, waiting=consumes(waiting))
    def go_on(self, waiting: Waiting | None) -> Any:
        """Wake up: with a place, or because the time is over."""
        if waiting is None:
            return []
        if not waiting.is_admitted:
            was_waiting = waiting in self.line
            try:
                assert next(waiting.steps, None) is None
                assert not was_waiting
            except LimitExceededError:
                assert was_waiting
                self.line.remove(waiting)
                self.refused += 1
                return []
        place, waiting.waiter.place = waiting.waiter.place, None
        return [place]

    @rule(waiting=consumes(waiting))
    def cancel(self, waiting: Waiting | None) -> None:
        """Cancel a waiter, whether it has a place by now or not."""
        if waiting is None or waiting.is_admitted:
            if waiting is not None:
                waiting.waiter.place = None  # dropped by an interrupt
                self.now_running -= 1
        elif waiting in self.line:
            self.line.remove(waiting)
            waiting.steps.close()
        else:
            waiting.steps.close()
            self.now_running -= 1
        self._serve()

    @rule(held=running)
    def end(self, held: list[Any]) -> None:
        """End a call."""
        if held:
            self.limit._end(held.pop(), None)
            self.now_running -= 1
            self._serve()

    @rule(held=running)
    def drop(self, held: list[Any]) -> None:
        """Drop a place without giving it back, as an interrupt does."""
        if held:
            held.clear()
            gc.collect()
            self.now_running -= 1
            self._serve()

    @rule(held=running)
    def share(self, held: list[Any]) -> None:
        """Let a thread share a place, and end before its call."""
        if held:
            self.limit._share(held[0])
            self.limit._end(held[0], None)

    @rule(limit=st.integers(1, 4))
    def resize(self, limit: int) -> None:
        """Change the limit; calls that run go on."""
        with self.limit._lock:
            self.limit._resize(limit)
        self.limit._serve()
        self._serve()

    @invariant()
    def agrees(self) -> None:
        """The snapshot tells what the model knows."""
        snapshot = self.limit.snapshot()
        assert (snapshot.in_flight, snapshot.queued) == (self.now_running, len(self.line))
        assert snapshot.refused == self.refused


TestLimits = Limits.TestCase
TestLimits.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
