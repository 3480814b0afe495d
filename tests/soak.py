"""Makes bookings under changing faults for as long as you like, and watches what the process holds on to.

`python tests/soak.py [--minutes 30] [--json FILE]`. Every part of the library is switched on: see `soaking.py`. The
embedded server runs in a process of its own and is started anew, on the same port, for each round of faults. After each
round nothing goes wrong for a moment, the bookings that were confirmed are looked up, and memory, objects, threads and
descriptors of this process are counted. The first half of the run is the warming up, which takes a quarter of an hour:
the pages of DBOS' connections, and what is remembered of kinds of errors, fill slowly. In the second half the straight
line through each of these figures must be all but flat; then the exit code is 0, else 1.

Python's allocator, and the C library's with a heap for each of many threads, keep tens of megabytes of what was freed
in pieces. So all memory comes from two heaps here, and what the process takes up is steady to half a megabyte.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import logging
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from booking_resilience.testing import AppwriteServer

ROUNDS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("healthy", 0.0, ("status",)),
    ("some of everything", 0.1, ("status", "reset", "close", "cut_body", "invalid_json", "lost")),
    ("answers get lost", 0.1, ("lost",)),
    ("overloaded", 0.2, ("status", "rate_limited")),
    ("slow and silent", 0.02, ("hang", "slow_body")),
    ("down", 1.0, ("reset", "close")),
)
ROUND_SECONDS = 8.0
LEAST = 4 * len(ROUNDS)
GROWTH = {"rss_mb": 3.0, "objects": 3000.0, "threads": 2.0, "descriptors": 8.0}
"""How much more each may become in ten minutes of the second half: what caches and pools still play."""
HEAPS = {"PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "2"}
"""Settings of Python and glibc that a process reads when it starts."""
COLUMNS = (
    "round", "minute", "asked", "confirmed", "lost", "duplicates", "denied", "reads", "durable", "polls", "trips",
    *GROWTH,
)  # fmt: skip


def serve(port: int, pipe: Any) -> None:
    """Run one server after another in this process, each with the faults that its first message names."""
    for rate, kinds, seed in iter(pipe.recv, None):
        with AppwriteServer(port=port) as server:
            pipe.send("started")
            for told in iter(pipe.recv, "end"):
                if told == "faults" and rate:
                    server.faults.rate(rate, seed=seed, kinds=kinds)
                else:
                    server.faults.clear()
                pipe.send(told)
        pipe.send("ended")


@contextlib.contextmanager
def server_process(port: int) -> Iterator[Any]:
    """Give a function that sends the process of the server a message and waits for its answer."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=serve, args=(port, its))
    process.start()
    its.close()

    def tell(what: object) -> None:
        ours.send(what)
        ours.recv()

    try:
        yield tell
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def held() -> dict[str, float]:
    """Return what this process holds on to now.

    DBOS' pools, of 16 threads and 20 connections to its file, fill as they are needed; their threads and descriptors
    are left out.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "rss_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "objects": len(gc.get_objects()),
        "threads": sum(not thread.name.startswith("dbos-executor") for thread in threading.enumerate()),
        "descriptors": sum("/bookings.db" not in name for name in map(opened, Path("/proc/self/fd").iterdir())),
    }


def opened(descriptor: Path) -> str:
    """Return what a descriptor of this process has open; "" if it is closed by now."""
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def stored(tables: Any, run: str) -> Counter[str]:
    """Return the bookings of a run, by their ID, and how often each is stored."""
    from appwrite.query import Query

    from booking_tables import BOOKINGS, DATABASE_ID

    found, query = list[Any](), [Query.equal("run", [run]), Query.limit(100)]
    while True:
        after = [Query.cursor_after(found[-1].id)] if found else []
        page = tables.list_rows(DATABASE_ID, BOOKINGS, [*query, *after]).rows
        found += page
        if len(page) < 100:
            return Counter(row.data["reference"] for row in found)


def one_round(application: Any, tell: Any, number: int, begun: float) -> dict[str, Any]:
    """Use everything under one kind of trouble; return what came of it, and when, after the beginning of the run."""
    from booking_tables import bootstrap

    name, rate, kinds = ROUNDS[number % len(ROUNDS)]
    tell((rate, kinds, number))
    bootstrap(application.client)
    application.begin(str(number))
    tell("faults")
    application.work(ROUND_SECONDS)
    tell("healthy")
    application.settle()
    kept = stored(application.tables, str(number))
    figures = {
        **application.counts,
        "confirmed": len(application.confirmed),
        "lost": len(application.confirmed - set(kept)),
        "duplicates": sum(copies - 1 for copies in kept.values()),
        "denied": len(application.denied & set(kept)),
        "trips": application.breaker.snapshot().trips,
    }
    tell("end")
    return {"round": name, "minute": round((time.monotonic() - begun) / 60, 2), **figures, **held()}


def verdict(rounds: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong: bookings lost, doubled, or stored though denied, and what grew in the second half."""
    wrong = [
        f"round {number}: {row['lost']} lost, {row['duplicates']} doubled, {row['denied']} stored though denied"
        for number, row in enumerate(rounds, 1)
        if row["lost"] or row["duplicates"] or row["denied"]
    ]
    wrong += [f"{name} grows by {by:.2f} in ten minutes" for name, by in growth(rounds).items() if by > GROWTH[name]]
    return wrong


def growth(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Return what comes on top of each figure in ten minutes: the slope of the line through its second half."""
    warm = rounds[len(rounds) // 2 :]
    minutes = [row["minute"] for row in warm]
    return {name: 10 * statistics.linear_regression(minutes, [row[name] for row in warm]).slope for name in GROWTH}


def shown(values: Any) -> str:
    """Return a line of the table."""
    return "".join(f"{value:>{20 if place == 0 else 12}}" for place, value in enumerate(values))


def main() -> int:
    """Run the rounds; return 0 if all stayed flat and right, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="how long (default 30); four rounds of each at least"
    )
    parser.add_argument("--json", type=Path, help="write the figures of each round to this file")
    options = parser.parse_args()
    if not os.environ.items() >= HEAPS.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **HEAPS})
    from soaking import Application  # here, so that the server's process doesn't load it

    logging.getLogger("booking_resilience").setLevel(logging.CRITICAL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, server_process(port) as tell:
        rounds, begun = list[dict[str, Any]](), time.monotonic()
        print(shown(COLUMNS), flush=True)
        with contextlib.closing(Application(port, Path(folder))) as application:
            while time.monotonic() < begun + options.minutes * 60 or len(rounds) < LEAST or len(rounds) % len(ROUNDS):
                row = one_round(application, tell, len(rounds), begun)
                rounds.append(row)
                print(shown(row.get(name, 0) for name in COLUMNS), flush=True)
                if options.json is not None:
                    options.json.write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf-8")
    wrong = verdict(rounds)
    total = sum(row["confirmed"] for row in rounds)
    grown = ", ".join(f"{name} {by:+.2f}" for name, by in growth(rounds).items())
    print(f"in ten minutes of the second half: {grown}")
    print("\n".join(wrong) if wrong else f"flat over {len(rounds)} rounds; {total} bookings made, none lost or doubled")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
