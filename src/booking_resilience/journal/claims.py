"""Who tells of the fleet's alert: its transitions, as they are claimed in the journal. Pure.

A reader whose rate calls for a transition claims it. Of the claims that follow the same transition the first in the
log is the transition itself, and its claimer tells of it, and says so in the log. If it does not, another one claims
the telling. All readers read the same log, so all know who is to tell, and what the alert is.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict
from dataclasses import astuple
from typing import Any, Literal, NamedTuple, TypeAlias

from booking_resilience.events import AlertEvent
from booking_resilience.monitor.history import AlertTransition, new_transitions
from booking_resilience.monitor.rate import AlertRule

TELLING = 4.0  # seconds that a claimer may take to tell
TAKE_OVER = 4.4  # seconds after a claim that nobody told of when another one claims the telling
FORGOTTEN = 60.0  # seconds after which nobody takes over any more
_KNOWN = 1000
_SLACK = 1e-3

State: TypeAlias = Literal["firing", "repeat", "resolved"]


class Transition(NamedTuple):
    """A transition of the alert, as its claim has it. `at` and `since` are the journal's clock, in seconds."""

    id: str
    after: str
    state: State
    rate: float
    peak: float
    since: float
    at: float
    rule: AlertRule

    def event(self) -> AlertEvent:
        """Return the event."""
        return AlertEvent(self.state, self.rate, self.peak, _moment(self.since))

    def facts(self) -> list[Any]:
        """Return it as JSON has it, without the ID, which is the entry's."""
        return [*self[1:-1], list(astuple(self.rule))]

    @classmethod
    def of(cls, id: str, facts: list[Any]) -> Transition:  # noqa: A002 - the field's own name
        """Return the transition of a claim."""
        after, state, rate, peak, since, at, rule = facts
        return cls(id, after, state, rate, peak, since, at, AlertRule(*rule))


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


class Claims:
    """What the log says so far.

    Attributes:
        last: The last transition; None if there is none.
        holder: The ID of the claim whose claimer is to tell of it.
        claimed_at: When that claim was made.
        attempt: How often the telling has been claimed.
        is_told: Whether it was told.
        transitions: The last transitions.
    """

    def __init__(self) -> None:
        self.last: Transition | None = None
        self.holder = ""
        self.claimed_at: float = 0.0
        self.attempt: int = 0
        self.is_told = True
        self.transitions = new_transitions()
        self._known: OrderedDict[str, None] = OrderedDict({"": None})

    @property
    def firing(self) -> Transition | None:
        """The last transition if the alert fires by the log, else None."""
        return self.last if self.last is not None and self.last.state != "resolved" else None

    def read(self, claim: Transition) -> bool:
        """Take a claim of a transition; tell whether it is the transition."""
        last_id = "" if self.last is None else self.last.id
        if claim.after != last_id and claim.after in self._known:
            return False  # another claim was first, or the claimer had not read on
        if (claim.state == "firing") is (self.firing is not None):
            return False
        self.last, self.holder, self.claimed_at, self.attempt, self.is_told = claim, claim.id, claim.at, 1, False
        self._known[claim.id] = None
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        moments = _moment(claim.since), _moment(claim.at)
        self.transitions.append(AlertTransition(claim.state, claim.rate, claim.peak, *moments))
        return True

    def read_takeover(self, claim: str, of: str, attempt: int, at: float) -> bool:
        """Take a claim of the telling; tell whether it counts."""
        if self.last is None or of != self.last.id or attempt != self.attempt + 1 or self.is_told:
            return False
        self.holder, self.claimed_at, self.attempt = claim, at, attempt
        return True

    def read_told(self, of: str) -> None:
        """Note that a transition was told."""
        if self.last is not None and of == self.last.id:
            self.is_told = True

    def wants_takeover(self, now: float) -> bool:
        """Tell whether whoever was to tell of the last transition has not."""
        return self.awaits_telling(now) and now - self.claimed_at >= TAKE_OVER

    def awaits_telling(self, now: float) -> bool:
        """Tell whether somebody is still to tell of the last transition."""
        return not self.is_told and now - self.claimed_at < FORGOTTEN

    def wanted(self, *, is_firing: bool, now: float, own: AlertRule) -> State | None:
        """Return the transition that is called for, if one is.

        Args:
            is_firing: Whether the alert fires by the rate.
            now: The journal's clock, in seconds.
            own: The reader's rule, which counts while the alert does not fire.
        """
        firing = self.firing
        if is_firing is (firing is None):
            return "firing" if is_firing else "resolved"
        rule = own if firing is None else firing.rule
        if firing is not None and now - firing.at >= rule.repeat_every - _SLACK:
            return "repeat"
        return None
