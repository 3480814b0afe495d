"""What a program that uses nothing new pays: this version beside an older one, `python against.py REF`.

REF is a commit; the default is the last of 0.1. Its sources are taken out of Git into a folder of their own. Processes
of both versions take turns; a ratio is the new one's figure over the old one's in the same round, and the median of the
rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LAST_OF_0_1 = "34b411b"
ROUNDS = 15
_PROBE = """
import json, sys, time, tracemalloc
found = {}
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
import booking_resilience
found["bytes of the import"] = tracemalloc.get_traced_memory()[0] - before
from booking_resilience import CircuitBreaker, ErrorMonitor, Pipeline, RetryPolicy, retrying, run_batch
found["bytes with retry, breaker, pipeline, monitor, batch"] = tracemalloc.get_traced_memory()[0] - before
tracemalloc.stop()
found["modules then"] = sum(name.startswith("booking_resilience") for name in sys.modules)
def work():
    return 1
def fail():
    raise ConnectionError
def timed(fn, calls=20000):
    best = 1e9
    for _ in range(5):
        began = time.process_time()
        for _ in range(calls):
            fn()
        best = min(best, time.process_time() - began)
    return best / calls * 1e9
found["ns of a retried call"] = timed(retrying(work))
found["ns of a retried call, no deadline"] = timed(retrying(policy=RetryPolicy(deadline=None))(work))
found["ns of a call through a breaker"] = timed(CircuitBreaker("b")(work))
pipeline = Pipeline(breaker=CircuitBreaker("b"), monitor=ErrorMonitor())
found["ns of pipeline.call"] = timed(lambda: pipeline.call("work", work))
found["ns of a protected call"] = timed(pipeline.protect("work")(work))
monitor = ErrorMonitor()
def record():
    try:
        fail()
    except ConnectionError as error:
        monitor.record(error, operation="work")
found["ns of raising and recording an error"] = timed(record, 2000)
items = list(range(2000))
found["ns of an item of a batch"] = timed(lambda: run_batch(str, items), 1) / len(items)
print(json.dumps(found))
"""
_IMPORT = "import time; began = time.perf_counter(); import booking_resilience; print(time.perf_counter() - began)"


def run(code: str, source: Path, cache: Path) -> str:
    """Run code with the sources of one version; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment |= {"PYTHONPATH": str(source), "PYTHONPYCACHEPREFIX": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=120
    )
    return done.stdout


def figures(source: Path, cache: Path) -> dict[str, float]:
    """Return the figures of one version, each in fresh processes."""
    found: dict[str, float] = json.loads(run(_PROBE, source, cache))
    found["ms of the import"] = min(float(run(_IMPORT, source, cache)) for _ in range(3)) * 1000
    return found


def rows(ref: str = LAST_OF_0_1, rounds: int = ROUNDS) -> list[dict[str, float | str]]:
    """Return the table: what was measured, the old figure, the new one, and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        old.mkdir()
        archive = subprocess.run(["git", "archive", ref, "src"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(old)], input=archive.stdout, check=True)
        sources = {"old": old / "src", "new": ROOT / "src"}
        found: dict[str, list[dict[str, float]]] = {"old": [], "new": []}
        for _ in range(rounds):
            for version in random.sample(list(sources), 2):
                found[version].append(figures(sources[version], Path(folder) / f"cache-{version}"))
    table: list[dict[str, float | str]] = []
    for what in found["new"][0]:
        before, after = ([each[what] for each in found[version]] for version in ("old", "new"))
        ratios = [new / old for new, old in zip(after, before, strict=True)]
        table.append(
            {
                "what": what,
                "old": statistics.median(before),
                "new": statistics.median(after),
                "ratio": statistics.median(ratios),
            }
        )
    return table


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ref", nargs="?", default=LAST_OF_0_1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print("| what | 0.1 | 0.2 | ratio |\n|---|---|---|---|")
    for row in rows(options.ref, options.rounds):
        print(f"| {row['what']} | {row['old']:,.4g} | {row['new']:,.4g} | {row['ratio']:.2f} |")


if __name__ == "__main__":
    main()
