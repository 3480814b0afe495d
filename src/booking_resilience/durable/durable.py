"""Durable workflows: what was acknowledged happens, once, after outages and crashes.

`Durable` is what the application sees. `crew` and `run` run workflows in this process, `engine` is DBOS, `store` what is
kept beside its tables, `watch` the thread that takes over from dead processes.
"""

from __future__ import annotations

import functools
import inspect
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from booking_resilience.callbacks import is_coroutine_function
from booking_resilience.checks import check_number, check_text, check_type, check_whole
from booking_resilience.durable.crew import Crew
from booking_resilience.durable.engine import Engine, in_thread
from booking_resilience.durable.errors import CallError
from booking_resilience.durable.lives import FileLives, SessionLives
from booking_resilience.durable.outcomes import open_outcome
from booking_resilience.durable.parts import Parts, name_of, off_loop, sleep
from booking_resilience.durable.run import Run, current
from booking_resilience.durable.schedule import Schedule
from booking_resilience.durable.store import Store
from booking_resilience.durable.tries import handed, through
from booking_resilience.durable.urls import check_database, url_of
from booking_resilience.durable.values import canonical, encode
from booking_resilience.durable.waiting import Waiting, waiting_of
from booking_resilience.durable.watch import Watch
from booking_resilience.pipeline import Pipeline
from booking_resilience.verdicts import classify

P = ParamSpec("P")
T = TypeVar("T")

_WITHIN = 9.0  # seconds: as long as the database may take
_RUNNING = ("ENQUEUED", "PENDING")
_LOOK_AGAIN = (0.01, 0.25)  # seconds between two looks for a result: at first, and at most


