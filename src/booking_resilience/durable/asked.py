"""What is asked of a started `Durable` from outside of its workflows: submit, result, waiting, try now, cancel.

Everything here blocks, and has a twin for event loops that does the same in a thread.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from booking_resilience import clock
from booking_resilience.checks import check, check_number, check_text, check_type, check_whole
from booking_resilience.durable.crew import Crew
from booking_resilience.durable.engine import WITHIN, in_thread
from booking_resilience.durable.errors import CallError, DurableStoreError
from booking_resilience.durable.outcomes import open_outcome
from booking_resilience.durable.values import encode, is_same
from booking_resilience.verdicts import classify

_RUNNING: Final = ("ENQUEUED", "PENDING")
_LOOK_AGAIN: Final = (0.01, 0.25)  # seconds between two looks for a result: at first, and at most
_FRESH: Final = 30.0  # seconds in which a workflow should have begun, taken over from a dead process if need be
_REAL: Final = clock.SystemClock()  # the time of the database, which virtual time doesn't move
_LONGEST: Final = 255  # characters of an ID: what an index of PostgreSQL surely takes


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workflow that waits.

    Attributes:
        id: Its ID.
        operation: The operation of the call that waits; empty if that isn't known here.
        attempts: The tries made for that call.
        error: The last error's text, redacted; or why no process can run it; None if that isn't known here.
        since: When the call was first tried, aware UTC; the workflow submitted, if that isn't known here.
        next_try: When it is tried again, aware UTC; None if it waits for a process or a version to run it, or if that
            isn't known here.
    """

    id: str
    operation: str
    attempts: int
    error: str | None
    since: datetime.datetime
    next_try: datetime.datetime | None


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
            id: Its ID, of 1 to 255 characters; if it exists with the same function and arguments, it is that workflow.
            kwargs: Its keyword arguments.

        Raises:
            ValueError: If the ID exists with another function or other arguments, or can't be kept, or the workflow
                isn't declared.
            TypeError: If the arguments don't fit, or aren't JSON-like data.
            DurableStoreError: If it could not be kept.
        """
        check_name("id", id)
        name = name_of(workflow)
        if self._workflows.get(name) is not workflow:
            raise ValueError(f"workflow must be declared by `@durable.workflow`, not {workflow!r}")
        signature = inspect.signature(workflow)
        signature.bind(*args, **kwargs)
        written = [encode("args", args), {key: encode(key, value) for key, value in kwargs.items()}]
        crew = self._started()

        def keep() -> tuple[str, str] | None:
            crew.store.probe()
            crew.engine.enqueue(id, name, json.dumps(written))
            return crew.engine.arguments(id)

        kept = in_thread(keep, WITHIN)
        if kept is None:  # it has ended and been removed
            return id
        kept_name, arguments = kept
        if kept_name == name and is_same(_bound(signature, json.loads(arguments)), _bound(signature, written)):
            return id
        differs = "other arguments" if kept_name == name else f"another function, {kept_name}"
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
        for pause in _pauses(timeout):
            why = self._why_no_result(id)
            if why is None:
                break
            if pause is None:
                raise why
            time.sleep(pause)
        return self._outcome(id)

    def _why_no_result(self, id: str) -> Exception | None:
        """Return the error to raise if a workflow isn't waited for any longer; None if it has ended."""
        try:
            return TimeoutError(f"workflow {id!r} hasn't ended") if self._status(id) in _RUNNING else None
        except DurableStoreError as error:  # it may be well again in time
            return error

    def _outcome(self, id: str) -> Any:
        crew = self._started()
        outcome = in_thread(lambda: crew.engine.outcome(id), WITHIN)
        if not isinstance(outcome, dict):
            self._status(id)  # which raises a KeyError if it has been removed meanwhile
            raise CallError(id, "RuntimeError", "it was ended through DBOS", classify(RuntimeError()))
        return open_outcome(outcome)

    def waiting(self, limit: int = 100) -> list[Waiting]:
        """Return at most `limit` (1 or more) of the workflows that wait in any process, oldest first."""
        check_whole("limit", limit)
        crew, found = self._started(), list[Waiting]()
        for facts in crew.store.unfinished():
            run = crew.runs.get(facts["workflow"])
            if run is not None and not run.waits:
                continue
            item = _waiting(facts if run is None else {**facts, **vars(run.progress)})
            if item is not None:
                found.append(item)
            if len(found) == limit:
                break
        return sorted(found, key=lambda item: item.since)

    def try_now(self, id: str) -> bool:
        """End the pause of the workflow with this `id`; return whether it was waiting.

        Raises:
            KeyError: If there is no such workflow.
        """
        crew = self._started()
        if self._status(id) not in _RUNNING:
            return False
        run = crew.runs.get(id)
        if run is not None:
            return bool(run.wake())
        state = crew.store.state(id)
        if (state.get("next_try") or 0.0) <= time.time():
            return False
        crew.store.keep(id, woken=1)
        return True

    def cancel(self, id: str) -> bool:
        """Cancel the workflow with this `id`: its next call raises `WorkflowCancelledError`. False if it has ended.

        Raises:
            KeyError: If there is no such workflow.
        """
        crew = self._started()
        if self._status(id) not in _RUNNING:
            return False
        crew.store.keep(id, cancelled=1)
        run = crew.runs.get(id)
        if run is not None:
            run.cancel()
        return True

    async def submit_async(self, workflow: Callable[..., Awaitable[Any]], /, *args: Any, id: str, **kwargs: Any) -> str:
        """Do the same as `submit` without blocking the event loop."""
        kept: str = await clock.off_loop(self.submit, workflow, *args, id=id, **kwargs)
        return kept

    async def result_async(self, id: str, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as `result` has it
        """Do the same as `result` without blocking the event loop."""
        for pause in _pauses(timeout):
            why = await clock.off_loop(self._why_no_result, id)
            if why is None:
                break
            if pause is None:
                raise why
            await _REAL.sleep_async(pause)
        return await clock.off_loop(self._outcome, id)

    async def waiting_async(self, limit: int = 100) -> list[Waiting]:
        """Do the same as `waiting` without blocking the event loop."""
        found: list[Waiting] = await clock.off_loop(self.waiting, limit)
        return found

    async def try_now_async(self, id: str) -> bool:
        """Do the same as `try_now` without blocking the event loop."""
        return bool(await clock.off_loop(self.try_now, id))

    async def cancel_async(self, id: str) -> bool:
        """Do the same as `cancel` without blocking the event loop."""
        return bool(await clock.off_loop(self.cancel, id))

    def _started(self) -> Crew:
        crew = self._crew
        if crew is None:
            raise RuntimeError("this Durable is not started: use `with durable:`, or call durable.start() first")
        crew.check_process()
        return crew

    def _status(self, id: str) -> str:
        check_type("id", id, isinstance(id, str), "a string")
        status = self._started().store.status(id) if _can_be_kept(id) else None
        if status is None:
            raise KeyError(id)
        return status


def check_name(name: str, value: object) -> None:
    """Check for a string that both databases keep as it is, in an index too."""
    check_text(name, value)
    allowed = f"a string of 1 to {_LONGEST} characters, not all of them blank, without NUL and surrogates"
    check(name, value, _can_be_kept(value), allowed)


def name_of(workflow: object) -> str:
    """Return the name by which a workflow is known."""
    while isinstance(workflow, functools.partial):
        workflow = workflow.func
    return str(getattr(workflow, "__qualname__", None) or type(workflow).__qualname__)


def _can_be_kept(text: Any) -> bool:
    is_storable = "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)
    return is_storable and bool(text.strip()) and len(text) <= _LONGEST


def _pauses(timeout: float | None) -> Iterator[float | None]:
    """Yield the seconds until the next look for a result; None when the time is over."""
    check_number("timeout", timeout, or_none=True)
    end = float("inf") if timeout is None else time.monotonic() + timeout
    pause, longest = _LOOK_AGAIN
    while (left := end - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(pause * 1.5, longest)
    yield None


def _bound(signature: inspect.Signature, written: Any) -> Any:
    """Return encoded arguments in one form, whether they were given by position or by name."""
    args, kwargs = written
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:  # kept by another version of the workflow
        return written
    return [list(bound.args), bound.kwargs]


def _waiting(facts: Mapping[str, Any]) -> Waiting | None:
    """Return what is told of a workflow that waits; None if it will begin soon."""
    id, submitted = facts["workflow"], facts["created_at"] / 1000
    if facts["operation"] is None and facts["error"] is None:
        return Waiting(id, "", 0, None, _moment(submitted), None) if time.time() - submitted > _FRESH else None
    next_try = None if facts["next_try"] is None else _moment(facts["next_try"])
    return Waiting(id, facts["operation"] or "", facts["attempts"], facts["error"], _moment(facts["since"]), next_try)


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
