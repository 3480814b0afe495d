"""`AdaptiveLimit`: its pure core, and what it does for a backend in a simulation in virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import urllib.error
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import MaxRetryError, ReadTimeoutError

from booking_resilience import (
    CircuitOpenError,
    DeadlineExceededError,
    LimitExceededError,
    Pipeline,
    RetryPolicy,
    deadline,
)
from booking_resilience.load import AdaptiveLimit, Hedge, ThreadTimeout
from booking_resilience.load.adaptive import Gradient, Sign, sign_of
from booking_resilience.testing import VirtualClock, virtual_time
from drivers import LOOPS


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
        (CancelledError(), Sign.NOTHING),
        (urllib.error.URLError(TimeoutError()), Sign.OVERLOAD),
        (urllib.error.URLError(ConnectionRefusedError()), Sign.NOTHING),
        (requests.ConnectionError(ReadTimeoutError(None, "/", "")), Sign.OVERLOAD),
        (MaxRetryError(None, "/", ReadTimeoutError(None, "/", "")), Sign.OVERLOAD),
        (ExceptionGroup("", [AnswerError(503), KeyError()]), Sign.OVERLOAD),
        (ExceptionGroup("", [AnswerError(404), AnswerError(500)]), Sign.ANSWER),
        (ExceptionGroup("", [AnswerError(404), KeyError()]), Sign.NOTHING),
        (ExceptionGroup("", [DeadlineExceededError(), LimitExceededError("l")]), Sign.NOTHING),
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
            gradient.overloaded()
        else:
            gradient.answered(seconds, in_flight, now)
        assert 1 <= gradient.limit <= 1000


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_it_cuts_once_in_a_round_trip(seconds: float) -> None:
    """Refusals of calls that were begun before the last cut don't cut again; one begun after it does."""
    with virtual_time() as clock:
        limit = AdaptiveLimit("backend", initial=100)
        for expected in (50, 25):
            guards = [limit.guard() for _ in range(10)]
            for guard in guards:
                guard.__enter__()
            clock.advance(seconds)
            for guard in guards:
                guard.__exit__(None, AnswerError(429), None)
            assert limit.snapshot().limit == expected


def test_calls_in_threads_teach_it() -> None:
    """A call that a `ThreadTimeout` abandons cuts the limit; the second call of a hedge is an answer."""
    release, calls = threading.Event(), list[int]()
    limit = AdaptiveLimit("backend", initial=20)
    once = RetryPolicy(max_attempts=1)
    with pytest.raises(TimeoutError):
        Pipeline(retry=once, limit=limit, timeout=ThreadTimeout(0.01)).call("op", release.wait, 30)
    assert (limit.snapshot().limit, limit.snapshot().in_flight) == (10, 1)

    def slow_at_first() -> None:
        calls.append(1)
        if len(calls) == 1:
            release.wait(30)

    hedge = Hedge(idempotent=True, delay=0.01, max_extra=1.0)
    Pipeline(retry=once, limit=limit, hedge=hedge).call("op", slow_at_first)
    assert limit._gradient._answers == 1
    release.set()


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"])
def test_a_pushback_is_no_answer(code: str, virtual_clock: VirtualClock) -> None:
    """Refusals and timeouts of gRPC are overload, also with a pushback that forbids retries, but for the deadline's."""
    error = type("RpcError", (Exception,), {"__module__": "grpc"})()
    error.code = lambda: type("Code", (), {"name": code})()
    error.trailing_metadata = lambda: (("grpc-retry-pushback-ms", "-1"),)
    with deadline(1.0):
        assert sign_of(error) is Sign.OVERLOAD
        virtual_clock.advance(1.0)
        assert sign_of(error) is (Sign.NOTHING if code == "DEADLINE_EXCEEDED" else Sign.OVERLOAD)


def test_it_grows_only_while_half_used() -> None:
    """Good latencies raise the limit only while at least half of it is in use."""
    idle, busy = Gradient(20, 1, 1000), Gradient(20, 1, 1000)
    for n in range(200):
        idle.answered(0.1, 9, n * 0.01)
        busy.answered(0.1, 10 + int(busy.limit), n * 0.01)
    assert idle.limit == 20
    assert busy.limit > 30


