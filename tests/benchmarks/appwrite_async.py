"""What 100 bookings at once cost in an event loop, beside a bare httpx2 client; and creates one after the other.

Run as a script it prints a table; `rows()` returns it. The backend is a process of its own. Bare and ours take turns in
one run, each with connections that are warm; of the rounds at once the best counts, of the others the median.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
from appwrite.services.tables_db import TablesDB

from booking_resilience import Pipeline
from booking_resilience.appwrite import (
    AppwriteClient,
    AsyncAppwriteClient,
    appwrite_retry,
    create_row_once,
    create_row_once_async,
)
from booking_resilience.testing import AppwriteServer

AT_ONCE, ROUNDS, CREATES = 100, 5, 20
DATA = {"room": "room-1", "text": "Welcome! This is the chat of your booking.", "number": 17}
PATIENT = Pipeline(retry=appwrite_retry(attempt_timeout=10.0, deadline=30.0))
_NUMBERS = itertools.count()


@contextlib.contextmanager
def backend(delay: str) -> Iterator[str]:
    """Start the slow backend; give its endpoint."""
    command = [sys.executable, str(Path(__file__).with_name("slow_backend.py")), delay]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.kill()


def requests_of(endpoint: str) -> int:
    """Return how many creates a slow backend has got."""
    with urllib.request.urlopen(endpoint.replace("/v1", "/facts"), timeout=10) as answer:
        return int(json.load(answer)["requests"])


def creating(client: AsyncAppwriteClient, pipeline: Pipeline) -> Callable[[], Awaitable[object]]:
    """Return what creates a row without blocking."""
    tables = TablesDB(client)
    return lambda: create_row_once_async(
        tables, database_id="d", table_id="t", row_id=f"a{next(_NUMBERS)}", data=DATA, pipeline=pipeline, operation="x"
    )


def posting(client: httpx2.AsyncClient, endpoint: str, **headers: str) -> Callable[[], Awaitable[object]]:
    """Return what posts the same row through a bare client."""
    url = f"{endpoint}/tablesdb/d/tables/t/rows"
    return lambda: client.post(url, json={"rowId": f"b{next(_NUMBERS)}", "data": DATA}, headers=headers)


@contextlib.asynccontextmanager
async def clients(endpoint: str) -> AsyncIterator[tuple[AsyncAppwriteClient, httpx2.AsyncClient]]:
    """Give ours and a bare one."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
    ours = AsyncAppwriteClient().set_endpoint(endpoint).set_project("demo").set_key("demo-key")
    async with ours, httpx2.AsyncClient(trust_env=False, limits=limits, timeout=10.0) as bare:
        yield ours, bare


class Watch:
    """Sees how long the event loop is held, and how long an unrelated thread's call waits, at most."""

    def __init__(self) -> None:
        self.held = self.waited = 0.0

    async def beat(self) -> None:
        """Tick."""
        while True:
            started = time.perf_counter()
            await anyio.sleep(0.005)
            self.held = max(self.held, time.perf_counter() - started - 0.005)

    async def bystand(self) -> None:
        """Call in a thread, again and again."""
        while True:
            started = time.perf_counter()
            await anyio.to_thread.run_sync(int)
            self.waited = max(self.waited, time.perf_counter() - started)
            await anyio.sleep(0.01)


async def at_once(work: Callable[[], Awaitable[object]]) -> tuple[float, float, float]:
    """Return how long so many calls at once take, how long the loop was held, and how long a thread waited."""
    watch = Watch()

    async def one() -> None:
        with contextlib.suppress(Exception):
            await work()

    async with anyio.create_task_group() as around:
        around.start_soon(watch.beat)
        around.start_soon(watch.bystand)
        await anyio.sleep(0.05)
        watch.held = watch.waited = 0.0
        started = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(one)
        took = time.perf_counter() - started
        around.cancel_scope.cancel()
    return took, watch.held, watch.waited


