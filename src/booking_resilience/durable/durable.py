"""Durable workflows: what was acknowledged happens, once, after outages and crashes.

`Durable` is what the application sees. `run` runs workflows in this process, `engine` is DBOS, `store` is what is kept
beside its tables, `watch` the thread that takes over from dead processes.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import secrets
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Self, TypeVar, overload

from booking_resilience import clock
from booking_resilience.callbacks import is_coroutine_function
from booking_resilience.checks import check_number, check_type, check_whole
from booking_resilience.durable.asked import Asked, check_name, name_of
from booking_resilience.durable.crew import Crew
from booking_resilience.durable.databases import check_database, url_of
from booking_resilience.durable.engine import WITHIN, Engine, in_thread
from booking_resilience.durable.lives import FileLives, SessionLives
from booking_resilience.durable.run import Run, current, run_workflow
from booking_resilience.durable.schedule import Schedule
from booking_resilience.durable.store import Store
from booking_resilience.durable.tries import handed, through
from booking_resilience.durable.watch import Watch
from booking_resilience.pipeline import Pipeline

P = ParamSpec("P")
T = TypeVar("T")


class Durable(Asked):
    """Runs workflows that survive crashes and outages. One can be started at a time in a process.

    Args:
        database: `"sqlite:///bookings.db"` or `"postgresql://…"`.
        version: The version of the workflows' code, 1 to 255 characters; give another one when the code changes.
        pipeline: What the calls go through.
        give_up_after: Seconds since a call's first try after which no pause is begun, 0 or more.
        base_delay: Seconds of the first pause, and the least of all, 0 or more.
        max_delay: Seconds that doubling makes a pause at most, 0 or more.
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
        check_name("version", version)
        check_type("pipeline", pipeline, isinstance(pipeline, Pipeline), "a Pipeline")
        check_number("give_up_after", give_up_after)
        check_number("base_delay", base_delay)
        check_number("max_delay", max_delay)
        check_whole("max_in_flight", max_in_flight)
        check_number("keep_finished", keep_finished)
        self._database, self._version, self._pipeline = database, version, pipeline
        self._schedule = Schedule(base_delay, max_delay, give_up_after)
        self._max_in_flight, self._keep_finished = max_in_flight, keep_finished
        super().__init__()
        self._watch: Watch | None = None
        self._lock = threading.Lock()  # held while it is started or stopped

    # Starting and stopping

    def start(self) -> None:
        """Open the database and begin to run workflows.

        Raises:
            RuntimeError: If one is started in this process already.
            DurableStoreError: If the database can't be used; within 10 s.
        """
        with self._lock:
            if self._crew is not None:
                self._crew.check_process()
                raise RuntimeError("this Durable is started already")
            importlib.import_module("dbos")  # a first import takes seconds, which are not the database's
            is_awaited = [True]
            try:
                self._crew, self._watch = in_thread(functools.partial(self._open, is_awaited), WITHIN)
            finally:
                is_awaited.clear()

    def _open(self, is_awaited: list[bool]) -> tuple[Crew, Watch]:
        url, process = url_of(self._database), secrets.token_hex(16)
        places = asyncio.Semaphore(self._max_in_flight)
        store = Store(url)
        lives = SessionLives(store, process) if store.path is None else FileLives(store.path, process)
        crew = Crew(process, self._version, store, self._pipeline, self._schedule, self._workflows, places)
        body = functools.partial(run_workflow, crew)
        crew.engine = Engine(url, process=process, version=self._version, body=body)
        try:
            with store.alone():
                store.prepare()
                lives.hold()
                store.add_process(process, self._version)
                crew.engine.launch()
            if not is_awaited:  # it took too long
                crew.engine.close(0.0)
                raise RuntimeError("nobody waits for the start any more")
        except BaseException:
            lives.close()
            store.close()
            raise
        watch = Watch(crew, lives, self._keep_finished)
        watch.start()
        return crew, watch

    def stop(self, timeout: float = 10.0) -> None:
        """Begin no more tries and let those under way end; workflows go on at the next start, here or elsewhere.

        In a forked child it does nothing: what was started is its parent's.

        Args:
            timeout: Seconds to wait for tries under way, 0 or more. Those that take longer run again later: an
                asynchronous one is cancelled now, a synchronous one left to its daemon thread.
        """
        check_number("timeout", timeout)
        with self._lock:
            crew, watch = self._crew, self._watch
            if crew is None or watch is None or crew.pid != os.getpid():
                return
            self._crew = None
        crew.stop(timeout)
        watch.close()
        crew.engine.close(5.0)
        watch.lives.close()
        crew.store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await clock.off_loop(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await clock.off_loop(self.stop)

    # Workflows

    def workflow(self, fn: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Declare an `async def` a workflow, known by its qualified name, and return it.

        Its arguments and its result are JSON-like data. What it does must follow from these and from the results of
        its calls alone, since it runs again from its beginning after a crash.

        Raises:
            TypeError: If it isn't a coroutine function.
            ValueError: If there is one of that name.
            RuntimeError: If this Durable is started.
        """
        if not is_coroutine_function(fn):
            raise TypeError(f"workflow must be an `async def`, not {fn!r}")
        name = name_of(fn)
        if self._crew is not None:
            raise RuntimeError(f"{name} must be declared before the Durable is started")
        if self._workflows.setdefault(name, fn) is not fn:
            raise ValueError(f"there is a workflow {name} already")
        return fn

    @overload
    async def call(self, operation: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def call(self, operation: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def call(self, operation: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` through the pipeline until it succeeds or is rejected for good, and return its result.

        Only in a workflow. `fn` may be called more than once, so it must be safe to repeat.

        Args:
            operation: The operation's name, of 1 to 255 characters.
            fn: A function, which runs in a thread, or a coroutine function.

        Raises:
            CallError: If it was rejected for good; `RowConflictError` and `SlotTakenError` come out as themselves.
            GaveUpError: If it didn't succeed within `give_up_after` seconds.
            WorkflowCancelledError: Once, if somebody cancelled the workflow.
            TypeError: If its result isn't JSON-like data.
            RuntimeError: Outside of a workflow, or if another call of this workflow has not ended.
        """
        run = self._run_of(operation, fn)
        return await run.call(operation, through(self._pipeline, operation, fn, args, kwargs))

    async def call_once(self, fn: Callable[..., Any], /, *args: Any, operation: str, **kwargs: Any) -> Any:
        """Do the same as `call` for a function that calls through a pipeline itself: every `*_once`, sync or async.

        It is called with `operation` and with this Durable's pipeline, and isn't wrapped in it.
        """
        run = self._run_of(operation, fn)
        kwargs = {**kwargs, "operation": operation, "pipeline": self._pipeline}
        return await run.call(operation, handed(fn, args, kwargs))

    def _run_of(self, operation: str, fn: object) -> Run:
        """Return the run of the workflow that makes this call."""
        check_name("operation", operation)
        check_type("fn", fn, callable(fn), "a function")
        run = current.get()
        if run is None or run.crew.workflows is not self._workflows:
            raise RuntimeError(f"{operation} can only be called in a workflow that durable.submit started")
        return run
