"""Explores every interleaving of a few callers, an operator, the fleet and the clock around one breaker.

What is explored is what core.py does: read the state, compute the next one by `Machine.step`, and put it in if nobody
was faster, else do it again. A world is all of that at one time. From each world, every actor that has something to
do takes its next step; a world that was seen before is not entered again.
"""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.states import TRANSITIONS, Acquire, Change, Event, Settle, State, Trial, Verdict
from booking_resilience.events import BreakerState

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
_MOVES = {(old, new) for (old, _), new in TRANSITIONS.items()}
_TRIALS = State._fields.index("trials")
TICK = 10.0  # seconds: a cooldown, and half of a trial's timeout


@cache
def trial_of(caller: int, started: float) -> Trial:
    """Return the trial of a caller that asked then."""
    return Trial(started)


class Actor(NamedTuple):
    """Somebody who makes events.

    Attributes:
        event: The event under way; None between two.
        read: The state that was read for it; None before that.
        fresh: Whether that still is the state of the breaker.
        now: The time that it was begun at.
        epoch: The epoch of the permit held; -1 for none.
        trial: The trial that the permit may be.
        left: Events that may still be made.
    """

    left: int
    event: Event | None = None
    read: State | None = None
    fresh: bool = False
    now: float = 0.0
    epoch: int = -1
    trial: Trial | None = None


class World(NamedTuple):
    """All there is at one time; `told` is the state that the listeners know of."""

    state: State
    told: BreakerState
    now: float
    ticks: int
    callers: tuple[Actor, ...]
    operator: Actor


@dataclass
class Explorer:
    """Enters every world that can be reached.

    Attributes:
        machine: The settings.
        callers: How many callers there are, of one call each.
        commands: What the operator or the fleet may do, once: makers of events from the time and the epoch.
        ticks: How often the clock may jump by `TICK`.
    """

    machine: Machine
    callers: int = 3
    commands: tuple[Callable[[float, int], Event], ...] = ()
    ticks: int = 1
    worlds: set[tuple[object, ...]] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)

    def run(self, begin: State) -> int:
        """Enter every world from the state on; return how many there are."""
        first = World(begin, begin.kind, 0.0, self.ticks, (Actor(1),) * self.callers, Actor(1))
        self.worlds, todo = {key_of(first)}, [first]
        gc.disable()  # it would look through all the worlds again and again
        while todo:
            world = todo.pop()
            after = self.steps(world)
            if all((actor.left, actor.event, actor.epoch) == (0, None, -1) for actor in world.callers):
                self.check_end(world)
            for new in after:
                key = key_of(new)
                if key not in self.worlds:
                    self.worlds.add(key)
                    todo.append(new)
        gc.enable()
        return len(self.worlds)

    def steps(self, world: World) -> list[World]:
        """Return every world that is one step away."""
        after = []
        if world.ticks:
            after.append(world._replace(now=world.now + TICK, ticks=world.ticks - 1))
        for number, actor in enumerate((*world.callers, world.operator)):
            if actor.event is None:
                begun = [one._replace(read=world.state, fresh=True) for one in self.begun(world, number, actor)]
                after += [put(world, number, one) for one in begun]
            elif actor.read is None:
                after.append(put(world, number, actor._replace(read=world.state, fresh=True)))
            else:
                after.append(self.swapped(world, number, actor))
        return after

    def begun(self, world: World, number: int, actor: Actor) -> list[Actor]:
        """Return what the actor may begin, each of which the clock may find anywhere."""
        now, held = world.now, actor.epoch >= 0
        if number == len(world.callers):
            commands = [make(now, world.state.epoch) for make in self.commands]
            return [actor._replace(event=event, now=now, left=actor.left - 1) for event in commands if actor.left]
        if held:
            ends = [Settle(actor.epoch, actor.trial, verdict) for verdict in Verdict]
            return [actor._replace(event=event, now=now) for event in ends]
        if actor.left:
            trial = trial_of(number, now)
            return [actor._replace(event=Acquire(trial), trial=trial, now=now, left=actor.left - 1)]
        return []

    def swapped(self, world: World, number: int, actor: Actor) -> World:
        """Take the second step of an event: put in what was computed, or begin again."""
        assert actor.event is not None
        assert actor.read is not None
        change = self.machine.step(actor.read, actor.event, actor.now)
        check_change(self.machine, change)
        if change.after is not change.before:
            if not actor.fresh:
                return put(world, number, actor._replace(read=None))
            world = self.replaced(world, change)
        self.seen[type(actor.event).__name__] += 1
        self.seen[change.counts or "counted"] += 1
        admitted = isinstance(actor.event, Acquire) and change.counts is None
        done = actor._replace(event=None, read=None, fresh=False, now=0.0, epoch=-1)
        done = done._replace(epoch=change.after.epoch) if admitted else done._replace(trial=None)
        return put(world, number, done)

    def replaced(self, world: World, change: Change) -> World:
        """Put the new state in: what others have read is of the past."""
        told = world.told
        for old, new, _ in change.told:
            assert old is told, "the listeners see a chain"
            told = new
        assert told is change.after.kind, "the listeners know of every transition"
        callers = tuple(other._replace(fresh=False) for other in world.callers)
        operator = world.operator._replace(fresh=False)
        return world._replace(state=change.after, told=told, callers=callers, operator=operator)

    def check_end(self, world: World) -> None:
        """Every call has ended: every permit is back, and time and a success lead out of any trouble."""
        assert world.state.trials == (), "every permit returns"
        state, now = world.state, world.now + 1e6
        for _ in range(self.machine.trial_calls):
            if state.kind in (CLOSED, ISOLATED):
                break
            trial = Trial(now)
            state = self.machine.step(state, Acquire(trial), now).after
            state = self.machine.step(state, Settle(state.epoch, trial, Verdict.SUCCESS), now).after
        assert state.kind in (CLOSED, ISOLATED), "there is a way out"


