"""What recording an error costs, beside a hand-written floor, formatting the traceback, logging and error trackers.

Run as a script it prints a table; `rows()` returns it. Each round measures all of them, one after the other in an
order of its own, so that a busy machine hits all alike; a figure is the median of the rounds' ratios. Each error is
raised anew, ten frames deep. Peers that are not installed are left out.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import random
import statistics
import sys
import threading
import time
import traceback
import tracemalloc
from collections import deque
from collections.abc import Callable
from typing import Any

from booking_resilience import ErrorMonitor

ROUNDS, ERRORS, FRAMES = 60, 100, 10
Contender = Callable[[BaseException], object]


def raised(number: int = 0, frames: int = FRAMES) -> BaseException:
    """Return an error that was raised so many frames deep."""

    def fail(depth: int) -> None:
        if depth > 1:
            fail(depth - 1)
        else:
            raise ConnectionError(f"connection refused by peer {number:05d}")

    try:
        fail(frames - 1)
    except ConnectionError as error:
        return error
    raise AssertionError


def floor() -> Contender:
    """Return a bounded append with an interned stack, written by hand: what keeps the least that helps."""
    records: deque[tuple[Any, ...]] = deque(maxlen=1000)
    stacks: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def record(error: BaseException) -> None:
        stack = []
        tb = error.__traceback__
        while tb is not None:
            stack.append((tb.tb_frame.f_code, tb.tb_lineno))
            tb = tb.tb_next
        key = tuple(stack)
        records.append((time.time(), type(error), str(error), stacks.setdefault(key, key)))

    return record


def ours() -> Contender:
    """Return this library's monitor."""
    monitor = ErrorMonitor()
    return lambda error: monitor.record(error, operation="createBooking")


def formatting() -> Contender:
    """Return the formatting of the traceback."""
    return lambda error: "".join(traceback.format_exception(error))


def standard_logging() -> Contender:
    """Return `logging.exception` to a stream in memory."""
    logger = logging.getLogger("benchmark")
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    return lambda error: logger.error("failed", exc_info=error)


def structlog_to_stream() -> Contender:
    """Return structlog, which renders the traceback into JSON, to a stream in memory."""
    import structlog

    logger = structlog.wrap_logger(
        structlog.PrintLogger(io.StringIO()),
        processors=[
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    return lambda error: logger.error("failed", exc_info=error)


def sentry() -> Contender:
    """Return sentry_sdk with a transport that throws everything away."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        def capture_envelope(self, envelope: object) -> None:
            pass

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", transport=Nowhere, default_integrations=False, auto_enabling_integrations=False
    )
    return sentry_sdk.capture_exception


CONTENDERS: dict[str, Callable[[], Contender]] = {
    "hand-written floor": floor,
    "ErrorMonitor.record": ours,
    "traceback formatting": formatting,
    "logging.exception to a stream": standard_logging,
    "structlog to a stream": structlog_to_stream,
    "sentry_sdk, null transport": sentry,
}


def seconds(contender: Contender, errors: list[BaseException]) -> float:
    """Return what recording one of the errors takes."""
    began = time.perf_counter()
    for error in errors:
        contender(error)
    return (time.perf_counter() - began) / len(errors)


def measured(rounds: int = ROUNDS, errors: int = ERRORS) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round."""
    contenders = {}
    for name, make in CONTENDERS.items():
        with contextlib.suppress(ImportError):
            contenders[name] = make()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    shuffle = random.Random(1).shuffle
    for number in range(rounds + 2):
        shuffle(order)
        for name in order:
            few = errors if name in ("hand-written floor", "ErrorMonitor.record") else max(10, errors // 10)
            batch = [raised(number * errors + place) for place in range(few)]
            taken = seconds(contenders[name], batch)
            if number >= 2:  # the first ones warm up
                times[name].append(taken)
            del batch
    return times


def bytes_per_record(records: int = 1000, operations: int = 40) -> float:
    """Return how many bytes a monitor keeps for each of many typical records, all of which it has room for."""
    monitor = ErrorMonitor(capacity=records)
    for number in range(operations):
        monitor.record(raised(number), operation=f"operation {number}")
    monitor.clear()
    names = [f"operation {number}" for number in range(operations)]
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(records):
            monitor.record(raised(number), operation=names[number % operations])
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    if monitor.stats().dropped:
        raise AssertionError("a record was dropped")
    return kept / records


def latencies(threads: int = 8, errors: int = 500) -> tuple[float, float]:
    """Return the median and the 99th percentile of recording, in seconds, with so many threads at it.

    A thread that waits for the interpreter lock waits for Python, not for the monitor: what is measured is time on
    the processor, in the thread.
    """
    monitor = ErrorMonitor()
    start = threading.Barrier(threads)
    taken: list[float] = []

    def work(name: int) -> None:
        batch = [raised(name * errors + number) for number in range(errors)]
        mine = []
        start.wait()
        for error in batch:
            began = time.thread_time()
            monitor.record(error, operation="createBooking")
            mine.append(time.thread_time() - began)
        taken.extend(mine)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    taken.sort()
    return taken[len(taken) // 2], taken[len(taken) * 99 // 100]


def rows(rounds: int = ROUNDS, errors: int = ERRORS) -> list[dict[str, Any]]:
    """Return the table: what was measured, the ratio, to what, microseconds where there are any, and the target."""
    times = measured(rounds, errors)

    def ratio(name: str, base: str) -> float:
        return statistics.median(one / other for one, other in zip(times[name], times[base], strict=True))

    table: list[dict[str, Any]] = [
        {
            "what": name,
            "ratio": ratio(name, "hand-written floor"),
            "to": "the floor",
            "microseconds": statistics.median(times[name]) * 1e6,
            "target": "at most 2" if name == "ErrorMonitor.record" else None,
        }
        for name in times
    ]
    median, late = latencies()
    table += [
        {
            "what": "traceback formatting",
            "ratio": ratio("traceback formatting", "ErrorMonitor.record"),
            "to": "ErrorMonitor.record",
            "target": "at least 50",
        },
        {"what": "bytes kept per record", "ratio": bytes_per_record(), "to": "1 byte", "target": "at most 400"},
        {
            "what": "99th percentile, 8 threads",
            "ratio": late / median,
            "to": "the median",
            "microseconds": late * 1e6,
            "target": "below 10",
        },
    ]
    return table


def main() -> None:
    """Print the table; with `--json`, as JSON."""
    table = rows()
    if "--json" in sys.argv:
        print(json.dumps(table, indent=2))
        return
    for row in table:
        micro = f"{row['microseconds']:9.2f} µs" if "microseconds" in row else " " * 12
        target = f"   target: {row['target']}" if row.get("target") else ""
        print(f"{row['what']:32} {micro} {row['ratio']:9.2f} times {row['to']}{target}")


if __name__ == "__main__":
    main()
