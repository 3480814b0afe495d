"""What ties a breaker to its fleet, without Redis or threads: what it follows, tells, and lets callers do."""

from __future__ import annotations

import itertools
import re
import threading
import time
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.shared_link import Link
from booking_resilience.breaker.shared_parts import Contact, Lease, Message
from booking_resilience.breaker.shared_script import SCRIPT, Fact, clean, milliseconds, settings_arguments
from booking_resilience.breaker.states import TRANSITIONS, Isolate, Move, Reset, Trial
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState


class Member:
    """A breaker whose link hears what the test says."""

    def __init__(self, **settings: Any) -> None:
        self.breaker = CircuitBreaker("b", **{"failure_threshold": 1, "cooldown": 0.0, **settings})
        core = self.breaker._core
        self.contact = Contact(is_connected=True, heard=time.monotonic())
        self.link = core.link = Link(weakref.ref(core), self, self.contact, "b", keys=(), channel="", settings=())
        self.events: list[BreakerEvent] = []
        self.breaker.subscribe(self.events.append)

    def hears(
        self, turn: str, state: BreakerState, move: str, *, age: float = 0.0, sent: float = 0.0, **more: Any
    ) -> None:
        """Have it hear, as the answer to a request sent so many seconds ago, that this turn was so long ago."""
        now = time.monotonic()
        fact = fact_of(turn=turn, state=state, move=move, age=age, turned=now - age, **more)
        self.contact.heard = now
        self.link.hear(Message("read", now - sent), fact, now - sent)
        self.breaker._core.tell()

    def answers(self, turn: str, event: Isolate | Reset) -> None:
        """Have it hear that its command was carried out for the fleet."""
        now = time.monotonic()
        kind, move = (CLOSED, "RESET") if isinstance(event, Reset) else (ISOLATED, "ISOLATE")
        command = self.link.messages(now)[0]
        fact = fact_of(turn=turn, state=kind, move=move, turned=now, reason=event.reason, answer="done")
        self.link.hear(command, fact, now)

    def leaves_a_lease(self) -> None:
        """Have it get the lease, and no caller until that is over."""
        self.link.lease = Lease("unclaimed", time.monotonic() - 0.001, 1)
        assert "done" in self.tells()
        self.link.lease = None

    def tells(self) -> list[str]:
        """Return what it would tell Redis."""
        return [message.kind for message in self.link.messages(time.monotonic())]

    def passes(self) -> bool:
        """Tell whether a call passes."""
        try:
            self.breaker.acquire().success()
        except CircuitOpenError:
            return False
        return True

    def fails(self) -> None:
        """Let a call fail."""
        self.breaker.acquire().failure()


def fact_of(**more: Any) -> Fact:
    """Return a fact, of a closed fleet but for what is said."""
    facts = {
        "state": CLOSED, "turn": "", "move": "", "left": 0.0, "cooldown": 0.0, "trials_left": 1, "since": 0.0,
        "turned": 0.0, "age": 0.0, "reporters": 0, "lease": "", "answer": "", "reason": "why", "wait": 0.0,
    }  # fmt: skip
    return Fact(**{**facts, **more})


def test_it_follows_each_turn_once() -> None:
    """By the moves of the table; a local reset in an open fleet lasts until the next turn."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    member.breaker.reset()
    member.hears("1", OPEN, "TRIP")
    assert member.breaker.state is CLOSED
    member.hears("2", OPEN, "RELAPSE")
    assert [event.new for event in member.events] == [OPEN, CLOSED, OPEN]
    member.hears("3", CLOSED, "RECOVER")
    assert [event.new for event in member.events][3:] == [HALF_OPEN, CLOSED]


def test_what_was_under_way_does_not_close_what_opened_since() -> None:
    """With an answer that took 0.4 s, nobody can tell which came first; the breaker stays open."""
    member = Member(cooldown=30.0)
    member.hears("1", CLOSED, "RESET", age=9.0)
    member.fails()
    member.hears("2", CLOSED, "RECOVER", age=0.0, sent=0.4)
    assert member.breaker.state is OPEN
    member.hears("3", CLOSED, "RECOVER", age=0.0)
    assert member.breaker.state is CLOSED


def test_what_was_under_way_does_not_undo_a_reset_made_since() -> None:
    """The next turn counts again."""
    member = Member(cooldown=30.0)
    member.breaker.reset("by an operator")
    member.hears("1", OPEN, "TRIP", age=0.2, sent=0.4)
    assert member.breaker.state is CLOSED
    member.hears("2", OPEN, "RELAPSE")
    assert member.breaker.state is OPEN


@pytest.mark.parametrize("by_fleet", [OPEN, ISOLATED])
def test_a_reset_in_the_instant_in_which_a_turn_is_followed_counts_as_newer(by_fleet: BreakerState) -> None:
    """An open fleet doesn't undo it; one that is isolated does, as always."""
    member, take_notes = Member(cooldown=30.0), Link.take_notes
    member.hears("1", CLOSED, "RESET", age=9.0)
    member.breaker.isolate("by hand")
    resets = [member.breaker.reset]

    def reset_meanwhile(link: Link, core: Any) -> None:
        take_notes(link, core)
        while resets:
            resets.pop()()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "take_notes", reset_meanwhile)
        member.hears("2", by_fleet, "TRIP")
    assert member.breaker.state is (CLOSED if by_fleet is OPEN else ISOLATED)


