"""The circuit breaker: the public face of the core that core.py describes."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from booking_resilience import clock
from booking_resilience.awaitables import AWAITABLE_NEVER, gives_coroutines, within
from booking_resilience.breaker.calls import failed, not_awaitable, protect, protect_async, refuse, watch, watch_async
from booking_resilience.breaker.core import Core, ErrorFilter, Sharing
from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.permits import Guard, Permit, admitted, says_nothing
from booking_resilience.breaker.snapshots import BreakerSnapshot
from booking_resilience.breaker.states import Isolate, Reset
from booking_resilience.breaker.window import FailureRate
from booking_resilience.callbacks import check_callback, check_filter, is_awaitable
from booking_resilience.checks import check_number, check_text, check_type, check_whole, has_method
from booking_resilience.events import BreakerEvent, BreakerState, Listener, Subscription
from booking_resilience.verdicts import is_backend_failure

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class CircuitBreaker:
    """Stops calling a backend that keeps failing, and tries again after a while with a trial call.

    CLOSED lets every call through; `failure_threshold` consecutive failures open it. OPEN refuses every call at once
    with `CircuitOpenError`. The first call at or after the end of the cooldown finds it HALF_OPEN and is the trial:
    success closes, failure opens for another cooldown. Safe to share between threads, tasks and signal handlers, and
    across `fork`. Time is monotonic.

    Args:
        name: Its name, in errors, events and logs.
        failure_threshold: Consecutive failures that open it; 1 or more.
        failure_rate: Opens it as well when that share of the recent calls failed; None for off.
        cooldown: Seconds it stays open; 0 or more.
        max_cooldown: The cooldown doubles with each failed trial up to this; `cooldown` or more, None for no growth.
        trial_calls: Trials admitted at a time when half-open, and successes needed to close; 1 or more.
        trial_timeout: A trial that is not back after so many seconds is lost, and counts as failed; above 0.
        slow_call: A call that takes longer than so many seconds is a failure; above 0, None for off.
        failure_on: Which errors are failures: exception types, or a function of the error. Any other error means
            that the backend answered: a success.
        ignore: Which errors say nothing at all; judged before `failure_on`. By default `is_no_evidence`, but nothing
            if `failure_on` is given. Whatever is given, refusals of this library's own breakers and limits say
            nothing, nor do interrupts.
        shadow: Refuse nothing, not even isolated; only count in the snapshot's `would_refuse` what would be refused.
        shared: A `RedisBreaker`, through which the breakers of this name in other processes open and close together;
            None for a breaker of this process alone.

    Raises:
        TypeError: If a setting is of the wrong type.
        ValueError: If a setting is out of its range.

    >>> breaker = CircuitBreaker("backend", failure_threshold=1)
    >>> breaker.call(str.upper, "fine")
    'FINE'
    >>> breaker.state
    <BreakerState.CLOSED: 'closed'>
    """

    __slots__ = ("__weakref__", "_core")

    def __init__(
        self,
        name: str,
        *,
        failure_threshold: int = 5,
        failure_rate: FailureRate | None = None,
        cooldown: float = 30.0,
        max_cooldown: float | None = None,
        trial_calls: int = 1,
        trial_timeout: float = 60.0,
        slow_call: float | None = None,
        failure_on: ErrorFilter = is_backend_failure,
        ignore: ErrorFilter = says_nothing,
        shared: Sharing | None = None,
        shadow: bool = False,
    ) -> None:
        check_text("name", name)
        check_whole("failure_threshold", failure_threshold)
        rated = failure_rate is None or isinstance(failure_rate, FailureRate)
        check_type("failure_rate", failure_rate, rated, "a FailureRate or None")
        check_number("cooldown", cooldown)
        grown = f"a finite number, cooldown ({cooldown!r}) or more"
        check_number("max_cooldown", max_cooldown, cooldown, or_none=True, allowed=grown)
        check_whole("trial_calls", trial_calls)
        check_number("trial_timeout", trial_timeout, above=True)
        check_number("slow_call", slow_call, above=True, or_none=True)
        check_filter("failure_on", failure_on)
        check_filter("ignore", ignore)
        check_type("shadow", shadow, isinstance(shadow, bool), "True or False")
        check_type("shared", shared, shared is None or has_method(shared, "_join"), "a RedisBreaker or None")
        machine = Machine(
            failure_threshold, failure_rate, cooldown, max_cooldown, trial_calls, trial_timeout, slow_call
        )
        if ignore is says_nothing and failure_on is not is_backend_failure:
            ignore = ()
        self._core = Core(name, machine, failure_on, ignore, shadow)
        if shared is not None:
            self._core.link = shared._join(self._core)

    @property
    def name(self) -> str:
        """Its name."""
        return self._core.name

    @property
    def state(self) -> BreakerState:
        """Its state; OPEN until the first call after the cooldown."""
        return self._core.state.kind

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn` through the breaker.

        Raises:
            CircuitOpenError: If the breaker refuses; `fn` was not called.
            TypeError: If `fn` isn't a function, is a generator function, or returns an awaitable.
        """
        core = self._core
        calm = core.calm
        if calm.is_over:
            return cast("T", watch(core, core.knock(), fn, args, kwargs))
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            failed(Permit(core, calm.epoch), fn, error)
            raise
        if type(result) not in AWAITABLE_NEVER:
            refuse(fn, result)
        if calm.is_over:
            Permit(core, calm.epoch).success()
        return result

    async def call_async(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call and await `fn` through the breaker.

        A cancelled call says nothing about the backend, unless a retry around it cut it off at its own limits: that
        counts as a `TimeoutError`.

        Raises:
            CircuitOpenError: If the breaker refuses; `fn` was not called.
            TypeError: If `fn` isn't a function, or returns something that cannot be awaited.
        """
        core = self._core
        calm = core.calm
        if calm.is_over:
            return cast("T", await watch_async(core, core.knock(), fn, args, kwargs))
        try:
            awaitable = fn(*args, **kwargs)
            awaited = type(awaitable) is CoroutineType or is_awaitable(awaitable)
            result = await awaitable if awaited else cast("T", None)
        except BaseException as error:
            failed(Permit(core, calm.epoch), fn, error)
            raise
        if not awaited:
            raise not_awaitable(fn)
        if calm.is_over:
            Permit(core, calm.epoch).success()
        return result

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function, a method or a coroutine function; its signature stays.

        Raises:
            TypeError: When it decorates a generator or asynchronous generator function.
        """
        return cast("Callable[P, R]", within(self._decorate, fn))

    def guard(self) -> Guard:
        """Return a context manager, for `with` and `async with`, whose block goes through the breaker."""
        return Guard(self._core)

    def acquire(self) -> Permit:
        """Take a permit for one call, to be settled by its `success`, `failure` or `release`.

        Raises:
            CircuitOpenError: If the breaker refuses.
        """
        return admitted(self._core, self._core.knock())

    def snapshot(self) -> BreakerSnapshot:
        """Return its state and counts, as of one moment."""
        core = self._core
        moment = core.newest()
        state = moment.state
        return BreakerSnapshot(
            name=core.name,
            state=state.kind,
            epoch=state.epoch,
            consecutive_failures=state.consecutive,
            failures=state.failures,
            refused=0 if core.is_shadow else moment.counted("refused"),
            would_refuse=moment.counted("refused") if core.is_shadow else 0,
            stale=moment.counted("stale"),
            ignored=moment.counted("ignored"),
            trips=state.trips,
            retry_after=core.machine.retry_after(state, clock.monotonic()),
            reason=state.reason,
            shared=None if core.link is None else core.link.snapshot(),
        )

    def subscribe(self, listener: Listener[BreakerEvent]) -> Subscription:
        """Call the listener with a `BreakerEvent` for every transition, in order, until the subscription is closed.

        It runs on the thread that made the transition, or on one that is reporting an earlier one at that moment, and
        never under a lock, so it may use the breaker. What it raises is logged.
        """
        check_callback("listener", listener, "a function of the event")
        entry: Listener[BreakerEvent] = functools.partial(listener)  # an own identity: one may listen twice
        self._core.listen(entry)
        return Subscription(functools.partial(self._core.listen, entry, until_now=True))

    def isolate(self, reason: str, *, fleet: bool = False) -> None:
        """Refuse every call, for the reason given, until `reset`. Doing it again only changes the reason.

        Args:
            reason: Why; in `CircuitOpenError.cause`, in events and in logs.
            fleet: Do so in all processes that share the breaker: here at once, there in the background.

        Raises:
            TypeError: If the reason isn't a string, or `fleet` isn't a bool.
            ValueError: If the reason is empty; with `fleet`, if the breaker is not shared.
        """
        check_text("reason", reason)
        self._by_hand(Isolate(reason), fleet=fleet)

    def reset(self, reason: str | None = None, *, fleet: bool = False) -> None:
        """Close it and empty the counts, whatever its state; results of calls under way no longer count.

        Args:
            reason: Why, in events and in logs.
            fleet: Do so in all processes that share the breaker: here at once, there in the background.

        Raises:
            TypeError: If the reason isn't a string or None, or `fleet` isn't a bool.
            ValueError: With `fleet`, if the breaker is not shared.
        """
        check_type("reason", reason, reason is None or isinstance(reason, str), "a string or None")
        self._by_hand(Reset(reason or "reset by hand"), fleet=fleet)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.state.value}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} can't be copied or pickled: each copy would count by itself. Make a breaker at module level, so "
            "that each process that imports it has its own, and let those act as one with shared=RedisBreaker(url)"
        )

    def _decorate(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        colour: Callable[..., Any] = protect_async if gives_coroutines(fn, "a circuit breaker") else protect
        decorated: Any = functools.update_wrapper(colour(self._core, fn), fn)
        decorated.__circuit_breaker__ = self  # so that whoever holds the function holds the breaker
        return cast("Callable[..., Any]", decorated)

    def _is_shut(self) -> bool:
        """Tell whether it stands open or isolated, and refuses."""
        core = self._core
        return not core.is_shadow and core.state.kind in (BreakerState.OPEN, BreakerState.ISOLATED)

    def _take_settings(self, other: CircuitBreaker) -> None:
        self._core.take_settings(other._core)

    def _by_hand(self, event: Isolate | Reset, *, fleet: bool) -> None:
        check_type("fleet", fleet, isinstance(fleet, bool), "True or False")
        core = self._core
        link = core.link
        if fleet and (link is None or not link.is_open):
            raise ValueError("fleet must be False for a breaker that is not shared, not True")
        core.spread(core.change(event), fleet=fleet)
