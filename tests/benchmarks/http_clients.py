"""What a request costs through the resilient HTTP clients, over the bare ones and beside other libraries'.

Run as a script it prints a table; `rows()` returns it. A server of raw sockets in a process of its own answers on the
loopback. Each round makes the same requests through every contestant of a client, one after the other in an order of
its own; compared are the fastest tenths of the rounds, which other processes disturb least, by this process's processor
time, which leaves out the server's and so shows more than a clock on the wall would. Those that aren't installed are
left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

ROUNDS, REQUESTS = 100, 15
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


def _found(module: str) -> Any:
    """Return a module, or None if it isn't installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _httpx(name: str) -> dict[str, Any]:
    lib = importlib.import_module(name)
    found = {"bare": lib.HTTPTransport(), "nopanic": lib.HTTPTransport()}
    found |= {"ours": _found(f"booking_resilience.http.{name}").ResilientTransport()}
    if peer := _found(f"interlock.integrations.{name}"):
        found["interlock-cb"] = peer.CircuitBreakerTransport(lib.HTTPTransport())
    if name == "httpx" and (peer := _found("httpx_retries")):
        found["httpx-retries"] = peer.RetryTransport(lib.HTTPTransport())
    if name == "httpx" and (peer := _found("httpx_hedged")):
        found["httpx-hedged"] = peer.SyncHedgedTransport(lib.HTTPTransport())
    return {label: lib.Client(transport=transport) for label, transport in found.items()}


def _requests() -> dict[str, Any]:
    lib = importlib.import_module("requests")
    retries = importlib.import_module("urllib3.util").Retry(3)
    found = {"bare": lib.adapters.HTTPAdapter(), "nopanic": lib.adapters.HTTPAdapter()}
    found |= {"ours": _found("booking_resilience.http.requests").ResilientAdapter()}
    found["urllib3 Retry"] = lib.adapters.HTTPAdapter(max_retries=retries)
    if peer := _found("interlock.integrations.requests"):
        found["interlock-cb"] = peer.CircuitBreakerAdapter()
    sessions = {}
    for label, adapter in found.items():
        sessions[label] = lib.Session()
        sessions[label].trust_env = False
        sessions[label].mount("http://", adapter)
    return sessions


def _aiohttp() -> dict[str, Any]:
    lib = importlib.import_module("aiohttp")
    ours = importlib.import_module("booking_resilience.http.aiohttp")
    found = {"bare": lib.ClientSession(), "nopanic": lib.ClientSession()}
    found |= {"ours": lib.ClientSession(middlewares=[ours.resilient()])}
    if peer := _found("interlock.integrations.aiohttp"):
        found["interlock-cb"] = lib.ClientSession(middlewares=[peer.CircuitBreakerMiddleware()])
    if peer := _found("aiohttp_retry"):
        found["aiohttp-retry"] = peer.RetryClient()
    return found


def _with_nopanic(calls: dict[str, Any]) -> dict[str, Any]:
    """Put nopanic's retry and breaker around the call of a bare client of its own, or leave that out."""
    call = calls.pop("nopanic")
    if peer := _found("nopanic"):
        calls["nopanic"] = peer.compose(peer.retry(attempts=3), peer.circuit_breaker())(call)
    return calls


class Rounds:
    """The times of the contestants, round by round."""

    def __init__(self, names: Iterable[str]) -> None:
        self._times: dict[str, list[float]] = {name: [] for name in names}

    def __iter__(self) -> Iterator[str]:
        """Yield who is next, and take the processor time until the next is asked for."""
        for number in range(ROUNDS + 1):
            for name in random.sample(list(self._times), len(self._times)):
                began = time.process_time()
                yield name
                if number:  # the first warms up
                    self._times[name].append(time.process_time() - began)

    def ratios(self) -> dict[str, float]:
        """Return what each took over the bare client."""
        fast = {name: sorted(times)[ROUNDS // 10] for name, times in self._times.items()}
        return {name: taken / fast["bare"] for name, taken in fast.items()}


def _compare(clients: dict[str, Any], url: str) -> dict[str, float]:
    calls = _with_nopanic({name: client.get for name, client in clients.items()})
    rounds = Rounds(calls)
    for name in rounds:
        call = calls[name]
        for _ in range(REQUESTS):
            call(url)
    for client in clients.values():
        client.close()
    return rounds.ratios()


async def _compare_async(clients: dict[str, Any], url: str) -> dict[str, float]:
    def calling(client: Any) -> Any:
        async def call() -> None:
            async with client.get(url) as response:
                await response.read()

        return call

    calls = _with_nopanic({name: calling(client) for name, client in clients.items()})
    rounds = Rounds(calls)
    for name in rounds:
        call = calls[name]
        for _ in range(REQUESTS):
            await call()
    for client in clients.values():
        await client.close()
    return rounds.ratios()


async def _aiohttp_ratios(url: str) -> dict[str, float]:
    return await _compare_async(_aiohttp(), url)


def rows() -> dict[str, dict[str, float]]:
    """Return the ratios of each client's contestants."""
    with server() as url:
        table = {name: _compare(_httpx(name), url) for name in ("httpx2", "httpx")}
        table["requests"] = _compare(_requests(), url)
        table["aiohttp"] = asyncio.run(_aiohttp_ratios(url))
    return table


if __name__ == "__main__":
    socket.setdefaulttimeout(30)
    for client, ratios in rows().items():
        print(f"{client:9}", "  ".join(f"{name} {(ratio - 1) * 100:+.1f} %" for name, ratio in ratios.items()))
