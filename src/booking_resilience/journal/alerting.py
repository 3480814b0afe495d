"""The alert of a fleet, as one reader sees it: by its own rate, and by the claims in the journal. Pure."""

from __future__ import annotations

import os
from typing import Any

from booking_resilience.events import AlertEvent
from booking_resilience.journal.claims import TELLING, Claims, Transition
from booking_resilience.journal.entries import HEAD, TOLD, facts_of
from booking_resilience.monitor.history import AlertTransition, new_transitions
from booking_resilience.monitor.rate import Alert, AlertRule, SlidingRate
from booking_resilience.monitor.record import as_datetime

_AHEAD = 1.0  # seconds by which an event may lie ahead of the clock before the clock counts as set back
_TELLING = "telling"


class FleetAlert:
    """The alert. Times are on the journal's clock, in seconds since 1970. Not safe to share by itself.

    Args:
        rule: The reader's own rule.
        rate: The errors of the fleet.
        alert: An alert by that rule.
    """

    def __init__(self, rule: AlertRule, rate: SlidingRate, alert: Alert) -> None:
        self._own_rule = self._rule = rule
        self._rate, self._alert = rate, alert
        self._claims, self._changes = Claims(), new_transitions()
        self._since = 0.0
        self._mine = self._called = ""  # the claim that was made last here, and the one that was told of

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
        else:
            transition = Transition.of(id_, facts)
            if claims.read(transition):
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
        if claims.last is None or claims.holder != self._mine or self._mine == self._called:
            return None
        self._called = self._mine
        return None if claims.is_told or now - claims.claimed_at >= TELLING else claims.last

    def claim(self, now: float) -> tuple[bytes, list[Any]] | None:
        """Return ID and facts of what there is to claim now, if there is anything."""
        claims = self._claims
        facts: list[Any] | None = None
        if claims.last is not None and claims.wants_takeover(now):
            facts = [_TELLING, claims.last.id, claims.attempt + 1, now]
        elif not claims.awaits_telling(now):
            facts = self._wanted(now)
        if facts is None:
            return None
        mine = os.urandom(16)
        self._mine = mine.hex()
        return mine, facts

    def _wanted(self, now: float) -> list[Any] | None:
        claims = self._claims
        state = claims.wanted(is_firing=self._alert.firing, now=now, own=self._own_rule)
        if state is None:
            return None
        firing, rate = claims.firing, self._rate.per_minute(now)
        since, rule = (now, self._own_rule) if firing is None else (firing.since, firing.rule)
        after = "" if claims.last is None else claims.last.id
        peak = max(self._alert.peak, rate)
        return Transition("", after, state, rate, peak, since, now, rule).facts()
