"""What the state machine knows of a call: its ticket, and what its end says. Pure."""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What the end of a call says of the backend."""

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    IGNORED = enum.auto()
    NOTHING = enum.auto()


class Ticket:
    """One call, from admission to settlement.

    Attributes:
        epoch: The epoch in which it was admitted; -1 before.
        started: When it asked to be admitted, in monotonic seconds.
        settled: Whether its end has been taken.
    """

    __slots__ = ("epoch", "settled", "started")

    def __init__(self, epoch: int = -1, started: float = 0.0) -> None:
        self.epoch: int = epoch
        self.started: float = started
        self.settled: bool = False
