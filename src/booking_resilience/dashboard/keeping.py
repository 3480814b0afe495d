"""The secret of the page's token: given, kept in the monitor's journal, or made anew for the process."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from booking_resilience.locks import fork_safe_lock

logger: logging.Logger = logging.getLogger("booking_resilience.dashboard")
_PATIENCE = 0.15
"""Seconds that a page waits for the journal's secret; a long journal takes longer to be read, once."""
_PAGE = 10_000


class Secret:
    """What tokens are made of.

    Args:
        given: The secret that the application gave, or None.
        monitor: Its journal, if it has one, keeps the secret when none is given; the first one in the log counts.
    """

    def __init__(self, given: str | bytes | None, monitor: Any) -> None:
        self._given = given.encode() if isinstance(given, str) else given
        self._own = os.urandom(32)
        self._journal = None if given is not None else journal_of(monitor)
        self._lock = fork_safe_lock()
        self._search: tuple[int, threading.Thread] | None = None
        self._found: bytes | None = None

    def all(self) -> list[bytes]:
        """Return the secrets whose tokens hold, the one to make tokens of first.

        Until the journal has been read, or while it can't be, that is the process' own.
        """
        if self._given is not None:
            return [self._given]
        kept = self._kept()
        return [self._own] if kept is None else [kept, self._own]

    def _kept(self) -> bytes | None:
        if self._journal is None or self._found is not None:
            return self._found
        with self._lock:
            search = self._search
            if search is None or search[0] != os.getpid() or not search[1].is_alive():
                thread = threading.Thread(target=self._look, name="booking_resilience dashboard", daemon=True)
                search = self._search = (os.getpid(), thread)
                thread.start()
        search[1].join(_PATIENCE)
        return self._found

    def _look(self) -> None:
        try:
            self._found = kept_in(self._journal)
        except Exception as error:  # noqa: BLE001 - the page works without; the next one tries again
            logger.warning("the page's secret can't be read from the journal (%s)", type(error).__name__)


def journal_of(monitor: Any) -> Any:
    """Return a monitor's journal, or None."""
    found = getattr(monitor, "_journal", None)
    return getattr(found, "_journal", found)  # an ErrorMonitor holds its writer


def kept_in(journal: Any) -> bytes:
    """Return the first secret in a journal; add one if there is none."""
    from booking_resilience.journal.entries import SECRET, entry
    from booking_resilience.journal.writer import writer_of

    found = _first(journal)
    if found is None:
        writer_of(journal).append([entry(SECRET, os.urandom(16), os.urandom(32).hex())])
        found = _first(journal)  # another process may have been first
    if found is None:
        raise LookupError("the journal has lost what was added")
    return found


def _first(journal: Any) -> bytes | None:
    from booking_resilience.journal.entries import SECRET, facts_of

    cursor = None
    while True:
        entries, cursor = journal.read(cursor, _PAGE)
        if not entries:
            return None
        for data in entries:
            if data[:1] == SECRET:
                return bytes.fromhex(facts_of(data))
