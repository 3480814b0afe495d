"""What the runs of workflows in one process share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from booking_resilience.durable.engine import Engine
from booking_resilience.durable.schedule import Schedule
from booking_resilience.durable.store import Store
from booking_resilience.pipeline import Pipeline


@dataclass(eq=False)
class Crew:
    """The runs of this process.

    Attributes:
        process: This process' ID.
        version: The version of the workflows' code.
        store: The database.
        pipeline: What tries go through.
        schedule: When calls are tried again.
        workflows: The workflows' functions, by name.
        places: Bounds the tries that run at once.
        engine: DBOS.
        runs: The runs, by workflow.
        trying: The runs with a try under way, until its outcome is kept.
        misfits: Workflows that this process could not run.
        is_stopping: Whether no more tries begin.
    """

    process: str
    version: str
    store: Store
    pipeline: Pipeline
    schedule: Schedule
    workflows: dict[str, Callable[..., Awaitable[Any]]]
    places: asyncio.Semaphore  # bound to DBOS' event loop when it is first waited for
    engine: Engine = field(init=False)
    runs: dict[str, Any] = field(default_factory=dict)
    trying: set[Any] = field(default_factory=set)
    misfits: set[str] = field(default_factory=set)
    is_stopping: bool = False

    def stop(self, timeout: float) -> None:
        """Begin no more tries, and let those under way end within `timeout` seconds."""
        self.is_stopping = True
        end = time.monotonic() + timeout
        while self.trying and time.monotonic() < end:
            time.sleep(0.01)
        for run in list(self.trying):
            run.abandon()