def test_the_mean_latency() -> None:
    """The first answers count alike, later ones a twentieth, and one that stalled as eight means at most."""
    gradient = Gradient(20, 1, 1000)
    for n, (latency, mean) in enumerate([(1.0, 1.0), (3.0, 2.0), (2.0, 2.0)]):
        gradient.answered(latency, 1, n)
        assert gradient._mean == pytest.approx(mean + 1e-9, abs=1e-11)
    gradient.answered(1000.0, 1, 3)
    assert gradient._mean == pytest.approx(5.5)
    second = Gradient(20, 1, 1000)
    for n, latency in enumerate([2.0, 1000.0]):
        second.answered(latency, 1, n)
    assert second._mean == pytest.approx(9.0)
    for n in range(40):
        gradient.answered(5.5, 1, n)
    gradient.answered(7.5, 1, 41)
    assert gradient._mean == pytest.approx(5.6)


def test_the_first_best_latency() -> None:
    """It is the mean of the first five answers, whichever was the quickest."""
    gradient = Gradient(20, 1, 1000)
    for n, latency in enumerate([1.0, 1.0, 1.0, 1.0, 2.0, 2.0]):
        gradient.answered(latency, 1, n / 10)
    assert gradient._best == pytest.approx(1.2)


def test_the_best_latency_is_forgotten_slowly() -> None:
    """It grows by 1/3600 for each second in which there was an answer; a clock that was set back is one, too."""
    gradient, best = Gradient(20, 1, 1000), 1.0
    for _ in range(5):
        gradient.answered(1.0, 1, 0.0)
    for moment, grows in [(10.0, True), (10.0, False), (10.5, False), (11.0, True), (5.0, True), (5.5, False)]:
        gradient.answered(1.5, 1, moment)
        best *= 1.0 + grows / 3600
        assert gradient._best == pytest.approx(best, abs=1e-7)


def test_a_cut_without_answers_marks_no_ceiling() -> None:
    """A limit that got no answer since its last cut was not too high then: it is the same trouble still."""
    gradient = Gradient(20, 1, 1000)
    gradient.overloaded()
    assert gradient._ceiling == 0
    gradient.answered(1.0, 10, 0.0)
    gradient.overloaded()
    assert gradient._ceiling == 10  # and a step of 0.3


def test_the_steps_after_a_cut() -> None:
    """Below what the first cut left, the limit grows by one with each answer; from there on by its square root."""
    gradient = Gradient(20, 1, 1000)
    gradient.answered(1.0, 20, 0.0)
    gradient.overloaded()
    left = gradient.limit
    gradient.answered(1.0, 20, 0.1)
    assert gradient.limit == pytest.approx(left + left**-0.5)
    gradient.limit = left - 3
    gradient.answered(1.0, 20, 0.2)
    assert gradient.limit == pytest.approx(left - 2)


@pytest.mark.parametrize(("before", "after"), [(100, 100 - 1 / 3 + 0.04), (2, 2 - 1 / 3 + 1)])
def test_the_step_down(before: int, after: float) -> None:
    """A mean above twice the best lowers the limit by the ratio, but for four calls that may wait in the backend."""
    gradient = Gradient(before, 1, 1000)
    gradient._best, gradient._mean, gradient._answers, gradient._forgot = 1.0, 3.0, 100, 0.0
    gradient.answered(3.0, before, 0.5)
    assert gradient.limit == pytest.approx(after)


def test_other_bounds_keep_what_was_learned() -> None:
    """A limit that goes on within other bounds is moved into them, and no further."""
    gradient = Gradient(20, 1, 1000)
    gradient.answered(1.0, 10, 0.0)
    for minimum, maximum, limit in [(1, 10, 10), (30, 40, 30), (1, 1000, gradient.limit)]:
        other = gradient.within(minimum, maximum)
        assert (other.limit, other.minimum, other.maximum, other._mean) == (limit, minimum, maximum, gradient._mean)
    assert (gradient.minimum, gradient.maximum) == (1, 1000)