async def answering(endpoint: str, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return the best rounds against a backend that answers in 0.2 s."""
    found: dict[str, list[tuple[float, float, float]]] = {"bare": [], "ours": []}
    async with clients(endpoint) as (ours, bare):
        works = {"bare": posting(bare, endpoint), "ours": creating(ours, PATIENT)}
        for work in works.values():
            await at_once(work)  # warm
        for _ in range(rounds):
            for name, work in works.items():
                found[name].append(await at_once(work))
    return {name: min(times) for name, times in found.items()}


async def hanging(endpoint: str) -> dict[str, tuple[float, float, float]]:
    """Return one round against a backend that hangs: a bare client gives up after a second."""
    async with clients(endpoint) as (ours, bare):
        bare.timeout = httpx2.Timeout(1.0, pool=None)
        return {
            "bare": await at_once(posting(bare, endpoint)),
            "ours": await at_once(creating(ours, Pipeline(retry=appwrite_retry()))),
        }


async def in_turn(endpoint: str, rounds: int, creates: int) -> dict[str, float]:
    """Return the seconds of a create one after the other: ours in both colours and a bare client, interleaved."""
    sync = AppwriteClient().set_endpoint(endpoint).set_project("demo").set_key("demo-key")
    tables = TablesDB(sync)
    identity = {"x-appwrite-project": "demo", "x-appwrite-key": "demo-key"}
    times: dict[str, list[float]] = {"sync": [], "async": [], "bare": []}
    async with clients(endpoint) as (ours, bare):
        created, posted = creating(ours, PATIENT), posting(bare, endpoint, **identity)
        for turn in range(rounds * creates):
            for name in ("sync", "async", "bare"):
                started = time.perf_counter()
                if name == "sync":
                    place = {"database_id": "d", "table_id": "t", "row_id": f"s{next(_NUMBERS)}", "data": DATA}
                    create_row_once(tables, **place, pipeline=PATIENT, operation="x")
                elif name == "async":
                    await created()
                else:
                    await posted()
                if turn >= creates:  # the first round warms
                    times[name].append(time.perf_counter() - started)
    sync.close()
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def rows(rounds: int = ROUNDS, creates: int = CREATES) -> list[dict[str, Any]]:
    """Return the table: what was measured, seconds, and the bound where there is one."""
    table: list[dict[str, Any]] = []

    def row(what: str, seconds: float, bound: float | None = None) -> None:
        table.append({"what": what, "seconds": seconds, "bound": bound})

    times: dict[str, float] = {}
    for loop in ("asyncio", "trio"):
        with backend("0.2") as endpoint:
            found = anyio.run(answering, endpoint, rounds, backend=loop)
        (bare, bare_held, bare_waited), (ours, held, waited) = found["bare"], found["ours"]
        times[loop] = ours
        row(f"{loop}, 0.2 s: {AT_ONCE} posts, bare httpx2", bare)
        row(f"{loop}, 0.2 s: {AT_ONCE} bookings", ours, 2 * bare)
        row(f"{loop}, 0.2 s: the loop was held", held, max(0.1, 3 * bare_held))
        row(f"{loop}, 0.2 s: a thread waited", waited, max(0.1, 3 * bare_waited))
        with backend("hang") as endpoint:
            found = anyio.run(hanging, endpoint, backend=loop)
            before = requests_of(endpoint)
            time.sleep(0.5)
            row(f"{loop}, hanging: calls begun afterwards", requests_of(endpoint) - before, 0)
        (_, bare_held, bare_waited), (ours, held, waited) = found["bare"], found["ours"]
        row(f"{loop}, hanging: {AT_ONCE} bookings have ended", ours, 4.2)
        row(f"{loop}, hanging: the loop was held", held, max(0.1, 3 * bare_held))
        row(f"{loop}, hanging: a thread waited", waited, max(0.1, 3 * bare_waited))
    row("trio, 0.2 s, against asyncio", times["trio"], 1.5 * times["asyncio"])
    with backend("0.02") as endpoint:
        turns = asyncio.run(in_turn(endpoint, rounds, creates))
    row("in turn, 20 ms: synchronous client", turns["sync"])
    row("in turn, 20 ms: asynchronous client", turns["async"], 1.1 * turns["sync"])
    row("in turn, 20 ms: bare httpx2", turns["bare"])
    with AppwriteServer() as server:
        make_table(server)
        turns = asyncio.run(in_turn(server.endpoint, rounds, creates))
    for name, title in (("sync", "synchronous client"), ("async", "asynchronous client"), ("bare", "bare httpx2")):
        row(f"in turn, embedded server: {title}", turns[name])
    return table


def make_table(server: AppwriteServer) -> None:
    """Make the table that all write to."""
    with server.client() as client:
        tables = TablesDB(client)
        tables.create("d", "D")
        tables.create_table("d", "t", "T")
        for name in ("room", "text"):
            tables.create_varchar_column("d", "t", name, 100, True)
        tables.create_integer_column("d", "t", "number", True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    for row in rows(options.rounds):
        bound = "" if row["bound"] is None else f"at most {row['bound']:.3f}"
        print(f"{row['what']:52} {row['seconds']:9.4f} s  {bound}", flush=True)


if __name__ == "__main__":
    main()
