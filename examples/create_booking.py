"""Make bookings against an Appwrite that fails now and then, and show what resilience makes of it.

Without `--endpoint` it starts the embedded Appwrite server, lets a share of the calls fail, makes the bookings once
with retry and breaker and once without, reads the tables, and prints both side by side.
"""

from __future__ import annotations

import os
import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Importing the rest takes a while. Ctrl-C ends that as well with one line, and cannot do so by an exception: what
    # is being imported may make another one of it.
    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"create_booking.py: interrupted\n"), os._exit(130)))

import argparse
import contextlib
import dataclasses
import json
import logging
import math
import statistics
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from appwrite.exception import AppwriteException
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from booking_flow import (
    BOOKINGS,
    DATABASE_ID,
    SETUP,
    BookingError,
    BookingFlow,
    BookingRequest,
    BookingResult,
    booking_data,
    bootstrap,
)
from booking_resilience import BookingSource, ErrorMonitor, Pipeline, RetryPolicy, iter_batch, message_for
from booking_resilience.appwrite import AppwriteClient, appwrite_breaker
from booking_resilience.testing import AppwriteServer, RecordingChatProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

KINDS = ("status", "reset", "close", "hang", "cut_body", "slow_body", "invalid_json", "rate_limited", "lost")
DEFAULT_FAULT_RATE = 0.05
DEFAULT_KINDS = "status,reset,close,cut_body,lost"
ONCE = Pipeline(retry=RetryPolicy(max_attempts=1, deadline=None))
"""For the batch: a booking is not made again as a whole, its steps are."""


class RetryWatch(logging.Handler):
    """Counts retries and times recoveries, as the library logs them; those of a mere reading do not count."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.retries = 0
        self.recovery_ms: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take the facts of one retry event."""
        outcome, operation = getattr(record, "outcome", None), getattr(record, "operation", "")
        if operation.endswith(": verify"):  # a part of an operation that is told of itself
            return
        self.retries += outcome == "retrying"
        if outcome == "recovered":
            self.recovery_ms.append(getattr(record, "elapsed", 0.0) * 1000)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for the length of the block."""
        logger = logging.getLogger("booking_resilience.retry")
        level = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)


@dataclass
class Run:
    """What came of a number of bookings."""

    succeeded: int = 0
    failed: int = 0
    degraded: int = 0
    lost: int = 0
    duplicates: int = 0
    unconfirmed: int = 0
    attempts: int = 0
    recovery_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    categories: dict[str, int] = field(default_factory=dict)
    breaker: dict[str, Any] = field(default_factory=dict)

    def take(self, outcome: Any) -> BookingRequest | None:
        """Count one booking's outcome; return its request if the caller was told that it is stored."""
        result, elapsed = outcome.value if outcome.error is None else (None, None)
        self.attempts += 1
        if elapsed is not None:
            self.latency_ms.append(elapsed * 1000)
        if isinstance(result, BookingResult):
            self.degraded += bool(result.missing)
            self.attempts += 1 if result.chat_room_id is None else 3
            return result.request
        error = outcome.error if result is None else result
        self.messages[error.message if isinstance(error, BookingError) else message_for(error)] += 1
        return None


def requests(count: int, run: str) -> list[BookingRequest]:
    """Return as many booking requests, of all kinds."""
    sources = [None, *BookingSource]
    return [
        BookingRequest(
            therapist_id=f"therapist-{number % 7}",
            therapist_name=f"Therapist {number % 7}",
            user_id=f"user-{number}",
            booking_type="scheduled" if number % 3 == 2 else "immediate",
            duration=30 + 15 * (number % 5),
            source=sources[number % len(sources)],
            chat_window_open=number % 2 == 1,
            run=run,
        )
        for number in range(count)
    ]


def make_bookings(
    book: Callable[[BookingRequest], BookingResult], asked: Sequence[BookingRequest], workers: int, progress: Progress
) -> tuple[Run, set[str]]:
    """Make the bookings, a few at a time; return what came of them and the IDs of those said to be stored."""

    def timed(request: BookingRequest) -> tuple[BookingResult | Exception, float]:
        started = time.perf_counter()
        try:
            result: BookingResult | Exception = book(request)
        except Exception as error:  # noqa: BLE001 - how long a failure took counts, too
            result = error
        return result, time.perf_counter() - started

    run, confirmed = Run(), set()
    task = progress.add_task("bookings", total=len(asked))
    for outcome in iter_batch(timed, asked, pipeline=ONCE, operation="createBooking", max_concurrency=workers):
        if request := run.take(outcome):
            confirmed.add(request.booking_id)
        progress.advance(task)
    return run, confirmed


def count_stored(run: Run, confirmed: set[str], stored: Counter[str]) -> None:
    """Compare what was said to be stored with what the table holds; a success is what it holds."""
    run.lost = len(confirmed - set(stored))
    run.duplicates = sum(copies - 1 for copies in stored.values())
    run.unconfirmed = len(set(stored) - confirmed)
    run.succeeded = len(stored)


