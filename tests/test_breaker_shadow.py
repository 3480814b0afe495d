"""A breaker in shadow mode moves as any other and refuses nothing."""

from __future__ import annotations

import asyncio

import pytest

from booking_resilience import BreakerState, CircuitBreaker, CircuitOpenError, Pipeline, RetryPolicy, Settings
from booking_resilience.testing import virtual_time


def fails():
    """Fail as a backend that's down does."""
    raise ConnectionError("down")


def shadow(**settings):
    """Make a shadow that one failure opens."""
    return CircuitBreaker("b", failure_threshold=1, shadow=True, **settings)


def test_an_open_shadow_lets_every_call_through_and_counts_what_it_would_refuse():
    """Open, the shadow calls all the same, in every way to call; the snapshot tells what it would have refused."""
    with virtual_time():
        breaker = shadow()
        with pytest.raises(ConnectionError):
            breaker.call(fails)
        assert breaker.state is BreakerState.OPEN
        assert breaker.call(int, "5") == 5
        assert breaker(int)("6") == 6
        with breaker.guard():
            pass
        breaker.acquire().success()

        async def main():
            return await breaker.call_async(asyncio.sleep, 0, 7)

        assert asyncio.run(main()) == 7
        snapshot = breaker.snapshot()
        assert (snapshot.would_refuse, snapshot.refused, snapshot.stale, snapshot.state) == (5, 0, 0, BreakerState.OPEN)


def test_calls_that_would_be_refused_settle_nothing():
    """Their failures and successes change neither state nor counts."""
    with virtual_time():
        breaker = shadow()
        for _ in range(3):
            with pytest.raises(ConnectionError):
                breaker.call(fails)
        snapshot = breaker.snapshot()
        assert (snapshot.trips, snapshot.failures, snapshot.ignored, snapshot.would_refuse) == (1, 1, 0, 2)


def test_a_shadow_tries_and_closes_as_any_other():
    """After the cooldown a call is the trial; while it is under way others would be refused; its success closes."""
    with virtual_time() as time:
        breaker = shadow(cooldown=10.0)
        with pytest.raises(ConnectionError):
            breaker.call(fails)
        time.advance(10.0)
        with breaker.guard():
            assert breaker.state is BreakerState.HALF_OPEN
            assert breaker.call(int, "5") == 5
        assert breaker.state is BreakerState.CLOSED
        assert breaker.snapshot().would_refuse == 1
        breaker.reset()


def test_an_isolated_shadow_refuses_nothing():
    """Isolation shows in the state and refuses nothing either."""
    breaker = shadow()
    breaker.isolate("maintenance")
    assert breaker.call(int, "5") == 5
    assert (breaker.state, breaker.snapshot().would_refuse) == (BreakerState.ISOLATED, 1)
    breaker.reset()
    assert (breaker.state, breaker.snapshot().would_refuse) == (BreakerState.CLOSED, 0)


def test_a_shadow_ends_no_retrying():
    """A pipeline goes on retrying though the shadow has opened; without shadow it would not."""
    for is_shadow, calls in ((True, 4), (False, 1)):
        made = []

        def call(made=made):
            made.append(1)
            raise ConnectionError("down")

        breaker = CircuitBreaker("b", failure_threshold=1, shadow=is_shadow)
        pipeline = Pipeline(retry=RetryPolicy(max_attempts=4, base_delay=0.0), breaker=breaker)
        with pytest.raises(ConnectionError):
            pipeline.call("op", call)
        assert len(made) == calls


def test_only_a_shadow_counts_what_it_would_refuse():
    """A breaker that refuses has nothing in `would_refuse`, and a shadow must be True or False."""
    breaker = CircuitBreaker("b", failure_threshold=1)
    breaker.isolate("maintenance")
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    assert (breaker.snapshot().refused, breaker.snapshot().would_refuse) == (1, 0)
    with pytest.raises(TypeError, match="shadow must be True or False, not 1"):
        CircuitBreaker("b", shadow=1)  # type: ignore[arg-type] - of the wrong type on purpose


def test_a_reload_makes_a_shadow_refuse():
    """Shadow mode ends by a reload of the settings, and the state stays; so does a rate's beginning."""
    tree = {"breakers": {"b": {"failure_threshold": 1, "shadow": True}}}
    settings = Settings.load(tree)
    breaker = settings.breaker("b")
    with pytest.raises(ConnectionError):
        breaker.call(fails)
    assert breaker.call(int, "5") == 5
    tree["breakers"]["b"] = {"failure_threshold": 1, "failure_rate": {"ratio": 0.5}}
    settings.reload()
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    breaker.reset()
    assert breaker.call(int, "5") == 5
