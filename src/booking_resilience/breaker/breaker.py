"""The circuit breaker: the shell around the state machine, with the lock, the clock, the listeners and the log.

One lock, held for a few instructions and never while user code runs. A call through a healthy breaker does not even
take that: calls.py tells why it need not.
"""

from __future__ import annotations

import functools
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from booking_resilience import clock
from booking_resilience.awaitables import AWAITABLE_NEVER, gives_coroutines, refuse_uncallable, within
from booking_resilience.breaker.calls import not_awaitable, protect, protect_async, refuse, watch, watch_async
from booking_resilience.breaker.judging import ErrorFilter, ignored, says_nothing
from booking_resilience.breaker.machine import CLOSED, Machine
from booking_resilience.breaker.permits import BreakerSnapshot, Guard, Permit
from booking_resilience.breaker.telling import deliver
from booking_resilience.callbacks import is_awaitable
from booking_resilience.checks import check, is_error_filter, is_number, is_positive, is_text, is_whole
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import Subscription
from booking_resilience.locks import fork_safe_lock
from booking_resilience.verdicts import is_backend_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from booking_resilience.breaker.shared import RedisBreaker
    from booking_resilience.breaker.shared_link import Link
    from booking_resilience.breaker.tickets import Verdict
    from booking_resilience.breaker.window import FailureRate
    from booking_resilience.events import BreakerEvent, BreakerState, Listener

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_LOCK = fork_safe_lock()  # one for all breakers: it is held for a few instructions, and 500 bytes are all a breaker has


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
        shared: A `RedisBreaker`, through which the breakers of this name in other processes open and close together;
            None for a breaker of this process alone.

    Raises:
        ValueError: If a setting is out of its range.

    >>> breaker = CircuitBreaker("backend", failure_threshold=1)
    >>> breaker.call(str.upper, "fine")
    'FINE'
    >>> breaker.state
    <BreakerState.CLOSED: 'closed'>
    """

    __slots__ = (
        "__weakref__", "_delivering", "_failure_on", "_ignore", "_listeners", "_machine", "_name", "_shared",
        "_slow_call",
    )  # fmt: skip

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
        shared: RedisBreaker | None = None,
    ) -> None:
        check("name", name, is_text(name), "a text that is not empty")
        whole, above = "a whole number, 1 or more", "a finite number above 0"
        check("failure_threshold", failure_threshold, is_whole(failure_threshold), whole)
        rated = failure_rate is None or hasattr(failure_rate, "minimum_calls")
        check("failure_rate", failure_rate, rated, "a FailureRate or None")
        check("cooldown", cooldown, is_number(cooldown), "a finite number, 0 or more")
        grown = max_cooldown is None or is_number(max_cooldown, cooldown)
        check("max_cooldown", max_cooldown, grown, f"a finite number, cooldown ({cooldown!r}) or more, or None")
        check("trial_calls", trial_calls, is_whole(trial_calls), whole)
        check("trial_timeout", trial_timeout, is_positive(trial_timeout), above)
        check("slow_call", slow_call, slow_call is None or is_positive(slow_call), f"{above}, or None")
        for setting, value in (("failure_on", failure_on), ("ignore", ignore)):
            allowed = "an exception type, a tuple of them, or a function of the error"
            check(setting, value, is_error_filter(value), allowed)
        check("shared", shared, shared is None or hasattr(shared, "_join"), "a RedisBreaker or None")
        self._name, self._slow_call, self._failure_on = name, slow_call, failure_on
        self._ignore = ignored(failure_on, ignore)
        self._listeners: tuple[Listener[BreakerEvent], ...] = ()
        self._delivering = 0  # the process that is telling the listeners, if one is
        self._machine = Machine(
            threshold=failure_threshold,
            failure_rate=failure_rate,
            cooldown=cooldown,
            max_cooldown=max_cooldown,
            trial_calls=trial_calls,
            trial_timeout=trial_timeout,
            watches_all=slow_call is not None,
        )
        self._shared: Link | None = None if shared is None else shared._join(self)

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def state(self) -> BreakerState:
        """Its state; OPEN until somebody acquires after the cooldown."""
        return self._machine.state

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn` through the breaker.

        Raises:
            CircuitOpenError: If the breaker refuses; `fn` was not called.
            TypeError: If `fn` returns an awaitable.
        """
        machine = self._machine
        epoch = machine.calm
        if epoch < 0:
            return cast("T", watch(self._knock(), fn, args, kwargs))
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            Permit(self, epoch).failure(error)
            refuse_uncallable(fn)
            raise
        if type(result) not in AWAITABLE_NEVER:
            refuse(result)
        if machine.calm != epoch:
            Permit(self, epoch).success()
        return result

    async def call_async(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call and await `fn` through the breaker.

        A cancelled call says nothing of the backend, but for one that a retry around it cuts off at its own limits:
        that is a `TimeoutError`.

        Raises:
            CircuitOpenError: If the breaker refuses; `fn` was not called.
            TypeError: If `fn` gives something that cannot be awaited.
        """
        machine = self._machine
        epoch = machine.calm
        if epoch < 0:
            return cast("T", await watch_async(self._knock(), fn, args, kwargs))
        try:
            awaitable = fn(*args, **kwargs)
            awaited = type(awaitable) is CoroutineType or is_awaitable(awaitable)
            result = await awaitable if awaited else cast("T", None)
        except BaseException as error:
            Permit(self, epoch).failure(error)
            refuse_uncallable(fn)
            raise
        if not awaited:
            raise not_awaitable(fn)
        if machine.calm != epoch:
            Permit(self, epoch).success()
        return result

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function, a method or a coroutine function; its signature stays.

        Raises:
            TypeError: When it decorates a generator or asynchronous generator function.
        """
        return cast("Callable[P, R]", within(self._decorate, fn))

    def guard(self) -> Guard:
        """Return a context manager, for `with` and `async with`, whose block goes through the breaker."""
        return Guard(self)

    def acquire(self) -> Permit:
        """Take a permit for one call, to be settled by its `success`, `failure` or `release`.

        Raises:
            CircuitOpenError: If the breaker refuses.
        """
        permit = self._knock()
        try:
            permit._admit()
        except BaseException:
            permit.release()
            raise
        return permit

    def snapshot(self) -> BreakerSnapshot:
        """Return what is known of it, all of one moment."""
        machine, now = self._machine, clock.monotonic()
        while True:
            seen, retry_after = machine.changes, machine.retry_after(now)
            with _LOCK:
                if machine.changes == seen:
                    return BreakerSnapshot(
                        name=self._name,
                        state=machine.state,
                        epoch=machine.epoch,
                        consecutive_failures=machine.consecutive,
                        failures=machine.failures,
                        refused=machine.refused,
                        stale=machine.stale,
                        ignored=machine.ignored,
                        trips=machine.trips,
                        retry_after=retry_after,
                        reason=machine.reason,
                        shared=None if self._shared is None else self._shared.snapshot(),
                    )

    def subscribe(self, listener: Listener[BreakerEvent]) -> Subscription:
        """Have the listener told of every transition, in order, until the subscription is closed.

        It is called by the thread that made the transition, or by one that is telling of an earlier one just then;
        never under a lock, so it may use the breaker. What it raises is logged.
        """
        if not callable(listener):
            raise TypeError(f"listener must be a function of the event, not {listener!r}")
        entry: Listener[BreakerEvent] = functools.partial(listener)  # an own identity: one may listen twice
        with _LOCK:
            self._listeners = (*self._listeners, entry)
        return Subscription(functools.partial(self._unsubscribe, entry))

    def isolate(self, reason: str, *, fleet: bool = False) -> None:
        """Refuse every call, for the reason given, until `reset`. Doing it again only changes the reason.

        Args:
            reason: Why; in `CircuitOpenError.cause`, in events and in logs.
            fleet: Do so in all processes that share the breaker: here at once, there in the background.

        Raises:
            ValueError: If the reason is empty; with `fleet`, if the breaker is not shared.
        """
        check("reason", reason, is_text(reason), "a text that is not empty")
        shared = self._shared_for(fleet)
        with _LOCK:
            self._machine.isolate(reason)
            if shared is not None:
                shared.was_isolated(reason, fleet)
        self._spread()

    def reset(self, reason: str | None = None, *, fleet: bool = False) -> None:
        """Close it and empty the counts, whatever its state; what is under way changes nothing any more.

        Args:
            reason: Why, in events and in logs.
            fleet: Do so in all processes that share the breaker: here at once, there in the background.

        Raises:
            ValueError: With `fleet`, if the breaker is not shared.
        """
        shared, why = self._shared_for(fleet), reason or "reset by hand"
        with _LOCK:
            self._machine.reset(why)
            if shared is not None:
                shared.was_reset(why, fleet)
        self._spread()

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self._name!r} {self.state.value}>"

    def _decorate(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        colour: Callable[..., Any] = protect_async if gives_coroutines(fn, "a circuit breaker") else protect
        return functools.update_wrapper(colour(self, fn), fn)

    def _knock(self) -> Permit:
        """Refuse, or return a permit yet to be admitted: if an interrupt comes now, nothing is lost with it.

        Refusing takes no lock: it reads a state that was true at one moment, and adds one to a count between two
        points at which CPython switches threads.
        """
        machine, now = self._machine, clock.monotonic()
        if machine.state is not CLOSED:
            refusal = machine.refuse(now)
            if refusal is not None:
                retry_after, cause = refusal
                raise CircuitOpenError(self._name, retry_after, cause)
        return Permit(self, -1, now)

    def _admit(self, permit: Permit) -> None:
        machine, shared = self._machine, self._shared
        with _LOCK:
            refusal = machine.admit(permit, permit.started) if shared is None else shared.admit(permit)
        if shared is not None or machine.moves:
            self._spread()
        if refusal is not None:
            raise CircuitOpenError(self._name, *refusal)

    def _unsubscribe(self, entry: Listener[BreakerEvent]) -> None:
        with _LOCK:
            self._listeners = tuple(kept for kept in self._listeners if kept is not entry)

    def _settle(self, permit: Permit, verdict: Verdict, now: float, cause: str | None) -> None:
        machine, shared = self._machine, self._shared
        with _LOCK:
            machine.settle(permit, verdict, now, cause)
            if shared is not None:
                shared.note()
        if shared is not None or machine.moves:
            self._spread()

    def _shared_for(self, fleet: bool) -> Link | None:
        """Return the link to the fleet, if there is one; with `fleet` there must be one that is not closed."""
        shared = self._shared
        if fleet and (shared is None or shared.owner._closed):
            raise ValueError("fleet must be False for a breaker that is not shared, not True")
        return shared

    def _spread(self) -> None:
        """Have the fleet and the listeners told of what is new."""
        if self._shared is not None:
            self._shared.wake()
        if self._machine.moves:
            deliver(self, _LOCK)