def read_stored(client: AppwriteClient, run_id: str) -> Counter[str]:
    """Return how often each reference of the run stands in the table."""
    tables: Any = TablesDB(client)
    stored = Counter[str]()
    after: list[str] = []
    while True:
        queries = [Query.equal("run", [run_id]), Query.limit(100), *after]
        place = {"database_id": DATABASE_ID, "table_id": BOOKINGS}
        rows: list[Any] = SETUP.call("readStored", tables.list_rows, **place, queries=queries).rows
        if not rows:
            return stored
        stored.update(row.data["reference"] for row in rows)
        after = [Query.cursor_after(rows[-1].id)]


def resilient_run(
    client: AppwriteClient, count: int, workers: int, progress: Progress
) -> tuple[Run, ErrorMonitor, Any]:
    """Make the bookings with retry and breaker."""
    monitor, chat, watch = ErrorMonitor(capacity=10_000), RecordingChatProvider(), RetryWatch()
    # Calls of all workers that hang end together: that is one failure of the backend, and must not be five in a row.
    breaker = appwrite_breaker(failure_threshold=max(5, workers))
    flow = BookingFlow(client, monitor=monitor, breaker=breaker, chat_provider=chat)
    run_id = uuid.uuid4().hex
    with watch.listening():
        run, confirmed = make_bookings(flow.create_booking, requests(count, run_id), workers, progress)
    run.attempts += watch.retries
    run.recovery_ms = watch.recovery_ms
    run.categories = {
        getattr(key, "value", key): number for key, number in monitor.stats().by_category.items() if number
    }
    snapshot = flow.breaker.snapshot()
    run.breaker = {item.name: getattr(snapshot, item.name) for item in dataclasses.fields(snapshot)}
    run.breaker["state"] = snapshot.state.value
    return run, monitor, (run_id, confirmed)


def plain_run(client: AppwriteClient, count: int, workers: int, progress: Progress) -> tuple[Run, Any]:
    """Make the same bookings with one plain call each and nothing around it."""
    tables, run_id = TablesDB(client), uuid.uuid4().hex

    def book(request: BookingRequest) -> BookingResult:
        data = booking_data(request)
        tables.create_row(database_id=DATABASE_ID, table_id=BOOKINGS, row_id=request.booking_id, data=data)
        return BookingResult(request=request, data=data, chat_room_id=None)

    run, confirmed = make_bookings(book, requests(count, run_id), workers, progress)
    run.attempts = count
    return run, (run_id, confirmed)


@contextlib.contextmanager
def backend(options: argparse.Namespace) -> Iterator[tuple[AppwriteClient, AppwriteServer | None]]:
    """Give a client of the Appwrite that was asked for: the embedded one, or a real one."""
    if options.endpoint is None:
        with AppwriteServer() as server:
            yield server.client(), server
    else:
        client = AppwriteClient()
        client.set_endpoint(options.endpoint).set_project(options.project).set_key(options.key)
        yield client, None


def run_all(options: argparse.Namespace, console: Console) -> tuple[Run, Run, ErrorMonitor]:
    """Make the bookings with and without resilience, with the same faults."""
    runs = []
    with backend(options) as (client, server), Progress(console=console, transient=True) as progress:
        bootstrap(client)
        resilient, monitor, told = with_faults(
            server, options, lambda: resilient_run(client, options.bookings, options.workers, progress)
        )
        plain, told_plain = with_faults(
            server, options, lambda: plain_run(client, options.bookings, options.workers, progress)
        )
        for run, (run_id, confirmed) in ((resilient, told), (plain, told_plain)):
            count_stored(run, confirmed, read_stored(client, run_id))
            run.failed = options.bookings - run.succeeded - run.lost
            runs.append(run)
    return resilient, plain, monitor


def with_faults(server: AppwriteServer | None, options: argparse.Namespace, work: Callable[[], Any]) -> Any:
    """Do the work while the embedded server fails at the rate that was asked for."""
    if server is None:
        return work()
    server.faults.rate(options.fault_rate, seed=options.seed, kinds=options.kinds)
    try:
        return work()
    finally:
        server.faults.clear()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that the given share of the values does not exceed (nearest rank); 0.0 for no values."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def summary(options: argparse.Namespace, run: Run, plain: Run) -> dict[str, Any]:
    """Return the run as JSON has it."""
    return {
        "requested": options.bookings,
        "succeeded": run.succeeded,
        "failed": run.failed,
        "degraded": run.degraded,
        "duplicates": run.duplicates,
        "lost": run.lost,
        "unconfirmed": run.unconfirmed,
        "attempts": run.attempts,
        "recovered": len(run.recovery_ms),
        "success_rate": run.succeeded / options.bookings,
        "baseline_success_rate": plain.succeeded / options.bookings,
        "recovery_ms": {
            "mean": statistics.fmean(run.recovery_ms) if run.recovery_ms else 0.0,
            "max": max(run.recovery_ms, default=0.0),
        },
        "latency_ms": {"p50": percentile(run.latency_ms, 0.5), "p99": percentile(run.latency_ms, 0.99)},
        "messages": dict(run.messages),
        "errors_by_category": run.categories,
        "breaker": run.breaker,
    }