class Durable:
    """Runs workflows that survive crashes and outages. One can be started at a time in a process.

    Args:
        database: `"sqlite:///bookings.db"` or `"postgresql://…"`.
        version: The version of the workflows' code; say another one when the code changes.
        pipeline: What the calls go through.
        give_up_after: Seconds since a call's first try after which no pause is begun.
        base_delay: Seconds of the first pause, and the least of all, 0 or more.
        max_delay: Seconds of the longest pause that grows by itself, 0 or more.
        max_in_flight: How many tries may run at once in this process, 1 or more.
        keep_finished: Seconds after which finished workflows are removed, 0 or more.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of range.
    """

    def __init__(
        self,
        database: str,
        *,
        version: str,
        pipeline: Pipeline,
        give_up_after: float = 86_400.0,
        base_delay: float = 1.0,
        max_delay: float = 300.0,
        max_in_flight: int = 8,
        keep_finished: float = 604_800.0,
    ) -> None:
        check_database(database)
        check_text("version", version)
        check_type("pipeline", pipeline, isinstance(pipeline, Pipeline), "a Pipeline")
        check_number("give_up_after", give_up_after)
        check_number("base_delay", base_delay)
        check_number("max_delay", max_delay)
        check_whole("max_in_flight", max_in_flight)
        check_number("keep_finished", keep_finished)
        self._database, self._version, self._pipeline = database, version, pipeline
        self._schedule = Schedule(base_delay, max_delay, give_up_after)
        self._max_in_flight, self._keep_finished = max_in_flight, keep_finished
        self._workflows: dict[str, Callable[..., Awaitable[Any]]] = {}
        self._lock = threading.Lock()  # held while it is started or stopped
        self._parts: Parts | None = None

    # Starting and stopping

    def start(self) -> None:
        """Open the database and begin to run workflows.

        Raises:
            RuntimeError: If one is started in this process already.
            DurableStoreError: If the database can't be used; within 10 s.
        """
        with self._lock:
            if self._parts is not None:
                raise RuntimeError("this Durable is started already")
            self._parts = in_thread(self._open, 2 * _WITHIN)

    def _open(self) -> Parts:
        url = url_of(self._database)
        process = secrets.token_hex(16)
        store = Store(url)
        lives: Any = None
        engine: Engine | None = None
        try:
            store.prepare()
            lives = SessionLives(store, process) if store.path is None else FileLives(store.path, process)
            lives.hold()
            store.add_process(process, self._version)
            crew = Crew(
                store, pipeline=self._pipeline, schedule=self._schedule, version=self._version,
                workflows=self._workflows, max_in_flight=self._max_in_flight,
            )  # fmt: skip
            engine = crew.engine = Engine(url, process=process, version=self._version, body=crew.run)
            engine.launch()
        except BaseException:
            if lives is not None:
                lives.close()
            store.close()
            raise
        watch = Watch(crew, engine, store, lives, process, self._keep_finished)
        watch.start()
        return Parts(store, lives, crew, engine, watch)

    def stop(self, timeout: float = 10.0) -> None:
        """Begin no more tries and let those under way end; workflows go on at the next start, here or elsewhere.

        Args:
            timeout: Seconds to wait for tries under way. Those that take longer run again later: an asynchronous one
                is cancelled now, a synchronous one left to its daemon thread.
        """
        check_number("timeout", timeout)
        with self._lock:
            parts, self._parts = self._parts, None
        if parts is None:
            return
        parts.crew.stop(timeout)
        parts.watch.close(1.0)
        parts.engine.close(5.0)
        parts.lives.close()
        parts.store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await off_loop(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await off_loop(self.stop)

    # Workflows

    def workflow(self, fn: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Declare an `async def` a workflow, known by its qualified name, and return it.

        Its arguments and its result are JSON-like data. What it does must follow from these and from the results of
        its calls alone, since it runs again from its beginning after a crash.

        Raises:
            TypeError: If it is no coroutine function.
            ValueError: If there is one of that name.
            RuntimeError: If this Durable is started.
        """
        if not is_coroutine_function(fn):
            raise TypeError(f"workflow must be an `async def`, not {fn!r}")
        name = name_of(fn)
        if self._parts is not None:
            raise RuntimeError(f"{name} must be declared before the Durable is started")
        if self._workflows.setdefault(name, fn) is not fn:
            raise ValueError(f"there is a workflow {name} already")
        return fn

    async def call(self, operation: str, fn: Callable[P, Awaitable[T] | T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn` through the pipeline until it succeeds or is rejected for good, and return its result.

        Only in a workflow. `fn` may be called more than once, so it must be safe to repeat.

        Args:
            operation: The operation's name.
            fn: A function, which runs in a thread, or a coroutine function.

        Raises:
            CallError: If it was rejected for good; `RowConflictError` and `SlotTakenError` come out as themselves.
            GaveUpError: If it didn't succeed within `give_up_after` seconds.
            WorkflowCancelledError: Once, if somebody cancelled the workflow.
            TypeError: If its result isn't JSON-like data.
            RuntimeError: Outside of a workflow, or if another call of this workflow has not ended.
        """
        run = self._run_of(operation)
        if not callable(fn):
            raise TypeError(f"fn must be a function, not {fn!r}")
        result: T = await run.call(operation, through(self._pipeline, operation, fn, args, kwargs))
        return result

    async def call_once(self, fn: Callable[..., Any], /, *args: Any, operation: str, **kwargs: Any) -> Any:
        """Do as `call` for a function that makes its calls through a pipeline: every `*_once`, of either colour.

        It is called with `operation` and with this Durable's pipeline, and isn't wrapped in it.
        """
        run = self._run_of(operation)
        if not callable(fn):
            raise TypeError(f"fn must be a function, not {fn!r}")
        kwargs = {**kwargs, "operation": operation, "pipeline": self._pipeline}
        return await run.call(operation, handed(fn, args, kwargs))

    def _run_of(self, operation: str) -> Run:
        check_text("operation", operation)
        run = current.get()
        if run is None or run.crew.workflows is not self._workflows:
            raise RuntimeError(f"{operation} can only be called in a workflow of this Durable")
        return run

    # Asked from outside

    def submit(self, workflow: Callable[..., Awaitable[Any]], /, *args: Any, id: str, **kwargs: Any) -> str:  # noqa: A002 - the public name
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
        inspect.signature(workflow).bind(*args, **kwargs)
        written = [encode("args", args), {key: encode(key, value) for key, value in kwargs.items()}]
        arguments = canonical(written)
        parts = self._started()

        def keep() -> tuple[str, str] | None:
            parts.store.probe()
            parts.engine.enqueue(id, name, arguments)
            return parts.engine.arguments(id)

        kept = in_thread(keep, _WITHIN)
        if kept is None or kept == (name, arguments):
            return id
        raise ValueError(f"id must be new: there is a workflow {id!r} of {kept[0]} with other arguments or another name")

    def result(self, id: str, timeout: float | None = None) -> Any:  # noqa: A002 - the public name
        """Return what a workflow returned, or raise what it raised.

        Args:
            id: Its ID.
            timeout: Seconds to wait for its end; None for as long as it takes.

        Raises:
            TimeoutError: If it hasn't ended by then.
            KeyError: If there is no such workflow.
        """
        check_number("timeout", timeout, or_none=True)
        parts, pause = self._started(), _LOOK_AGAIN[0]
        end = None if timeout is None else time.monotonic() + timeout
        while self._status(parts, id) in _RUNNING:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"workflow {id!r} hasn't ended")
            time.sleep(pause if left is None else min(pause, left))
            pause = min(pause * 1.5, _LOOK_AGAIN[1])
        outcome = in_thread(lambda: parts.engine.outcome(id), _WITHIN)
        if not isinstance(outcome, dict):
            raise CallError(id, "RuntimeError", "it was ended through DBOS", classify(RuntimeError()))
        return open_outcome(outcome)

    def waiting(self, limit: int = 100) -> list[Waiting]:
        """Return the workflows of all processes that wait, oldest first, at most `limit`."""
        check_whole("limit", limit)
        return waiting_of(self._started().crew, limit)

    def try_now(self, id: str) -> bool:  # noqa: A002 - the public name
        """End a workflow's pause; tell whether it waits.

        Raises:
            KeyError: If there is no such workflow.
        """
        parts = self._started()
        if self._status(parts, id) not in _RUNNING:
            return False
        run = parts.crew.runs.get(id)
        if run is not None:
            return run.wake()
        state = parts.store.state(id)
        if state is None or state["next_try"] is None or state["next_try"] <= time.time() or state["misfit"]:
            return False
        parts.store.keep(id, woken=1)
        return True

    def cancel(self, id: str) -> bool:  # noqa: A002 - the public name
        """Have a workflow's next call raise `WorkflowCancelledError`; tell whether the workflow hasn't ended.

        Raises:
            KeyError: If there is no such workflow.
        """
        parts = self._started()
        if self._status(parts, id) not in _RUNNING:
            return False
        parts.store.keep(id, cancelled=1)
        run = parts.crew.runs.get(id)
        if run is not None:
            run.cancel()
        return True

    async def submit_async(self, workflow: Callable[..., Awaitable[Any]], /, *args: Any, id: str, **kwargs: Any) -> str:  # noqa: A002 - the public name
        """Do as `submit` without blocking the event loop."""
        kept: str = await off_loop(functools.partial(self.submit, workflow, *args, id=id, **kwargs))
        return kept

    async def result_async(self, id: str, timeout: float | None = None) -> Any:  # noqa: A002, ASYNC109 - as `result`
        """Do as `result` without blocking the event loop."""
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
        """Do as `waiting` without blocking the event loop."""
        found: list[Waiting] = await off_loop(functools.partial(self.waiting, limit))
        return found

    async def try_now_async(self, id: str) -> bool:  # noqa: A002 - the public name
        """Do as `try_now` without blocking the event loop."""
        return bool(await off_loop(functools.partial(self.try_now, id)))

    async def cancel_async(self, id: str) -> bool:  # noqa: A002 - the public name
        """Do as `cancel` without blocking the event loop."""
        return bool(await off_loop(functools.partial(self.cancel, id)))

    def _started(self) -> Parts:
        parts = self._parts
        if parts is None:
            raise RuntimeError("this Durable is not started")
        return parts

    @staticmethod
    def _status(parts: Parts, id: str) -> str:  # noqa: A002 - the public name
        check_text("id", id)
        found = parts.store.status(id)
        if found is None:
            raise KeyError(id)
        return found[0]
