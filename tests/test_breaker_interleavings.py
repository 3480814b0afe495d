"""Every order of the steps of two or three callers, exhaustively; and of single lines of the path without a lock."""

from __future__ import annotations

import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from booking_resilience.breaker import CircuitBreaker, Permit
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerState
from booking_resilience.testing.time import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
COUNTS = ("consecutive_failures", "failures", "refused", "ignored", "trips", "epoch", "state", "reason")


def orders(lengths: Sequence[int]) -> set[tuple[int, ...]]:
    """Return every order in which callers with so many steps each can take them."""
    steps = [caller for caller, length in enumerate(lengths) for _ in range(length)]
    return set(itertools.permutations(steps))


class Caller:
    """Acquires at its first step and settles at its second."""

    def __init__(self, breaker: CircuitBreaker, verdict: str) -> None:
        self.breaker, self.verdict = breaker, verdict
        self.permit: Permit | None = None
        self.began = False
        self.is_trial = False

    def step(self) -> None:
        """Take the next step, and check what it may do."""
        breaker = self.breaker
        if not self.began:
            self.began = True
            try:
                self.permit = breaker.acquire()
            except CircuitOpenError:
                return
            self.is_trial = breaker.state is HALF_OPEN
            return
        if self.permit is None:
            return
        before, late = breaker.snapshot(), self.permit.epoch != breaker.snapshot().epoch
        getattr(self.permit, self.verdict)()
        after = breaker.snapshot()
        if late:
            assert [getattr(before, name) for name in COUNTS] == [getattr(after, name) for name in COUNTS]
            assert after.stale == before.stale + (self.verdict != "release")
        else:
            assert after.stale == before.stale
        self.permit, self.is_trial = None, False


@pytest.mark.parametrize("trial_calls", [1, 2])
@pytest.mark.parametrize("begin", [CLOSED, OPEN])
@pytest.mark.parametrize(
    "verdicts", list(itertools.combinations_with_replacement(("success", "failure", "release"), 3))
)
def test_three_callers_in_every_order(begin: BreakerState, verdicts: tuple[str, ...], trial_calls: int) -> None:
    """Three callers and a clock that jumps: never too many trials, no late change, always a way out."""
    for order in orders((2, 2, 2, 1)):
        with virtual_time() as clock:
            breaker = CircuitBreaker("b", failure_threshold=1, trial_calls=trial_calls, cooldown=10.0)
            if begin is OPEN:
                breaker.acquire().failure()
            callers = [Caller(breaker, verdict) for verdict in verdicts]
            for who in order:
                if who == len(callers):
                    clock.advance(10)
                else:
                    callers[who].step()
                trials = [
                    caller
                    for caller in callers
                    if caller.is_trial and caller.permit is not None and caller.permit.epoch == breaker.snapshot().epoch
                ]
                assert len(trials) <= trial_calls, order
            find_way_out(breaker, clock.advance)


def find_way_out(breaker: CircuitBreaker, advance: Callable[[float], None]) -> None:
    """Time and calls that succeed close it."""
    for _ in range(6):
        if breaker.state is CLOSED:
            return
        advance(60)
        try:
            breaker.call(int)
        except CircuitOpenError:
            continue
    raise AssertionError("no way out")


class Stepper:
    """A thread that runs a function and stops before every line of the breaker's modules until it is let go on."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.done = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.stopped.acquire()

    def run(self) -> None:
        """Run the function, traced."""
        self.pause()
        sys.settrace(self.trace)
        try:
            self.function()
        except (OSError, CircuitOpenError):
            pass
        finally:
            sys.settrace(None)
            self.done = True
            self.stopped.release()

    def trace(self, frame: Any, event: str, arg: object) -> Any:
        """Stop at each line that is not run under the lock."""
        if not frame.f_code.co_filename.endswith(("breaker/breaker.py", "breaker/calls.py")):
            return None
        if event == "line" and not frame.f_code.co_name.startswith(("_settle", "_admit")):
            self.pause()
        return self.trace

    def pause(self) -> None:
        """Wait to be let go on."""
        self.stopped.release()
        self.go.acquire()

    def step(self) -> None:
        """Let it run to its next line."""
        if not self.done:
            self.go.release()
            self.stopped.acquire()

    def finish(self) -> None:
        """Let it run to its end."""
        while not self.done:
            self.step()
        self.thread.join()


def fails() -> None:
    """Fail."""
    raise OSError


def operations(breaker: CircuitBreaker) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what another thread may do in between."""
    yield "success", lambda: breaker.call(int)
    yield "failure", lambda: breaker.call(fails)
    yield "reset", breaker.reset
    yield "isolate", lambda: breaker.isolate("by hand")


@pytest.mark.parametrize("fn", [int, fails])
@pytest.mark.parametrize("failures_before", [0, 1])
@pytest.mark.parametrize("way", ["call", "decorated"])
def test_another_thread_between_any_two_lines_of_a_healthy_call(
    way: str, failures_before: int, fn: Callable[[], object]
) -> None:
    """Whatever another thread does between two lines of a call, the result is that of one after the other."""
    for index in range(4):
        for before in range(30):
            breaker = CircuitBreaker("b", failure_threshold=2)
            for _ in range(failures_before):
                breaker.acquire().failure()
            name, operation = list(operations(breaker))[index]
            stepper = Stepper(lambda breaker=breaker: breaker(fn)() if way == "decorated" else breaker.call(fn))  # type: ignore[misc] - a default argument binds it
            for _ in range(before):
                stepper.step()
            over = stepper.done
            try:
                operation()
            except (OSError, CircuitOpenError):
                pass
            stepper.finish()
            check(breaker, name, fn is fails, failures_before)
            if over:
                break


def check(breaker: CircuitBreaker, other: str, failed: bool, failures_before: int) -> None:
    """Check what one call and one operation, in any order, may have led to."""
    counts = breaker.snapshot()
    if other == "isolate":
        assert counts.state is ISOLATED
        return
    if other == "reset":
        assert counts.state is CLOSED
        assert counts.consecutive_failures <= failed
        return
    failures = failed + (other == "failure")
    if failures == 0:
        assert (counts.state, counts.consecutive_failures) == (CLOSED, 0)
    if failures == 2:
        assert counts.state is OPEN
    if failures == 1 and failures_before == 0:
        assert counts.state is CLOSED
        assert counts.consecutive_failures <= 1
    assert counts.trips <= 1
