"""The lease of the fleet's one trial, as the process has it that may make the trial."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from booking_resilience.breaker.states import CLOSED, OPEN

if TYPE_CHECKING:
    from booking_resilience.breaker.states import State, Trial


@dataclass(slots=True, eq=False)
class Lease:
    """The permission to make the fleet's one trial; it's over once its verdict was told."""

    token: str  # its name in Redis
    until: float  # when it may no longer be claimed, in real monotonic seconds
    trials_left: int  # successes that the fleet still needs to close
    admitted: State | None = None  # the breaker's state since the trial was admitted, with the trial in it
    is_begun: bool = False  # whether Redis knows that the trial began
    verdict: Literal["success", "failure", "nothing"] | None = None  # how the trial ended
    _claim: dict[str, Trial | None] = field(default_factory=dict)

    @property
    def trial(self) -> Trial | None:
        """The trial that claimed it."""
        return self._claim.get("trial")

    def claim(self, trial: Trial | None) -> bool:
        """Take it for this trial, or for none; tell whether that is who has it now: of many threads one wins."""
        return self._claim.setdefault("trial", trial) is trial

    def give_back(self) -> None:
        """Have its trial, if there is one, say nothing to the fleet."""
        self.claim(None)
        self.verdict = self.verdict or "nothing"

    def note(self, after: State, asked: Trial | None) -> bool:
        """Note what a change left of its trial, which `asked` may have asked for; tell whether it ended."""
        trial = self.trial
        if trial is None or self.verdict is not None:
            return False
        if trial in after.trials:
            self.admitted = after
        elif self.admitted is not None:
            is_success = after.kind is CLOSED or after.successes > self.admitted.successes
            self.verdict = "failure" if after.kind is OPEN else "success" if is_success else "nothing"
            return True
        elif trial is asked:
            self.verdict = "nothing"  # claimed in vain: the breaker was isolated, say, in the same instant
        return False
