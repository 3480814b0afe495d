"""What a try of a call is: one operation of the pipeline, in a thread or on the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeAlias

from booking_resilience import deadlines
from booking_resilience.awaitables import refuse_awaitable
from booking_resilience.callbacks import is_coroutine_function
from booking_resilience.pipeline import Pipeline

End: TypeAlias = tuple[Any, BaseException | None]
"""The value that a try gave, or its error."""

Attempt: TypeAlias = Callable[[], Coroutine[Any, Any, End]]
"""Makes one try; it may be asked more often."""


def through(pipeline: Pipeline, operation: str, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Attempt:
    """Return the attempt that calls a function through the pipeline."""
    if is_coroutine_function(fn):
        return functools.partial(_on_loop, functools.partial(pipeline.call_async, operation, fn, *args, **kwargs))
    return functools.partial(_in_thread, functools.partial(pipeline.call, operation, fn, *args, **kwargs))


def handed(fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Attempt:
    """Return the attempt that calls a function which makes its calls through a pipeline that it is given."""
    if is_coroutine_function(fn):
        return functools.partial(_on_loop, functools.partial(fn, *args, **kwargs))

    def call() -> Any:
        value = fn(*args, **kwargs)
        refuse_awaitable(value, "Durable.call_once", "an `async def` function")
        return value

    return functools.partial(_in_thread, call)


def begin(attempt: Attempt) -> asyncio.Task[End]:
    """Begin a try, whatever deadline its context holds."""
    context = contextvars.copy_context()
    context.run(deadlines.set_node, None)
    return asyncio.get_running_loop().create_task(attempt(), context=context)


async def _on_loop(fn: Callable[[], Awaitable[Any]]) -> End:
    try:
        return await fn(), None
    except BaseException as error:  # noqa: BLE001 - judged by who asked
        return None, error


async def _in_thread(fn: Callable[[], Any]) -> End:
    """Call in a daemon thread, which neither a cancelled task nor a process that ends waits for."""
    context = contextvars.copy_context()
    ended: Future[End] = Future()
    ended.set_running_or_notify_cancel()  # from now on it can't be cancelled

    def run() -> None:
        try:
            ended.set_result((context.run(fn), None))
        except BaseException as error:  # noqa: BLE001 - judged by who asked
            ended.set_result((None, error))

    threading.Thread(target=run, name="booking-resilience-durable-try", daemon=True).start()
    return await asyncio.wrap_future(ended)
