"""One run of a workflow in this process, and the loop of tries that each of its calls is."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import json
import logging
import random
import time
from contextvars import ContextVar
from typing import Any, Final, Never

from booking_resilience.durable.crew import Crew
from booking_resilience.durable.errors import DurableStoreError, Parked
from booking_resilience.durable.outcomes import CANCELLED, Outcome, failed, gave_up, open_outcome, shown, succeeded
from booking_resilience.durable.schedule import refusal_of, setback_of
from booking_resilience.durable.tries import Attempt, End, begin
from booking_resilience.durable.values import decode

logger: logging.Logger = logging.getLogger("booking_resilience.durable")
current: ContextVar[Run | None] = ContextVar("booking_resilience_durable_run", default=None)

_LOOK_AGAIN: Final = 0.5  # seconds, for a cancellation while the database is in trouble


@dataclasses.dataclass
class Progress:
    """How far a call has come that hasn't ended; the store has columns of these names."""

    call: int  # its number among the calls of the workflow, from 1
    operation: str
    attempts: int = 0
    setbacks: int = 0  # that made its pauses longer
    error: str | None = None  # the last one's text, redacted
    since: float = dataclasses.field(default_factory=time.time)  # seconds since 1970, as `next_try`
    next_try: float | None = None  # None while it doesn't wait


