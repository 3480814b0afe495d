"""Draws what strategies make of a backend that stalls, from the simulation, into docs/_static/outage.svg.

Run it after a change of the simulation, or of what it measures: `python docs/_scripts/draw_outage.py`. It needs
matplotlib. A test compares the digest inside the figure with that of today's runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent
TARGET = DOCS / "_static" / "outage.svg"

if __name__ == "__main__":
    sys.path.insert(0, str(DOCS.parent / "examples"))
    from outage_simulation import main

    sys.exit(main(["--trigger", "stall", "--figure", str(TARGET)]))
