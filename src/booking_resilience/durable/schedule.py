"""When a call is tried again: pure, told of each failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from booking_resilience.verdicts import LONGEST_WAIT

JITTER: Final = 0.15
LEAST_PAUSE: Final = 0.05  # seconds: with a `base_delay` of 0, nothing is asked in a loop without a pause


@dataclass(frozen=True, slots=True)
class Setback:
    """Why a call must be tried again.

    Attributes:
        is_try: Whether the function was called.
        grows: Whether the next pause is longer.
        asked: The seconds that the error asks for, or None.
        open_for: The seconds until the breaker's, or the limit's, next chance; None if none is in the way.
        half_open: Whether a trial is under way.
    """

    is_try: bool
    grows: bool
    asked: float | None
    open_for: float | None
    half_open: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a call waits, and when it gives up. All in seconds.

    Attributes:
        base_delay: The first pause, and the least.
        max_delay: The longest pause that grows by itself.
        give_up_after: After that long since the first try, no other pause is begun.
    """

    base_delay: float
    max_delay: float
    give_up_after: float

    def pause(self, setbacks: int, draw: float, last: Setback) -> float:
        """Return the seconds to wait before the next try.

        Args:
            setbacks: The setbacks so far whose `grows` is true, the last one included.
            draw: A random number in [0, 1).
            last: The last setback.
        """
        least = max(self.base_delay, last.asked or 0.0, last.open_for or 0.0, LEAST_PAUSE)
        if least > LONGEST_WAIT:
            return float("inf")
        planned = least if last.open_for is not None or last.half_open else max(least, self._growing(setbacks))
        low = max(least, planned * (1 - JITTER))
        return low + (planned * (1 + JITTER) - low) * draw

    def is_too_long(self, pause: float, now: float, first_try: float) -> bool:
        """Tell whether a pause that begins now would end after `give_up_after`."""
        return now + pause > first_try + self.give_up_after

    def _growing(self, setbacks: int) -> float:
        try:
            return float(min(self.base_delay * 2.0 ** max(0, setbacks - 1), self.max_delay))
        except OverflowError:
            return self.max_delay
