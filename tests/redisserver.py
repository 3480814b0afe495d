"""A Redis server of the tests' own, and processes that share breakers through it."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(PROGRAM is None, reason="no redis-server here")
SOURCE = Path(__file__).resolve().parent.parent / "src"


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def passed(seconds: float) -> None:
    """Wait until so many seconds are over."""
    begin = time.monotonic()
    eventually(lambda: time.monotonic() - begin >= seconds, within=seconds + 20)


def eventually(condition: Callable[[], object], within: float = 20.0, what: str = "") -> float:
    """Wait until the condition is true; fail if that takes longer than a generous time.

    Returns:
        The seconds it took.
    """
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < within, f"not within {within} s: {what or condition}"
        time.sleep(0.002)
    return time.monotonic() - begin


class RedisServer:
    """A redis-server that keeps nothing on disk, on a port of the loopback."""

    def __init__(self, *options: str) -> None:
        self.port, self._options = free_port(), options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, on its port."""
        assert PROGRAM is not None
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL, cwd="/")
        try:
            eventually(self._answers, what="redis-server answers")
        except AssertionError:
            self.kill()
            raise

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.settimeout(1)
            connection.sendall(b"PING\r\n")
            return connection.recv(1) in (b"+", b"-")
        return False

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Have it hold its connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def client(self) -> redis.Redis:
        """Return a client of the test's own."""
        return redis.Redis(port=self.port)


class Relay:
    """A port that hands everything on to another one, which can be changed, and can be made slow.

    Attributes:
        target: The port it leads to.
        delay: Seconds that each request takes.
        deaf: Connections that listen to channels and hear nothing any more, though they hold.
        listening: Those that listen.
    """

    def __init__(self, target: int) -> None:
        self.target, self.delay = target, 0.0
        self.listening: set[socket.socket] = set()
        self.deaf: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for side in (near, far):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [near, far]
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_request and b"SUBSCRIBE" in data:
                    self.listening.add(source)
                if is_request and self.delay:
                    time.sleep(self.delay)
                if not {source, sink} & self.deaf:
                    sink.sendall(data)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def cut(self) -> None:
        """Cut all connections through it."""
        for side in self._open:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


class Worker:
    """A process that runs the Python it is given, in one namespace."""

    def __init__(self) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )

    def send(self, code: str, **values: Any) -> None:
        """Have it run the code, with these values as names."""
        assert self.process.stdin is not None
        pickle.dump((code, values), self.process.stdin)
        self.process.stdin.flush()

    def receive(self) -> Any:
        """Return what the code left in `result`; raise what it raised."""
        assert self.process.stdout is not None
        answer = pickle.load(self.process.stdout)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run(self, code: str, **values: Any) -> Any:
        """Have it run the code and return what that left in `result`."""
        self.send(code, **values)
        return self.receive()

    def ask(self, expression: str, **values: Any) -> Any:
        """Return the value of an expression there."""
        return self.run(f"result = ({expression})", **values)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()


@contextlib.contextmanager
def hired(number: int = 1) -> Iterator[list[Worker]]:
    """Give so many processes, and end them afterwards."""
    workers = [Worker() for _ in range(number)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()


_WORKER = """
import logging, os, pickle, signal, sys, threading, time
from booking_resilience import BreakerState, CircuitBreaker, CircuitOpenError
from booking_resilience.breaker.shared import RedisBreaker

out, sys.stdout = sys.stdout.buffer, sys.stderr
logging.lastResort = None
names = {**globals()}

exec('''
def fails():
    raise OSError("down")

def attempt(fn=int):
    try:
        breaker.call(fn)
    except CircuitOpenError:
        return "refused"
    except OSError:
        return "failed"
    return "passed"

def attempt_until(wanted, fn=int, within=20.0, pause=0.005):
    end = time.monotonic() + within
    while time.monotonic() < end:
        said = attempt(fn)
        if said == wanted:
            return True
        time.sleep(pause)
    return False

def until(state, within=20.0):
    end = time.monotonic() + within
    while breaker.state.value != state and time.monotonic() < end:
        time.sleep(0.001)
    return breaker.state.value == state
''', names)
while True:
    try:
        code, values = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    names.update(values, result=None)
    try:
        exec(code, names)
        answer = names["result"]
    except BaseException as error:
        answer = error
    pickle.dump(answer, out)
    out.flush()
"""

MAKE = """
shared = RedisBreaker(url, min_reporters=min_reporters, machine=machine or f"machine of {os.getpid()}")
breaker = CircuitBreaker(name, shared=shared, **settings)
events = []
subscription = breaker.subscribe(lambda event: events.append((time.monotonic(), event.old.value, event.new.value)))
end = time.monotonic() + 20
while not breaker.snapshot().shared.connected and time.monotonic() < end:
    time.sleep(0.001)
result = breaker.snapshot().shared.connected
"""


class Fleet:
    """Processes, each with a breaker of the same name, and each a machine of its own unless one is named."""

    def __init__(
        self,
        workers: list[Worker],
        url: str,
        name: str,
        *,
        min_reporters: int = 2,
        machine: str | None = None,
        **settings: Any,
    ) -> None:
        self.workers = workers
        self._made = {
            "url": url, "name": name, "min_reporters": min_reporters, "machine": machine,
            "settings": {"failure_threshold": 1, "cooldown": 0.5, "trial_timeout": 5.0, **settings},
        }  # fmt: skip
        for worker in workers:
            self.enter(worker, wait=False)
        assert [worker.receive() for worker in workers] == [True] * len(workers)

    def enter(self, worker: Worker, *, wait: bool = True, **settings: Any) -> None:
        """Make the breaker in a process, with some settings changed."""
        made = {**self._made, "settings": {**self._made["settings"], **settings}}
        worker.send(MAKE, **made)
        if wait:
            assert worker.receive()

    def states(self) -> list[str]:
        """Return the state of each process's breaker."""
        return self.all("breaker.state.value")

    def all(self, expression: str) -> list[Any]:
        """Return the value of an expression in each process."""
        for worker in self.workers:
            worker.send(f"result = ({expression})")
        return [worker.receive() for worker in self.workers]

    def until(self, *states: str) -> None:
        """Wait until the breakers are in these states, one for each process or one for all."""
        wanted = list(states) if len(states) > 1 else [*states] * len(self.workers)
        for worker, state in zip(self.workers, wanted, strict=True):
            worker.send("result = until(state)", state=state)
        reached = [worker.receive() for worker in self.workers]
        assert all(reached), f"wanted {wanted}, not {self.states()}"

    def open(self) -> None:
        """Have the first processes fail, so that the whole fleet opens."""
        failing = self.workers[: self._made["min_reporters"]]
        for worker in failing:  # at the same time: the reports count together for one cooldown
            worker.send("result = attempt(fails)")
        assert {worker.receive() for worker in failing} == {"failed"}
        self.until("open")
        eventually(lambda: set(self.all("breaker.snapshot().shared.state.value")) == {"open"}, what="all heard of it")

    def leave(self) -> None:
        """End the sharing in each process."""
        self.all("shared.close()")
