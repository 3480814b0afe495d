"""The circuit breaker against a small reference model, in sequences that hypothesis makes up."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from booking_resilience.breaker import CircuitBreaker, Permit
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState
from booking_resilience.testing.time import virtual_time

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
TRIAL_TIMEOUT = 20.0


class BusyError(Exception):
    """What is ignored."""


@dataclass
class Model:
    """The breaker in as few words as possible: whole seconds, no lock, no permits but numbers."""

    threshold: int
    cooldown: float
    most: float
    trial_calls: int
    state: BreakerState = CLOSED
    epoch: int = 0
    consecutive: int = 0
    failures: int = 0
    refused: int = 0
    stale: int = 0
    ignored: int = 0
    trips: int = 0
    successes: int = 0
    until: float = 0.0
    length: float = 0.0
    trials: dict[int, float] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    told: list[tuple[BreakerState, BreakerState]] = field(default_factory=list)

    def go(self, new: BreakerState) -> None:
        """Begin a new epoch."""
        if new is not self.state:
            self.told.append((self.state, new))
        self.state, self.epoch, self.trials, self.successes = new, self.epoch + 1, {}, 0
        if new is CLOSED:
            self.consecutive = self.failures = 0
            self.length = self.cooldown

    def open(self, now: float) -> None:
        """Open after a failure."""
        if self.state is HALF_OPEN:
            self.length = min(self.length * 2, self.most)
        else:
            self.length = self.cooldown
        self.failures += 1
        self.consecutive += 1
        self.trips += 1
        self.until = now + self.length
        self.go(OPEN)

    def lose(self, now: float) -> None:
        """Notice a trial that has not come back."""
        if self.trials and now - min(self.trials.values()) >= TRIAL_TIMEOUT:
            self.open(now)

    def acquire(self, number: int, now: float) -> int | None:
        """Return the epoch of the permit, None if refused."""
        self.trials = {trial: since for trial, since in self.trials.items() if trial not in self.dropped}
        self.lose(now)
        if self.state is OPEN and now >= self.until:
            self.go(HALF_OPEN)
        if self.state is HALF_OPEN and len(self.trials) < self.trial_calls:
            self.trials[number] = now
            return self.epoch
        if self.state is CLOSED:
            return self.epoch
        self.refused += 1
        return None

    def settle(self, number: int, epoch: int, verdict: str, now: float) -> None:
        """Take the first end of a call."""
        self.lose(now)
        if epoch != self.epoch:
            self.stale += verdict != "release"
            return
        self.trials.pop(number, None)
        if verdict == "ignored":
            self.ignored += 1
        elif verdict == "failure":
            if self.state is HALF_OPEN or self.consecutive + 1 >= self.threshold:
                self.open(now)
            else:
                self.failures += 1
                self.consecutive += 1
        elif verdict == "success":
            if self.state is CLOSED:
                self.consecutive = 0
            else:
                self.successes += 1
                if self.successes == self.trial_calls:
                    self.go(CLOSED)


class BreakerComparison(RuleBasedStateMachine):
    """Does the same to a breaker and to the model."""

    @initialize(
        threshold=st.integers(1, 3),
        cooldown=st.sampled_from([0, 5, 10]),
        growth=st.sampled_from([1, 3]),
        trial_calls=st.integers(1, 3),
    )
    def begin(self, threshold: int, cooldown: int, growth: int, trial_calls: int) -> None:
        """Make both."""
        self.time = virtual_time()
        self.clock = self.time.__enter__()
        self.model = Model(threshold, cooldown, cooldown * growth, trial_calls, length=cooldown)
        self.breaker = CircuitBreaker(
            "model", failure_threshold=threshold, cooldown=cooldown, max_cooldown=cooldown * growth,
            trial_calls=trial_calls, trial_timeout=TRIAL_TIMEOUT, ignore=BusyError,
        )  # fmt: skip
        self.permits: list[tuple[int, int, Permit]] = []
        self.settled: list[Permit] = []
        self.lost: list[Permit] = []
        self.events: list[BreakerEvent] = []
        self.breaker.subscribe(self.events.append)
        self.number = 0

    @rule()
    def acquire(self) -> None:
        """Ask for a permit; both grant it or both refuse."""
        self.number += 1
        epoch = self.model.acquire(self.number, self.clock.now())
        if epoch is None:
            with pytest.raises(CircuitOpenError) as caught:
                self.breaker.acquire()
            after = caught.value.retry_after
            assert (after is None) is (self.model.state is ISOLATED)
            assert after is None or 0 <= after <= self.model.length
        else:
            self.permits.append((self.number, epoch, self.breaker.acquire()))

    @precondition(lambda self: self.permits)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """Never end one of the calls under way: somebody holds its permit for ever."""
        *_, permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        self.lost.append(permit)

    @precondition(lambda self: self.permits)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Drop the permit of one of the calls under way: it comes back by itself."""
        number, *_ = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        self.model.dropped.add(number)

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), verdict=st.sampled_from(["success", "failure", "ignored", "release", "cancelled"]))
    def settle(self, data: st.DataObject, verdict: str) -> None:
        """End one of the calls under way."""
        number, epoch, permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        self.model.settle(number, epoch, "release" if verdict == "cancelled" else verdict, self.clock.now())
        match verdict:
            case "success":
                permit.success()
            case "failure":
                permit.failure(OSError())
            case "ignored":
                permit.failure(BusyError())
            case "release":
                permit.release()
            case _:
                permit.failure(KeyboardInterrupt())
        self.settled.append(permit)

    @precondition(lambda self: self.settled)
    @rule(data=st.data(), verdict=st.sampled_from(["success", "failure", "release"]))
    def settle_again(self, data: st.DataObject, verdict: str) -> None:
        """Settling a permit twice changes nothing."""
        getattr(data.draw(st.sampled_from(self.settled)), verdict)()

    @rule(fails=st.booleans())
    def call(self, fails: bool) -> None:
        """Make a whole call, the way without a permit."""
        self.number += 1
        now = self.clock.now()
        epoch = self.model.acquire(self.number, now)
        if epoch is not None:
            self.model.settle(self.number, epoch, "failure" if fails else "success", now)
        expected = CircuitOpenError if epoch is None else ValueError
        if fails or epoch is None:
            with pytest.raises(expected):
                self.breaker.call(int, "x")
        else:
            assert self.breaker.call(int, "1") == 1

    @rule(seconds=st.sampled_from([0, 1, 4, 5, 10, 20, 30, 3600]))
    def advance(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule()
    def reset(self) -> None:
        """Reset by hand."""
        self.model.go(CLOSED)
        self.model.refused = self.model.stale = self.model.ignored = self.model.trips = 0
        self.breaker.reset()

    @rule()
    def isolate(self) -> None:
        """Isolate by hand."""
        if self.model.state is not ISOLATED:
            self.model.go(ISOLATED)
        self.breaker.isolate("by hand")

    @invariant()
    def agree(self) -> None:
        """All that can be seen is the same in both, and every listener was told in order."""
        if not hasattr(self, "breaker"):
            return
        model, seen = self.model, self.breaker.snapshot()
        assert (seen.state, seen.epoch, seen.failures) == (model.state, model.epoch, model.failures)
        assert (seen.refused, seen.stale, seen.ignored) == (model.refused, model.stale, model.ignored)
        assert seen.trips == model.trips
        assert seen.consecutive_failures == model.consecutive
        if model.state is OPEN:
            assert seen.retry_after == max(0.0, model.until - self.clock.now())
        assert [(event.old, event.new) for event in self.events] == model.told

    def teardown(self) -> None:
        """From wherever it is (but isolation), time and successful calls lead back to CLOSED."""
        if not hasattr(self, "breaker"):
            return
        try:
            for _ in range(10 * self.model.trial_calls):
                if self.breaker.state in (CLOSED, ISOLATED):
                    break
                self.clock.advance(60)
                try:
                    self.breaker.call(int)
                except CircuitOpenError:
                    continue
            assert self.breaker.state in (CLOSED, ISOLATED)
        finally:
            self.time.__exit__(None, None, None)


BreakerComparison.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreakerAgainstModel = BreakerComparison.TestCase