def test_an_older_turn_is_not_followed_but_told_of() -> None:
    """One that it knew, or that is older by Redis' clock and ours than the last that it followed."""
    for turn in ("1", "unknown"):
        member = Member()
        member.hears("1", OPEN, "TRIP", age=20.0)
        member.hears("2", CLOSED, "RECOVER", age=10.0)
        member.hears(turn, OPEN, "TRIP", age=20.0)
        assert member.breaker.state is CLOSED
        assert member.tells() == ["recover"]


def test_a_new_turn_counts_though_the_clock_of_redis_was_set_back() -> None:
    """Its moment is the older one by that clock, and the newer by ours."""
    member = Member()
    member.hears("1", CLOSED, "RESET", age=1.0)
    member.link.turned += 3600
    member.hears("2", OPEN, "TRIP")
    assert member.breaker.state is OPEN


def test_an_emptied_redis_is_followed_by_nobody() -> None:
    """Each process keeps its state; what happens next counts."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    member.hears("", CLOSED, "")
    assert (member.breaker.state, member.tells()) == (OPEN, [])
    member.hears("2", CLOSED, "RESET")
    assert member.breaker.state is CLOSED


def test_who_comes_later_follows_an_open_fleet_and_not_a_closed_one() -> None:
    """A fleet that closed before this process knew of it closes no breaker that opened by itself."""
    late, sick = Member(cooldown=30.0), Member(cooldown=30.0)
    late.hears("1", OPEN, "TRIP", age=5.0)
    sick.fails()
    sick.hears("1", CLOSED, "RECOVER")
    assert (late.breaker.state, sick.breaker.state) == (OPEN, OPEN)


def test_a_trial_of_an_open_fleet_needs_the_lease() -> None:
    """The caller is rejected and the lease asked for; the next caller begins it, and its end is told."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    assert (member.passes(), member.tells()) == (False, ["ask"])
    member.link.lease = Lease("l1", time.monotonic() + 60, 1)
    permit = member.breaker.acquire()
    assert not member.passes()
    assert member.tells() == ["begin"]
    permit.success()
    assert (member.breaker.state, member.tells()) == (CLOSED, ["done", "recover"])  # the lease may have lapsed
    assert member.link.lease is not None
    assert member.link.lease.verdict == "success"


@pytest.mark.parametrize("event", [Reset("by hand"), Isolate("second")])
def test_a_command_outlasts_an_older_turn_that_came_in_between(event: Isolate | Reset) -> None:
    """The breaker is as the fleet, also if it followed the older turn just before the command was noted."""
    member = Member()
    member.hears("1", CLOSED, "RESET", age=9.0)
    change = member.breaker._core.change(event)
    member.hears("2", ISOLATED, "ISOLATE", reason="first")
    member.link.changed(change, fleet=True)
    member.answers("3", event)
    kind = CLOSED if isinstance(event, Reset) else ISOLATED
    assert (member.breaker.state, member.breaker.snapshot().reason) == (kind, event.reason)


def test_a_local_reset_outlasts_a_command_given_before() -> None:
    """Isolating the fleet and then resetting here leaves this breaker closed, whenever the command arrives."""
    member = Member()
    member.hears("1", CLOSED, "RESET", age=9.0)
    member.breaker.isolate("the others", fleet=True)
    member.breaker.reset()
    member.answers("2", Isolate("the others"))
    assert member.breaker.state is CLOSED


def test_a_reset_that_is_noted_late_is_no_recovery() -> None:
    """A round between a reset by hand and its note tells the fleet of no trial that succeeded."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    member.link.lease = Lease("l1", time.monotonic() + 60, 1)
    permit = member.breaker.acquire()
    assert member.tells() == ["begin"]
    change = member.breaker._core.change(Reset("by hand"))
    assert member.tells() == ["done"]
    assert member.link.lease.verdict == "nothing"
    member.link.changed(change, fleet=False)
    permit.success()
    assert member.tells() == ["done"]


def test_a_reset_that_is_noted_late_leaves_a_later_report() -> None:
    """What failed since is told."""
    member = Member()
    change = member.breaker._core.change(Reset("by hand"))
    member.fails()
    member.link.changed(change, fleet=False)
    assert member.tells() == ["report"]


@pytest.mark.parametrize("lease", ["", "another's"])
def test_a_caller_that_comes_seldom_needs_no_lease_if_nobody_has_it(lease: str) -> None:
    """Two leases were left unclaimed, and it would come between the next ones, too."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    member.hears("1", HALF_OPEN, "TRIP", lease=lease)
    for _ in range(2):
        assert not member.passes()
        member.leaves_a_lease()
    assert member.passes() == (lease == "")
    assert ("recover" in member.tells()) == (lease == "")


