"""The fleet's alert: who tells of its transitions, as they are claimed in the journal. Pure.

A reader whose rate calls for a transition claims it. Of the claims that follow the same transition the first in the
log is the transition itself, and its claimer tells of it, and says so in the log. If it does not, another one claims
the telling. All readers read the same log, so all know who is to tell, and what the alert is.

Times are on the journal's clock, in seconds since 1970.
"""

from __future__ import annotations

import collections
from collections import OrderedDict
from dataclasses import astuple
from typing import Any, NamedTuple, get_args

from booking_resilience.checks import check, check_number
from booking_resilience.events import AlertEvent
from booking_resilience.journal.entries import HEAD, TOLD, facts_of
from booking_resilience.monitor.history import AlertTransition, new_transitions
from booking_resilience.monitor.rate import Alert, AlertRule, SlidingRate, State
from booking_resilience.monitor.record import as_datetime

TELLING = 4.0  # seconds that a claimer may take to tell
TAKE_OVER = 4.4  # seconds after a claim that nobody told of when another one claims the telling
FORGOTTEN = 60.0  # seconds after which nobody takes over any more
_KNOWN = 1000
_SLACK = 1e-3
_AHEAD = 1.0  # seconds by which an event may lie ahead of the clock before the clock counts as set back
_TELLING = "telling"


class Transition(NamedTuple):
    """A transition of the alert, as its claim has it; `after` is the ID of the one before."""

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
        return AlertEvent(self.state, self.rate, self.peak, as_datetime(self.since))

    def facts(self) -> list[Any]:
        """Return it as JSON has it, without the ID, which is the entry's."""
        return [*self[1:-1], list(astuple(self.rule))]

    @classmethod
    def of(cls, id: str, facts: list[Any]) -> Transition:  # noqa: A002 - the field's own name
        """Return the transition of a claim, whatever errors that raises if it is none."""
        after, state, rate, peak, since, at, rule = facts
        check("state", state, state in get_args(State), "a state of the alert")
        check_number("rate", rate)
        check_number("peak", peak)
        for moment in (since, at):
            as_datetime(moment)  # raises if it is none
        return cls(id, after, state, rate, peak, since, at, AlertRule(*rule))


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
        self.holder: str = ""
        self.claimed_at: float = 0.0
        self.attempt: int = 0
        self.is_told: bool = True
        self.transitions: collections.deque[AlertTransition] = new_transitions()
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
        moments = as_datetime(claim.since), as_datetime(claim.at)
        self.transitions.append(AlertTransition(claim.state, claim.rate, claim.peak, *moments))
        return True

    def read_takeover(self, claim: str, of: str, attempt: int, at: float) -> bool:
        """Take a claim of the telling; tell whether it counts."""
        as_datetime(at)  # raises if it is no moment
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

    def wanted(self, *, is_firing: bool, now: float) -> State | None:
        """Return the transition that is called for if the alert fires by the rate, or doesn't; None if there is none.

        It is repeated by the rule that the storm began with.
        """
        firing = self.firing
        if is_firing is (firing is None):
            return "firing" if is_firing else "resolved"
        if firing is not None and now - firing.at >= firing.rule.repeat_every - _SLACK:
            return "repeat"
        return None


class FleetAlert:
    """The alert as one reader sees it: by its own rate and rule, and by the claims. Not safe to share by itself."""

    def __init__(self, rule: AlertRule, rate: SlidingRate, alert: Alert) -> None:
        self._own_rule = self._rule = rule
        self._rate, self._alert = rate, alert
        self._claims, self._changes = Claims(), new_transitions()
        self._since = 0.0
        self._mine = ""  # the last claim that was made here, until it is told of

    def forget_mine(self) -> None:
        """Tell of nothing that was claimed here: what a child process does."""
        self._mine = ""

    def transitions(self) -> list[AlertTransition]:
        """Return the transitions of the fleet's alert; this reader's own, if nobody in the fleet tells of any."""
        return list(self._claims.transitions or self._changes)

    def event(self, now: float) -> AlertEvent | None:
        """Return the alert as it fires, else None."""
        self.look(now)
        if not self._alert.firing:
            return None
        return AlertEvent("firing", self._rate.per_minute(now), self._alert.peak, as_datetime(self._since))

    def look(self, now: float) -> None:
        """See what has become of the rate and the alert."""
        rate, alert = self._rate, self._alert
        if rate.rewind(now + _AHEAD):
            alert.rewind(now + _AHEAD)
        for state in (*alert.before(rate, now), *alert.after(rate, now, rate.count(now))):
            if state == "firing":
                self._since = now
            moments = as_datetime(self._since), as_datetime(now)
            self._changes.append(AlertTransition(state, rate.per_minute(now), alert.peak, *moments))

    def read(self, data: bytes) -> None:
        """Read a claim, or that a transition was told."""
        facts, claims, id_ = facts_of(data), self._claims, data[1:HEAD].hex()
        if data[:1] == TOLD:
            claims.read_told(facts)
        elif facts[0] == _TELLING:
            claims.read_takeover(id_, *facts[1:])
        elif claims.read(transition := Transition.of(id_, facts)):
            self._follow(transition)

    def _follow(self, transition: Transition) -> None:
        """Have the alert stand where the log says it does; while it fires, the claim's rule counts."""
        is_firing = transition.state != "resolved"
        rule = transition.rule if is_firing else self._own_rule
        if rule != self._rule:
            self._alert, self._rule = Alert(rule, self._rate.window), rule
        if is_firing != self._alert.firing:
            self._alert.take(transition.since, transition.peak if is_firing else None)
        self._since = transition.since

    def to_tell(self, now: float) -> Transition | None:
        """Return a transition that is this reader's to tell of; each is returned once."""
        claims = self._claims
        if not self._mine or self._mine != claims.holder:
            return None
        self._mine = ""
        return None if claims.is_told or now - claims.claimed_at >= TELLING else claims.last

    def claim(self, now: float, id_: bytes) -> list[Any] | None:
        """Return what there is to claim now with this new ID, if there is anything."""
        claims, last, facts = self._claims, self._claims.last, None
        if last is not None and claims.wants_takeover(now):
            facts = [_TELLING, last.id, claims.attempt + 1, now]
        elif not claims.awaits_telling(now):
            state = claims.wanted(is_firing=self._alert.firing, now=now)
            if state is not None:
                since, rule = (claims.firing.since, claims.firing.rule) if claims.firing else (now, self._own_rule)
                rate = self._rate.per_minute(now)
                peak = max(self._alert.peak, rate)
                after = "" if last is None else last.id
                facts = Transition("", after, state, rate, peak, since, now, rule).facts()
        if facts is not None:
            self._mine = id_.hex()
        return facts
