"""Measure this library beside its peers: `python tests/benchmarks/run.py [--quick] [--json FILE] [--rounds N]`.

Prints a table in Markdown. The peers are what the extra `bench` installs; one that is missing or broken is shown as
such. `--quick` only shows that it works.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import costs
import table
from measure import Spread
from peers_load import LOAD_ROWS
from rows import ROWS, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

PEERS = (
    "tenacity", "stamina", "backoff", "retrying", "pybreaker", "circuitbreaker", "aiobreaker", "purgatory", "hyx",
    "pyresilience", "interlock-cb", "tenaz", "redress", "resilient-circuit", "fluxgate",
    "nopanic", "aiolimiter", "limits",
)  # fmt: skip
ROUNDS, BLOCK = 60, 0.004  # seconds of each timing
QUICK_ROUNDS, QUICK_BLOCK = 5, 0.0005


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write the JSON if asked to."""
    parser = argparse.ArgumentParser(description="Measure this library beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: to see that it works")
    parser.add_argument("--rounds", type=_rounds, help=f"rounds of each row, 1 or more; {ROUNDS} by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument("--rows", nargs="+", metavar="KEY", help="measure these rows alone")
    options = parser.parse_args(argv)
    report = measured(options.rounds, quick=options.quick, only=options.rows)
    print(table.markdown(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 1:
        raise argparse.ArgumentTypeError(f"rounds must be 1 or more, not {rounds}")
    return rounds


def measured(rounds: int | None, *, quick: bool, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the report: where it was measured, and the rows."""
    rounds, block = rounds or (QUICK_ROUNDS if quick else ROUNDS), QUICK_BLOCK if quick else BLOCK
    rows: list[dict[str, Any]] = []
    for row in (*ROWS, *LOAD_ROWS):
        if only is None or row.key in only:
            _progress(row.what)
            result = measure(row, rounds=rounds, block=block)
            bare = {"bare_ns": asdict(result.bare)}
            rows.append(_row(row.key, row.what, "× bare", result.ratios, result.broken) | bare)
    if only is None:
        rows += _costs(rounds, quick=quick)
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "rounds": rounds,
        "versions": _versions(),
        "rows": rows,
        "monitor": _monitor(rounds, quick=quick) if only is None else [],
    }


def _costs(rounds: int, *, quick: bool) -> list[dict[str, Any]]:
    _progress("memory, imports, cycles, frames")
    spreads, missing = costs.imports(min(rounds, 30))
    many = 100 if quick else 1000
    return [
        _row("memory", "memory of a breaker", "bytes", *_spread_out(costs.memory(many))),
        _row("import", "cold import", "ms", spreads, missing),
        _row("cycles", "objects in cycles, exhausted call", "objects", *_spread_out(costs.cycles(many))),
        _row("frames", "frames of the library in its traceback", "frames", *_spread_out(costs.frames())),
    ]


def _monitor(rounds: int, *, quick: bool) -> list[dict[str, Any]]:
    """Return the rows of the monitor's own benchmark, which have columns of their own."""
    if importlib.util.find_spec("monitor") is None:
        return []
    _progress("the error monitor")
    # In a process of its own: a peer imports OpenTelemetry, and then each record asks it for the active span.
    code = (
        f"import json, sys, monitor; json.dump(monitor.rows({rounds}, {20 if quick else 'monitor.ERRORS'}), sys.stdout)"
    )
    folder = Path(__file__).resolve().parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _spread_out(figures: costs.Figures) -> tuple[dict[str, Spread], dict[str, str]]:
    values, broken = figures
    return {name: Spread(value, value, value) for name, value in values.items()}, broken


def _row(key: str, what: str, unit: str, values: dict[str, Spread], broken: dict[str, str]) -> dict[str, Any]:
    figures = {name: asdict(value) for name, value in values.items()}
    return {"key": key, "what": what, "unit": unit, "values": figures, "broken": broken}


def _versions() -> dict[str, str]:
    versions = {}
    for name in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _progress(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
