"""Crews of processes that make bookings durably and are killed, and a PostgreSQL of the tests' own."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_resilience.testing import AppwriteServer, Fault
from durable_bench import eventually
from durable_bookings import DATABASE, notes
from redisserver import SOURCE, free_port

HERE = Path(__file__).resolve().parent
TABLES = ("bookings", "rooms", "messages")
ROWS = {"bookings": ("",), "rooms": ("r-",), "messages": ("w-", "c-")}
FAULTS = [
    Fault.status(503),
    Fault.status(500, after_commit=True),
    Fault.reset(),
    Fault.reset(after_commit=True),
    Fault.close(after_commit=True),
    Fault.cut_body(after_commit=True),
    Fault.rate_limited(reset_in=0.2),
]


class Backend:
    """An embedded server with the tables of `durable_bookings`."""

    def __init__(self, server: AppwriteServer) -> None:
        self.server = server
        self.tables: Any = TablesDB(server.client())
        self.tables.create(DATABASE, DATABASE)
        for table in TABLES:
            self.tables.create_table(DATABASE, table, table)
            self.tables.create_varchar_column(DATABASE, table, "booking", 64, True)

    def rows(self, table: str) -> list[str]:
        """Return the IDs of a table's rows; ask when no faults are in force."""
        found: list[str] = []
        query: Any = Query
        while True:
            after = [query.cursor_after(found[-1])] if found else []
            page = self.tables.list_rows(DATABASE, table, [query.limit(100), *after]).rows
            found += [row.id for row in page]
            if len(page) < 100:
                return found

    def stored(self) -> Counter[str]:
        """Return how many of its four rows each booking has."""
        found: Counter[str] = Counter()
        for table in TABLES:
            found.update(self._booking_of(table, row) for row in self.rows(table))
        return found

    @staticmethod
    def _booking_of(table: str, row: str) -> str:
        return row.removeprefix(next(prefix for prefix in ROWS[table] if row.startswith(prefix)))


