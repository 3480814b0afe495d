"""Running a function of a test module in a Python process of its own, which no coverage watches.

Signal handlers that strike anywhere, strike inside of coverage and of pytest's log handlers, too, and leave their locks
held for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).resolve().parent
PACKAGE = Path(__import__("booking_resilience").__file__).resolve().parent.parent


def unwatched() -> dict[str, str]:
    """Return the environment for a process that no coverage watches: that would take it twice the time."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}


def run_fresh(function: Callable[[], Any]) -> None:
    """Call a function of a test module in a new process; fail as it failed, if it did."""
    env = unwatched()
    env["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(PACKAGE), env.get("PYTHONPATH", "")])
    code = f"import {function.__module__} as module; module.{function.__name__}()"
    command = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr
