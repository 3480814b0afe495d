"""What a try of a call is: one operation of the pipeline, in a thread or as a task, and what its error means."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from booking_resilience import deadlines
from booking_resilience.awaitables import refuse_awaitable
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.callbacks import is_coroutine_function
from booking_resilience.durable.schedule import Setback
from booking_resilience.errors import CircuitOpenError, DeadlineExceededError, LimitExceededError
from booking_resilience.events import BreakerState
from booking_resilience.pipeline import Pipeline
from booking_resilience.verdicts import is_own_refusal, is_transient, leaves, retry_after_of


@dataclass(frozen=True, slots=True)
class Attempt:
    """A function to call, once or more often.

    Attributes:
        fn: Calls it, through the pipeline; without arguments.
        is_async: Whether that gives an awaitable.
    """

    fn: Callable[[], Any]
    is_async: bool


def through(pipeline: Pipeline, operation: str, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Attempt:
    """Return the attempt that calls a function through the pipeline."""
    is_async = is_coroutine_function(fn)
    call: Callable[..., Any] = pipeline.call_async if is_async else pipeline.call
    return Attempt(functools.partial(call, operation, fn, *args, **kwargs), is_async)


def handed(fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Attempt:
    """Return the attempt that calls a function which makes its calls through a pipeline that it is given."""
    is_async = is_coroutine_function(fn)

    def call() -> Any:
        value = fn(*args, **kwargs)
        if not is_async:
            refuse_awaitable(value, "Durable.call_once", "an `async def` function")
        return value

    return Attempt(call, is_async)


async def made(attempt: Attempt, tasks: set[asyncio.Task[Any]]) -> tuple[Any, BaseException | None]:
    """Make one attempt, whatever deadline its context holds, and return its value or its error.

    Args:
        attempt: What to do.
        tasks: Holds an asynchronous attempt while it runs, so that it can be cancelled.
    """
    context = contextvars.copy_context()
    context.run(deadlines.set_node, None)
    if not attempt.is_async:
        return await _in_thread(functools.partial(context.run, attempt.fn))
    task = asyncio.get_running_loop().create_task(_caught(attempt.fn), context=context)
    tasks.add(task)
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
        tasks.discard(task)
    return task.result() if not task.cancelled() else (None, asyncio.CancelledError())


async def _caught(fn: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
    try:
        return await fn(), None
    except BaseException as error:  # noqa: BLE001 - judged by who asked
        return None, error


async def _in_thread(fn: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Call in a daemon thread, which a process that ends doesn't wait for."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def tell(end: tuple[Any, BaseException | None]) -> None:
        if not ended.done():
            ended.set_result(end)

    def run() -> None:
        try:
            end: tuple[Any, BaseException | None] = fn(), None
        except BaseException as error:  # noqa: BLE001 - judged by who asked
            end = None, error
        try:
            loop.call_soon_threadsafe(tell, end)
        except RuntimeError:  # the loop was closed meanwhile
            pass

    threading.Thread(target=run, name="booking-resilience-durable-try", daemon=True).start()
    return await ended


def refusal_of(pipeline: Pipeline) -> CircuitOpenError | None:
    """Return the error with which the pipeline's breaker would reject a call now; None if it must be asked."""
    breaker = _guard(pipeline)
    if breaker is None:
        return None
    snapshot = breaker.snapshot()
    if snapshot.state is BreakerState.ISOLATED:
        return CircuitOpenError(breaker.name, None, snapshot.reason)
    if snapshot.state is BreakerState.OPEN and snapshot.retry_after:
        return CircuitOpenError(breaker.name, snapshot.retry_after)
    return None


def _guard(pipeline: Pipeline) -> CircuitBreaker | None:
    """Return the pipeline's breaker if it rejects calls: a shadow never does."""
    breaker = pipeline.breaker
    return None if breaker is None or breaker._core.is_shadow else breaker


def setback_of(error: BaseException, pipeline: Pipeline) -> Setback | None:
    """Return what the error of a try means for the next; None if it is final."""
    asked = retry_after_of(error)
    refused = _refusal_in(error)
    if refused is None and not _may_succeed_later(error, pipeline):
        return None
    breaker = _guard(pipeline)
    snapshot = None if breaker is None else breaker.snapshot()
    state = None if snapshot is None else snapshot.state
    open_for = snapshot.retry_after if snapshot is not None and state is BreakerState.OPEN else None
    half_open = state is BreakerState.HALF_OPEN
    if refused is None:
        return Setback(True, True, asked, open_for, half_open)
    is_try = isinstance(error.__cause__, Exception)
    if asked and not half_open:
        open_for = max(open_for or 0.0, asked)
    half_open = half_open or (isinstance(refused, CircuitOpenError) and refused.retry_after == 0)
    return Setback(is_try, is_try or refused.retry_after is None, asked, open_for, half_open)


def _refusal_in(error: BaseException) -> CircuitOpenError | LimitExceededError | None:
    if not isinstance(error, Exception) or not is_own_refusal(error):
        return None
    return next((leaf for leaf in leaves(error) if isinstance(leaf, (CircuitOpenError, LimitExceededError))), None)


def _may_succeed_later(error: BaseException, pipeline: Pipeline) -> bool:
    if not isinstance(error, Exception):
        return False
    if isinstance(error, DeadlineExceededError) or is_transient(error) or pipeline.retry.passes(error):
        return True
    appwrite: Any = sys.modules.get("booking_resilience.appwrite")
    unknown = getattr(appwrite, "outcome_unknown", None)
    return unknown is not None and bool(unknown(error))