def test_those_that_follow_a_trial_without_the_lease_need_it() -> None:
    """They ask for it, and so do those that come after a long pause; the fleet's next transition begins anew."""
    member = Member(cooldown=0.0)
    member.hears("1", OPEN, "TRIP")
    member.leaves_a_lease()
    member.leaves_a_lease()
    member.breaker.acquire().failure()
    for pause in (0.0, 0.0, 70.0):
        member.link.next_ask, member.link.lapsed, member.link.wish = 0.0, 0.0, member.link.wish - pause
        assert not member.passes()
        assert "ask" in member.tells()
    member.leaves_a_lease()
    member.leaves_a_lease()
    member.hears("2", OPEN, "RELAPSE")
    assert not member.passes()


@pytest.mark.parametrize("how", ["silent", "refused", "closed"])
def test_without_the_fleet_a_breaker_makes_its_own_trials(how: str) -> None:
    """Redis has not answered for 4 s, refuses this breaker, or the sharing was closed: the lease is no matter then."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    assert not member.passes()
    if how == "silent":
        member.contact.heard -= 4.0
    elif how == "refused":
        member.link.is_refused = True
    else:
        member.link.is_open = False
    assert member.passes()
    assert member.breaker.state is CLOSED


@pytest.mark.parametrize(("end", "verdict"), [("failure", "failure"), ("release", "nothing"), ("drop", "nothing")])
def test_the_end_of_a_trial_is_told_as_what_it_says(end: str, verdict: str) -> None:
    """A failure opens; released or dropped, it says nothing and the lease is free."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    member.link.lease = Lease("l1", time.monotonic() + 60, 1)
    permit = member.breaker.acquire()
    if end != "drop":
        getattr(permit, end)()
    del permit
    assert member.tells() == ["done"]
    assert member.link.lease.verdict == verdict


def test_a_lease_that_nobody_claims_in_time_is_given_back() -> None:
    """And a caller who comes a moment later does not get it any more."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    member.link.lease = lease = Lease("l1", time.monotonic() - 0.001, 1)
    assert not member.passes()
    assert (member.tells(), lease.verdict) == (["done"], "nothing")
    assert not lease.claim(Trial(0.0))


def test_one_of_many_threads_claims_a_lease() -> None:
    """However many try in the same instant."""
    for _ in range(200):
        lease, trials = Lease("l1", 0.0, 1), [Trial(0.0) for _ in range(4)]
        won: list[Trial] = []
        gate = threading.Barrier(4)

        def claim(trial: Trial, lease: Lease = lease, won: list[Trial] = won, gate: threading.Barrier = gate) -> None:
            gate.wait()
            if lease.claim(trial):
                won.append(trial)

        threads = [threading.Thread(target=claim, args=(trial,)) for trial in trials]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [lease.trial]


def test_the_longer_a_caller_is_gone_the_less_often_the_lease_is_asked_for() -> None:
    """A quarter of a second after one that lapsed at first; not at all when the caller is gone for a minute."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    member.passes()
    link, wish = member.link, member.link.wish
    link.lapsed = wish
    assert link.asks_at(wish) == pytest.approx(wish + 0.25)
    member.contact.heard = float("inf")
    link.lapsed = wish + 20
    assert link.asks_at(wish + 20) == pytest.approx(wish + 25)
    assert link.asks_at(wish + 61) == float("inf")


def test_a_lease_claimed_in_vain_is_given_back() -> None:
    """Somebody isolated the breaker in the instant between claim and admission."""
    member = Member()
    member.hears("1", OPEN, "TRIP")
    member.link.lease = Lease("l1", time.monotonic() + 60, 1)
    admit = member.link.admit

    def isolated_meanwhile(trial: Trial) -> int | None:
        said = admit(trial)
        member.breaker._core.change(Isolate("in between"))
        return said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "admit", lambda _, trial: isolated_meanwhile(trial))
        assert not member.passes()
    assert member.tells() == ["done"]
    assert member.link.lease.verdict == "nothing"


def test_a_child_process_forgets_what_is_its_parents_to_tell() -> None:
    """The report, the lease and the wish; what the fleet did is still known."""
    member = Member(cooldown=30.0)
    member.hears("1", CLOSED, "RESET", age=9.0)
    member.fails()
    assert member.tells() == ["report"]
    member.link.forked()
    assert (member.tells(), member.link.turn) == ([], "1")


