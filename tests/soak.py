"""Makes bookings under changing faults for as long as you like, and watches what the process holds on to.

`python tests/soak.py [--minutes 10] [--json FILE]`. The embedded server runs in a process of its own and is started
anew, on the same port, for each round of faults. After each round nothing goes wrong for a moment, the bookings that
were confirmed are looked up, and memory, objects, threads and descriptors of this process are counted. They must not
be more at the end than after the rounds of warming up; then the exit code is 0, else 1.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appwrite.services.tables_db import TablesDB

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import booking_flow
from booking_resilience import BookingSuccess, CircuitBreaker, ErrorMonitor, Pipeline, RetryPolicy, iter_batch
from booking_resilience.appwrite import AppwriteClient, appwrite_breaker
from booking_resilience.testing import AppwriteServer
from create_booking import read_stored

ROUNDS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("healthy", 0.0, ("status",)),
    ("some of everything", 0.1, ("status", "reset", "close", "cut_body", "invalid_json", "lost")),
    ("answers get lost", 0.3, ("lost",)),
    ("overloaded", 0.5, ("status", "rate_limited")),
    ("slow and silent", 0.02, ("hang", "slow_body")),
    ("down", 1.0, ("reset", "close")),
)
ROUND_SECONDS = 8.0
WARM_UP = len(ROUNDS)
GROWTH = {"rss_mb": 8.0, "objects": 1500.0, "threads": 0.0, "descriptors": 2.0}
"""What may come on top of the figures after the warming up: the allocator's and the pool's play."""


class Provider:
    """Counts the chats that open."""

    opened = 0

    def handle_booking_success(self, event: BookingSuccess) -> None:
        """Count one."""
        self.opened += 1


def serve(port: int, rate: float, kinds: tuple[str, ...], seed: int, pipe: Any) -> None:
    """Run the server in this process until told to stop: faults from the first message on, none from the second."""
    with AppwriteServer(port=port) as server:
        pipe.send(server.endpoint)
        for told in iter(pipe.recv, "stop"):
            if told == "faults" and rate:
                server.faults.rate(rate, seed=seed, kinds=kinds)
            else:
                server.faults.clear()
            pipe.send(told)


@contextmanager
def server(port: int, rate: float, kinds: tuple[str, ...], seed: int) -> Iterator[Any]:
    """Give a function that tells a new server what to do."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=serve, args=(port, rate, kinds, seed, its))
    process.start()
    its.close()

    def tell(what: str) -> None:
        ours.send(what)
        ours.recv()

    try:
        ours.recv()
        yield tell
    finally:
        ours.send("stop")
        process.join()
        process.close()
        ours.close()


def held() -> dict[str, float]:
    """Return what this process holds on to now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "rss_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "objects": len(gc.get_objects()),
        "threads": threading.active_count(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


class Soak:
    """One client, breaker and monitor for all rounds."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.client = AppwriteClient()
        self.client.set_endpoint(f"http://127.0.0.1:{self.port}/v1").set_project("demo").set_key("demo-key")
        self.breaker: CircuitBreaker = appwrite_breaker(cooldown=0.5)
        self.monitor, self.chat = ErrorMonitor(capacity=100), Provider()
        self.flow = booking_flow.BookingFlow(
            self.client,
            monitor=self.monitor,
            breaker=self.breaker,
            chat_provider=self.chat,
            steps=True,
        )
        self.once = Pipeline(retry=RetryPolicy(max_attempts=1, deadline=None))

    def round(self, number: int) -> dict[str, Any]:
        """Make bookings under one kind of trouble; return what came of it."""
        name, rate, kinds = ROUNDS[number % len(ROUNDS)]
        counts, confirmed = Counter[str](), set[str]()
        with server(self.port, rate, kinds, number) as tell:
            booking_flow.bootstrap(self.client)
            tell("faults")
            end = time.monotonic() + ROUND_SECONDS
            requests = (
                booking_flow.BookingRequest(therapist_id="t1", therapist_name="Ada", user_id=f"u{n}", run=str(number))
                for n in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count())
            )
            for outcome in iter_batch(self.flow.create_booking, requests, pipeline=self.once, operation="soak"):
                counts["asked"] += 1
                if outcome.error is None and outcome.value is not None:
                    confirmed.add(outcome.value.request.booking_id)
                    counts["degraded"] += bool(outcome.value.missing)
            tell("healthy")
            TablesDB(self.client).list_rows(database_id=booking_flow.DATABASE_ID, table_id=booking_flow.BOOKINGS)
            stored = read_stored(self.client, str(number))
            counts["confirmed"] = len(confirmed)
            counts["lost"] = len(confirmed - set(stored))
            counts["duplicates"] = sum(copies - 1 for copies in stored.values())
        return {"round": name, **counts, "trips": self.breaker.snapshot().trips, **held()}


def verdict(rounds: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong: what grew since the warming up, round by like round, and bookings lost or doubled."""
    wrong = [f"round {n}: {row['lost']} lost, {row['duplicates']} doubled" for n, row in enumerate(rounds, 1)
             if row["lost"] or row["duplicates"]]  # fmt: skip
    before, after = rounds[:WARM_UP], rounds[-WARM_UP:]
    for name, allowed in GROWTH.items():
        first, last = max(row[name] for row in before), max(row[name] for row in after)
        if last > first + allowed:
            wrong.append(f"{name} went from {first} to {last}")
    return wrong


def main() -> int:
    """Run the rounds; return 0 if all stayed flat and right, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="how long (default 10); two rounds of each at least"
    )
    parser.add_argument("--json", type=Path, help="write the figures of each round to this file")
    options = parser.parse_args()
    soak, rounds, end = Soak(), [], time.monotonic() + options.minutes * 60
    columns = ("round", "asked", "confirmed", "degraded", "lost", "duplicates", "trips", *GROWTH)
    print("".join(f"{name:>20}" if name == "round" else f"{name:>12}" for name in columns), flush=True)
    while time.monotonic() < end or len(rounds) < 2 * WARM_UP or len(rounds) % len(ROUNDS):
        row = soak.round(len(rounds))
        rounds.append(row)
        print("".join(f"{row.get(name, 0):>{20 if name == 'round' else 12}}" for name in columns), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf-8")
    wrong = verdict(rounds)
    print("\n".join(wrong) if wrong else f"flat over {len(rounds)} rounds; {soak.chat.opened} bookings complete")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
