"""What is asked of a started `Durable` from outside of its workflows: submit, result, waiting, try now, cancel.

Everything here blocks, and has a twin for event loops that does the same in a thread.
"""

from __future__ import annotations

import functools
import inspect
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from booking_resilience.checks import check_number, check_text, check_whole
from booking_resilience.durable.crew import Crew
from booking_resilience.durable.engine import WITHIN, in_thread
from booking_resilience.durable.errors import CallError, DurableStoreError
from booking_resilience.durable.helpers import name_of, off_loop, sleep
from booking_resilience.durable.outcomes import open_outcome
from booking_resilience.durable.values import canonical, encode, is_same
from booking_resilience.durable.waiting import Waiting, waiting_of
from booking_resilience.verdicts import classify

_RUNNING = ("ENQUEUED", "PENDING")
_LOOK_AGAIN = (0.01, 0.25)  # seconds between two looks for a result: at first, and at most


class Asked:
    """The part of `Durable` that is asked from outside of its workflows."""

    def __init__(self) -> None:
        self._workflows: dict[str, Callable[..., Awaitable[Any]]] = {}
        self._crew: Crew | None = None

    def submit(self, workflow: Callable[..., Awaitable[Any]], /, *args: Any, id: str, **kwargs: Any) -> str:
        """Keep a workflow, to be run whatever happens to this process, and return its ID.

        Args:
            workflow: What `workflow` returned.
            args: Its arguments, JSON-like data.
            id: Its ID; if it exists with the same function and arguments, it is that workflow.
            kwargs: Its keyword arguments.

        Raises:
            ValueError: If the ID exists with another function or other arguments, or the workflow isn't declared.
            TypeError: If the arguments don't fit, or aren't JSON-like data.
            DurableStoreError: If it could not be kept.
        """
        check_text("id", id)
        name = name_of(workflow)
        if self._workflows.get(name) is not workflow:
            raise ValueError(f"workflow must be declared by `@durable.workflow`, not {workflow!r}")
        signature = inspect.signature(workflow)
        signature.bind(*args, **kwargs)
        written = [encode("args", args), {key: encode(key, value) for key, value in kwargs.items()}]
        crew = self._started()

        def keep() -> tuple[str, str] | None:
            crew.store.probe()
            crew.engine.enqueue(id, name, canonical(written))
            return crew.engine.arguments(id)

        kept = in_thread(keep, WITHIN)
        if kept is None:
            return id
        if kept[0] == name and is_same(_bound(signature, json.loads(kept[1])), _bound(signature, written)):
            return id
        differs = "other arguments" if kept[0] == name else f"another function, {kept[0]}"
        raise ValueError(f"id must be new: there is a workflow {id!r} with {differs}")

    def result(self, id: str, timeout: float | None = None) -> Any:
        """Return what a workflow returned, or raise what it raised.

        Args:
            id: Its ID.
            timeout: Seconds to wait for its end; None for as long as it takes.

        Raises:
            TimeoutError: If it hasn't ended by then.
            DurableStoreError: If the database is in trouble by then.
            KeyError: If there is no such workflow.
        """
        check_number("timeout", timeout, or_none=True)
        crew, pause = self._started(), _LOOK_AGAIN[0]
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            trouble = None
            try:
                if self._status(crew, id) not in _RUNNING:
                    break
            except DurableStoreError as error:  # it may be well again in time
                trouble = error
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise trouble or TimeoutError(f"workflow {id!r} hasn't ended")
            time.sleep(pause if left is None else min(pause, left))
            pause = min(pause * 1.5, _LOOK_AGAIN[1])
        outcome = in_thread(lambda: crew.engine.outcome(id), WITHIN)
        if not isinstance(outcome, dict):
            self._status(crew, id)  # which raises a KeyError if it has been removed meanwhile
            raise CallError(id, "RuntimeError", "it was ended through DBOS", classify(RuntimeError()))
        return open_outcome(outcome)

    def waiting(self, limit: int = 100) -> list[Waiting]:
        """Return at most `limit` (1 or more) of the workflows that wait in any process, oldest first."""
        check_whole("limit", limit)
        return waiting_of(self._started(), limit)

    def try_now(self, id: str) -> bool:
        """End the pause of the workflow with this `id`; return whether it was waiting.

        Raises:
            KeyError: If there is no such workflow.
        """
        crew = self._started()
        if self._status(crew, id) not in _RUNNING:
            return False
        run = crew.runs.get(id)
        if run is not None:
            return bool(run.wake())
        state = crew.store.state(id)
        if state is None or state["next_try"] is None or state["next_try"] <= time.time() or state["misfit"]:
            return False
        crew.store.keep(id, woken=1)
        return True

    def cancel(self, id: str) -> bool:
        """Cancel the workflow with this `id`: its next call raises `WorkflowCancelledError`. False if it has ended.

        Raises:
            KeyError: If there is no such workflow.
        """
        crew = self._started()
        if self._status(crew, id) not in _RUNNING:
            return False
        crew.store.keep(id, cancelled=1)
        run = crew.runs.get(id)
        if run is not None:
            run.cancel()
        return True

    async def submit_async(self, workflow: Callable[..., Awaitable[Any]], /, *args: Any, id: str, **kwargs: Any) -> str:
        """Do the same as `submit` without blocking the event loop."""
        kept: str = await off_loop(functools.partial(self.submit, workflow, *args, id=id, **kwargs))
        return kept

    async def result_async(self, id: str, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as `result` has it
        """Do the same as `result` without blocking the event loop."""
        check_number("timeout", timeout, or_none=True)
        pause, end = _LOOK_AGAIN[0], None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return await off_loop(functools.partial(self.result, id, 0))
            except TimeoutError:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise
            await sleep(pause if left is None else min(pause, left))
            pause = min(pause * 1.5, _LOOK_AGAIN[1])

    async def waiting_async(self, limit: int = 100) -> list[Waiting]:
        """Do the same as `waiting` without blocking the event loop."""
        found: list[Waiting] = await off_loop(functools.partial(self.waiting, limit))
        return found

    async def try_now_async(self, id: str) -> bool:
        """Do the same as `try_now` without blocking the event loop."""
        return bool(await off_loop(functools.partial(self.try_now, id)))

    async def cancel_async(self, id: str) -> bool:
        """Do the same as `cancel` without blocking the event loop."""
        return bool(await off_loop(functools.partial(self.cancel, id)))

    def _started(self) -> Crew:
        crew = self._crew
        if crew is None:
            raise RuntimeError("this Durable is not started: use `with durable:`, or call durable.start() first")
        return crew

    @staticmethod
    def _status(crew: Crew, id: str) -> str:
        check_text("id", id)
        found = crew.store.status(id)
        if found is None:
            raise KeyError(id)
        return found[0]


def _bound(signature: inspect.Signature, written: Any) -> Any:
    """Return encoded arguments in one form, whether they were given by position or by name."""
    args, kwargs = written
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:  # kept by another version of the workflow
        return written
    return [list(bound.args), bound.kwargs]
