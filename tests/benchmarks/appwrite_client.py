"""What a create costs through `AppwriteClient` and through the SDK's own client, and the embedded server's share of it.

Run as a script it prints a table; `rows()` returns it. Each round makes the same creates through every contestant, one
after the other in an order of its own, against one embedded server in this process; a ratio is the median of the
rounds' ratios. The server's share is what one exchange over a bare socket takes: an upper bound, as the least that a
client can do is in it. (The file is not called `appwrite.py`: a script must not hide the SDK from its own imports.)
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from appwrite.client import Client
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_resilience.testing import AppwriteServer

ROUNDS, CREATES, LISTED, LISTS = 15, 40, 10_000, 25
PATH = "/v1/tablesdb/d/tables/t/rows"
DATA = {"room": "room-1", "text": "Welcome! This is the chat of your booking.", "number": 17}
_NUMBERS = itertools.count()


class Bare:
    """The least that a client can do: bytes over a connection that is kept.

    Args:
        server: The server.
    """

    def __init__(self, server: AppwriteServer) -> None:
        port = int(server.endpoint.split(":")[2].split("/")[0])
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = "Host: x\r\nX-Appwrite-Project: demo\r\nX-Appwrite-Key: demo-key\r\n"

    def ask(self, method: str, target: str, body: bytes = b"") -> bytes:
        """Make one exchange; return the answer."""
        head = f"{method} {target} HTTP/1.1\r\n{self._headers}Content-Type: application/json\r\n"
        self._sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while True:
            received += self._sock.recv(1 << 20)
            head_end = received.find(b"\r\n\r\n")
            if head_end >= 0:
                length = int(received[: head_end + 2].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if len(received) >= head_end + 4 + length:
                    return received

    def create(self) -> None:
        """Create a row."""
        body = json.dumps({"rowId": f"bare{next(_NUMBERS)}", "data": DATA}).encode()
        assert self.ask("POST", PATH, body).startswith(b"HTTP/1.1 201")

    def list(self, *queries: str) -> None:
        """List 25 rows."""
        asked = "&".join(f"queries[{place}]={quote(query)}" for place, query in enumerate(queries))
        assert self.ask("GET", f"{PATH}?{asked}").startswith(b"HTTP/1.1 200")

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


def make_table(client: Any) -> None:
    """Make the table that all write to."""
    tables = TablesDB(client)
    tables.create("d", "D")
    tables.create_table("d", "t", "T")
    for name in ("room", "text"):
        tables.create_varchar_column("d", "t", name, 100, True)
    tables.create_integer_column("d", "t", "number", True)


def creating(client: Any) -> Callable[[], object]:
    """Return what creates a row through a client."""
    tables = TablesDB(client)
    return lambda: tables.create_row("d", "t", f"r{next(_NUMBERS)}", DATA)


def timed(work: Callable[[], object], count: int) -> list[float]:
    """Return the seconds of each of so many calls."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times


def rows(rounds: int = ROUNDS, creates: int = CREATES, listed: int = LISTED) -> list[dict[str, Any]]:
    """Return the table: what was measured, the ratio, to what, microseconds, and the target."""
    with AppwriteServer() as server:
        plain: Any = Client()
        plain.set_endpoint(server.endpoint).set_project("demo").set_key("demo-key")
        ours = server.client()
        make_table(ours)
        bare = Bare(server)
        contestants = {"plain SDK": creating(plain), "AppwriteClient": creating(ours), "bare socket": bare.create}
        times: dict[str, list[list[float]]] = {name: [] for name in contestants}
        for work in contestants.values():
            timed(work, creates)  # warm
        for _ in range(rounds):
            for name in random.sample(list(contestants), len(contestants)):
                times[name].append(timed(contestants[name], creates))
        while len(TablesDB(ours).list_rows("d", "t", [Query.offset(listed - 1), Query.limit(1)]).rows) < 1:
            timed(bare.create, 250)
        newest = [Query.equal("room", ["room-1"]), Query.order_desc("$createdAt"), Query.limit(25)]
        lists = timed(lambda: bare.list(*map(str, newest)), LISTS)
        bare.close()
    sums = {name: [sum(one) for one in rounds_] for name, rounds_ in times.items()}
    medians = {name: statistics.median(itertools.chain(*rounds_)) for name, rounds_ in times.items()}
    table: list[dict[str, Any]] = [
        {
            "what": f"create through {name}",
            "ratio": statistics.median(a / b for a, b in zip(sums[name], sums["plain SDK"], strict=True)),
            "to": "the plain SDK client",
            "microseconds": medians[name] * 1e6,
            "target": "at most 0.5" if name == "AppwriteClient" else None,
        }
        for name in contestants
    ]
    table += [
        {
            "what": "the embedded server's share of a create",
            "ratio": medians["bare socket"] / 1e-3,
            "to": "1 ms",
            "microseconds": medians["bare socket"] * 1e6,
            "target": "at most 1",
        },
        {
            "what": f"its share of a list of 25 out of {listed:,}",
            "ratio": statistics.median(lists) / 1e-2,
            "to": "10 ms",
            "microseconds": statistics.median(lists) * 1e6,
            "target": "at most 1",
        },
    ]
    return table


def main() -> None:
    """Print the table."""
    print(f"{'':48} {'ratio':>8}  {'to':24} {'µs':>8}  target")
    for row in rows():
        target = row["target"] or ""
        print(f"{row['what']:48} {row['ratio']:8.2f}  {row['to']:24} {row['microseconds']:8.0f}  {target}")


if __name__ == "__main__":
    main()
