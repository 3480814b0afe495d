"""The drivers: they call, catch and sleep; what to do after a failure, `decide` of policy.py says.

There are two, since waiting has two colours; `Run`, which both tell of each failure, is shared. A success at the
first attempt, by far the most frequent end, makes no `Run`. Sleeping happens outside the `except` block, so that the
next attempt's error does not get this one's as context.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from booking_resilience import clock
from booking_resilience.awaitables import AWAITABLE_NEVER, cut_off, hide_plumbing, is_awaitable, refuse_awaitable
from booking_resilience.deadlines import current_end, reset
from booking_resilience.errors import CircuitOpenError, DeadlineExceededError
from booking_resilience.events import RetryEvent
from booking_resilience.retry.history import remember
from booking_resilience.retry.plan import LEVELS, Plan, logger, tell, too_late
from booking_resilience.retry.policy import decide

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from booking_resilience.events import Outcome, Reason
    from booking_resilience.retry.history import RawAttempt


class Run:
    """One operation under way: what failed so far, and what comes next.

    Args:
        plan: What to go by.
        started: When it began, on the monotonic clock.
        end: When it must have ended, on the same clock; None for never.
    """

    __slots__ = ("attempt", "delay", "end", "error", "failures", "plan", "started")

    def __init__(self, plan: Plan, started: float, end: float | None) -> None:
        self.plan: Plan = plan
        self.started: float = started
        self.end: float | None = end
        self.attempt: int = 1
        self.failures: list[RawAttempt] = []
        self.error: BaseException | None = None
        self.delay: float = 0.0

    def goes_on_after(self, error: Exception | None) -> bool:
        """Note that the attempt failed (None: by its result); tell whether there will be another, after `delay`."""
        policy, now = self.plan.policy, clock.monotonic()
        if isinstance(error, CircuitOpenError) and self.failures and error.__cause__ is None:
            error.__cause__ = self.failures[-1][1]
        self.error = error
        halted = self.plan.circuit_open
        step: float | Reason = decide(
            policy,
            error,
            attempt=self.attempt,
            now=now,
            end=self.end,
            draw=random.random(),
            circuit_open=halted is not None and halted(),
            time_is_up=isinstance(error, DeadlineExceededError) and error.end is not None and error.end == self.end,
        )
        if not isinstance(step, str) and policy.budget is not None and not policy.budget.try_spend():
            step = "budget"
        elapsed = now - self.started
        if isinstance(step, str):
            self._gave_up(step, elapsed, elapsed)
            return False
        self.delay = step
        if error is not None:
            self.failures.append((self.attempt, error, step, elapsed))
        try:
            self._tell("retrying", None, step, elapsed)
        except BaseException:  # an interrupt
            self._refund()
            raise
        return True

    def goes_on_with(self, result: object) -> bool:
        """Note that the attempt returned; tell whether there will be another all the same."""
        rejects = self.plan.policy.retry_on_result
        if rejects is not None and rejects(result):
            return self.goes_on_after(None)
        self.succeeded()
        return False

    def succeeded(self) -> None:
        """Note that the operation succeeded."""
        if self.plan.policy.budget is not None:
            self.plan.policy.budget.deposit()
        if self.attempt > 1:
            if self.failures:
                self.error = self.failures[-1][1]
            self._tell("recovered", None, None, clock.monotonic() - self.started)

    def pause(self) -> bool:
        """Sleep; tell whether there is time for the next attempt after it."""
        if self.delay:
            try:
                clock.sleep(self.delay)
            except BaseException:
                self._interrupted()
                raise
        return self._next()

    async def pause_async(self) -> bool:
        """Do as `pause`, without blocking the event loop."""
        if self.delay:
            try:
                await clock.sleep_async(self.delay)
            except BaseException:
                self._interrupted()
                raise
        return self._next()

    def close(self) -> None:
        """Let go of the errors: their tracebacks lead back to the frame that holds this run."""
        self.failures = []
        self.error = None

    def _interrupted(self) -> None:
        self._refund()
        self.close()

    def _refund(self) -> None:
        if self.plan.policy.budget is not None:
            self.plan.policy.budget.refund()

    def _next(self) -> bool:
        if self.end is not None and (now := clock.monotonic()) >= self.end:  # the sleep took longer than asked
            self._refund()
            elapsed = self.failures.pop()[3] if self.error is not None else 0.0
            self._gave_up("deadline", elapsed, now - self.started)
            return False
        self.attempt += 1
        return True

    def _gave_up(self, reason: Reason, elapsed: float, total: float) -> None:
        if self.error is not None:
            self.failures.append((self.attempt, self.error, None, elapsed))
            plural = "" if self.attempt == 1 else "s"
            note = f"{self.plan.operation}: gave up after {self.attempt} attempt{plural} in {total:.2f} s ({reason})"
            remember(self.error, self.failures, note)
            for failure in self.failures:
                hide_plumbing(failure[1])
        self._tell("gave_up", reason, None, total)

    def _tell(self, outcome: Outcome, reason: Reason | None, delay: float | None, elapsed: float) -> None:
        plan = self.plan
        if plan.listener is not None or logger.isEnabledFor(LEVELS[outcome]):
            tell(plan, RetryEvent(plan.operation, self.attempt, outcome, reason, self.error, delay, elapsed))


def drive(plan: Plan, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `fn` as the plan says, in the calling thread."""
    policy = plan.policy
    limit, attempt_timeout = policy.deadline, policy.attempt_timeout
    judged = policy.retry_on_result is not None or policy.budget is not None

    def call(*args: Any, **kwargs: Any) -> Any:
        started = clock.monotonic()
        outer = end = current_end.get()
        if limit is not None and (outer is None or started + limit < outer):
            end = started + limit
        elif outer is not None and outer <= started:
            raise too_late(plan, outer)
        stop = end if attempt_timeout is None else earlier(end, started + attempt_timeout)
        run: Run | None = None
        result: Any = None
        try:
            while True:
                try:
                    if stop is outer:  # there is nothing to hand down
                        result = fn(*args, **kwargs)
                    else:
                        token = current_end.set(stop)
                        try:
                            result = fn(*args, **kwargs)
                        finally:
                            current_end.reset(token)
                except Exception as error:
                    run = run or Run(plan, started, end)
                    if not run.goes_on_after(error):
                        raise
                else:
                    if type(result) not in AWAITABLE_NEVER:
                        refuse_awaitable(result, "with_retry", "with_retry_async")
                    if run is None and not judged:
                        return result
                    run = run or Run(plan, started, end)
                    if not run.goes_on_with(result):
                        return result
                if not run.pause():
                    if run.error is None:
                        return result
                    raise run.error
                if attempt_timeout is not None:
                    stop = earlier(end, clock.monotonic() + attempt_timeout)
        finally:
            if run is not None:
                run.close()

    return call


