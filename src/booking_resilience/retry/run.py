"""The drivers: they call, catch and sleep; what to do after a failure, `decide` of policy.py says.

There are two, since waiting has two colours; `Run`, which both tell of each failure, is shared. A success at the
first attempt, by far the most frequent end, makes no `Run`. Sleeping happens outside the `except` block, so that the
next attempt's error does not get this one's as context. An attempt's deadline is its `node`, and over in one step.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any

from booking_resilience import clock
from booking_resilience.awaitables import not_awaitable, refuse_awaitable
from booking_resilience.callbacks import is_awaitable
from booking_resilience.cutoff import cut_off
from booking_resilience.deadlines import Node, get_node, leave, set_node
from booking_resilience.errors import CircuitOpenError, DeadlineExceededError, ResilienceError
from booking_resilience.events import Outcome, Reason, RetryEvent, recorded, tell_began
from booking_resilience.retry.history import RawAttempt, hide_plumbing, remember
from booking_resilience.retry.plan import Plan
from booking_resilience.retry.policy import decide


class Run:
    """One operation under way: what failed so far, and what comes next.

    Args:
        plan: What to go by.
        started: When it began, on the monotonic clock.
        end: When it must have ended, on the same clock; None for never.
        began: The number of the newest error record when it began.

    Attributes:
        attempt: The number of the attempt that ended last; 0 before.
        delay: Seconds to wait before the next one.
        error: What the last one raised; None if `retry_on_result` rejected its result.
        failures: What `attempts_of` tells of.
        is_heard: Whether anybody hears of a retry or a recovery.
        is_paid: Whether the next attempt is paid from the budget, and not yet made.
    """

    __slots__ = ("attempt", "began", "delay", "end", "error", "failures", "is_heard", "is_paid", "plan", "started")

    def __init__(self, plan: Plan, started: float, end: float | None, began: int) -> None:
        self.plan: Plan = plan
        self.started: float = started
        self.end: float | None = end
        self.began: int = began
        self.attempt: int = 0
        self.failures: list[RawAttempt] = []
        self.error: BaseException | None = None
        self.delay: float = 0.0
        self.is_heard: bool = plan.is_heard()
        self.is_paid: bool = False

    def goes_on_after(self, error: Exception | None) -> bool:
        """Note that the attempt failed (None: by its result); tell whether there will be another, after `delay`."""
        plan, now, end = self.plan, clock.monotonic(), self.end
        policy, halted = plan.policy, plan.circuit_open
        self.attempt = attempt = self.attempt + 1
        self.is_paid = time_is_up = False
        if issubclass(type(error), ResilienceError):
            with contextlib.suppress(Exception):  # a subclass that refuses attributes
                time_is_up = isinstance(error, DeadlineExceededError) and error.end is not None and error.end == end
                if isinstance(error, CircuitOpenError) and self.failures and error.__cause__ is None:
                    error.__cause__ = self.failures[-1][1]
        self.error = error
        draw = random.random() if policy.base_delay else 0.0
        step = decide(policy, error, attempt, now, end, draw, halted is not None and halted(), time_is_up)
        if policy.budget is not None and not isinstance(step, str):
            self.is_paid = policy.budget.try_spend()
            step = step if self.is_paid else "budget"
        elapsed = now - self.started
        if isinstance(step, str):
            self._gave_up(step, elapsed, elapsed)
            return False
        self.delay = step
        if error is not None:
            self.failures.append((attempt, error, step, elapsed))
        if self.is_heard:
            try:
                self._tell("retrying", None, step, elapsed)
            except BaseException:  # an interrupt
                self.refund()
                raise
        return True

    def goes_on_with(self, result: object) -> bool:
        """Note that the attempt returned; tell whether there will be another all the same."""
        if self.plan.policy.retry_on_result is not None and self.plan.policy.rejects(result):
            return self.goes_on_after(None)
        self.succeeded()
        return False

    def succeeded(self) -> None:
        """Note that the operation succeeded."""
        plan = self.plan
        if plan.policy.budget is not None:
            plan.policy.budget.deposit()
        self.attempt += 1
        if self.attempt > 1 and self.is_heard:
            if self.failures:
                self.error = self.failures[-1][1]
            self._tell("recovered", None, None, clock.monotonic() - self.started)

    def pause(self) -> bool:
        """Sleep; tell whether there is time for the next attempt after it."""
        try:
            clock.sleep(self.delay)
        except BaseException:
            self._interrupted()
            raise
        return self._is_in_time()

    async def pause_async(self) -> bool:
        """Do the same as `pause`, without blocking the event loop."""
        try:
            if self.delay:
                await clock.sleep_async(self.delay)
            else:  # nothing to wait for, but other tasks must get their turn, and a cancellation must arrive
                await clock.SystemClock().sleep_async(0)
        except BaseException:
            self._interrupted()
            raise
        return self._is_in_time()

    def close(self) -> None:
        """Let go of the errors: their tracebacks lead back to the frame that holds this run."""
        self.failures = []
        self.error = None

    def refund(self) -> None:
        """Give back what the next attempt was paid with, if it was not made."""
        if self.is_paid and self.plan.policy.budget is not None:
            self.is_paid = False
            self.plan.policy.budget.refund()

    def _interrupted(self) -> None:
        self.refund()
        self.close()

    def _is_in_time(self) -> bool:
        if self.end is not None and (now := clock.monotonic()) >= self.end:  # the sleep took longer than asked
            self.refund()
            elapsed = self.failures.pop()[3] if self.error is not None else 0.0
            self._gave_up("deadline", elapsed, now - self.started)
            return False
        return True

    def _gave_up(self, reason: Reason, elapsed: float, total: float) -> None:
        if self.error is not None:
            self.failures.append((self.attempt, self.error, None, elapsed))
            plural = "" if self.attempt == 1 else "s"
            note = f"{self.plan.operation}: gave up after {self.attempt} attempt{plural} in {total:.2f} s ({reason})"
            remember(self.error, self.failures, note, self.started)
            for failure in self.failures:
                hide_plumbing(failure[1])
        self._tell("gave_up", reason, None, total)

    def _tell(self, outcome: Outcome, reason: Reason | None, delay: float | None, elapsed: float) -> None:
        event = RetryEvent(self.plan.operation, self.attempt, outcome, reason, self.error, delay, elapsed)
        tell_began(self.began, self.plan.tell, event)


def drive(
    plan: Plan,
    fn: Callable[..., Any],
    called: str = "with_retry",
    instead: str = "with_retry_async",
    *,
    applies: bool = False,
) -> Callable[..., Any]:
    """Return a function that calls `fn` as the plan says, in the calling thread.

    Args:
        plan: What to go by.
        fn: What to call.
        called: What is named in the error should `fn` return an awaitable.
        instead: What that error advises.
        applies: Whether `fn` calls what it gets as its first argument.
    """
    policy, limit, timeout = plan.policy, plan.policy.deadline, plan.policy.attempt_timeout
    is_limited = limit is not None or timeout is not None
    is_judged = policy.retry_on_result is not None or policy.budget is not None
    plain: type | None = None  # the type of the last result, if none of that type must be awaited

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        started, began, outer = clock.monotonic(), recorded.last, get_node()
        while outer is not None and outer[0] is None:  # most often what the call before this one left
            outer = outer[2]
        end = None if limit is None else started + limit
        if outer is not None:
            outer, end = plan.ends(started, outer)
        run = Run(plan, started, end, began) if is_judged else None
        node: Node | None = None
        result: Any = None
        try:
            while True:
                try:
                    try:
                        if is_limited:
                            stop = end if timeout is None else plan.stop(end)
                            set_node(node := [object, stop, outer, stop is not end])
                        result = fn(*args, **kwargs) if kwargs else fn(*args) if args else fn()
                    finally:
                        if node is not None:
                            node[0] = None
                            if get_node() is not node:
                                leave(node)
                except Exception as error:
                    run = run or Run(plan, started, end, began)
                    if not run.goes_on_after(error):
                        raise
                else:
                    if type(result) is not plain:
                        plain = refuse_awaitable(result, called, instead, args[0] if applies else fn)
                    if run is None or not run.goes_on_with(result):
                        return result
                if run.delay and not run.pause():
                    if run.error is None:
                        return result
                    raise run.error
        finally:
            if run is not None:
                run.close()

    return call


def drive_async(
    plan: Plan,
    fn: Callable[..., Awaitable[Any]],
    called: str = "with_retry_async",
    instead: str = "with_retry",
    *,
    applies: bool = False,
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a coroutine function that calls and awaits `fn` as the plan says, cutting it off where it must."""
    policy, limit, timeout = plan.policy, plan.policy.deadline, plan.policy.attempt_timeout
    is_limited = limit is not None or timeout is not None
    is_judged = policy.retry_on_result is not None or policy.budget is not None

    async def call(*args: Any, **kwargs: Any) -> Any:
        started, began, outer = clock.monotonic(), recorded.last, get_node()
        while outer is not None and outer[0] is None:  # most often what the call before this one left
            outer = outer[2]
        end = None if limit is None else started + limit
        if outer is not None:
            outer, end = plan.ends(started, outer)
        run = Run(plan, started, end, began) if is_judged else None
        node: Node | None = None
        result: Any = None
        try:
            while True:
                try:
                    try:
                        stop = end if timeout is None else plan.stop(end)
                        if is_limited:
                            set_node(node := [object, stop, outer, stop is not end])
                        result = fn(*args, **kwargs) if kwargs else fn(*args) if args else fn()
                        if awaited := type(result) is CoroutineType or is_awaitable(result):
                            if stop is None:
                                result = await result
                            else:
                                kind = DeadlineExceededError if stop is end else TimeoutError
                                is_own = outer is None or stop is not outer[1]
                                result = await cut_off(result, stop, kind, plan.operation, is_own)
                    finally:
                        if node is not None:
                            node[0] = None
                            if get_node() is not node:
                                leave(node)
                except Exception as error:
                    run = run or Run(plan, started, end, began)
                    if not run.goes_on_after(error):
                        raise
                else:
                    if not awaited:
                        raise not_awaitable(args[0] if applies else fn, called, instead)
                    if run is None or not run.goes_on_with(result):
                        return result
                if not await run.pause_async():
                    if run.error is None:
                        return result
                    raise run.error
        finally:
            if run is not None:
                run.close()

    return call