class Run:
    """One run of a workflow."""

    def __init__(self, crew: Crew, id: str, state: dict[str, Any], ended: int) -> None:
        self.crew: Crew = crew
        self.id: str = id
        self.progress: Progress = Progress(0, "")
        self._state = state  # what is kept of the call that waited when it ran last, or nothing
        self._ended = ended  # so many of its calls have ended in earlier runs
        self._calls = 0
        self._task: asyncio.Task[End] | None = None  # the try under way
        self._is_busy = self._is_parked = False
        self._is_cancelled = bool(state.get("cancelled"))
        self._is_told = False  # of the cancellation
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.Event | None = None  # set when it is to end early
        self._original: BaseException | None = None

    # Asked and told by other threads

    @property
    def waits(self) -> bool:
        """Whether it is in a pause."""
        return self._pause is not None

    def wake(self) -> bool:
        """End the pause; tell whether there is one."""
        pause = self._pause
        if pause is None:
            return False
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(pause.set)
        return True

    def cancel(self) -> None:
        """Make the next call raise `WorkflowCancelledError`."""
        if not self._is_cancelled:
            self._is_cancelled = True
            self.wake()

    def abandon(self) -> None:
        """Cancel the try that is under way."""
        task = self._task
        if task is not None:
            self._loop.call_soon_threadsafe(task.cancel)

    # The workflow

    async def outcome(self, name: str, arguments: str) -> Outcome:
        """Return how the workflow of this name ended.

        Raises:
            Parked: If it is to be run again.
        """
        fn = self.crew.workflows.get(name)
        if fn is None:
            await self._misfit(f"it doesn't know the workflow {name!r}")
        args, kwargs = (decode(part) for part in json.loads(arguments))
        try:
            inspect.signature(fn).bind(*args, **kwargs)
        except TypeError as error:
            await self._misfit(f"{name}: {error}")
        try:
            outcome = succeeded(f"the result of {name}", await fn(*args, **kwargs))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the workflow's own, which is its end
            outcome = failed(name, error)
        if self._is_parked:  # and its code has swallowed that
            raise Parked
        if self._calls < self._ended:
            await self._misfit(f"it ends after {self._calls} calls, {self._ended} were made")
        return outcome

    def _park(self) -> Never:
        """Leave the workflow where it is."""
        self._is_parked = True
        raise Parked

    async def _misfit(self, why: str) -> Never:
        """Leave the workflow where it is until a version runs it that fits."""
        version = self.crew.version
        text = f"version {version!r} cannot run it: {why}"
        facts: dict[str, Any] = {"error": text, "misfit": version, "next_try": None}
        if self._state.get("call") != self._ended + 1:  # nothing is kept of the call that waits
            facts |= {"operation": self.progress.operation, "attempts": 0, "since": time.time()}
        try:
            await asyncio.to_thread(self.crew.store.keep, self.id, **facts)
        except DurableStoreError:  # then it is run again, and found out again
            self._park()
        self.crew.misfits.add(self.id)
        logger.warning("workflow %s waits: %s", self.id, text)
        self._park()

    # A call

    async def call(self, operation: str, attempt: Attempt) -> Any:
        """Return what a call returned, now or in an earlier run, or raise what it raised."""
        if self._is_busy:
            raise RuntimeError(f"{operation}: another call of this workflow has not ended; await one after the other")
        if self._is_parked or self.crew.is_stopping:
            self._park()
        self._is_busy = True
        self._calls += 1

        async def step() -> Outcome:
            number, outcome = self.crew.known.get(self.id, (0, CANCELLED))
            if number != self._calls or self._cancel_is_due():
                outcome = await self._tries(operation, attempt)
                self.crew.known[self.id] = self._calls, outcome
            return {"called": operation, **outcome}

        try:
            kept = await self.crew.engine.step(step)
            self.crew.known.pop(self.id, None)
        except asyncio.CancelledError as end:
            self._is_parked = True
            if not isinstance(end, Parked) and not self.crew.is_stopping:
                logger.warning("workflow %s begins again, since its own code cut %r off", self.id, operation)
            raise
        finally:
            self._is_busy = False
            self.crew.trying.discard(self)
        if kept["called"] != operation:
            await self._misfit(f"call {self._calls} is {operation!r} in this version, and was {kept['called']!r}")
        if kept["kind"] == "cancelled":
            self._is_told = True
        original, self._original = self._original, None
        try:
            return open_outcome(kept, original)
        finally:
            del original

    async def _tries(self, operation: str, attempt: Attempt) -> Outcome:
        self._begin(operation)
        while True:
            await self._wait()
            if self._cancel_is_due():  # without a place: others may hold them for long
                return CANCELLED
            value: Any = None
            async with self.crew.places:
                if self.crew.is_stopping:
                    self._park()
                error: BaseException | None = refusal_of(self.crew.pipeline)
                if error is None and not self._cancel_is_due():
                    value, error = await self._try(attempt)
            if self._cancel_is_due():
                return CANCELLED
            if error is None:
                return succeeded(f"the result of {operation}", value)
            outcome = await self._after(error)
            if outcome is not None:
                return outcome
            self.crew.trying.discard(self)

    def _begin(self, operation: str) -> None:
        """Take up where an earlier run was interrupted in a pause of this call."""
        self.progress = Progress(self._calls, operation)
        if self._state.get("call") == self._calls:
            kept = {name: self._state[name] for name in vars(self.progress)}
            self.progress = Progress(**{**kept, "operation": operation})

    async def _wait(self) -> None:
        """Wait until the next try, unless somebody cancels or asks for it now."""
        if self.progress.next_try is None:
            return
        pause = self._pause = asyncio.Event()
        try:
            if not self._cancel_is_due():
                async with asyncio.timeout(self.progress.next_try - time.time()):
                    await pause.wait()
        except TimeoutError:
            pass
        finally:
            self._pause = self.progress.next_try = None

    async def _try(self, attempt: Attempt) -> End:
        """Make one try, and look whether the workflow was cancelled meanwhile."""
        self.crew.trying.add(self)
        task = self._task = begin(attempt)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            self._task = None
        end: End = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
        if isinstance(end[1], asyncio.CancelledError) and self.crew.is_stopping:
            self._park()
        while not self._is_cancelled:
            try:
                state = await asyncio.to_thread(self.crew.store.state, self.id)
                self._is_cancelled = bool(state.get("cancelled"))
                break
            except DurableStoreError:
                if self.crew.is_stopping:
                    self._park()
                await asyncio.sleep(_LOOK_AGAIN)
        return end

    async def _after(self, error: BaseException) -> Outcome | None:
        """Return the outcome if the error is final; else note when to try again, and return None."""
        progress, schedule = self.progress, self.crew.schedule
        setback = setback_of(error, self.crew.pipeline)
        if setback is None:
            self._original = error
            return failed(progress.operation, error)
        progress.attempts += setback.is_try
        progress.setbacks += setback.grows
        if setback.is_try or progress.error is None:
            progress.error = shown(error)
        next_try = time.time() + schedule.pause(progress.setbacks, random.random(), setback)
        if schedule.is_too_late(next_try, progress.since):
            self._original = error
            return gave_up(progress.operation, progress.attempts, progress.error)
        progress.next_try = next_try
        if setback.is_try:
            try:
                await asyncio.to_thread(self.crew.store.keep, self.id, **vars(progress), misfit=None, woken=0)
            except DurableStoreError as trouble:  # the pause goes on all the same, and the next one is kept again
                logger.info("workflow %s: its pause could not be kept: %s", self.id, trouble)
        return None

    def _cancel_is_due(self) -> bool:
        return self._is_cancelled and not self._is_told


async def run_workflow(crew: Crew, id: str, name: str, arguments: str) -> Outcome:
    """Run a workflow and return its outcome.

    Raises:
        Parked: If it is to be run again.
    """
    if crew.is_stopping:
        raise Parked
    crew.begun += 1
    try:
        state, ended = await asyncio.to_thread(lambda: (crew.store.state(id), crew.store.steps(id)))
    except DurableStoreError as error:
        raise Parked from error
    run = crew.runs[id] = Run(crew, id, state, ended)
    current.set(run)
    try:
        return await run.outcome(name, arguments)
    finally:
        if crew.runs.get(id) is run:
            del crew.runs[id]
