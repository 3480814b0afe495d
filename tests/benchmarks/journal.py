"""What journals cost: `python tests/benchmarks/journal.py [--records N] [--rounds N]`; N is 1,000,000 by default.

Prints what a record costs its caller with a journal, relative to one without (medians of single calls, in one
interleaved run, also while nobody can write the journal); bytes of a record; what a killed process loses; and how long
a monitor of the fleet needs for a journal of a million records, and for questions then. Needs redis-server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from monitor import raised  # noqa: E402 - as above

from booking_resilience import AlertRule, ErrorMonitor  # noqa: E402 - beside the others
from booking_resilience.journal import FleetMonitor, RedisJournal, SQLiteJournal  # noqa: E402 - as above
from redisserver import RedisServer  # noqa: E402 - found only now

QUIET = AlertRule(threshold=1e12, clear_threshold=1e11)
EACH = 100  # records of one turn; the writer can keep up
KILLED = """
import sys, time
sys.path[:0] = sys.argv[2:]
from booking_resilience import ErrorMonitor
from booking_resilience.journal import SQLiteJournal
monitor = ErrorMonitor(journal=SQLiteJournal(sys.argv[1]))
while True:
    monitor.record(ValueError("x"), operation="op")
    print(time.monotonic(), flush=True)
    time.sleep(0.001)
"""


def costs(rounds: int, folder: Path, server: RedisServer) -> dict[str, float]:
    """Return what a record costs with each journal, relative to none, whether it can be written or not."""
    path = folder / "costs.db"
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    journals: dict[str, Any] = {"SQLite": SQLiteJournal(path), "Redis": RedisJournal(server.url)}
    monitors = {name: ErrorMonitor(journal=journal, alert=QUIET) for name, journal in journals.items()}
    monitors["none"] = ErrorMonitor(alert=QUIET)
    for monitor in monitors.values():
        monitor.record(raised(), operation="createBooking")
        assert monitor.flush(20)
    lock.close()
    took: dict[str, list[float]] = {}
    for place in range(rounds):
        with contextlib.ExitStack() as stack:
            suffix = ""
            if place % 2:
                suffix = ", in trouble"
                lock = stack.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
                lock.execute("BEGIN IMMEDIATE")
                server.freeze()
                stack.callback(server.thaw)
                time.sleep(0.02)
            for name in sorted(monitors, reverse=bool(place % 4 // 2)):
                times = took.setdefault(name + suffix, [])
                for number in range(EACH):
                    error = raised(number)
                    begin = time.perf_counter()
                    monitors[name].record(error, operation="createBooking")
                    times.append(time.perf_counter() - begin)
                time.sleep(0.05)
        assert all(monitor.flush(20) for monitor in monitors.values())
    assert not any(monitor.stats().unjournaled for monitor in monitors.values())
    for journal in journals.values():
        journal.close()
    medians = {name: statistics.median(times) for name, times in took.items()}
    return {name: median / medians[f"none{name.removeprefix(name.split(',')[0])}"] for name, median in medians.items()}


def fill(journal: Any, records: int) -> None:
    """Write so many records of 50 kinds."""
    monitor = ErrorMonitor(journal=journal, alert=QUIET)
    for number in range(records):
        monitor.record(raised(number), operation=f"op{number % 50}", severity="error" if number % 3 else "warning")
        if number % 4000 == 3999:
            assert monitor.flush(120)
    assert monitor.flush(120)


def memory() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 1e6


def lost_by_kill(folder: Path) -> float:
    """Return how many seconds before its end a killed process made the first record that is not in the journal."""
    path = folder / f"killed{time.monotonic()}.db"
    command = [sys.executable, "-c", KILLED, str(path), *sys.path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(700)]
    killed = time.monotonic()
    os.kill(process.pid, signal.SIGKILL)
    lines += process.stdout.read().splitlines()
    process.wait()
    moments = [float(line) for line in lines if line.strip()]
    with contextlib.closing(sqlite3.connect(path)) as db:
        kept = db.execute("SELECT count(*) FROM records").fetchone()[0]
    return killed - moments[kept] if kept < len(moments) else 0.0


def first_reading(journal: Any) -> Iterator[tuple[str, str]]:
    """Yield what a monitor of the fleet needs."""
    before, wall, cpu = memory(), time.perf_counter(), time.process_time()
    with FleetMonitor(journal, alert=QUIET) as fleet:
        while fleet.stale_since is not None:
            time.sleep(0.02)
        yield "first reading", f"{time.perf_counter() - wall:.1f} s, of CPU {time.process_time() - cpu:.1f} s"
        yield "memory for it", f"{memory() - before:.0f} MB"
        asked: dict[str, Callable[[], Any]] = {
            "stats": fleet.stats,
            "first page": lambda: (fleet.recent(50), fleet.groups(200), fleet.history(60)),
        }
        for name, ask in asked.items():
            begin = time.perf_counter()
            ask()
            yield name, f"{1e3 * (time.perf_counter() - begin):.1f} ms"
        before, known = memory(), fleet.stats().total
        fill(journal, 100_000)
        while fleet.stats().total < known + 100_000:
            time.sleep(0.1)
        yield "memory for 100,000 more", f"{memory() - before:.1f} MB"
        yield "records", f"{fleet.stats().total:,}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what journals cost.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    server = RedisServer()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for what, ratio in costs(options.rounds, folder, server).items():
                print(f"{what}: {ratio:.2f}", flush=True)
            losses = [lost_by_kill(folder) for _ in range(10)]
            print(f"lost by SIGKILL: {max(losses):.3f} s at most in {len(losses)}", flush=True)
            with contextlib.closing(RedisJournal(server.url, stream="sizes", max_records=options.records)) as journal:
                client = server.client()
                before = client.info("memory")["used_memory"]
                fill(journal, options.records // 10)
                used = client.info("memory")["used_memory"] - before
                print(f"Redis: {used / (options.records // 10):.0f} bytes for each record", flush=True)
                client.close()
            path = folder / "big.db"
            with contextlib.closing(SQLiteJournal(path, max_records=options.records)) as journal:
                fill(journal, options.records)
                size = sum(found.stat().st_size for found in folder.glob("big.db*"))
                print(f"SQLite: {size / options.records:.0f} bytes for each record", flush=True)
                for what, text in first_reading(journal):
                    print(f"{what}: {text}", flush=True)
    finally:
        server.kill()


if __name__ == "__main__":
    main()
