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
        self.limit = ConcurrencyLimit("l", limit=2, max_queue=MOST_WAITING, max_wait=60.0)
        self.now_running = 0
        self.line: list[Waiting] = []  # in the order in which the model serves them
        self.refused = 0

    def _room(self) -> int:
        return max(0, self.limit.snapshot().limit - self.now_running)

    def _look_who_is_awake(self) -> None:
        """Fail unless those for whom there is room have been woken to take their places."""
        for waiting in self.line[: self._room()]:
            assert not waiting.waiter.signal._lock.locked()

    @rule(target=running)
    def begin(self) -> Any:
        """Ask for a place without waiting: there is one if nobody waits and one is free."""
        place = self.limit._take()
        assert (place is not None) == (self._room() > 0 and not self.line)
        self.now_running += place is not None
        return [place] if place is not None else []

    @rule(target=waiting, rank=st.integers(-1, 1))
    def line_up(self, rank: int) -> Any:
        """Wait: first come first served within a priority; a full line refuses."""
        if len(self.line) - self._room() >= MOST_WAITING:
            try:
                Waiting(self.limit, rank)
            except LimitExceededError:
                self.refused += 1
                return None
            raise AssertionError
        ahead = sum(other.rank >= rank for other in self.line)
        is_next = ahead < self._room()
        waiting = Waiting(self.limit, rank)
        assert waiting.is_admitted == is_next
        if waiting.is_admitted:
            self.now_running += 1
        else:
            self.line.insert(ahead, waiting)
        return waiting

    @rule(target=running, waiting=consumes(waiting), is_late=st.booleans())
    def go_on(self, waiting: Waiting | None, is_late: bool) -> Any:
        """Wake up: with a place, if there is room for it; else because the time is over, or to wait again."""
        if waiting is None:
            return []
        if not waiting.is_admitted:
            is_next = self.line.index(waiting) < self._room()
            waiting.waiter.is_late = is_late
            try:
                waits_again = next(waiting.steps, None) is not None
            except LimitExceededError:
                assert is_late
                assert not is_next
                self.refused += 1
                self.line.remove(waiting)
                return []
            self.line.remove(waiting)
            if waits_again:
                assert not is_next
                assert not is_late
                waiting.steps.close()
                return []
            assert is_next
            self.now_running += 1
            self._look_who_is_awake()
        place, waiting.waiter.place = waiting.waiter.place, None
        return [place]

    @rule(waiting=consumes(waiting))
    def cancel(self, waiting: Waiting | None) -> None:
        """Cancel a waiter, whether it has a place by now or not."""
        if waiting is None:
            return
        if waiting.is_admitted:
            waiting.waiter.place = None  # dropped by an interrupt
            self.now_running -= 1
        else:
            self.line.remove(waiting)
            waiting.steps.close()
        self._look_who_is_awake()

    @rule(held=running)
    def end(self, held: list[Any]) -> None:
        """End a call."""
        if held:
            self.limit._end(held.pop(), None)
            self.now_running -= 1
            self._look_who_is_awake()

    @rule(held=running)
    def drop(self, held: list[Any]) -> None:
        """Drop a place without giving it back, as an interrupt does."""
        if held:
            held.clear()
            gc.collect()
            self.now_running -= 1
            self._look_who_is_awake()

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
        self._look_who_is_awake()

    @invariant()
    def agrees(self) -> None:
        """The snapshot tells what the model knows: who may take a place counts as if it had."""
        snapshot, next_ones = self.limit.snapshot(), min(len(self.line), self._room())
        assert (snapshot.in_flight, snapshot.queued) == (self.now_running + next_ones, len(self.line) - next_ones)
        assert snapshot.refused == self.refused


TestLimits = Limits.TestCase
TestLimits.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
