"""Long campaigns on durable bookings, with figures: `python tests/durable_campaign.py [--help]`.

Each runs on SQLite and, where it is installed, on PostgreSQL. It exits with 1 if something was lost, doubled or late.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booking_resilience import Pipeline
from booking_resilience.durable import Durable
from booking_resilience.testing import AppwriteServer
from durable_bench import eventually
from durable_crew import Backend, Crew, Forge, Postgres, campaign, notes, takes_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Fresh: TypeAlias = Callable[[Path], str]
    """Gives the URL of a fresh database; a file lies in the folder."""

COOLDOWN = 5.0
MAX_IN_FLIGHT = 8
TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def crew_on(fresh: Fresh, forge: Forge) -> Iterator[tuple[Crew, Backend]]:
    """Give a crew on a database, None for a SQLite file, and its backend."""
    with AppwriteServer() as server, tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        with Crew(forge, fresh(folder), folder, server.endpoint) as crew:
            yield crew, Backend(server)


def kills(fresh: Fresh, forge: Forge, options: argparse.Namespace) -> str:
    """Kill workers again and again; all that was acknowledged is stored once."""
    with crew_on(fresh, forge) as (crew, backend):
        facts = {"bookings": options.bookings, "kills": options.kills, "crews": options.crews, "seed": options.seed}
        seconds = campaign(crew, backend, **facts, within=3600.0)
    return f"{facts}: 0 lost, 0 doubled, {seconds:.0f} s"


def takeover(fresh: Fresh, forge: Forge, options: argparse.Namespace) -> str:
    """Kill one of two or three processes; the others take over within 10 s."""
    figures = []
    for _ in range(5):
        with crew_on(fresh, forge) as (crew, backend):
            figures.append(takes_over(crew, backend, others=2 if options.database == "postgres" else 1))
    assert max(figures) < 10.0, figures
    return f"taken over and 20 bookings stored within {min(figures):.1f} to {max(figures):.1f} s, 5 times"


def outage(fresh: Fresh, forge: Forge, options: argparse.Namespace) -> str:
    """Let 300 bookings wait for a backend that is away."""
    names = [f"o{number}" for number in range(300)]
    with crew_on(fresh, forge) as (crew, backend):
        settings = {"base_delay": 1.0, "max_delay": 300.0, "max_in_flight": MAX_IN_FLIGHT}
        with backend.server.outage():
            pid = crew.start(names, durable=settings, cooldown=COOLDOWN, noted=True, wanted=names)
            eventually(lambda: len(crew.acknowledged()) == len(names), 600, "all are acknowledged")
            time.sleep(options.outage)
        back = time.monotonic()
        eventually(lambda: crew.has_finished(pid, names), 600, "all have ended")
        seconds = time.monotonic() - back
        assert all(count == 4 for count in backend.stored().values())
        assert len(backend.stored()) == len(names)
        made = sorted((float(began), float(ended)) for began, ended in map(str.split, notes(crew.folder, "requests")))
    first, *others = [request for request in made if request[0] >= back]
    overlap = max(sum(began <= request[0] < ended for began, ended in others) for request in others)
    assert others[0][0] >= first[1], "the trial was not alone"
    assert overlap <= MAX_IN_FLIGHT, overlap
    assert seconds < 20.0 + COOLDOWN, seconds
    return (
        f"300 bookings after {options.outage:g} s: stored {seconds:.1f} s after its end (cooldown {COOLDOWN:g} s), "
        f"a trial alone first, then at most {overlap} at once"
    )


def many(fresh: Fresh, forge: Forge, options: argparse.Namespace) -> str:
    """Let very many workflows wait; look at what that costs, and at a restart."""
    count = options.waiting
    settings: dict[str, Any] = {"durable": {"base_delay": 3600.0, "max_delay": 3600.0}, "runs": count, "all_wait": True}
    with crew_on(fresh, forge) as (crew, backend), backend.server.outage():
        began = time.monotonic()
        pid = crew.start([f"m{number}" for number in range(count)], **settings)
        eventually(lambda: crew.has_runs(pid), 3600, "all wait")
        filled = time.monotonic() - began
        before, memory, threads = cpu(pid), *memory_and_threads(pid)
        time.sleep(20.0)
        idle = (cpu(pid) - before) / 20.0
        crew.kill(pid)
        began = time.monotonic()
        again = crew.start(**settings)
        eventually(lambda: crew.has_started(again), 600, "it has started")
        started = time.monotonic() - began
        eventually(lambda: crew.has_runs(again), 3600, "all wait again")
        return (
            f"{count} waiting: {memory} MiB, {threads} threads, {100 * idle:.1f} % of a core when idle; "
            f"submitted and tried in {filled:.0f} s; after a kill started in {started:.1f} s, "
            f"all wait again after {time.monotonic() - began:.0f} s with {memory_and_threads(again)[0]} MiB"
        )


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_and_threads(pid: int) -> tuple[int, int]:
    """Return a process' resident memory in MiB and its threads."""
    facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(facts["VmRSS"].split()[0]) // 1024, int(facts["Threads"])


