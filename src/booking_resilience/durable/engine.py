"""DBOS as it is used here: one workflow of its own for all of ours, one constant version, one queue per version.

DBOS is one per process, is imported when it is started (1.4 s), and is launched in a thread, or else it would adopt the
caller's event loop. Whatever it is to keep goes through `_Facts`, which leaves the workflow with `Parked` if that is an
error: DBOS keeps an error of the database as the result of the step, or of the workflow, that met it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from booking_resilience.durable.databases import connect_file, postgres_settings, trouble
from booking_resilience.durable.errors import DurableStoreError, Parked
from booking_resilience.durable.store import SCHEMA

QUEUE: Final = "booking-resilience:"
"""Begins the name of each version's queue."""

POLL: Final = 0.2
"""Seconds between two looks for workflows to begin."""

_NAME: Final = "booking-resilience"
_THREADS: Final = 16
WITHIN: Final = 9.0
"""Seconds that whoever starts or submits waits for the database."""

_SQLITE_PATIENCE: Final = 30.0  # seconds: as long as a lock may last before DBOS begins to pause between its attempts

_only_one = threading.Lock()
_bodies: dict[str, Callable[..., Awaitable[Any]]] = {}
_registered: list[Any] = []
_closing: set[Engine] = set()


class Engine:
    """DBOS, launched on a database. One at a time in a process.

    Args:
        url: SQLAlchemy's URL.
        process: This process' ID.
        version: The version of the workflows' code.
        body: Runs a workflow: gets its ID, its function's name and the arguments as JSON, returns the outcome.
    """

    def __init__(
        self, url: Any, *, process: str, version: str, body: Callable[[str, str, str], Awaitable[dict[str, Any]]]
    ) -> None:
        self._url, self._process, self._body = url, process, body
        self.queue: str = f"{QUEUE}{version}"
        self._dbos: Any = None
        self._queue: Any = None
        self._closing: threading.Thread | None = None

    def launch(self) -> None:
        """Launch DBOS.

        Raises:
            RuntimeError: If one is launched in this process already.
            DurableStoreError: If the database can't be used, or doesn't answer for 9 s.
        """
        while not _only_one.acquire(timeout=0.0 if not _closing else WITHIN):
            if not _closing:
                raise RuntimeError("only one Durable can be started in a process at a time")
        try:
            in_thread(self._launch, WITHIN)
        except BaseException:
            self.close(0.0)
            raise

    def _launch(self) -> None:
        from dbos import DBOS

        if not _registered:
            _registered.append(DBOS.workflow(name=_NAME, max_recovery_attempts=None)(_workflow))
        _bodies["now"] = self._body
        if self._url.get_backend_name() == "sqlite":
            path = Path(self._url.database)
            settings: dict[str, Any] = {"creator": functools.partial(connect_file, path, timeout=_SQLITE_PATIENCE)}
        else:
            settings = {"pool_pre_ping": True, "connect_args": postgres_settings(5.0)}
        dbos = self._dbos = DBOS(
            config={
                "name": _NAME,
                "system_database_url": self._url.render_as_string(hide_password=False),
                "application_version": _NAME,
                "executor_id": self._process,
                "dbos_system_schema": SCHEMA,
                "serializer": _facts(),
                "log_level": "ERROR",
                "use_listen_notify": False,
                "enable_otlp": False,
                "max_executor_threads": _THREADS,
                "notification_listener_polling_interval_sec": 1.0,
                "db_engine_kwargs": {"pool_size": _THREADS + 4, "pool_timeout": 5, **settings},
            }
        )
        DBOS.listen_queues([self.queue])
        DBOS.launch()
        _fail_at_once(dbos)
        self._queue = DBOS.register_queue(self.queue, polling_interval_sec=POLL, on_conflict="always_update")

    def enqueue(self, id: str, name: str, arguments: str) -> None:
        """Keep a workflow, to be begun soon by a process of this version; nothing happens if the ID is there."""
        from dbos import SetWorkflowID

        with SetWorkflowID(id):
            self._queue.enqueue(_registered[0], id, name, arguments)

    async def step(self, body: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Return what `body` returns, or returned in an earlier run of the workflow.

        Raises:
            Parked: If that couldn't be kept, or this process doesn't run the workflow any more.
        """
        from dbos import DBOS

        async def call() -> dict[str, Any]:
            return await body()

        try:
            kept: dict[str, Any] = await DBOS.run_step_async({"name": "call"}, call)
        except Exception as error:  # every error of DBOS' own
            raise Parked from error
        return kept

    def resume(self, ids: Sequence[str]) -> None:
        """Have workflows that no process runs begun again by this version."""
        from dbos import DBOS

        for at in range(0, len(ids), 500):
            DBOS.resume_workflows(list(ids[at : at + 500]), queue_name=self.queue)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove workflows."""
        from dbos import DBOS

        for at in range(0, len(ids), 200):
            DBOS.delete_workflows(list(ids[at : at + 200]))

    def arguments(self, id: str) -> tuple[str, str] | None:
        """Return the name of a workflow's function and the arguments as JSON; None if there is no such workflow."""
        found = self._find(id, load_input=True)
        return None if found is None else (found.input["args"][1], found.input["args"][2])

    def outcome(self, id: str) -> Any:
        """Return the outcome of a workflow that has ended; None if DBOS, or somebody through it, ended it."""
        found = self._find(id, load_output=True)
        return None if found is None else found.output

    def _find(self, id: str, *, load_input: bool = False, load_output: bool = False) -> Any:
        from dbos import DBOS

        found = DBOS.list_workflows(workflow_ids=[id], load_input=load_input, load_output=load_output)
        return found[0] if found else None

    def _stop_dequeuing(self) -> None:
        """End the thread that takes workflows from the queue, before the event loop that runs them ends."""
        for event in getattr(self._dbos, "background_thread_stop_events", ()):
            event.set()
        for thread in threading.enumerate():
            if thread.name == f"queue-worker-{self.queue}":
                thread.join(1.0)

    def close(self, timeout: float) -> None:
        """End DBOS; a thread goes on with that if it takes longer."""

        def destroy() -> None:
            from dbos import DBOS

            try:
                self._stop_dequeuing()
                DBOS.destroy()
            finally:
                _closing.discard(self)
                _only_one.release()

        _closing.add(self)
        self._closing = threading.Thread(target=destroy, name="booking-resilience-durable-end", daemon=True)
        self._closing.start()
        self._closing.join(timeout)


def _fail_at_once(dbos: Any) -> None:
    """Have DBOS raise when its database is gone; else it sleeps up to 90 s in its threads.

    Only `DBOSClient` has a public setting for this; what that sets is set here.

    Raises:
        RuntimeError: If this version of DBOS lacks it.
    """
    if getattr(dbos._sys_db, "_retry_connection_errors", None) is not True:
        version = importlib.metadata.version("dbos")
        raise RuntimeError(f"booking_resilience.durable doesn't know DBOS {version} yet; install an older DBOS")
    dbos._sys_db._retry_connection_errors = False


def in_thread(fn: Callable[[], Any], timeout: float) -> Any:
    """Return what `fn` returns, called in a daemon thread without the caller's context and event loop.

    Raises:
        DurableStoreError: If it takes longer than `timeout` seconds, or the database is in trouble.
    """
    ended: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            ended.append((fn(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised by who waits
            ended.append((None, error))

    thread = threading.Thread(target=run, name="booking-resilience-durable-store", daemon=True)
    thread.start()
    thread.join(timeout)
    if not ended:
        raise DurableStoreError(f"the database doesn't answer within {timeout:g} s")
    value, error = ended[0]
    if error is None:
        return value
    try:
        raise told(error)
    finally:
        ended.clear()
        del error


def told(error: BaseException) -> BaseException:
    """Return the error to raise for one that came out of DBOS."""
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, SQLAlchemyError):
        store = trouble(error)
        store.__cause__ = error
        return store
    return DurableStoreError("the database could not be used") if isinstance(error, Parked) else error


async def _workflow(id: str, name: str, arguments: str) -> dict[str, Any]:
    """Be the one workflow that DBOS knows."""
    outcome: dict[str, Any] = await _bodies["now"](id, name, arguments)
    return outcome


def _facts() -> Any:
    from dbos import Serializer

    class _Facts(Serializer):
        """Writes JSON, and errors never."""

        def serialize(self, data: Any) -> str:
            if isinstance(data, BaseException):
                raise Parked from data
            return json.dumps(data)

        def deserialize(self, serialized_data: str) -> Any:
            return json.loads(serialized_data)

        def name(self) -> str:
            return "booking_resilience_json"

    return _Facts()
