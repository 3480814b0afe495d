"""What the agent does with a breaker's link: it collects what is to be told, and follows what it hears.

Called with the lock of all breakers held. A fact is followed once, and not if something newer happened here; so no
fact that comes late touches a newer state.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from booking_resilience import clock
from booking_resilience.breaker.machine import HALF_OPEN, ISOLATED, OPEN
from booking_resilience.breaker.shared_facts import close_here, open_here
from booking_resilience.breaker.shared_link import Lease, Message
from booking_resilience.breaker.shared_script import age_argument, clean

if TYPE_CHECKING:
    from booking_resilience.breaker.shared_link import Link
    from booking_resilience.breaker.shared_script import Fact

ASK_EVERY = 0.25  # seconds between two requests for the lease
WISH = 2.0  # seconds that a refused caller counts as waiting
PROMPT = 0.25  # seconds that a report is good for if the cooldown is shorter: it is on its way
_WHY = {
    "TRIP": "enough processes of the fleet reported",
    "RELAPSE": "the trial of the fleet failed or was lost",
}


def collect(link: Link, now: float) -> list[Message]:
    """Return what is to be told now, in real monotonic seconds."""
    link.note()
    link.is_urgent = False
    messages = [link.command] if link.command is not None else []
    lease = link.lease
    if lease is not None:
        if lease.verdict == "yield":
            messages.append(Message("yield", now, lease.token))
        elif lease.verdict is not None:
            messages.append(Message("done", now, lease.token, lease.verdict))
        elif lease.trial is not None and not lease.begun:
            messages.append(Message("begin", now, lease.token))
    if link.report is not None and now - link.report.moment < max(link.settings.cooldown, PROMPT):
        messages.append(link.report)
    else:
        link.report = None
    if link.recovery is not None and link.fact is not None and link.fact.state in (OPEN, HALF_OPEN):
        messages.append(link.recovery)
    else:
        link.recovery = None
    if wants_lease(link, now) and now >= link.next_ask:
        link.next_ask = now + min(ASK_EVERY, link.settings.trial_timeout / 3)
        messages.append(Message("ask", now))
    return messages


def wants_lease(link: Link, now: float) -> bool:
    """Tell whether the lease is to be asked for: for a caller who waits, or to keep it until one comes."""
    if link.owner._closed or not link.is_held_back or link.machine.state not in (OPEN, HALF_OPEN):
        return False
    lease = link.lease
    return now - link.wish < WISH if lease is None else lease.trial is None and lease.verdict is None


def hear(link: Link, message: Message, fact: Fact) -> None:
    """Take the answer to a message."""
    link.note()
    now, lease = time.monotonic(), link.lease
    link.fact = fact
    match message.kind:
        case "report" if link.report is message:
            link.report = None
        case "recover" if link.recovery is message:
            link.recovery = None
        case "done" | "yield" if lease is not None and lease.token == message.subject:
            link.lease = lease = None
        case "begin" if lease is not None and lease.token == message.subject:
            lease.begun = True
        case "isolate" | "reset" if link.command is message:
            link.command = None
            if fact.move.lower() == message.kind and fact.age <= now - message.moment:
                link.turn = fact.turn  # our own: it was done here when it was asked for
        case "ask":
            _hear_answer(link, message, fact, now)
    if link.lease is not None and link.lease.token != fact.lease:
        link.lease = None  # it ended with the transition that is followed now
    if fact.state is HALF_OPEN and not fact.lease:
        link.next_ask = 0.0  # it is free
    if link.command is None:
        _follow(link, fact, now)


def _hear_answer(link: Link, message: Message, fact: Fact, now: float) -> None:
    lease, until = link.lease, message.moment + link.settings.trial_timeout
    if fact.answer == "yours":
        if lease is None:
            link.lease = Lease(fact.lease, until, fact.trials_left)
        elif lease.trial is None:
            lease.until = until
    elif fact.answer == "yield" and lease is not None:
        if lease.trial is None and lease.verdict is None:
            lease.verdict, link.wish, link.is_urgent = "yield", float("-inf"), True
    elif fact.answer == "yield":
        link.lease, link.is_urgent = Lease(fact.lease, until, fact.trials_left, verdict="yield"), True
    elif fact.answer == "no":
        link.next_ask = now + fact.left
    elif fact.answer == "busy":
        link.next_ask = now + 4 * ASK_EVERY


def _follow(link: Link, fact: Fact, now: float) -> None:
    """Do here what the fleet did, unless it was done already or something newer happened here."""
    if fact.turn == link.turn or not (fact.turn or link.turn is None):
        return  # nothing new; or emptied, and then everybody stays as he is
    machine, is_first, happened = link.machine, link.turn is None, now - fact.age
    link.turn, link.next_ask = fact.turn, 0.0
    if not fact.turn:
        return
    was_isolated = link.is_isolated_by_fleet and fact.state is not ISOLATED
    if was_isolated:
        link.is_isolated_by_fleet = False
        machine.reset(fact.reason)
    if fact.state is ISOLATED:
        if machine.state is not ISOLATED or link.is_isolated_by_fleet:
            machine.isolate(fact.reason)
            link.is_isolated_by_fleet = True
    elif fact.state in (OPEN, HALF_OPEN):
        if link.reset <= happened:
            opened = clock.monotonic() - (fact.cooldown - fact.left)
            open_here(machine, opened, fact.cooldown, _WHY.get(fact.move, "the fleet is open"))
            link.report = link.recovery = None
            link.wish = float("-inf")  # who was refused before does not wait for the next trial
    elif not is_first and not was_isolated and link.opened <= happened:
        if fact.move == "RESET" and machine.state is not ISOLATED:
            machine.reset(fact.reason)
        close_here(machine, "a trial of the fleet succeeded")
    link.noted = machine.epoch


def forked(link: Link) -> None:
    """Forget, in a child process, what is its parent's to tell."""
    link.identity = uuid.uuid4().hex
    link.lease = link.command = link.report = link.recovery = None
    link.noted, link.wish, link.is_urgent = link.machine.epoch, float("-inf"), False


def left(link: Link) -> None:
    """Give back the lease, since the sharing ends, and go by the machine's own settings."""
    if link.lease is not None and link.lease.verdict is None:
        link.lease.verdict = "yield"
    link.machine.trial_calls = link.settings.trial_calls
    link.report = link.recovery = None


def arguments(message: Message, now: float) -> tuple[str, str]:
    """Return what the script is told beside the settings; ages by the clock that has not stood still."""
    age = age_argument(now - message.moment)
    if message.kind in ("report", "recover"):
        return age, ""
    if message.kind in ("isolate", "reset"):
        return clean(message.subject), age
    return message.subject, message.detail
