"""Make bookings on an Appwrite server that fails now and then, with the library and without, and compare.

Without `--endpoint` it starts the embedded Appwrite server and lets a share of the calls fail. It makes the same
bookings once with retry and circuit breaker and once with plain calls, under the same faults, reads the tables, and
prints both results side by side.
"""

from __future__ import annotations

import quiet

if __name__ == "__main__":
    quiet.start("create_booking.py")

import json
import math
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appwrite.exception import AppwriteException
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import command
from booking_contest import Contest, contend
from booking_runs import Run, run_all

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from booking_resilience import ErrorMonitor

PROGRAM = "create_booking.py"
KINDS = {
    "status": "a 500, 502, 503 or 504 instead of an answer",
    "reset": "the connection is reset",
    "close": "the connection is closed without an answer",
    "hang": "no answer for 30 seconds; half of the writes are carried out",
    "cut_body": "the connection breaks off within the answer; half of the writes are carried out",
    "slow_body": "the answer takes 2 seconds to arrive",
    "invalid_json": "the answer is not JSON; half of the writes are carried out",
    "rate_limited": "a 429 with the second at which to try again",
    "lost": "the write is carried out and its answer is lost",
}
DEFAULT_FAULT_RATE = 0.05
DEFAULT_KINDS = "status,reset,close,cut_body,lost"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that the given share of the values does not exceed (nearest rank); 0.0 for no values."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def latencies(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}


def counts(run: Run) -> dict[str, Any]:
    """Return what is counted alike in both runs, as JSON has it."""
    return {
        "succeeded": run.succeeded,
        "failed": run.failed,
        "degraded": run.degraded,
        "duplicates": run.duplicates,
        "lost": run.lost,
        "unconfirmed": run.unconfirmed,
        "unknown": run.unknown,
        "attempts": len(run.call_ms),
        "latency_ms": latencies(run.latency_ms),
        "call_latency_ms": latencies(run.call_ms),
        "messages": dict(run.messages),
    }


def summary(options: argparse.Namespace, run: Run, plain: Run, together: Run | None) -> dict[str, Any]:
    """Return the result as JSON has it."""
    return {
        "requested": options.bookings,
        **counts(run),
        "retries": run.retries,
        "recovered": len(run.recovery_ms),
        "success_rate": run.succeeded / options.bookings,
        "baseline_success_rate": plain.succeeded / options.bookings,
        "recovery_ms": {
            "mean": statistics.fmean(run.recovery_ms) if run.recovery_ms else 0.0,
            "max": max(run.recovery_ms, default=0.0),
        },
        "errors_by_category": run.categories,
        "breaker": run.breaker,
        "baseline": counts(plain),
        "transaction": None if together is None else counts(together),
    }


def table_of(options: argparse.Namespace, run: Run, plain: Run, together: Run | None) -> Table:
    """Return the runs side by side, for people: the same bookings, the same faults, the same figure of each."""
    rate = f"{options.fault_rate:.2%}".replace(".00%", "%")
    title = f"{options.bookings} bookings, {rate} of the calls fail" if options.endpoint is None else options.endpoint
    table = Table(title=title)
    runs = {"without": plain, "with resilience": run}
    if together is not None:
        runs["transaction"] = together
    table.add_column("")
    for name in runs:
        table.add_column(name, justify="right")

    def row(name: str, figure: Callable[[Run], object]) -> None:
        table.add_row(name, *(str(figure(one)) for one in runs.values()))

    row(
        "stored, with all of the chat",
        lambda one: f"{one.complete} ({command.percent(one.complete, options.bookings)})",
    )
    row("stored, chat incomplete", lambda one: one.degraded)
    row("not stored", lambda one: one.failed)
    table.add_section()
    row("stored, reported as failed", lambda one: one.unconfirmed)
    row("reported as stored, but lost", lambda one: one.lost)
    row("stored twice", lambda one: one.duplicates)
    row("outcome unknown to caller", lambda one: one.unknown)
    table.add_section()
    row("complete booking, p50 / p99", lambda one: pair(one.complete_ms))
    row("calls to Appwrite", lambda one: len(one.call_ms))
    row("a call, p50 / p99", lambda one: pair(one.call_ms))
    return table


def pair(values: Sequence[float]) -> str:
    """Return the median and the 99th percentile as text."""
    found = latencies(values)
    return f"{found['p50']:.0f} / {found['p99']:.0f} ms"


def effort(run: Run, together: Run | None) -> str:
    """Return what retry and breaker did, and what the last column is."""
    mean = statistics.fmean(run.recovery_ms) if run.recovery_ms else 0.0
    operations = "1 operation" if len(run.recovery_ms) == 1 else f"{len(run.recovery_ms)} operations"
    opened = {0: "never opened", 1: "opened once"}.get(run.breaker["trips"], f"opened {run.breaker['trips']} times")
    took = f", within {mean:.0f} ms on average and {max(run.recovery_ms):.0f} ms at most" if run.recovery_ms else ""
    last = " The last column stores each booking and its chat in one transaction." if together is not None else ""
    return f"With resilience: {run.retries} retries, {operations} recovered{took}; the breaker {opened}.{last}"


def conclusion(options: argparse.Namespace, run: Run, plain: Run) -> str:
    """Return one sentence that says what happened."""

    def told(one: Run) -> str:
        many = "all" if one.succeeded == options.bookings else f"{one.succeeded} of"
        flaws = [
            (one.unconfirmed, "of them reported as failed"),
            (one.degraded, "of them with an incomplete chat"),
            (one.lost, "lost"),
            (one.duplicates, "stored twice"),
        ]
        parts = [f"{number} {text}" for number, text in flaws if number]
        return f"{many} {options.bookings} bookings were stored" + (f", {' and '.join(parts)}" if parts else "")

    if told(run) == told(plain):
        return f"With resilience and without it {told(run)}."
    return f"With resilience {told(run)}; without it {told(plain).replace(' bookings', '', 1)}."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; exits with code 2 if one is wrong, with 0 if only the kinds are asked for."""
    parser = command.Parser(prog=PROGRAM, description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--bookings", type=int, default=200, metavar="N", help="how many bookings to make (default 200)")
    add("--fault-rate", type=float, metavar="SHARE",
        help=f"share of the calls that fail, 0 to 1 (default {DEFAULT_FAULT_RATE}); embedded server only")  # fmt: skip
    add("--seed", type=int, default=1, metavar="N", help="seed of the faults (default 1)")
    meanings = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
    add("--kinds", nargs="?", default=DEFAULT_KINDS, metavar="NAMES",
        help=f"what goes wrong, comma-separated (default {DEFAULT_KINDS}); alone, lists them. {meanings}")  # fmt: skip
    add("--workers", type=int, default=8, metavar="N", help="bookings in flight at a time (default 8)")
    add("--steps", action="store_true", help="store the rows of each booking one by one only, not in a transaction")
    add("--contend", type=int, metavar="N", help="let N customers want the same time, and show who gets it")
    add("--async", dest="is_async", action="store_true", help="in an event loop, with the asynchronous client")
    add("--endpoint", metavar="URL", help="use this Appwrite server, with --project and --key, not the embedded one")
    add("--project", metavar="ID")
    add("--key")
    add("--json", metavar="FILE", help="write the result to this file; - is standard output")
    add("--errors", type=Path, metavar="FILE", help="write the monitor's records to this .json, .jsonl or .csv file")
    options = parser.parse_args(arguments)
    if options.kinds is None:
        command.say("\n".join(f"{kind:13} {meaning}" for kind, meaning in KINDS.items()))
        parser.exit(0)
    check(parser, options)
    return options


def check(parser: command.Parser, options: argparse.Namespace) -> None:
    """Exit with code 2 if an option is wrong; put the defaults in that depend on others."""
    options.kinds = [kind.strip() for kind in options.kinds.split(",")]
    for name in ("bookings", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be 1 or more, not {getattr(options, name)}")
    if options.contend is not None and options.contend < 1:
        parser.error(f"--contend must be 1 or more, not {options.contend}")
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
    for name, text in (("json", options.json), ("errors", options.errors)):
        if text is None or text == "-":
            continue
        path = Path(text)
        if path.is_dir() or not path.absolute().parent.is_dir():
            parser.error(f"--{name} must name a file in a folder that exists, not {str(path)!r}")
    if options.errors is not None and options.errors.suffix not in (".json", ".jsonl", ".csv"):
        parser.error(f"--errors must end in .json, .jsonl or .csv, not {str(options.errors)!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return its exit code: 0 if every booking was stored with resilience, else 1."""
    options = parse(arguments)
    console = Console(stderr=options.json == "-")  # then the table is in nobody's way
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            if options.contend is not None:
                return show_contest(options, console, contend(options, progress))
            run, plain, together, monitor = run_all(options, progress)
        write_files(options, summary(options, run, plain, together), monitor)
    except (AppwriteException, OSError) as error:
        where = options.endpoint or "the embedded server"
        print(f"{PROGRAM}: {where}: {command.one_line(error)}", file=sys.stderr)
        return 1
    if options.json == "-":
        command.say(json.dumps(summary(options, run, plain, together), indent=2))
    table = table_of(options, run, plain, together)
    command.show(console, table, effort(run, together), conclusion(options, run, plain))
    return 0 if run.succeeded == options.bookings else 1


def show_contest(options: argparse.Namespace, console: Console, contest: Contest) -> int:
    """Show who of many got the time that all of them wanted; return the exit code: 0 if one did."""
    facts = contest.to_payload()
    if options.json == "-":
        command.say(json.dumps(facts, indent=2))
    elif options.json is not None:
        Path(options.json).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    table = Table(title=f"{contest.asked} customers want one time")
    table.add_column("")
    table.add_column("customers", justify="right")
    for name, figure in (
        ("got it", len(contest.winners)),
        ("told that it is taken", contest.taken),
        ("told of another failure", contest.failed),
        ("told that the outcome is unknown", contest.unknown),
        ("hold it in the table", contest.holders),
    ):
        table.add_row(name, str(figure))
    for text, count in sorted(contest.messages.items()):
        table.add_row(f"told: {text}", str(count))
    command.show(console, table, contest.conclusion())
    return 0 if contest.holders == 1 else 1


def write_files(options: argparse.Namespace, facts: dict[str, Any], monitor: ErrorMonitor) -> None:
    """Write the files that were asked for."""
    if options.json not in (None, "-"):
        text = json.dumps(facts, indent=2)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.errors is not None:
        monitor.export(options.errors)


if __name__ == "__main__":
    command.run(PROGRAM, main)
