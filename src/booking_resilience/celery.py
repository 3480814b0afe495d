"""Celery tasks that are retried as a policy says, and wait while a breaker is open.

Each retry is a message of its own, so that a pause takes no worker's place. What was tried so far goes along in the
header `booking_resilience`, with the type and the text of the last error.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable
from typing import Any

import celery
from celery.exceptions import TaskPredicate

from booking_resilience.awaitables import gives_coroutines
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.callbacks import text_of
from booking_resilience.checks import check_number, check_type, has_method
from booking_resilience.deadlines import deadline
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import ErrorCategory, recorded, tell_began
from booking_resilience.monitor.record import Outcome
from booking_resilience.pipeline import Pipeline
from booking_resilience.recording import ErrorRecorder, Records
from booking_resilience.retry import DEFAULT_RETRY, RetryPolicy
from booking_resilience.retry.policy import decide

__all__ = ["resilient_task"]

_HEADER = "booking_resilience"
_LONGEST = 1024  # characters of an error's text
_ASK_AGAIN = 1.0  # seconds, where `base_delay` is 0


def resilient_task(
    app: Any,
    *,
    retry: RetryPolicy = DEFAULT_RETRY,
    breaker: CircuitBreaker | None = None,
    monitor: ErrorRecorder | None = None,
    max_open_wait: float = 300.0,
    **options: Any,
) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that makes a task of a function, in place of `app.task`.

    A try that fails is retried by `task.retry(countdown=…)` as the policy says; the policy's `deadline`, or its
    `attempt_timeout` if that is shorter, bounds one try.
    A refusal by a breaker, this one or another that the function meets, is no attempt: the task waits for the refusal's
    `retry_after`, or `base_delay`, doubling up to `max_delay`, where there is none. Run eagerly or called directly,
    a task doesn't wait: the rejection comes out.

    Args:
        app: The Celery application.
        retry: When to try again; without `retry_on_result`.
        breaker: The breaker that each try passes through, or None.
        monitor: Gets a record of each task that failed for good or recovered; its operation is the task's name. Or
            None.
        max_open_wait: Seconds that a task waits for open breakers, all waits together; 0 or more.
        options: What `app.task` takes; `max_retries` and `autoretry_for` are the policy's to say.

    Raises:
        TypeError: If a setting is of the wrong type, `max_retries` or `autoretry_for` is given, or what is decorated is
            an `async def`, a generator function or no function.
        ValueError: If a setting is out of its range, or the policy has `retry_on_result`.
    """
    check_type("app", app, has_method(app, "task"), "a Celery application")
    Pipeline(retry=retry, breaker=breaker, monitor=monitor)  # which checks them
    check_number("max_open_wait", max_open_wait)
    for name in ("max_retries", "autoretry_for"):
        if name in options:
            raise TypeError(f"{name} can't be given: the policy says what is tried again, and how often")
    if retry.retry_on_result is not None:
        raise ValueError("retry must be a policy without retry_on_result: the results of tasks aren't judged")
    is_bound = options.pop("bind", False)
    tries = _Tries(retry, breaker, monitor, max_open_wait)

    def decorate(fn: Callable[..., Any]) -> Any:
        if gives_coroutines(fn, "resilient_task"):
            raise TypeError(f"fn must be a plain function, which a worker can run, not {fn!r}")

        @functools.wraps(fn)
        def run(task: celery.Task, *args: Any, **kwargs: Any) -> Any:
            return tries.run(task, functools.partial(fn, task) if is_bound else fn, args, kwargs)

        return app.task(bind=True, max_retries=None, **options)(run)

    return decorate


class _Tries:
    """Makes one try of a task, and has the task tried again."""

    def __init__(
        self, retry: RetryPolicy, breaker: CircuitBreaker | None, monitor: ErrorRecorder | None, max_open_wait: float
    ) -> None:
        self._retry, self._breaker, self._max_open_wait = retry, breaker, max_open_wait
        self._records = None if monitor is None else Records(monitor, ErrorCategory.NETWORK, breaker, is_replaced=False)

    def run(self, task: celery.Task, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make one try, and have the task tried again if it fails and the policy says so."""
        began = recorded.last
        attempts, refusals, waited, last = (task.request.headers or {}).get(_HEADER) or (0, 0, 0.0, None)
        try:
            result = self._call(fn, args, kwargs)
        except TaskPredicate:  # the function's own `task.retry`, `Ignore` or `Reject`
            raise
        except Exception as error:
            if isinstance(error, CircuitOpenError):
                countdown, refusals = self._wait(task, error, refusals, waited), refusals + 1
                waited += countdown or 0.0
            else:
                attempts += 1
                last = [type(error).__module__, type(error).__qualname__, text_of(error)[:_LONGEST]]
                countdown = None if task.request.called_directly else self._pause(error, attempts)
            if countdown is None:
                if self._records is not None:
                    was_refused = attempts == 0 or (attempts == 1 and isinstance(error, LimitExceededError))
                    outcome: Outcome = "refused" if was_refused else "failed"
                    made = 0 if was_refused else attempts
                    tell_began(began, self._records.record, error, str(task.name), outcome, made)
                raise
            headers = {**(task.request.headers or {}), _HEADER: [attempts, refusals, waited, last]}
            raise task.retry(exc=error, countdown=countdown, headers=headers) from error
        if self._retry.budget is not None:
            self._retry.budget.deposit()
        if last is not None and self._records is not None:
            self._records.record(_error_of(*last), str(task.name), "recovered", attempts + 1)
        return result

    def _call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        permit = None if self._breaker is None else self._breaker.acquire()
        try:
            limits = [limit for limit in (self._retry.deadline, self._retry.attempt_timeout) if limit is not None]
            with deadline(min(limits)) if limits else contextlib.nullcontext():
                result = fn(*args, **kwargs)
        except BaseException as error:
            if permit is not None:
                permit.release() if isinstance(error, TaskPredicate) else permit.failure(error)
            raise
        if permit is not None:
            permit.success()
        return result

    def _wait(self, task: celery.Task, error: CircuitOpenError, refusals: int, waited: float) -> float | None:
        """Return the seconds until a refused task asks again; None if it has waited long enough, or can't wait."""
        left = self._max_open_wait - waited
        if left <= 0 or task.request.is_eager or task.request.called_directly:
            return None
        doubled = min((self._retry.base_delay or _ASK_AGAIN) * 2.0 ** min(refusals, 64), self._retry.max_delay)
        return min(error.retry_after or doubled or _ASK_AGAIN, left)

    def _pause(self, error: Exception, attempts: int) -> float | None:
        """Return the seconds until the next attempt; None if there is none."""
        step = decide(self._retry, error, attempts, 0.0, None, random.random())
        if isinstance(step, str) or (self._retry.budget is not None and not self._retry.budget.try_spend()):
            return None
        return step


def _error_of(module: str, name: str, text: str) -> Exception:
    """Return an error that stands for one that another worker met, with the same type and text."""
    error: Exception = type(name, (Exception,), {"__module__": module})(text)
    return error
