"""DBOS as it is used here: one workflow of its own for all of ours, one constant version, one queue per version.

DBOS is one per process, is imported when it is started (1.4 s), and is launched in a thread, or else it would adopt the
caller's event loop. Whatever it is to keep goes through `_Facts`, which leaves the workflow with `Parked` if that is an
error: DBOS keeps an error of the database as the result of the step, or of the workflow, that met it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from booking_resilience.durable.databases import as_store_error, connect_file, postgres_settings
from booking_resilience.durable.errors import DurableStoreError, Parked
from booking_resilience.durable.store import SCHEMA

T = TypeVar("T")

QUEUE: Final = "booking-resilience:"
"""Begins the name of each version's queue."""

WITHIN: Final = 9.0
"""Seconds that whoever starts or submits waits for the database."""

_NAME: Final = "booking-resilience"
_THREADS: Final = 16
_POLL: Final = 0.2  # seconds between two looks for workflows to begin
_SQLITE_PATIENCE: Final = 30.0  # seconds: as long as a lock may last before DBOS begins to pause between its attempts
_CHUNK: Final = 500  # workflows in one statement

Body: TypeAlias = Callable[[str, str, str], Awaitable[dict[str, Any]]]
"""Runs a workflow: gets its ID, its function's name and the arguments as JSON, returns the outcome."""

_only_one = threading.Lock()  # held while DBOS is launched
_closing: set[Engine] = set()
_bodies: dict[str, Body] = {}  # of the one that is launched


class Engine:
    """DBOS, launched on a database (SQLAlchemy's URL) for a version of the workflows. One at a time in a process."""

    def __init__(self, url: Any, *, process: str, version: str, body: Body) -> None:
        self._url, self._process, self._body = url, process, body
        self.queue: str = f"{QUEUE}{version}"
        self._api: Any = importlib.import_module("dbos").DBOS
        self._dbos: Any = None
        self._queue: Any = None

    def launch(self) -> None:
        """Launch DBOS; call it in a thread without an event loop.

        Raises:
            RuntimeError: If one is launched in this process already.
        """
        if not _only_one.acquire(timeout=WITHIN if _closing else 0.0):
            raise RuntimeError("only one Durable can be started in a process at a time")
        try:
            self._launch()
        except BaseException:
            self.close(0.0)
            raise

    def _launch(self) -> None:
        _workflow()
        _bodies["now"] = self._body
        if self._url.get_backend_name() == "sqlite":
            path = Path(self._url.database)
            settings: dict[str, Any] = {"creator": functools.partial(connect_file, path, timeout=_SQLITE_PATIENCE)}
        else:
            settings = {"pool_pre_ping": True, "connect_args": postgres_settings(5.0)}
        self._dbos = self._api(
            config={
                "name": _NAME,
                "system_database_url": self._url.render_as_string(hide_password=False),
                "application_version": _NAME,
                "executor_id": self._process,
                "dbos_system_schema": SCHEMA,
                "serializer": _Facts(),
                "log_level": "ERROR",
                "use_listen_notify": False,
                "enable_otlp": False,
                "max_executor_threads": _THREADS,
                "notification_listener_polling_interval_sec": 1.0,
                "db_engine_kwargs": {"pool_size": _THREADS + 4, "pool_timeout": 5, **settings},
            }
        )
        self._api.listen_queues([self.queue])
        self._api.launch()
        _fail_at_once(self._dbos)
        self._queue = self._api.register_queue(self.queue, polling_interval_sec=_POLL, on_conflict="always_update")

    def enqueue(self, id: str, name: str, arguments: str) -> None:
        """Keep a workflow, to be begun soon by a process of this version; nothing happens if the ID is there."""
        from dbos import SetWorkflowID

        with SetWorkflowID(id):
            self._queue.enqueue(_workflow(), id, name, arguments)

    async def step(self, body: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
        """Return what `body` returns, or returned in an earlier run of the workflow.

        Raises:
            Parked: If that couldn't be kept, or this process doesn't run the workflow any more.
        """
        try:
            kept: dict[str, Any] = await self._api.run_step_async({"name": "call"}, body)
        except Exception as error:  # every error of DBOS' own
            raise Parked from error
        return kept

    def resume(self, ids: Sequence[str]) -> None:
        """Have workflows that no process runs begun again by this version."""
        for some in _chunks(ids):
            self._api.resume_workflows(some, queue_name=self.queue)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove workflows."""
        for some in _chunks(ids):
            self._api.delete_workflows(some)

    def arguments(self, id: str) -> tuple[str, str] | None:
        """Return the name of a workflow's function and the arguments as JSON; None if it has been removed."""
        found = self._api.list_workflows(workflow_ids=[id])
        return (found[0].input["args"][1], found[0].input["args"][2]) if found else None

    def outcome(self, id: str) -> Any:
        """Return the outcome of a workflow that has ended; None if DBOS, or somebody through it, ended it."""
        found = self._api.list_workflows(workflow_ids=[id])
        return found[0].output if found else None

    def close(self, timeout: float) -> None:
        """End DBOS; a thread goes on with that if it takes longer."""
        _closing.add(self)
        with contextlib.suppress(DurableStoreError):
            in_thread(self._destroy, timeout)

    def _destroy(self) -> None:
        """End the thread that takes workflows from the queue, then the event loop that runs them, and all else."""
        try:
            for event in getattr(self._dbos, "background_thread_stop_events", ()):
                event.set()
            for thread in threading.enumerate():
                if thread.name == f"queue-worker-{self.queue}":
                    thread.join(1.0)
            self._api.destroy()
        finally:
            _closing.discard(self)
            _only_one.release()


class _Facts:
    """Writes JSON, and errors never: DBOS' `Serializer`."""

    def serialize(self, data: Any) -> str:
        if isinstance(data, BaseException):
            raise Parked from data
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)

    def name(self) -> str:
        return "booking_resilience_json"


@functools.cache
def _workflow() -> Any:
    """Return the one workflow that DBOS knows."""
    from dbos import DBOS

    @DBOS.workflow(name=_NAME, max_recovery_attempts=None)
    async def workflow(id: str, name: str, arguments: str) -> dict[str, Any]:
        return await _bodies["now"](id, name, arguments)

    return workflow


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


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(ids), _CHUNK):
        yield list(ids[at : at + _CHUNK])


def in_thread(fn: Callable[[], T], timeout: float) -> T:
    """Return what `fn` returns, called in a daemon thread without the caller's context and event loop.

    Raises:
        DurableStoreError: If it takes longer than `timeout` seconds, or the database is in trouble.
    """
    from sqlalchemy.exc import SQLAlchemyError

    ended: Future[T] = Future()

    def run() -> None:
        try:
            ended.set_result(fn())
        except BaseException as error:  # noqa: BLE001 - it is raised by who waits
            ended.set_exception(error)

    threading.Thread(target=run, name="booking-resilience-durable-store", daemon=True).start()
    try:
        with as_store_error(SQLAlchemyError):
            return ended.result(timeout)
    except TimeoutError as error:
        raise DurableStoreError(f"the database doesn't answer within {timeout:g} s") from error
