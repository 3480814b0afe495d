"""Other libraries' breakers and retries behind one face, to try what the comparison says of them.

Each breaker opens after three failures and stays open for 30 s of its own clock, which `pass_time` moves. The imports
are inside, so that one that is missing hurts nobody else.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from booking_resilience import CircuitBreaker, Pipeline, RetryPolicy, retrying
from booking_resilience.testing import virtual_time

MODULES = {
    "this library": "booking_resilience",
    "tenacity": "tenacity",
    "stamina": "stamina",
    "backoff": "backoff",
    "pybreaker": "pybreaker",
    "nopanic": "nopanic",
    "interlock": "interlock",
    "hyx": "hyx",
}
FAILURES, COOLDOWN = 3, 30.0


class Breaker:
    """One library's breaker.

    Attributes:
        call: Calls a function through it; the function's colour is the library's.
        is_async: Whether it takes coroutine functions only.
        told: States that its listener was told; None if it has no listeners.
    """

    is_async = False

    def __init__(self, name: str, *, raising: bool = False, patch: pytest.MonkeyPatch) -> None:
        pytest.importorskip(MODULES[name])
        self.name = name
        self.told: list[str] | None = []
        self._raising, self._patch = raising, patch
        self._later = 0.0
        getattr(self, f"_make_{name.replace(' ', '_')}")()

    def _tell(self, state: str) -> None:
        assert self.told is not None
        self.told.append(state)
        if self._raising:
            raise RuntimeError("a listener's mistake")

    def _clock(self) -> float:
        return time.monotonic() + self._later

    def pass_time(self, seconds: float) -> None:
        """Move the breaker's own clock."""
        self._later += seconds

    def _make_this_library(self) -> None:
        self._virtual = virtual_time()
        clock = self._virtual.__enter__()
        self.pass_time, self.sleeps = clock.advance, clock.sleeps  # type: ignore[method-assign] # the virtual clock
        self.breaker = CircuitBreaker("tried", failure_threshold=FAILURES, cooldown=COOLDOWN)
        self.breaker.subscribe(lambda event: self._tell(event.new.value))
        self.call, self.decorate, self.call_async = self.breaker.call, self.breaker, self.breaker.call_async

    def _make_pybreaker(self) -> None:
        import pybreaker

        class Listener(pybreaker.CircuitBreakerListener):
            def state_change(_, breaker: Any, old: Any, new: Any) -> None:  # noqa: N805 - `self` is the maker's
                self._tell(new.name)

        class Moved(datetime.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime.datetime:
                return datetime.datetime.now(tz) + datetime.timedelta(seconds=self._later)

        self._patch.setattr(pybreaker, "datetime", Moved)
        self.breaker = pybreaker.CircuitBreaker(fail_max=FAILURES, reset_timeout=COOLDOWN, listeners=[Listener()])
        self.call, self.decorate = self.breaker.call, self.breaker

    def _make_nopanic(self) -> None:
        import nopanic

        self.breaker = nopanic.circuit_breaker(
            failure_threshold=1.0,
            min_calls=FAILURES,
            window=1e6,
            reset_timeout=COOLDOWN,
            clock=self._clock,
            on_state_change=lambda breaker, old, new: self._tell(new),
        )
        self.call, self.decorate, self.call_async = self.breaker.call, self.breaker, self.breaker.acall

    def _make_interlock(self) -> None:
        import interlock

        class Clock:
            monotonic = staticmethod(self._clock)

        class Listener:
            def on_state_change(_, *, name: str, old: Any, new: Any) -> None:  # noqa: N805 - `self` is the maker's
                self._tell(new.value)

        config = interlock.Config(
            failure_rate_threshold=1.0,
            minimum_number_of_calls=FAILURES,
            wait_duration_in_open=COOLDOWN,
            permitted_calls_in_half_open=1,
        )
        self.breaker = interlock.CircuitBreaker(name="tried", config=config, clock=Clock(), listener=Listener())
        self.call, self.decorate, self.call_async = self.breaker.call, self.breaker, self.breaker.call

    def _make_hyx(self) -> None:
        states = importlib.import_module("hyx.circuitbreaker.states")
        from hyx.circuitbreaker import consecutive_breaker

        class Moved(datetime.datetime):
            @classmethod
            def utcnow(cls) -> datetime.datetime:
                now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
                return now + datetime.timedelta(seconds=self._later)

        self._patch.setattr(states, "datetime", Moved)
        self.is_async, self.told = True, None
        self.breaker = consecutive_breaker(
            failure_threshold=FAILURES, recovery_time_secs=COOLDOWN, recovery_threshold=1
        )
        self.decorate = self.breaker

        async def call_async(fn: Callable[[], Any]) -> Any:
            return await self.breaker(fn)()

        self.call_async = call_async

    def close(self) -> None:
        """Give the clock back."""
        if hasattr(self, "_virtual"):
            self._virtual.__exit__(None, None, None)


@contextlib.contextmanager
def breaker_of(name: str, **settings: Any) -> Iterator[Breaker]:
    """Make a library's breaker; skip the test where the library is missing."""
    with pytest.MonkeyPatch.context() as patch:
        made = Breaker(name, patch=patch, **settings)
        try:
            yield made
        finally:
            made.close()


def retry_of(name: str, attempts: int | None = None, *, on: Any = ConnectionError) -> Any:
    """Return a library's decorator: so many attempts at such errors, each None for its own default."""
    library: Any = pytest.importorskip(MODULES[name])
    given: dict[str, Any] = {}
    if name == "this library":
        given |= {} if attempts is None else {"max_attempts": attempts}
        given |= {} if on is None else {"retry_on": on}
        return functools.partial(retrying, policy=RetryPolicy(**given))
    if name == "tenacity":
        given |= {} if attempts is None else {"stop": library.stop_after_attempt(attempts)}
        given |= {} if on is None else {"retry": library.retry_if_exception_type(on)}
        return library.retry(**given)
    if name == "stamina":
        return library.retry(on=on, **({} if attempts is None else {"attempts": attempts}))
    if name == "backoff":
        return library.on_exception(library.expo, on, max_tries=attempts)
    if name == "nopanic":
        given |= {} if attempts is None else {"attempts": attempts}
        return library.retry(**given, **({} if on is None else {"on": on}))
    if name == "interlock":
        strategies: Any = pytest.importorskip("interlock.integrations.tenacity")
        given |= {} if attempts is None else {"attempts": attempts}
        given |= {} if on is None else {"retry": strategies.retry_unless_open(on)}
        return library.Pipeline(strategies.RetryStrategy(**given))
    if name == "hyx":
        from hyx.retry import retry

        given |= {} if attempts is None else {"attempts": attempts - 1}
        return retry(**given, **({} if on is None else {"on": on}))
    raise AssertionError(name)


def both_of(name: str, breaker: Any, attempts: int) -> Callable[[Any], Any]:
    """Return a library's own retry around its own breaker."""
    if name == "this library":
        pipeline = Pipeline(retry=RetryPolicy(max_attempts=attempts, deadline=None), breaker=breaker)
        return pipeline.protect("work")
    retry = retry_of(name, attempts, on=Exception)
    return lambda fn: retry(breaker(fn))
