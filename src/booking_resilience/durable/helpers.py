"""Helpers of `Durable`: the names of workflows, and what event loops need."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from booking_resilience import clock


def name_of(workflow: object) -> str:
    """Return the name by which a workflow is known."""
    while isinstance(workflow, functools.partial):
        workflow = workflow.func
    return str(getattr(workflow, "__qualname__", None) or type(workflow).__qualname__)


async def off_loop(fn: Callable[[], Any]) -> Any:
    """Return what `fn` returns, called in a thread; under asyncio or trio."""
    if clock.in_trio():
        import trio

        return await trio.to_thread.run_sync(fn)
    return await asyncio.to_thread(fn)


async def sleep(seconds: float) -> None:
    """Sleep, under asyncio or trio, in real time: the database's."""
    if clock.in_trio():
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)
