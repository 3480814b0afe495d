"""The token of a page, which changes need: the same in every worker with the secret, another for each visitor.

The secret is given, kept in the monitor's journal, or made anew for the process.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import threading
from typing import Any

from booking_resilience.locks import fork_safe_lock

logger: logging.Logger = logging.getLogger("booking_resilience.dashboard")
_PATIENCE = 0.15  # seconds that a page waits for the journal's secret; a long journal takes longer to be read, once
_PAGE = 10_000
_PURPOSE = b"booking_resilience.dashboard page token\n"
_LOCK = fork_safe_lock()  # one for all: it is held while a thread is started


class Tokens:
    """Makes and checks tokens.

    Args:
        secret: What the application gave, or None.
        monitor: Its journal, if it has one, keeps the secret when none is given; the first one in the log counts.
    """

    def __init__(self, secret: str | bytes | None, monitor: Any) -> None:
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._own = os.urandom(32)
        self._journal = None if secret is not None else _journal_of(monitor)
        self._search: threading.Thread | None = None

    def make(self, visitor: str) -> str:
        """Return the token for a visitor's page."""
        return _token(self._look_up() or self._own, visitor)

    def accepts(self, token: str, visitor: str) -> bool:
        """Tell whether it is the visitor's token. One made before the journal had been read holds here, too."""
        given = token.encode("utf-8", "replace")
        known = [secret for secret in (self._look_up(), self._own) if secret is not None]
        return any(hmac.compare_digest(given, _token(secret, visitor).encode()) for secret in known)

    def _look_up(self) -> bytes | None:
        """Return the secret that is given or kept; None as long as the journal hasn't been read."""
        if self._secret is None and self._journal is not None:
            with _LOCK:
                if self._search is None or not self._search.is_alive():  # a thread doesn't outlive a fork
                    self._search = threading.Thread(target=self._read, name="booking_resilience dashboard", daemon=True)
                    self._search.start()
                search = self._search
            search.join(_PATIENCE)
        return self._secret

    def _read(self) -> None:
        try:
            self._secret = _kept_in(self._journal)
        except Exception as error:  # noqa: BLE001 - the page works without; the next one tries again
            logger.warning("the page's secret can't be read from the journal (%s)", type(error).__name__)


def _token(secret: bytes, visitor: str) -> str:
    return hmac.new(secret, _PURPOSE + visitor.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _journal_of(monitor: Any) -> Any:
    found = getattr(monitor, "_journal", None)
    return getattr(found, "_journal", found)  # an ErrorMonitor holds its writer


def _kept_in(journal: Any) -> bytes:
    """Return the first secret in a journal; add one if there is none."""
    from booking_resilience.journal.entries import SECRET, entry  # here: most pages have no journal
    from booking_resilience.journal.writer import writer_of

    found = _first(journal, SECRET)
    if found is None:
        writer_of(journal).append([entry(SECRET, os.urandom(16), os.urandom(32).hex())])
        found = _first(journal, SECRET)  # another process may have been first
    if found is None:
        raise LookupError("the journal has lost what was added")
    return found


def _first(journal: Any, kind: bytes) -> bytes | None:
    from booking_resilience.journal.entries import facts_of

    entries, cursor = journal.read(None, _PAGE)
    while entries:
        for data in entries:
            if data[:1] == kind:
                return bytes.fromhex(facts_of(data))
        entries, cursor = journal.read(cursor, _PAGE)
    return None