class Forge:
    """A process that has imported all that a worker needs, and forks workers."""

    def __init__(self, folder: Path) -> None:
        self._errors = (folder / "errors").open("ab")
        path = os.pathsep.join([str(SOURCE), str(HERE), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "durable_bookings.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        self._lock = threading.Lock()

    def fork(self, settings: dict[str, Any]) -> int:
        """Fork a worker with these settings; return its process ID."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(settings) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)
        self._errors.close()


class Crew:
    """Workers on one database."""

    def __init__(self, forge: Forge, url: str, folder: Path, endpoint: str) -> None:
        self.forge, self.url, self.folder, self.endpoint = forge, url, folder, endpoint
        self.pids: list[int] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids:
            self.kill(pid)

    def start(self, bookings: list[str] = [], **more: Any) -> int:  # noqa: B006 - it is not changed
        """Start a worker that submits these bookings; return its process ID."""
        settings = {"url": self.url, "folder": str(self.folder), "endpoint": self.endpoint, "bookings": bookings}
        pid = self.forge.fork({**settings, **more})
        self.pids.append(pid)
        return pid

    def kill(self, pid: int) -> None:
        """Kill one of the children, as the kernel does when memory is short."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def acknowledged(self) -> list[str]:
        """Return the bookings that were acknowledged."""
        return notes(self.folder, "acknowledged")

    def has_finished(self, pid: int, bookings: list[str]) -> bool:
        """Tell whether all these bookings have ended, for a worker that was started with them as `wanted`."""
        return f"{pid} {len(bookings)}" in notes(self.folder, "finished")

    def has_runs(self, pid: int) -> bool:
        """Tell whether a worker has as many runs as its setting `runs` says."""
        return str(pid) in notes(self.folder, "runs")

    def has_started(self, pid: int) -> bool:
        """Tell whether a child has started to work."""
        return str(pid) in notes(self.folder, "started")


def campaign(crew: Crew, backend: Backend, *, bookings: int, kills: int, crews: int, seed: int, within: float) -> float:
    """Kill workers at random moments while faults are in force; every booking must be stored once, whole.

    The bookings come bit by bit, so that all the workers have work when they are killed.

    Returns:
        The seconds that it took.
    """
    began, names = time.monotonic(), [f"b{number}" for number in range(bookings)]
    backend.server.faults.rate(0.3, seed=seed, kinds=FAULTS)
    lock, begun = threading.Lock(), [0]

    def work(number: int) -> None:
        draw = random.Random(seed + number)
        while True:
            with lock:
                if begun[0] >= kills:
                    return
                begun[0] += 1
                due = names[: -(-bookings * begun[0] // kills)]
            done = set(crew.acknowledged())
            pid = crew.start([name for name in due[number::crews] if name not in done])
            time.sleep(draw.uniform(0.05, 1.0))
            crew.kill(pid)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(crews)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = crew.start([name for name in names if name not in crew.acknowledged()], wanted=names)
    eventually(lambda: set(names) <= set(crew.acknowledged()), within, "all bookings are acknowledged")
    eventually(lambda: crew.has_finished(last, names), within, "all bookings have ended")
    backend.server.faults.clear()
    assert backend.stored() == Counter(dict.fromkeys(names, 4)), "every booking is stored, whole"
    assert sorted(backend.rows("bookings")) == sorted(names)
    return time.monotonic() - began


def takes_over(crew: Crew, backend: Backend, *, others: int, within: float = 100.0) -> float:
    """Kill one of several workers; the others must store what it had taken.

    Returns:
        The seconds that it took.
    """
    names = [f"t{number}" for number in range(20)]
    with backend.server.outage():
        first = crew.start(names, runs=len(names))
        eventually(lambda: crew.has_runs(first), 60, "it has begun all of them")
        for pid in [crew.start() for _ in range(others)]:
            eventually(lambda pid=pid: crew.has_started(pid), 60, "another worker has started")
        crew.kill(first)
    killed = time.monotonic()
    eventually(lambda: backend.stored() == Counter(dict.fromkeys(names, 4)), within, "all bookings are stored")
    return time.monotonic() - killed


class Postgres:
    """A PostgreSQL on a free port, in a folder of its own.

    Args:
        fsync: Whether it waits for the disk.
    """

    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)

    def __init__(self, *, fsync: bool = False) -> None:
        self.url = ""  # of a database, where a test keeps it
        self._fsync = "on" if fsync else "off"  # no test cuts the machine's power

    @classmethod
    def missing(cls) -> str | None:
        """Return why there can be none here, or None."""
        if cls.programs is None:
            return "PostgreSQL is not installed"
        if os.geteuid() == 0:
            try:
                pwd.getpwnam("postgres")
            except KeyError:
                return "PostgreSQL does not run as root, and there is no user postgres"
        null = Path(os.devnull).stat()
        if not null.st_mode & 0o002:
            return f"{os.devnull} is not writable for all, which initdb needs"
        return None

    def _run(self, program: str, *args: str) -> None:
        assert self.programs is not None
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        subprocess.run([self.programs / program, *args], check=True, cwd="/", capture_output=True, timeout=120, **user)

    def __enter__(self) -> Postgres:
        self.folder = Path(tempfile.mkdtemp(prefix="booking-resilience-pg-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self.port, self.count = free_port(), 0
        self._run("initdb", "-D", f"{self.folder}/data", "-U", "tests", "-A", "trust", "-N")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        options += f" -c fsync={self._fsync} -c max_connections=200"
        log = f"{self.folder}/log"
        assert self.programs is not None
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        command = [self.programs / "pg_ctl", "-D", f"{self.folder}/data", "-w", "-l", log, "-o", options, "start"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, check=True, cwd="/", timeout=120, **quiet, **user)

    def stop(self) -> None:
        """Stop the server at once."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def database(self) -> str:
        """Return the URL of a fresh database."""
        self.count += 1
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tests", f"tests_{self.count}")
        return f"postgresql://tests@127.0.0.1:{self.port}/tests_{self.count}"