def test_which_answers_count(virtual_clock: VirtualClock) -> None:
    """Answers of one moment count, and those 20 µs after another; what comes between says nothing new."""
    limit = AdaptiveLimit("backend", initial=1)
    for seconds, answers in [(0.0, 1), (0.0, 2), (1e-5, 2), (2e-5, 3), (1.0, 4)]:
        virtual_clock.advance(seconds)
        limit.call(int)
        assert limit._gradient._answers == answers
    virtual_clock.advance(1e-5)
    with pytest.raises(AnswerError):
        limit.call(_raise, AnswerError(404))
    assert limit._gradient._answers == 5


def test_the_first_steps_of_a_limit_of_one() -> None:
    """It grows by its square root: the first answer makes two places of one."""
    limit = AdaptiveLimit("backend", initial=1)
    limit.call(int)
    assert limit.snapshot().limit == 2


def test_one_call_at_a_time_makes_no_large_limit_grow(virtual_clock: VirtualClock) -> None:
    """Only the places that are taken count as used."""
    limit = AdaptiveLimit("backend", initial=4)
    for _ in range(30):
        limit.call(virtual_clock.advance, 0.1)
    assert limit.snapshot().limit == 4


def test_what_a_call_raises_is_heard_in_both_colours() -> None:
    """A 503 halves the limit, whichever way the call was made."""
    limit = AdaptiveLimit("backend", initial=40)

    async def later() -> None:
        raise AnswerError(503)

    with pytest.raises(AnswerError):
        limit.call(_raise, AnswerError(503))
    assert limit.snapshot().limit == 20
    with pytest.raises(AnswerError):
        LOOPS[0].run(lambda: limit.call_async(later))
    assert limit.snapshot().limit == 10


def test_settings_that_change_while_a_call_ends() -> None:
    """A call that ends meanwhile moves the limit that it began with, not the one that there is now."""
    limit = AdaptiveLimit("backend", initial=20)

    class SlowlyReadError(Exception):
        @property
        def response(self) -> object:
            limit._take_settings(AdaptiveLimit("backend", initial=20))
            return type("Response", (), {"status_code": 503, "headers": {}})()

    with pytest.raises(SlowlyReadError):
        limit.call(_raise, SlowlyReadError())
    assert limit.snapshot().limit == 20


def _raise(error: Exception) -> None:
    raise error


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


@pytest.mark.parametrize("seconds", [0.1, 0.3])
def test_goodput_of_a_small_backend(seconds: float) -> None:
    """At four times its load a backend that answers ten calls within their timeout, or three, seldom works in vain."""
    with virtual_time() as clock:
        run = Simulation(clock, lambda _: seconds, load=4 / seconds, servers=1).run(1_000 * seconds)
    assert run.goodput(200 * seconds, 1_000 * seconds) * seconds > 0.85


def test_latencies_that_vary_much() -> None:
    """Exponentially distributed latencies of a backend with much room don't hold the limit down."""
    rng, gradient, now = random.Random(1), Gradient(20, 1, 1000), 0.0
    running = sorted((rng.expovariate(10.0), 0.0) for _ in range(20))
    while now < 60:
        now, begun = heapq.heappop(running)
        gradient.answered(now - begun, len(running) + 1, now)
        while len(running) < min(50, int(gradient.limit)):
            heapq.heappush(running, (now + rng.expovariate(10.0), now))
    assert gradient.limit > 50


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


def test_a_lowered_limit_is_no_cut() -> None:
    """Once latency has lowered the limit, overload of a call that was begun after the last cut still cuts."""
    with virtual_time() as time:
        limit = AdaptiveLimit("backend", initial=40, maximum=40)
        for _ in range(50):
            with limit.guard():
                time.advance(0.01)
        running: list[Any] = []

        def fill() -> None:
            while limit.snapshot().in_flight < limit.snapshot().limit:
                running.append(limit.guard())
                running[-1].__enter__()

        fill()
        while limit.snapshot().limit > 30:  # a longer latency lowers it while all places are taken
            time.advance(0.2 / len(running))
            running.pop(0).__exit__(None, None, None)
            fill()
        lowered = limit.snapshot().limit
        running.pop(0).__exit__(TimeoutError, TimeoutError(), None)
        assert limit.snapshot().limit <= lowered // 2 + 1
        for guard in running:
            guard.__exit__(None, None, None)
        assert limit.snapshot().in_flight == 0
