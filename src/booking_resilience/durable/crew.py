"""What the runs of workflows in one process share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from booking_resilience.durable.engine import Engine
from booking_resilience.durable.outcomes import Outcome
from booking_resilience.durable.schedule import Schedule
from booking_resilience.durable.store import Store
from booking_resilience.pipeline import Pipeline

LOOSE = 1.0
"""Seconds after which the end of a run should be kept."""


class Crew:
    """The runs of this process.

    Args:
        store: The database.
        pipeline: What tries go through.
        schedule: When calls are tried again.
        version: The version of the workflows' code.
        workflows: The workflows' functions, by name.
        max_in_flight: How many tries may run at once.
    """

    def __init__(
        self,
        store: Store,
        *,
        pipeline: Pipeline,
        schedule: Schedule,
        version: str,
        workflows: dict[str, Callable[..., Awaitable[Any]]],
        max_in_flight: int,
    ) -> None:
        self.store: Store = store
        self.pipeline: Pipeline = pipeline
        self.schedule: Schedule = schedule
        self.version: str = version
        self.workflows = workflows
        self.engine: Engine
        self.places: asyncio.Semaphore = asyncio.Semaphore(
            max_in_flight
        )  # bound to DBOS' event loop when it is first waited for
        self.runs: dict[str, Any] = {}  # by workflow
        self.trying: set[Any] = set()  # from the beginning of a try until its outcome is kept
        self.tasks: set[asyncio.Task[Any]] = set()
        self.known: dict[tuple[str, int], Outcome] = {}  # outcomes that could not be kept yet
        self.loose: dict[str, float] = {}  # runs that ended, and when: is their end kept?
        self.misfits: set[str] = set()  # what this process could not run
        self.is_stopping: bool = False

    def stop(self, timeout: float) -> None:
        """Begin no more tries, and let those under way end within `timeout` seconds."""
        self.is_stopping = True
        end = time.monotonic() + timeout
        while self.trying and time.monotonic() < end:
            time.sleep(0.01)
        for task in list(self.tasks):
            task.get_loop().call_soon_threadsafe(task.cancel)
