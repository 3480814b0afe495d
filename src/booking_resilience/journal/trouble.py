"""Says in the log that a journal is in trouble, and that it is out of it, once each."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

logger: logging.Logger = logging.getLogger("booking_resilience.journal")


class Trouble:
    """What has been said of a journal that is `written` or `read`; `cost` says what the trouble costs."""

    def __init__(self, journal: Any, doing: str, cost: str = "") -> None:
        self._place, self._doing, self._cost, self._is_told = place_of(journal), doing, cost, False

    def failed(self, error: BaseException) -> None:
        """Say that it failed; of the error its type alone, since texts may hold secrets."""
        if not self._is_told:
            self._is_told = True
            self._log(logging.WARNING, f"%s cannot be {self._doing} (%s){self._cost}", type(error).__name__)

    def worked(self) -> None:
        """Say that it works again."""
        if self._is_told:
            self._is_told = False
            self._log(logging.INFO, f"%s is {self._doing} again")

    def _log(self, level: int, text: str, *facts: str) -> None:
        with contextlib.suppress(Exception):  # a logging handler that raises
            logger.log(level, text, self._place, *facts, extra={"journal": self._place})


def place_of(journal: Any) -> str:
    """Return a journal's name for people."""
    return getattr(journal, "_place", None) or f"the journal {type(journal).__name__}"
