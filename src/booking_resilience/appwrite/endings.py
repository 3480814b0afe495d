"""Telling of the attempts of a write: how they ended is only told when it is known what came of them."""

from __future__ import annotations

import dataclasses

from booking_resilience import clock
from booking_resilience.events import RetryEvent
from booking_resilience.pipeline import Pipeline


class Ending:
    """Takes the events of a write, and holds the last one back.

    Args:
        pipeline: Whose monitor and log are told.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._plan = pipeline._plan
        self._last: RetryEvent | None = None
        self._ended = 0.0  # when that was, on the monotonic clock

    def take(self, event: RetryEvent) -> None:
        """Be told of an event by the driver."""
        if event.outcome == "retrying":
            self._plan.tell(event)
        else:
            self._last, self._ended = event, clock.monotonic()

    def tell(self, error: Exception | None = None, *, recovered: bool = False) -> None:
        """Tell how it ended: by now it is known."""
        event, self._last = self._last, None
        if event is None:
            return
        elapsed = event.elapsed + clock.monotonic() - self._ended
        if recovered:
            event = dataclasses.replace(event, outcome="recovered", reason=None, elapsed=elapsed)
        elif error is not None:
            event = dataclasses.replace(event, error=error, elapsed=elapsed)
        self._plan.tell(event)

    def let_go(self) -> None:
        """Drop the error: its traceback leads back here."""
        self._last = None
