"""What a monitor puts its records into: the caller's path to a journal, which never waits."""

from __future__ import annotations

import threading
from typing import Any

from booking_resilience.locks import new_lock
from booking_resilience.monitor.record import ErrorRecord


class Outbox:
    """What a monitor puts its records into: without ever waiting.

    Attributes:
        unjournaled: How many records were not taken.
    """

    __slots__ = ("_lock", "_writer", "unjournaled")

    def __init__(self, writer: Any) -> None:
        self._writer = writer  # a Writer, which makes this
        self._lock = new_lock()  # a signal handler may record meanwhile
        self.unjournaled: int = 0

    def put(self, record: ErrorRecord) -> None:
        """Take a record, without waiting for anything."""
        writer = self._writer
        if len(writer.waiting) < writer.room and threading.get_ident() != writer.thread_id:
            writer.waiting.append(record)
            if not writer.is_rung:
                writer.ring()
        else:
            with self._lock:
                self.unjournaled += 1
                writer.unjournaled += 1

    def flush(self, timeout: float) -> bool:
        """Wait until what was put so far is in the journal; tell whether it is."""
        return bool(self._writer.flush(timeout))