def key_of(world: World) -> tuple[object, ...]:
    """Return what is the same of worlds that differ only in who is who of the callers.

    Of a trial it only matters to its own caller whether, and where, it is among those under way.
    """

    def place_of(actor: Actor, state: State) -> int:
        return state.trials.index(actor.trial) if state.trials and actor.trial in state.trials else -1

    def seen_by(actor: Actor, state: State | None) -> tuple[object, ...]:
        if state is None:
            return ()
        started = tuple([trial.started for trial in state.trials]) if state.trials else ()
        return (*state[:_TRIALS], started, *state[_TRIALS + 1 :], place_of(actor, state))

    def key(actor: Actor) -> tuple[object, ...]:
        event = getattr(actor.event, "verdict", actor.event)
        event = Acquire if isinstance(event, Acquire) else event
        read = "as it is" if actor.fresh else seen_by(actor, actor.read)
        return actor.left, event, type(event), place_of(actor, world.state), read, actor.now, actor.epoch

    callers = tuple(sorted([key(actor) for actor in world.callers], key=hash))
    state = seen_by(world.operator, world.state)
    return state, world.told, world.now, world.ticks, callers, key(world.operator)


def put(world: World, number: int, actor: Actor) -> World:
    """Return the world with an actor as it is now."""
    if number == len(world.callers):
        return world._replace(operator=actor)
    callers = list(world.callers)
    callers[number] = actor
    return world._replace(callers=tuple(callers))


def check_change(machine: Machine, change: Change) -> None:
    """The invariants of every single change, in one place."""
    before, after, event = change.before, change.after, change.event
    assert all((old, new) in _MOVES for old, new, _ in change.told), "only moves of the table"
    assert after.epoch >= before.epoch + len(change.told), "every transition begins an epoch"
    assert len(after.trials) <= machine.trial_calls, "at most so many trials are out"
    assert not after.trials or after.kind is HALF_OPEN, "trials are out while it's half-open"
    assert machine.is_calm(after) is (after.kind is CLOSED and after.consecutive == 0)
    if change.counts == "refused":
        assert isinstance(event, Acquire)
        assert event.trial not in after.trials
        assert after is before or change.told, "a refusal makes no new state"
    if not isinstance(event, Settle):
        return
    is_lost = any(reason == "a trial was lost" for _, _, reason in change.told)
    if event.trial not in before.trials and event.epoch != before.epoch:
        assert after is before or is_lost, "stale results change nothing"
    if event.trial in before.trials:
        assert event.trial not in after.trials, "a settled permit is back"
    counted = not is_lost and event.epoch == before.epoch and before.kind in (CLOSED, HALF_OPEN)
    if counted and event.verdict is Verdict.FAILURE and (before.kind is CLOSED or event.trial in before.trials):
        assert after.failures == before.failures + 1, "no failure is lost"
    if counted and event.verdict is Verdict.SUCCESS and event.trial in before.trials:
        assert after.successes == before.successes + 1 or after.kind is CLOSED, "no success is lost"
