"""Where a record comes from: host and process."""

from __future__ import annotations

import os
import platform
from typing import TypeAlias

from booking_resilience.monitor.redact import cut_to

Source: TypeAlias = tuple[str | None, int | None]
"""Host and process ID; None if they are not known."""


def this_process() -> Source:
    """Return the machine's name and this process's ID."""
    return cut_to(platform.node(), 256) or None, os.getpid()