def show(options: argparse.Namespace, run: Run, plain: Run, console: Console) -> None:
    """Print both runs side by side, for people."""
    facts = summary(options, run, plain)
    table = Table(title=f"{options.bookings} bookings, {options.fault_rate:.0%} of the calls fail")
    table.add_column("")
    table.add_column("with resilience", justify="right")
    table.add_column("without", justify="right")

    def row(name: str, left: object, right: object = "") -> None:
        table.add_row(name, str(left), str(right))

    row("asked", options.bookings, options.bookings)
    row(
        "succeeded",
        f"{run.succeeded} ({facts['success_rate']:.1%})",
        f"{plain.succeeded} ({facts['baseline_success_rate']:.1%})",
    )
    row("  of these said to have failed", run.unconfirmed, plain.unconfirmed)
    row("failed", run.failed, plain.failed)
    row("degraded (chat incomplete)", run.degraded, "no chat")
    row("lost", run.lost, plain.lost)
    row("duplicated", run.duplicates, plain.duplicates)
    row("attempts", run.attempts, plain.attempts)
    row("operations recovered", len(run.recovery_ms))
    row("recovery mean / max", f"{facts['recovery_ms']['mean']:.0f} / {facts['recovery_ms']['max']:.0f} ms")
    row(
        "latency p50 / p99",
        *(f"{percentile(r.latency_ms, 0.5):.0f} / {percentile(r.latency_ms, 0.99):.0f} ms" for r in (run, plain)),
    )
    row("breaker", f"{run.breaker['state']}, {run.breaker['trips']} trips")
    for category, number in run.categories.items():
        row(f"records in category {category}", number)
    for text in sorted(set(run.messages) | set(plain.messages)):
        row(f"told: {text}", run.messages[text], plain.messages[text])
    console.print(table)


class Parser(argparse.ArgumentParser):
    """Ends with one line, not with the usage, when an argument is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; exits with code 2 if one is wrong."""
    parser = Parser(prog="create_booking.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bookings", type=int, default=200, help="how many bookings to make (default 200)")
    parser.add_argument(
        "--fault-rate", type=float, help=f"share of the calls that fail, 0 to 1 (default {DEFAULT_FAULT_RATE})"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the faults (default 1)")
    parser.add_argument("--kinds", default=DEFAULT_KINDS, help=f"kinds of faults: {', '.join(KINDS)}")
    parser.add_argument("--workers", type=int, default=8, help="bookings under way at a time (default 8)")
    parser.add_argument("--endpoint", help="use this Appwrite instead of the embedded one, with --project and --key")
    parser.add_argument("--project")
    parser.add_argument("--key")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument(
        "--errors", type=Path, help="write the error monitor's records to this .json, .jsonl or .csv file"
    )
    options = parser.parse_args(arguments)
    options.kinds = [kind.strip() for kind in options.kinds.split(",")]
    for name, least in (("bookings", 1), ("workers", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be {least} or more, not {getattr(options, name)}")
    if unknown := [kind for kind in options.kinds if kind not in KINDS]:
        parser.error(f"--kinds: unknown kind {unknown[0]!r}; known are {', '.join(KINDS)}")
    if options.endpoint is not None:
        if options.fault_rate is not None:
            parser.error("--fault-rate works with the embedded server only, not with --endpoint")
        if not options.project or not options.key:
            parser.error("--endpoint needs --project and --key")
    elif options.project or options.key:
        parser.error("--project and --key need --endpoint")
    if options.fault_rate is None:
        options.fault_rate = DEFAULT_FAULT_RATE if options.endpoint is None else 0.0
    if not 0 <= options.fault_rate <= 1:
        parser.error(f"--fault-rate must be from 0 to 1, not {options.fault_rate}")
    for name in ("json", "errors"):
        path: Path | None = getattr(options, name)
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            parser.error(f"--{name} must name a file in a folder that exists, not {str(path)!r}")
    if options.errors is not None and options.errors.suffix not in (".json", ".jsonl", ".csv"):
        parser.error(f"--errors must end in .json, .jsonl or .csv, not {str(options.errors)!r}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return its exit code: 0 if every booking was stored, 1 if some were not, 130 on Ctrl-C."""
    options = parse(arguments)
    console = Console()
    try:
        if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run, plain, monitor = run_all(options, console)
        if options.json is not None:
            options.json.write_text(json.dumps(summary(options, run, plain), indent=2) + "\n", encoding="utf-8")
        if options.errors is not None:
            monitor.export(options.errors)
    except KeyboardInterrupt:
        print("create_booking.py: interrupted", file=sys.stderr)
        return 130
    except (AppwriteException, OSError) as error:
        where = options.endpoint or "the embedded server"
        print(f"create_booking.py: {where}: {one_line(error)}", file=sys.stderr)
        return 1
    show(options, run, plain, console)
    return 0 if run.succeeded == options.bookings else 1


def one_line(error: Exception) -> str:
    """Return the error's text in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