def drive_async(plan: Plan, fn: Callable[..., Awaitable[Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a coroutine function that calls and awaits `fn` as the plan says, cutting it off where it must."""
    policy = plan.policy
    limit, attempt_timeout = policy.deadline, policy.attempt_timeout
    judged = policy.retry_on_result is not None or policy.budget is not None

    async def call(*args: Any, **kwargs: Any) -> Any:
        started = clock.monotonic()
        outer = end = current_end.get()
        if limit is not None and (outer is None or started + limit < outer):
            end = started + limit
        elif outer is not None and outer <= started:
            raise too_late(plan, outer)
        stop = end if attempt_timeout is None else earlier(end, started + attempt_timeout)
        run: Run | None = None
        result: Any = None
        try:
            while True:
                try:
                    if stop is None:
                        result = fn(*args, **kwargs)
                        if awaited := is_awaitable(result):
                            result = await result
                    else:
                        token = None if stop is outer else current_end.set(stop)
                        try:
                            result = fn(*args, **kwargs)
                            if awaited := is_awaitable(result):
                                kind = DeadlineExceededError if stop is end else TimeoutError
                                result = await cut_off(result, stop, kind, plan.operation)
                        finally:
                            if token is not None:
                                reset(token)
                except Exception as error:
                    run = run or Run(plan, started, end)
                    if not run.goes_on_after(error):
                        raise
                else:
                    if not awaited:
                        raise TypeError(f"with_retry_async was given {fn!r}, which gave no awaitable; use with_retry")
                    if run is None and not judged:
                        return result
                    run = run or Run(plan, started, end)
                    if not run.goes_on_with(result):
                        return result
                if not await run.pause_async():
                    if run.error is None:
                        return result
                    raise run.error
                if attempt_timeout is not None:
                    stop = earlier(end, clock.monotonic() + attempt_timeout)
        finally:
            if run is not None:
                run.close()

    return call


def earlier(end: float | None, other: float) -> float:
    """Return the earlier of two moments, the first of which may be None for never."""
    return other if end is None or other < end else end