def test_an_isolation_by_the_fleet_ends_with_it() -> None:
    """Also where the next that is heard of is a fleet that is open; its reason may change."""
    member = Member()
    member.hears("1", ISOLATED, "ISOLATE", reason="first")
    member.hears("2", ISOLATED, "ISOLATE", reason="second")
    assert member.breaker.snapshot().reason == "second"
    member.hears("3", OPEN, "TRIP")
    assert [event.new for event in member.events] == [ISOLATED, CLOSED, OPEN]


def test_what_a_process_did_by_itself_is_told_unless_something_newer_happened() -> None:
    """It opened: a report, until it is reset. It closed by a trial of its own: a recovery, if the fleet is open."""
    member = Member(cooldown=0.3)
    member.contact.heard = float("-inf")
    member.fails()
    assert member.tells() == ["report"]
    member.breaker.reset()
    assert member.tells() == []


STEPS = st.sampled_from(
    ["open", "close", "success", "failure", "nothing", "isolate", "reset", "lease", "fleet", "empty"]
)


@given(st.lists(STEPS, max_size=40), st.integers(1, 3))
def test_facts_at_any_time_leave_a_chain_of_moves_of_the_table(steps: list[str], trial_calls: int) -> None:
    """Between calls of all kinds: every transition is in the table, and an open fleet has one trial at a time."""
    member = Member(failure_threshold=2, trial_calls=trial_calls)
    turns = itertools.count()
    allowed = {(old, new) for (old, _), new in TRANSITIONS.items()}
    for step in steps:
        match step:
            case "open":
                member.hears(f"{next(turns)}", OPEN, "TRIP")
            case "close":
                member.hears(f"{next(turns)}", CLOSED, "RECOVER")
            case "fleet":
                member.hears(f"{next(turns)}", ISOLATED, "ISOLATE")
            case "empty":
                member.hears("", CLOSED, "")
            case "isolate":
                member.breaker.isolate("why")
            case "reset":
                member.breaker.reset("why")
            case "lease":
                member.link.lease = Lease(f"l{next(turns)}", time.monotonic() + 60, trial_calls)
            case end:
                try:
                    getattr(member.breaker.acquire(), {"nothing": "release"}.get(end, end))()
                except CircuitOpenError:
                    pass
        member.tells()
        if member.link.is_held_back:
            assert len(member.breaker._core.state.trials) <= 1
    state = CLOSED
    for event in member.events:
        assert event.old is state
        assert (event.old, event.new) in allowed
        state = event.new
    assert state is member.breaker.state


def test_the_script_has_the_table_of_the_machine_and_no_other() -> None:
    """Each row of it, once; every move that the script makes is one of the table."""
    rows = re.findall(r"^MOVES\['(\w+) (\w+)'\] = '(\w+)'$", SCRIPT, re.MULTILINE)
    assert {(old, move): new for old, move, new in rows} == {
        (old.value, move.name): new.value for (old, move), new in TRANSITIONS.items()
    }
    assert len(rows) == len(TRANSITIONS)
    made = set(re.findall(r"(?:make|open|open_anew|close)\('(\w+)'", SCRIPT))
    assert made == {move.name for move in Move}


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, ("30000", "0", "1", "2", "60000")),
        ({"cooldown": 0.0}, ("0", "0", "1", "2", "60000")),
        ({"cooldown": 0.0, "max_cooldown": 0.0}, ("0", "1", "1", "2", "60000")),
        ({"max_cooldown": 60.5, "trial_calls": 3}, ("30000", "60500", "3", "2", "60000")),
        ({"trial_timeout": 1e-6}, ("30000", "0", "1", "2", "1")),
        ({"cooldown": 0.0014}, ("2", "0", "1", "2", "60000")),
        (
            {"cooldown": 1e20, "max_cooldown": 10**308, "trial_timeout": 1e306},
            (str(10**15), str(10**15), "1", "2", str(10**15)),
        ),
    ],
)
def test_settings_are_told_in_whole_milliseconds(changes: dict[str, Any], arguments: tuple[str, ...]) -> None:
    """Rounded up; no longest cooldown is 0, and what is longer than Redis can reckon with is the longest it can."""
    assert settings_arguments(Machine(**changes), 2) == arguments


def test_ages_are_never_negative() -> None:
    """A clock that stepped back does not make a report of the future."""
    assert [milliseconds(seconds) for seconds in (-5.0, 0.0, 0.0015, 2.0)] == [0, 0, 2, 2000]


def test_strings_that_are_not_unicode_can_be_told() -> None:
    """A lone surrogate in a name or a reason does not end the sharing."""
    assert clean("caf\u00e9 \ud800") == "caf\u00e9 \\ud800"
