"""What is still to be told of a breaker, and to whom. Pure: each change gives a new value."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass, field
from typing import NamedTuple

from booking_resilience.breaker.states import Transition
from booking_resilience.events import BreakerEvent, Listener

MOST = 1000  # transitions that are kept for listeners that are slower than they come


@dataclass(slots=True, weakref_slot=True, eq=False)
class Turn:
    """A thread's turn to tell of the transitions of its process; 0 ends it, and so does the death of the thread."""

    process: int = field(default_factory=os.getpid)


class News(NamedTuple):
    """The transitions of one process that nobody was told of yet.

    Attributes:
        listeners: Who is told of them.
        untold: The transitions, the newest `MOST` of them.
        process: The process that they happened in.
        is_losing: Whether some were dropped since there last was nothing to tell.
        teller: Whose turn it is to tell of them.
    """

    listeners: tuple[Listener[BreakerEvent], ...] = ()
    untold: tuple[Transition, ...] = ()
    process: int = 0
    is_losing: bool = False
    teller: weakref.ref[Turn] | None = None

    def and_of(self, transitions: tuple[Transition, ...]) -> News:
        """Return the news after these transitions too; what happened in a parent process is the parent's to tell."""
        process = os.getpid()
        is_ours = self.process == process
        untold = (*self.untold, *transitions) if is_ours else transitions
        is_losing = len(untold) > MOST or (is_ours and self.is_losing)
        return self._replace(untold=untold[-MOST:], process=process, is_losing=is_losing)

    def is_due(self) -> bool:
        """Tell whether there is something for this process to tell."""
        return bool(self.untold) and self.process == os.getpid()

    def taken(self, turn: Turn) -> News | None:
        """Return the news once the oldest transition is told of in this turn, which ends where none is left.

        None if another thread of this process has the turn.
        """
        teller = None if self.teller is None else self.teller()
        if teller is not None and teller is not turn and teller.process == turn.process:
            return None
        if self.process != turn.process or not self.untold:
            return self._replace(teller=None)
        rest = self.untold[1:]
        return self._replace(untold=rest, is_losing=self.is_losing and bool(rest), teller=weakref.ref(turn))
