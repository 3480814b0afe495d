"""One run of a workflow in this process, and the loop of tries that each of its calls is."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextvars import ContextVar
from typing import Any, Final, Never

from booking_resilience.durable.crew import Crew
from booking_resilience.durable.errors import DurableStoreError, Parked
from booking_resilience.durable.outcomes import (
    CANCELLED,
    Outcome,
    error_of,
    failed,
    gave_up,
    open_outcome,
    shown,
    succeeded,
)
from booking_resilience.durable.tries import Attempt, made, refusal_of, setback_of
from booking_resilience.locks import new_lock

logger: logging.Logger = logging.getLogger("booking_resilience.durable")
current: ContextVar[Run | None] = ContextVar("booking_resilience_durable_run", default=None)

_LONGEST_SLEEP: Final = 3600.0  # seconds; event loops bear no endless timers


class Run:
    """One run of a workflow.

    Args:
        crew: The runs of this process.
        id: The workflow's ID.
        state: What is kept of the call that waited when it ran last, or None.
        ended: How many of its calls have ended.
    """

    def __init__(self, crew: Crew, id: str, state: dict[str, Any] | None, ended: int) -> None:
        self.crew: Crew = crew
        self.id: str = id
        self.ended: int = ended
        self.calls: int = 0
        self.is_busy: bool = False
        self.is_parked: bool = False
        self.is_misfit: bool = False
        self._state = state or {}
        self.is_cancelled: bool = bool(self._state.get("cancelled"))
        self._is_told = False  # of the cancellation
        self._lock = new_lock()
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._waits = self._is_woken = False
        self._original: BaseException | None = None
        self.operation: str = ""
        self.attempts: int = 0
        self.setbacks: int = 0
        self.error: str | None = None
        self.since: float | None = None
        self.next_try: float | None = None

    # Asked and told by other threads

    def cancel(self) -> None:
        """Make the next call raise `WorkflowCancelledError`."""
        self.is_cancelled = True
        self.ring()

    def wake(self) -> bool:
        """End the pause; tell whether there is one."""
        with self._lock:
            if not self._waits:
                return False
            self._is_woken = True
        self.ring()
        return True

    def ring(self) -> None:
        """Have it look at what has changed."""
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:  # the loop was closed
            pass

    @property
    def waits(self) -> bool:
        """Whether it is in a pause."""
        return self._waits

    # A call

    async def call(self, operation: str, attempt: Attempt) -> Any:
        """Return what a call returned, now or in an earlier run, or raise what it raised."""
        if self.is_busy:
            raise RuntimeError(f"{operation}: another call of this workflow has not ended; await one after the other")
        if self.is_parked or self.crew.is_stopping:
            self.park()
        self.is_busy = True
        try:
            kept = await self._kept(operation, attempt)
        except (Parked, asyncio.CancelledError):
            self.is_parked = True
            raise
        finally:
            self.is_busy = False
            self.crew.trying.discard(self)
        if kept["called"] != operation:
            await self.misfit(f"call {self.calls} is {operation!r} in this version, and was {kept['called']!r}")
        if kept["kind"] == "cancelled":
            self._is_told = True
        original, self._original = self._original, None
        if kept["kind"] == "value":
            return open_outcome(kept)
        try:
            raise error_of(kept) from original
        finally:
            del original

    def park(self) -> Never:
        """Leave the workflow where it is."""
        self.is_parked = True
        raise Parked

    async def misfit(self, why: str) -> Never:
        """Leave the workflow where it is until a version runs it that fits."""
        version = self.crew.version
        text = f"version {version!r} cannot run it: {why}"
        facts: dict[str, Any] = {"error": text, "misfit": version, "next_try": None}
        if self._state.get("call") != self.ended + 1:  # nothing is kept of the call that waits
            facts |= {"operation": self.operation, "attempts": 0, "since": time.time()}
        try:
            await asyncio.to_thread(self.crew.store.keep, self.id, **facts)
        except DurableStoreError:  # then it is run again, and found out again
            self.park()
        self.is_misfit = True
        logger.warning("workflow %s waits: %s", self.id, text)
        self.park()

    async def _kept(self, operation: str, attempt: Attempt) -> Outcome:
        number = self.calls = self.calls + 1

        async def body() -> Outcome:
            outcome = self.crew.known.get((self.id, number))
            if outcome is None or (self._cancel_is_due() and outcome != CANCELLED):
                outcome = await self._tries(operation, number, attempt)
                self.crew.known[self.id, number] = outcome
            return {"call": number, "called": operation, **outcome}

        kept = await self.crew.engine.step(body)
        self.crew.known.pop((self.id, number), None)
        return kept

    async def _tries(self, operation: str, number: int, attempt: Attempt) -> Outcome:
        self._begin(operation, number)
        while True:
            await self._pause()
            error: BaseException | None = refusal_of(self.crew.pipeline)
            value = None
            if error is None and not self._cancel_is_due():
                async with self.crew.places:
                    if self.crew.is_stopping:
                        self.park()
                    error = refusal_of(self.crew.pipeline)
                    if error is None and not self._cancel_is_due():
                        self.crew.trying.add(self)
                        value, error = await made(attempt, self.crew.tasks)
                        if isinstance(error, asyncio.CancelledError) and self.crew.is_stopping:
                            self.park()
                        await self._look_for_cancel()
            if self._cancel_is_due():
                return CANCELLED
            if error is None:
                return succeeded(f"the result of {operation}", value)
            outcome = await self._after(operation, error)
            if outcome is not None:
                return outcome
            self.crew.trying.discard(self)

    def _begin(self, operation: str, number: int) -> None:
        """Take up where an earlier run was interrupted in a pause of this call."""
        kept = self._state if self._state.get("call") == number else {}
        self.operation = operation
        self.attempts, self.setbacks = kept.get("attempts") or 0, kept.get("setbacks") or 0
        self.error, self.since = kept.get("error"), kept.get("since") or time.time()
        self.next_try = kept.get("next_try")
        self._number = number

    async def _after(self, operation: str, error: BaseException) -> Outcome | None:
        """Return the outcome if the error is final; else note when to try again, and return None."""
        crew, now = self.crew, time.time()
        setback = setback_of(error, crew.pipeline)
        if setback is None:
            self._original = error
            return failed(operation, error)
        self.attempts += setback.is_try
        self.setbacks += setback.grows
        self.error = shown(error) if setback.is_try or self.error is None else self.error
        pause = crew.schedule.pause(self.setbacks, random.random(), setback)
        if crew.schedule.is_too_long(pause, now, self.since or now):
            self._original = error
            return gave_up(operation, self.attempts, self.error)
        self.next_try = now + pause
        if setback.is_try:
            await self._keep()
        return None

    async def _keep(self) -> None:
        facts = {
            "call": self._number, "operation": self.operation, "attempts": self.attempts, "setbacks": self.setbacks,
            "error": self.error, "since": self.since, "next_try": self.next_try, "misfit": None, "woken": 0,
        }  # fmt: skip
        try:
            await asyncio.to_thread(self.crew.store.keep, self.id, **facts)
        except DurableStoreError as error:  # the pause goes on all the same, and the next one is kept again
            logger.info("workflow %s: its pause could not be kept: %s", self.id, error)

    async def _pause(self) -> None:
        """Wait until the next try, unless somebody cancels or asks for it now."""
        if self.next_try is None:
            return
        end = time.monotonic() + self.next_try - time.time()
        with self._lock:
            self._waits, self._is_woken = True, False
        try:
            while (left := end - time.monotonic()) > 0 and not self._is_woken and not self._cancel_is_due():
                if self.crew.is_stopping:
                    self.park()
                self._rung.clear()
                try:
                    async with asyncio.timeout(min(left, _LONGEST_SLEEP)):
                        await self._rung.wait()
                except TimeoutError:
                    pass
        finally:
            with self._lock:
                self._waits = False
            self.next_try = None
        if self.crew.is_stopping:
            self.park()

    # Cancellation

    def _cancel_is_due(self) -> bool:
        return self.is_cancelled and not self._is_told

    async def _look_for_cancel(self) -> None:
        """Look whether another process has cancelled it while the try was under way."""
        while not self.is_cancelled:
            try:
                self.is_cancelled = await asyncio.to_thread(self.crew.store.is_cancelled, self.id)
            except DurableStoreError:
                if self.crew.is_stopping:
                    self.park()
                await asyncio.sleep(0.5)
            else:
                return
