"""The example of durable bookings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dbos")

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "durable_booking.py"


def test_the_example_kills_its_worker_and_stores_every_booking() -> None:
    """With `--kill` every booking is stored once, with its slots, room and messages."""
    command = [sys.executable, str(EXAMPLE), "--bookings", "4", "--kill"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert "stored {'bookings': 4, 'slots': 8, 'rooms': 4, 'messages': 8}" in done.stdout