def submit(fresh: Fresh, forge: Forge, options: argparse.Namespace) -> str:
    """Submit at a steady pace, beside a bare commit with fsync in the same folder."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        durable = Durable(fresh(Path(folder)), version="1", pipeline=Pipeline())

        @durable.workflow
        async def nothing(name: str) -> str:
            return name

        bare = sqlite3.connect(f"{folder}/bare.sqlite", isolation_level=None)
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE rows (text)")

        def commit(_: str) -> None:
            bare.execute("INSERT INTO rows VALUES (?)", ("x" * 200,))

        found: dict[str, list[float]] = {"submit": [], "bare": []}
        with durable, contextlib.closing(bare):
            time.sleep(2.0)
            for number in range(-20, options.submits):
                for what, fn in (("submit", lambda name: durable.submit(nothing, name, id=name)), ("bare", commit)):
                    began = time.perf_counter()
                    fn(f"s{number}")
                    if number >= 0:  # the first ones fill caches
                        found[what].append(1000 * (time.perf_counter() - began))
                time.sleep(0.05)  # the workflow runs meanwhile
    ms = {what: f"{statistics.median(figures):.1f} ms" for what, figures in found.items()}
    return f"median of {options.submits}: submit {ms['submit']}, a bare commit of SQLite with fsync {ms['bare']}"


CAMPAIGNS: dict[str, Callable[[Fresh, Forge, argparse.Namespace], str]] = {
    made.__name__: made for made in (submit, takeover, outage, many, kills)
}


def main() -> int:
    """Run the campaigns; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CAMPAIGNS)}; all by default")
    parser.add_argument("--database", choices=["sqlite", "postgres"], help="only on this one")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--bookings", type=int, default=600)
    parser.add_argument("--crews", type=int, default=3, help="how many workers live at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--outage", type=float, default=120.0, help="seconds")
    parser.add_argument("--waiting", type=int, default=10_000, help="workflows")
    parser.add_argument("--submits", type=int, default=300)
    options = parser.parse_args()
    if unknown := set(options.names) - CAMPAIGNS.keys():
        parser.error(f"NAME must be one of {', '.join(CAMPAIGNS)}, not {unknown.pop()}")
    wanted = [options.database] if options.database else ["sqlite", "postgres"]
    failed = False
    with contextlib.ExitStack() as stack:
        databases: dict[str, Fresh] = {"sqlite": lambda folder: f"sqlite:///{folder}/durable.sqlite"}
        if "postgres" in wanted and (reason := Postgres.missing()):
            print(f"postgres: skipped: {reason}")
        elif "postgres" in wanted:
            server = stack.enter_context(Postgres(fsync=True))
            databases["postgres"] = lambda _: server.database()
        forge = Forge(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(forge.close)
        for name in options.names or CAMPAIGNS:
            for options.database in (database for database in wanted if database in databases):
                failed |= not run(name, databases[options.database], forge, options)
    return 1 if failed else 0


def run(name: str, fresh: Fresh, forge: Forge, options: argparse.Namespace) -> bool:
    """Run one campaign and print how it went; tell whether it went well."""
    try:
        print(f"{name}, {options.database}: {CAMPAIGNS[name](fresh, forge, options)}", flush=True)
    except AssertionError as error:
        print(f"{name}, {options.database}: FAILED: {error}", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
