"""`AdaptiveLimit`: its pure core, and what it does for a backend in a simulation in virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import CircuitOpenError, DeadlineExceededError, LimitExceededError
from booking_resilience.load import AdaptiveLimit
from booking_resilience.load.adaptive import Gradient
from booking_resilience.load.judge import Sign, sign_of
from booking_resilience.testing import VirtualClock, virtual_time


class AnswerError(Exception):
    """An HTTP client's error that holds an answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.response = type("Response", (), {"status_code": status, "headers": {}})()


@pytest.mark.parametrize(
    ("error", "sign"),
    [
        (AnswerError(429), Sign.OVERLOAD),
        (AnswerError(503), Sign.OVERLOAD),
        (TimeoutError(), Sign.OVERLOAD),
        (AnswerError(500), Sign.ANSWER),
        (AnswerError(404), Sign.ANSWER),
        (ConnectionRefusedError(), Sign.NOTHING),
        (ConnectionResetError(), Sign.NOTHING),
        (KeyError("slot"), Sign.NOTHING),
        (TypeError(), Sign.NOTHING),
        (CircuitOpenError("b"), Sign.NOTHING),
        (LimitExceededError("l"), Sign.NOTHING),
        (DeadlineExceededError(), Sign.NOTHING),
        (KeyboardInterrupt(), Sign.NOTHING),
        (GeneratorExit(), Sign.NOTHING),
    ],
    ids=repr,
)
def test_what_errors_say_of_the_load(error: BaseException, sign: Sign) -> None:
    """Requests to slow down and timeouts are overload, other answers are samples, all else says nothing."""
    assert sign_of(error) is sign


samples = st.lists(st.tuples(st.sampled_from(["answer", "cut"]), st.floats(0, 1e6), st.integers(0, 2000)), max_size=200)


@given(initial=st.integers(1, 1000), samples=samples)
def test_the_limit_stays_within_its_bounds(initial: int, samples: list[tuple[str, float, int]]) -> None:
    """Whatever happens, the limit is a number from the minimum to the maximum."""
    gradient, now = Gradient(initial, 1, 1000), 0.0
    for what, seconds, in_flight in samples:
        now += seconds / 1000
        if what == "cut":
            gradient.overloaded(now - seconds, now)
        else:
            gradient.answered(seconds, in_flight, now)
        assert 1 <= gradient.limit <= 1000


def test_it_cuts_once_in_a_round_trip() -> None:
    """Refusals of calls that were begun before the last cut don't cut again; one begun after it does."""
    gradient = Gradient(100, 1, 1000)
    for _ in range(50):
        gradient.overloaded(1.0, 2.0)
    assert gradient.limit == 50
    gradient.overloaded(2.0, 3.0)
    assert gradient.limit == 25


def test_it_grows_only_while_half_used() -> None:
    """Good latencies raise the limit only while at least half of it is in use."""
    idle, busy = Gradient(20, 1, 1000), Gradient(20, 1, 1000)
    for n in range(200):
        idle.answered(0.1, 9, n * 0.01)
        busy.answered(0.1, 10 + int(busy.limit), n * 0.01)
    assert idle.limit == 20
    assert busy.limit > 30


class Simulation:
    """A backend that serves `servers` calls at once and queues the rest, and clients that give up after a second."""

    def __init__(
        self, clock: VirtualClock, service: Callable[[float], float], load: float, servers: int = 5, seed: int = 1
    ) -> None:
        self.limit = AdaptiveLimit("backend")
        self._clock, self._service, self._load, self._servers = clock, service, load, servers
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._waiting: list[dict[str, Any]] = []
        self._busy = 0
        self.good: list[float] = []
        self._at(0.0, self._arrive)

    def run(self, until: float) -> Simulation:
        """Let so much time pass."""
        while self._events and self._events[0][0] <= until:
            when, _, happen, args = heapq.heappop(self._events)
            self._clock.advance(max(0.0, when - self._clock.now()))
            happen(*args)
        return self

    def goodput(self, since: float, until: float) -> float:
        """Return the successes per second in that time."""
        return sum(since < when <= until for when in self.good) / (until - since)

    def _at(self, delay: float, happen: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._events, (self._clock.now() + delay, next(self._order), happen, args))

    def _arrive(self) -> None:
        self._at(self._random.expovariate(self._load), self._arrive)
        guard = self.limit.guard()
        try:
            guard.__enter__()
        except LimitExceededError:
            return
        call = {"guard": guard, "open": True}
        self._at(1.0, self._give_up, call)
        self._waiting.append(call)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._busy < self._servers:
            self._busy += 1
            seconds = self._service(self._clock.now()) * self._random.uniform(0.8, 1.2)
            self._at(seconds, self._served, self._waiting.pop(0))

    def _served(self, call: dict[str, Any]) -> None:
        self._busy -= 1
        if call["open"]:
            call["open"] = False
            self.good.append(self._clock.now())
            call["guard"].__exit__(None, None, None)
        self._serve()

    def _give_up(self, call: dict[str, Any]) -> None:
        if call["open"]:
            call["open"] = False
            call["guard"].__exit__(TimeoutError, TimeoutError(), None)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_goodput_at_four_times_the_capacity(seed: int) -> None:
    """At four times the backend's capacity of 50 calls per second nine in ten of these still succeed."""
    with virtual_time() as clock:
        run = Simulation(clock, lambda _: 0.1, load=200, seed=seed).run(40)
    assert run.goodput(10, 40) > 45


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_recovery_from_a_stall(seed: int) -> None:
    """Eight seconds after a stall of ten the backend serves nearly all of its load again."""
    with virtual_time() as clock:
        run = Simulation(clock, lambda now: 3.0 if 20 <= now < 30 else 0.1, load=45, seed=seed).run(60)
    assert run.goodput(38, 60) > 0.9 * run.goodput(5, 20)


def test_a_long_incident_does_not_become_the_new_normal() -> None:
    """After ten minutes at a third of its speed the backend is given as many calls as before within ten seconds."""
    with virtual_time() as clock:
        run = Simulation(clock, lambda now: 0.3 if 60 <= now < 660 else 0.1, load=200).run(720)
    assert run.goodput(670, 720) > 0.95 * run.goodput(10, 60)
    assert run.goodput(300, 660) > 14  # of 16.7 that it can serve


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"minimum": 0}, ValueError),
        ({"maximum": 0}, ValueError),
        ({"minimum": 5, "maximum": 4}, ValueError),
        ({"initial": 5, "maximum": 4}, ValueError),
        ({"initial": 5, "minimum": 6}, ValueError),
        ({"initial": "5"}, TypeError),
        ({"max_wait": 1.0}, ValueError),
    ],
    ids=str,
)
def test_absurd_settings_are_refused(settings: dict[str, Any], error: type[Exception]) -> None:
    """Absurd settings are refused when the limit is made."""
    with pytest.raises(error):
        AdaptiveLimit("backend", **settings)
