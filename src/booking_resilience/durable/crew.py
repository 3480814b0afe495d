"""All runs of workflows in this process, and how one is begun and ends."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from booking_resilience.durable.engine import Engine
from booking_resilience.durable.errors import DurableStoreError, Parked
from booking_resilience.durable.outcomes import Outcome, failed, succeeded
from booking_resilience.durable.run import Run, current
from booking_resilience.durable.schedule import Schedule
from booking_resilience.durable.store import Store
from booking_resilience.durable.values import decode
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
        self.store, self.pipeline, self.schedule, self.version = store, pipeline, schedule, version
        self.workflows = workflows
        self.engine: Engine
        self.places = asyncio.Semaphore(max_in_flight)  # bound to DBOS' event loop when it is first waited for
        self.runs: dict[str, Run] = {}
        self.trying: set[Run] = set()  # from the beginning of a try until its outcome is kept
        self.tasks: set[asyncio.Task[Any]] = set()
        self.known: dict[tuple[str, int], Outcome] = {}  # outcomes that could not be kept yet
        self.loose: dict[str, float] = {}  # runs that ended, and when: is their end kept?
        self.misfits: set[str] = set()  # what this process could not run
        self.is_stopping = False

    async def run(self, id: str, name: str, arguments: str) -> Outcome:  # noqa: A002 - the public word for it
        """Run a workflow and return its outcome.

        Raises:
            Parked: If it is to be run again.
        """
        if self.is_stopping:
            raise Parked
        try:
            state, ended = await asyncio.to_thread(self._load, id)
        except DurableStoreError as error:
            self.loose[id] = time.monotonic()
            raise Parked from error
        run = self.runs[id] = Run(self, id, state, ended)
        token = current.set(run)
        try:
            return await self._outcome(run, name, arguments)
        finally:
            current.reset(token)
            self.trying.discard(run)
            if self.runs.get(id) is run:
                del self.runs[id]
                if run.is_misfit:
                    self.misfits.add(id)
                else:
                    self.loose[id] = time.monotonic()

    def _load(self, id: str) -> tuple[dict[str, Any] | None, int]:  # noqa: A002 - as above
        return self.store.state(id), self.store.steps(id)

    async def _outcome(self, run: Run, name: str, arguments: str) -> Outcome:
        fn = self.workflows.get(name)
        if fn is None:
            await run.misfit(f"it doesn't know the workflow {name!r}")
        assert fn is not None
        args, kwargs = (decode(part) for part in json.loads(arguments))
        try:
            inspect.signature(fn).bind(*args, **kwargs)
        except TypeError as error:
            await run.misfit(f"{name}: {error}")
        try:
            value = await fn(*args, **kwargs)
        except (Parked, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - the workflow's own, which is its end
            outcome = failed(name, error)
        else:
            outcome = succeeded(f"the result of {name}", value)
        if run.is_parked:  # and its code has swallowed that
            raise Parked
        if run.calls < run.ended:
            await run.misfit(f"it ends after {run.calls} calls, {run.ended} were made")
        return outcome

    def stop(self, timeout: float) -> None:
        """Begin no more tries, and let those under way end within `timeout` seconds."""
        self.is_stopping = True
        end = time.monotonic() + timeout
        while self.trying and time.monotonic() < end:
            time.sleep(0.01)
        for task in list(self.tasks):
            task.get_loop().call_soon_threadsafe(task.cancel)
