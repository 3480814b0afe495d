"""Gives the targets beside this file as many examples as the time allows: `python tests/fuzz/run.py [--minutes 10]`.

The targets take turns, each with fresh random examples. The first that fails ends the run with exit code 1 and the
smallest example that still fails; `--target NAME` looks at one alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings

EXAMPLES = 500
"""Examples of a target at a turn."""


def targets() -> dict[str, Callable[[], None]]:
    """Return the tests of `test_targets.py` that draw examples, by name."""
    spec = importlib.util.spec_from_file_location("test_targets", Path(__file__).with_name("test_targets.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: thing for name, thing in vars(module).items() if getattr(thing, "is_hypothesis_test", False)}


def main() -> int:
    """Run the targets; return 0 if none failed in the time, else 1."""
    settings.register_profile(
        "fuzz", deadline=None, database=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("fuzz")
    known = targets()  # which take the settings that are in force when they are loaded
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--target", choices=known, help="only this one")
    options = parser.parse_args()
    chosen = {name: known[name] for name in ([options.target] if options.target else known)}
    seconds, turns = Counter[str](), Counter[str]()
    end = time.monotonic() + options.minutes * 60
    while time.monotonic() < end:
        name = min(chosen, key=lambda name: seconds[name])  # to each as much time as to the others
        started = time.monotonic()
        try:
            chosen[name]()
        except Exception:
            traceback.print_exc()
            print(f"{name} failed")
            return 1
        seconds[name] += time.monotonic() - started
        turns[name] += 1
    for name in chosen:
        print(f"{name}: {turns[name] * EXAMPLES} examples, {seconds[name]:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
