"""The synchronous and the asynchronous half of the adapter by one name each, and a table to try them on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import anyio
from appwrite.services.tables_db import TablesDB

from backends import Backend
from booking_resilience import Pipeline
from booking_resilience import appwrite as adapter
from booking_resilience.appwrite import AppwriteClient, AsyncAppwriteClient, NewRow, appwrite_breaker, appwrite_retry

LOOPS = ("sync", "asyncio", "trio")
QUICK: dict[str, Any] = {"base_delay": 0.01, "max_delay": 0.03, "attempt_timeout": 10.0, "deadline": 40.0}
HANGING: dict[str, Any] = {**QUICK, "attempt_timeout": 1.0}
"""Settings of `appwrite_retry`, which leave a busy machine its time; and where an attempt hangs."""


class Half:
    """One table, and the `*_once` functions of one colour on it.

    Args:
        backend: Where the table is made.
        loop: `sync`, or the event loop.
        settings: Of the policy, but for `pipeline`.
    """

    def __init__(self, backend: Backend, loop: str, *, service: Any = TablesDB, indexes: Any = None, **settings: Any):
        self.backend, self.server, self.loop, self.service = backend, backend.server, loop, service
        self.table_id = backend.make_table(indexes=indexes)
        self.pipeline = settings.pop("pipeline", None) or pipeline(**settings)

    def call(self, name: str, *args: Any, **named: Any) -> Any:
        """Call one of the functions."""
        named = {"pipeline": self.pipeline, "operation": "acceptance", **named}
        if self.loop == "sync":
            with self._client(AppwriteClient) as client:
                return getattr(adapter, name)(self.service(client), *args, **named)

        async def main() -> Any:
            async with self._client(AsyncAppwriteClient) as client:
                return await getattr(adapter, f"{name}_async")(self.service(client), *args, **named)

        return anyio.run(main, backend=self.loop)

    def place(self, row_id: str) -> dict[str, str]:
        """Return what names a row."""
        return {"database_id": self.backend.database_id, "table_id": self.table_id, "row_id": row_id}

    def new(self, row_id: str, **data: Any) -> NewRow:
        """Return a row to create."""
        return NewRow(self.backend.database_id, self.table_id, row_id, {"slot": row_id, **data})

    def create(self, *row_ids: str, **data: Any) -> Any:
        """Create rows."""
        return self.call("create_rows_once", [self.new(row_id, **data) for row_id in row_ids])

    def insert(self, row_id: str, **data: Any) -> Any:
        """Create a row past all scripts."""
        return self.read(self.backend.tables.create_row(**self.place(row_id), data={"slot": row_id, **data}).id)

    def read(self, row_id: str) -> Any:
        """Return a row as it is stored; None if there is none."""
        found = adapter.rows.RowStore(self.backend.tables).find(*self.place(row_id).values())
        return adapter.calls.run_now(lambda: adapter.calls.SYNC.ask(found))

    def rows(self) -> dict[str, Any]:
        """Return the data of the rows, by their IDs."""
        return self.backend.rows(self.table_id)

    def update(self, row_id: str, expected: Any, **data: Any) -> Any:
        """Change a row."""
        return self.call("update_row_once", **self.place(row_id), data=data, expected=expected)

    def delete(self, row_id: str, expected: Any = None) -> bool:
        """Delete a row."""
        return bool(self.call("delete_row_once", **self.place(row_id), expected=expected))

    def _client(self, kind: type) -> Any:
        endpoint = f"http://127.0.0.1:{self.server.port}/v1" if hasattr(self.server, "port") else self.server.endpoint
        return kind(read_timeout=5.0).set_endpoint(endpoint).set_project("demo").set_key("demo-key")


def pipeline(**settings: Any) -> Pipeline:
    """Return a pipeline with short delays."""
    breaker = settings.pop("breaker", None) or appwrite_breaker(failure_threshold=10_000)
    return Pipeline(
        retry=appwrite_retry(**{**QUICK, **settings}), breaker=breaker, monitor=settings.pop("monitor", None)
    )


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run all of them at once in threads; return what each gave, an error if it raised one."""
    results: list[Any] = [None] * len(works)
    barrier = threading.Barrier(len(works))

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = works[index]()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
