"""The benchmark: it runs, its table and its JSON are whole, and no figure of ours is far from where it belongs.

The bounds are ratios of calls in one run, and some three times what is measured at length: they catch a log record, a
traceback or a sleep where there should be none, not a slow machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parent / "benchmarks" / "run.py"
OURS = {
    ("retry_sync", "ours, no deadline"): 30,
    ("retry_sync", "ours, default policy"): 60,
    ("retry_async", "ours, no deadline"): 14,
    ("retry_async", "ours, default policy"): 45,
    ("retry_failures", "ours, no deadline"): 16,
    ("retry_failures", "ours, default policy"): 18,
    ("both_sync", "ours, call"): 105,
    ("both_sync", "ours, decorated"): 80,
    ("both_async", "ours, call"): 60,
    ("both_async", "ours, decorated"): 48,
    ("breaker_decorated", "ours"): 24,
    ("breaker_call", "ours"): 27,
    ("breaker_async", "ours, decorated"): 12,
    ("breaker_async", "ours, call"): 12,
    ("breaker_refusal", "ours"): 10.5,
    ("breaker_threads", "ours"): 30,
    ("limit_sync", "ours, call"): 54,
    ("limit_sync", "ours, adaptive call"): 75,
    ("limit_async", "ours, decorated"): 40,
    ("rate_sync", "ours, call"): 45,
    ("rate_async", "ours, decorated"): 40,
    ("memory", "ours"): 500,
    ("cycles", "ours"): 0,
    ("frames", "ours"): 3,
}
"""What each figure of ours may be at most."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Run the benchmark shortly; return the table and what the JSON holds."""
    path = tmp_path_factory.mktemp("benchmark") / "figures.json"
    command = [sys.executable, str(RUN), "--quick", "--rounds", "7", "--json", str(path)]
    # Coverage, where it is measured, would make this library's lines slower and nothing else.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text(encoding="utf-8"))


def test_every_row_has_figures_of_ours_and_a_line_in_the_table(run: tuple[str, dict[str, Any]]) -> None:
    """Each row has ours, with quartiles around the median, and one line of the table."""
    table, report = run
    rows = {row["key"]: row for row in report["rows"]}
    assert {key for key, _ in OURS} | {"import"} <= set(rows)
    for row in rows.values():
        assert table.count(f"\n| {row['what']}, {row['unit']} |") == 1
        assert any(name.startswith("ours") for name in row["values"])
        for value in row["values"].values():
            assert value["low"] <= value["median"] <= value["high"]


def test_the_table_for_the_comparison_has_the_limits(run: tuple[str, dict[str, Any]]) -> None:
    """The table that the comparison's page shows has a line for retries, breakers, limits and all together."""
    table, report = run
    compared = {row["key"] for row in report["rows"] if f"\n| {row['what']} | " in table}
    assert {"retry_sync", "breaker_decorated", "limit_sync", "everything"} <= compared


def test_every_peer_is_measured_or_said_why_not(run: tuple[str, dict[str, Any]]) -> None:
    """A peer that is not installed is named with the reason, in the JSON and below the table."""
    table, report = run
    rows = {row["key"]: row for row in report["rows"]}
    for key in ("retry_sync", "breaker_decorated", "memory", "import"):
        values, broken = rows[key]["values"], rows[key]["broken"]
        assert not set(values) & set(broken)
        assert len([name for name in (*values, *broken) if not name.startswith(("ours", "limit"))]) >= 5
        assert all(f"- {name}: " in table for name in broken)
    assert set(report) == {"python", "platform", "rounds", "versions", "rows", "monitor"}


@pytest.mark.parametrize(("key", "name"), OURS)
def test_no_figure_of_ours_is_far_from_where_it_belongs(run: tuple[str, dict[str, Any]], key: str, name: str) -> None:
    """Each ratio, the memory, the cycles and the frames stay within their bounds."""
    row = next(row for row in run[1]["rows"] if row["key"] == key)
    # The lower quartile: what disturbs a measurement only ever makes it slower.
    assert row["values"][name]["low"] <= OURS[key, name]


def test_an_absurd_number_of_rounds_is_refused() -> None:
    """Fewer than one round ends in exit code 2 and a sentence, not a traceback."""
    done = subprocess.run(
        [sys.executable, str(RUN), "--rounds", "0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "rounds must be 1 or more, not 0" in done.stderr
