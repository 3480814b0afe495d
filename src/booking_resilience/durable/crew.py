"""What the runs of workflows in one process share."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from booking_resilience.durable.engine import Engine
from booking_resilience.durable.outcomes import Outcome
from booking_resilience.durable.schedule import Schedule
from booking_resilience.durable.store import Store
from booking_resilience.pipeline import Pipeline


@dataclass(eq=False)
class Crew:
    """The runs of this process."""

    process: str  # this process' ID
    version: str  # of the workflows' code
    store: Store
    pipeline: Pipeline
    schedule: Schedule
    workflows: dict[str, Callable[..., Awaitable[Any]]]  # by name
    places: asyncio.Semaphore  # of tries that run at once; bound to DBOS' event loop when it is first waited for
    engine: Engine = field(init=False)
    pid: int = field(default_factory=os.getpid)  # a forked child has the same crew, but none of its threads
    runs: dict[str, Any] = field(default_factory=dict)  # by workflow
    begun: int = 0  # runs so far
    trying: set[Any] = field(default_factory=set)  # the runs with a try under way, until its outcome is kept
    known: dict[str, tuple[int, Outcome]] = field(default_factory=dict)  # the last call's, until it is kept
    misfits: set[str] = field(default_factory=set)  # workflows that this process could not run
    is_stopping: bool = False  # no more tries begin

    def check_process(self) -> None:
        """Check that this isn't a forked child, whose connections are its parent's.

        Raises:
            RuntimeError: If it is one.
        """
        if os.getpid() != self.pid:
            raise RuntimeError("this Durable was started before this process was forked: start it after the fork")

    def stop(self, timeout: float) -> None:
        """Begin no more tries, and let those under way end within `timeout` seconds."""
        self.is_stopping = True
        end = time.monotonic() + timeout
        while self.trying and time.monotonic() < end:
            time.sleep(0.01)
        for run in list(self.trying):
            run.abandon()
