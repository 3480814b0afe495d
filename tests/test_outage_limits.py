"""The example `outage_limits`: what an adaptive limit does for a backend in trouble, at a fifth of the docs' size."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from fresh import run_fresh

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
try:
    example: Any = importlib.import_module("outage_limits")
finally:
    sys.path.remove(str(EXAMPLES))

SMALL = {"load": 56.0, "capacity": 60.0, "clients": 2, "queue": 200}
SEEDS = range(1, 4)


def test_recovery_from_a_stall() -> None:
    """The limit alone is back within 5 s; with breaker and budget at most 1 s later than the best of them alone."""
    run_fresh(compare_recoveries)


def compare_recoveries() -> None:
    """Let the contenders recover."""
    names = ("limit", "breaker, cooldown 5 s", "limit + breaker + budget, cooldown 5 s")
    limit, breaker, together = (example.recovery(name, SEEDS, seconds=32) for name in names)
    assert limit.most <= 5
    assert together.middle <= min(limit.middle, breaker.middle) + 1


def test_four_times_the_capacity() -> None:
    """An overloaded backend behind a limit serves at its capacity; without one nothing of what it serves is of use."""
    settings: dict[str, Any] = SMALL | {"load": 240.0}
    assert example.overloaded("limit", **settings) > 0.9
    assert example.overloaded("full", **settings) > 0.9
    assert example.overloaded("none", **settings) < 0.02


def test_a_long_incident() -> None:
    """Ten minutes at a third of the speed change nothing of what comes after, nor does the limit starve the backend."""
    run_fresh(compare_an_incident)


def compare_an_incident() -> None:
    """Live through an incident."""
    before, last, after = example.incident("limit", **SMALL)
    assert min(before, last, after) > 0.95


def test_the_docs_show_what_the_command_prints(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """The page shows the command's lines, and figures that keep what this library promises."""
    page = (ROOT / "docs" / "how-to" / "under-load.md").read_text(encoding="utf-8")
    monkeypatch.setattr(example, "recovery", lambda name, seeds: example.Recovery(2.0, 1.0, 3.0))
    monkeypatch.setattr(example, "overloaded", lambda strategy: 1.0)
    monkeypatch.setattr(example, "incident", lambda strategy: (1.0, 1.0, 1.0))
    assert example.main([]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert line.split("  ")[1 if line.startswith(" ") else 0] in page
    found = {name: float(seconds) for name, seconds in re.findall(r"^  (\S.*?)  +([0-9.]+)  \(", page, re.MULTILINE)}
    assert set(found) == set(example.CONTENDERS)
    assert found["limit"] <= 5
    quick = "limit + breaker + budget, cooldown 5 s"
    assert found[quick] <= min(seconds for name, seconds in found.items() if name != quick) + 1


@pytest.mark.parametrize("seeds", ["0", "1001", "many"])
def test_a_bad_number_of_seeds(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad argument ends with exit code 2 and one line that names it."""
    with pytest.raises(SystemExit) as left:
        example.main(["--seeds", seeds])
    assert left.value.code == 2
    assert seeds.replace("1001", "1,000") in capsys.readouterr().err
