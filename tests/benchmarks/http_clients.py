"""What a request costs through the resilient HTTP clients, over the bare ones and beside other libraries'.

Run as a script it prints a table; `rows()` returns it. A server of raw sockets in a process of its own answers on the
loopback. Each round makes the same requests through every contestant of a client, one after the other in an order of
its own; a ratio is the median of the rounds' ratios of this process's processor time, which leaves out the server's and
so shows more than a clock on the wall would. Those that aren't installed are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

ROUNDS, REQUESTS = 25, 40
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_SERVER = f"""
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def serve(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(65536):
        sock.sendall({_ANSWER!r} * data.count(b"\\r\\n\\r\\n"))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run the server; yields its address."""
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        finally:
            process.kill()


def _httpx(name: str) -> dict[str, Callable[[], Any]]:
    lib = importlib.import_module(name)
    ours = importlib.import_module(f"booking_resilience.http.{name}")
    found = {"bare": lambda: lib.HTTPTransport(), "ours": lambda: ours.ResilientTransport()}
    with contextlib.suppress(ImportError):
        peer = importlib.import_module(f"interlock.integrations.{name}")
        found["interlock-cb"] = lambda: peer.CircuitBreakerTransport(lib.HTTPTransport())
    if name == "httpx":
        with contextlib.suppress(ImportError):
            retries = importlib.import_module("httpx_retries")
            found["httpx-retries"] = lambda: retries.RetryTransport(lib.HTTPTransport())
        with contextlib.suppress(ImportError):
            hedged = importlib.import_module("httpx_hedged")
            found["httpx-hedged"] = lambda: hedged.SyncHedgedTransport(lib.HTTPTransport())
    return {label: lambda make=make: lib.Client(transport=make()) for label, make in found.items()}


def _requests() -> dict[str, Callable[[], Any]]:
    lib = importlib.import_module("requests")
    ours = importlib.import_module("booking_resilience.http.requests")
    util = importlib.import_module("urllib3.util")

    def session(adapter: Any) -> Any:
        made = lib.Session()
        made.trust_env = False
        made.mount("http://", adapter)
        return made

    return {
        "bare": lambda: session(lib.adapters.HTTPAdapter()),
        "ours": lambda: session(ours.ResilientAdapter()),
        "urllib3 Retry": lambda: session(lib.adapters.HTTPAdapter(max_retries=util.Retry(3))),
    }


def _compare(clients: dict[str, Any], url: str, work: Callable[[Any, str], None]) -> dict[str, float]:
    """Return the median time of each contestant over that of the bare client in the same round."""
    ratios: dict[str, list[float]] = {name: [] for name in clients}
    for client in clients.values():
        work(client, url)
    for _ in range(ROUNDS):
        times = {}
        for name in random.sample(list(clients), len(clients)):
            began = time.process_time()
            work(clients[name], url)
            times[name] = time.process_time() - began
        for name, taken in times.items():
            ratios[name].append(taken / times["bare"])
    return {name: statistics.median(values) for name, values in ratios.items()}


def _get(client: Any, url: str) -> None:
    for _ in range(REQUESTS):
        client.get(url)


async def _aiohttp(url: str) -> dict[str, float]:
    lib = importlib.import_module("aiohttp")
    ours = importlib.import_module("booking_resilience.http.aiohttp")
    sessions = {"bare": lib.ClientSession(), "ours": lib.ClientSession(middlewares=[ours.resilient()])}
    with contextlib.suppress(ImportError):
        sessions["aiohttp-retry"] = importlib.import_module("aiohttp_retry").RetryClient()
    ratios: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(ROUNDS + 1):
        times = {}
        for name in random.sample(list(sessions), len(sessions)):
            began = time.process_time()
            for _ in range(REQUESTS):
                async with sessions[name].get(url) as response:
                    await response.read()
            times[name] = time.process_time() - began
        for name, taken in times.items():
            if number:
                ratios[name].append(taken / times["bare"])
    for session in sessions.values():
        await session.close()
    return {name: statistics.median(values) for name, values in ratios.items()}


def rows() -> dict[str, dict[str, float]]:
    """Return the ratios of each client's contestants."""
    table = {}
    with server() as url:
        for name, makers in (("httpx2", _httpx("httpx2")), ("httpx", _httpx("httpx")), ("requests", _requests())):
            clients = {label: make() for label, make in makers.items()}
            table[name] = _compare(clients, url, _get)
            for client in clients.values():
                client.close()
        table["aiohttp"] = asyncio.run(_aiohttp(url))
    return table


if __name__ == "__main__":
    socket.setdefaulttimeout(30)
    for client, ratios in rows().items():
        print(f"{client:9}", "  ".join(f"{name} {(ratio - 1) * 100:+.1f} %" for name, ratio in ratios.items()))
