"""A breaker shared by many processes, through a real Redis: each sentence of the design."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import pytest

from redisserver import Fleet, RedisServer, Worker, eventually, hired, needs_redis, passed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = needs_redis


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    """Three processes, for all tests here."""
    with hired(3) as workers:
        yield workers


@pytest.fixture
def fleet(server: RedisServer, workers: list[Worker], request: pytest.FixtureRequest) -> Iterator[Callable[..., Fleet]]:
    """Return a function that makes a fleet of three."""
    made: list[Fleet] = []

    def make(**settings: Any) -> Fleet:
        made.append(Fleet(workers, server.url, request.node.name, **settings))
        return made[-1]

    yield make
    for one in made:
        one.leave()


def test_enough_reports_open_every_process(fleet: Callable[..., Fleet]) -> None:
    """When `min_reporters` processes have opened within one cooldown, all do, the healthy ones too."""
    three = fleet(cooldown=30.0)
    first, second, third = three.workers
    first.run("attempt(fails)")
    second.run("attempt(fails)")
    three.until("open")
    assert third.ask("attempt()") == "refused"
    seen = third.ask("(breaker.snapshot().shared.state.value, breaker.snapshot().shared.reporters)")
    assert seen == ("open", 2)
    assert third.ask("breaker.snapshot().trips, breaker.snapshot().failures") == (1, 0)
    assert 29 < third.ask("breaker.snapshot().retry_after") <= 30


def test_the_processes_of_one_machine_count_once(fleet: Callable[..., Fleet]) -> None:
    """Two sick workers of one machine are one reporter, and so is one that restarts; the rest of the fleet goes on."""
    three = fleet(cooldown=30.0, machine="one")
    first, second, third = three.workers
    first.run("attempt(fails)")
    second.run("attempt(fails)")
    three.until("open", "open", "closed")
    eventually(lambda: third.ask("breaker.snapshot().shared.reporters") == 1, what="the reports arrived")
    three.enter(first)
    first.run("attempt(fails)")
    passed(0.2)
    assert third.ask("breaker.state.value, breaker.snapshot().shared.reporters") == ("closed", 1)


def test_processes_of_one_host_are_one_machine_unless_they_say_otherwise(server: RedisServer) -> None:
    """By default the identity of the host counts, in whichever process."""
    with hired(2) as workers:
        names = [worker.ask("RedisBreaker(url)._machine", url=server.url) for worker in workers]
    assert names[0] == names[1] != ""


def test_one_sick_process_does_not_stop_the_fleet(fleet: Callable[..., Fleet]) -> None:
    """With fewer reports only the process that failed stands open, however often it opens."""
    three = fleet(cooldown=0.4)
    sick, second, third = three.workers
    assert sick.ask("[attempt_until('failed', fails) for _ in range(3)]") == [True] * 3
    assert sick.ask("breaker.snapshot().trips") == 3
    eventually(lambda: third.ask("breaker.snapshot().shared.reporters") == 1, what="the report arrived")
    assert three.states()[1:] == ["closed", "closed"]
    assert third.ask("breaker.snapshot().shared.state.value, breaker.snapshot().shared.since") == ("closed", None)
    assert [second.ask("attempt()"), third.ask("attempt()")] == ["passed", "passed"]


def test_reports_further_apart_than_a_cooldown_do_not_count_together(fleet: Callable[..., Fleet]) -> None:
    """A report is good for one cooldown."""
    three = fleet(cooldown=0.3)
    first, second, third = three.workers
    first.run("attempt(fails)")
    eventually(lambda: third.ask("breaker.snapshot().shared.reporters") == 1, what="the report arrived")
    eventually(lambda: third.ask("breaker.snapshot().shared.reporters") == 0, what="the report is of the past")
    second.run("attempt(fails)")
    eventually(lambda: third.ask("breaker.snapshot().shared.reporters") == 1, what="the second report arrived")
    assert third.ask("breaker.state.value, breaker.snapshot().shared.state.value") == ("closed", "closed")


def test_one_trial_that_succeeds_closes_everyone(fleet: Callable[..., Fleet]) -> None:
    """After the cooldown one process makes the trial; the others are refused, and closed when it succeeded."""
    three = fleet()
    three.open()
    first, second, third = three.workers
    first.run("inside, leave = threading.Event(), threading.Event()")
    first.run("trial = threading.Thread(target=attempt_until, args=('passed', lambda: inside.set() or leave.wait(20)))")
    first.run("trial.start(); inside.wait(20)")
    assert [second.ask("attempt()"), third.ask("attempt()")] == ["refused", "refused"]
    eventually(lambda: third.ask("breaker.snapshot().shared.state.value") == "half_open")
    assert third.ask("breaker.state.value") == "open"
    first.run("leave.set(); trial.join()")
    three.until("closed")
    eventually(lambda: third.ask("[new for _, _, new in events]") == ["open", "half_open", "closed"])


def test_a_trial_that_fails_opens_everyone_for_another_cooldown(fleet: Callable[..., Fleet]) -> None:
    """Everyone is refused for the whole of the new cooldown."""
    three = fleet(cooldown=0.4)
    three.open()
    second, third = three.workers[1:]
    assert second.ask("attempt_until('failed', fails)")
    failed = time.monotonic()
    assert third.ask("attempt_until('passed')")
    assert time.monotonic() - failed > 0.3
    three.until("closed")


def test_the_cooldown_grows_up_to_the_longest(fleet: Callable[..., Fleet]) -> None:
    """With `max_cooldown` the fleet's cooldown doubles at each failed trial up to it, for everyone."""
    three = fleet(cooldown=0.2, max_cooldown=0.3)
    three.open()
    second, third = three.workers[1:]
    assert second.ask("attempt_until('failed', fails)")
    eventually(lambda: third.ask("breaker._core.state.cooldown") == 0.3, what="the longer cooldown")


def test_a_process_without_callers_does_not_block_the_trial(fleet: Callable[..., Fleet]) -> None:
    """One that was given the lease and has no further caller leaves it to one that has."""
    three = fleet()
    three.open()
    idle, busy = three.workers[:2]
    idle.run(ASK_ONCE)
    eventually(lambda: busy.ask("breaker.snapshot().shared.state.value") == "half_open", what="the lease is given")
    assert busy.ask("attempt_until('passed')")
    three.until("closed")


def test_a_process_that_seldom_calls_makes_the_trial_when_nobody_else_does(fleet: Callable[..., Fleet]) -> None:
    """A lease that lapsed is asked for again as long as somebody was rejected lately."""
    three = fleet()
    three.open()
    seldom, other = three.workers[:2]
    seldom.run(ASK_ONCE)
    eventually(lambda: other.ask("breaker.snapshot().shared.state.value") == "half_open", what="the lease is given")
    passed(1.0)
    assert seldom.ask("attempt_until('passed', within=90.0, pause=0.9)")
    three.until("closed")


def test_a_lease_that_nobody_begins_lapses_for_a_busy_process(fleet: Callable[..., Fleet]) -> None:
    """However often it is given to processes whose callers are gone."""
    three = fleet(cooldown=0.3)
    three.open()
    idle, lazy, busy = three.workers
    idle.run(ASK_ONCE)
    lazy.run(ASK_ONCE)
    eventually(lambda: busy.ask("breaker.snapshot().shared.state.value") == "half_open", what="the lease is given")
    assert busy.ask("attempt_until('passed')")
    three.until("closed")


def test_a_process_killed_in_its_trial_is_a_failed_trial(fleet: Callable[..., Fleet]) -> None:
    """The lease lasts the holder's `trial_timeout`; lost with its holder, everyone is open for another cooldown."""
    three = fleet(trial_timeout=0.5)
    with hired() as (lost,):
        three.enter(lost)
        three.open()
        assert lost.ask("until('open')")  # else its call would be no trial
        begin = time.monotonic()
        lost.send(f"{DIE_IN_TRIAL}attempt_until('passed', die)")
        lost.process.wait(20)
    survivor = three.workers[1]
    assert survivor.ask("attempt_until('passed')")
    assert time.monotonic() - begin > 0.5 + 0.5 - 0.1  # the lease, and the cooldown after it
    eventually(lambda: survivor.ask("[new for _, _, new in events]") == ["open", "half_open", "closed"])
    three.until("closed")


def test_several_trials_are_made_one_at_a_time_and_in_a_row(fleet: Callable[..., Fleet]) -> None:
    """With `trial_calls=2` two successes close, of whichever process; a failure between them begins anew."""
    three = fleet(trial_calls=2)
    three.open()
    first, second, third = three.workers
    assert first.ask("attempt_until('passed')")
    assert first.ask("breaker.state.value") == "half_open"
    assert third.ask("breaker.state.value") == "open"
    assert second.ask("attempt_until('failed', fails)")
    three.until("open")
    assert second.ask("attempt_until('passed')")
    first.run("inside, leave = threading.Event(), threading.Event()")
    first.run("trial = threading.Thread(target=attempt_until, args=('passed', lambda: inside.set() or leave.wait(20)))")
    assert first.run("trial.start(); result = inside.wait(20)")
    assert [second.ask("attempt()"), third.ask("attempt()"), first.ask("attempt()")] == ["refused"] * 3
    assert second.ask("breaker.state.value") == "half_open"
    first.run("leave.set(); trial.join()")
    three.until("closed")


def test_the_settings_of_who_completes_the_report_count(fleet: Callable[..., Fleet]) -> None:
    """Its cooldown and trial calls are the fleet's, whatever the others have."""
    three = fleet(cooldown=1.0)
    first, second, third = three.workers
    three.enter(second, cooldown=20.0, trial_calls=3)
    first.run("attempt(fails)")
    eventually(lambda: second.ask("breaker.snapshot().shared.reporters") == 1, what="the report arrived")
    second.run("attempt(fails)")
    three.until("open")
    eventually(lambda: all(10 < left <= 20 for left in three.all("breaker.snapshot().retry_after or 0")))
    third.run("breaker.reset(fleet=True)")
    three.until("closed")
    second.run("attempt(fails)")
    eventually(lambda: first.ask("breaker.snapshot().shared.reporters") == 1, what="the report arrived")
    first.run("attempt(fails)")
    three.until("open")
    eventually(lambda: all(left is not None and left <= 1 for left in three.all("breaker.snapshot().retry_after")))
    assert second.ask("attempt_until('passed')")  # one trial, as the first has it
    three.until("closed")


def test_a_local_reset_lasts_until_the_next_transition_of_the_fleet(fleet: Callable[..., Fleet]) -> None:
    """It closes this process alone, through re-reads, until a trial elsewhere fails."""
    three = fleet(cooldown=1.5)
    three.open()
    first, second, _ = three.workers
    first.run("breaker.reset()")
    assert first.ask("attempt()") == "passed"
    assert second.ask("attempt_until('failed', fails)")
    three.until("open")
    eventually(lambda: first.ask("[new for _, _, new in events][-2:]") == ["closed", "open"])


def test_a_local_isolation_outlasts_all_transitions(fleet: Callable[..., Fleet]) -> None:
    """It stands when the fleet opens, closes, is isolated and reset."""
    three = fleet()
    first, second, third = three.workers
    third.run("breaker.isolate('here alone')")
    first.run("attempt(fails)")
    second.run("attempt(fails)")
    three.until("open", "open", "isolated")
    assert first.ask("attempt_until('passed')")
    three.until("closed", "closed", "isolated")
    first.run("breaker.isolate('everywhere', fleet=True)")
    three.until("isolated")
    second.run("breaker.reset(fleet=True)")
    three.until("closed", "closed", "isolated")
    assert third.ask("breaker.snapshot().reason") == "here alone"
    assert third.ask("[new for _, _, new in events]") == ["isolated"]


def test_by_hand_for_the_whole_fleet(fleet: Callable[..., Fleet]) -> None:
    """`fleet=True` acts here at once and reaches the others; isolating again changes the reason."""
    three = fleet()
    first, second, third = three.workers
    assert first.run("breaker.isolate('maintenance', fleet=True); result = breaker.state.value") == "isolated"
    three.until("isolated")
    second.run("breaker.isolate('still maintenance', fleet=True)")
    eventually(lambda: third.ask("breaker.snapshot().reason") == "still maintenance")
    with hired() as (late,):
        three.enter(late)
        assert late.ask("attempt(), breaker.state.value") == ("refused", "isolated")
    assert third.run("breaker.reset('done', fleet=True); result = breaker.state.value") == "closed"
    three.until("closed")


def test_a_reset_of_the_fleet_forgets_the_reports(fleet: Callable[..., Fleet]) -> None:
    """A report of before does not count with one of after."""
    three = fleet(cooldown=30.0)
    first, second, third = three.workers
    first.run("attempt(fails)")
    eventually(lambda: third.ask("breaker.snapshot().shared.reporters") == 1, what="the report arrived")
    third.run("breaker.reset(fleet=True)")
    three.until("closed")
    second.run("attempt(fails)")
    eventually(lambda: third.ask("breaker.snapshot().shared.reporters") == 1, what="the second report arrived")
    assert three.states() == ["closed", "open", "closed"]


def test_a_trial_that_says_nothing_leaves_the_lease_to_others(fleet: Callable[..., Fleet]) -> None:
    """Cancelled or ignored, it is no verdict: the next caller of the fleet makes the trial."""
    three = fleet(ignore=KeyError)
    three.open()
    first, second, _ = three.workers
    assert first.run(IGNORED)
    assert second.ask("attempt_until('passed')")
    three.until("closed")


def test_who_comes_later_finds_the_fleet_open(fleet: Callable[..., Fleet]) -> None:
    """A process that starts while the fleet is open is open before it says that it is connected."""
    three = fleet(cooldown=30.0)
    three.open()
    with hired() as (late,):
        three.enter(late)
        assert late.ask("attempt(), breaker.state.value") == ("refused", "open")


def test_a_refused_caller_learns_when_the_next_trial_may_be(fleet: Callable[..., Fleet]) -> None:
    """`retry_after` is within the cooldown, and 0 while the lease is asked for."""
    three = fleet(cooldown=0.3)
    three.open()
    refusals = three.workers[2].run(REFUSALS)
    assert all(0 <= left <= 0.3 for left in refusals)
    assert refusals[-1] == 0


def test_a_cooldown_of_nothing_is_shared_as_well(fleet: Callable[..., Fleet]) -> None:
    """With `cooldown=0` the others open, and whoever calls next makes the trial."""
    three = fleet(cooldown=0.0, min_reporters=1)
    three.workers[0].run("attempt(fails)")
    for other in three.workers[1:]:
        opened = functools.partial(other.ask, "'open' in [new for _, _, new in events]")
        eventually(opened, what="the others open, too")
    assert three.workers[2].ask("attempt_until('passed')")
    three.until("closed")


def test_old_reports_count_again_where_an_open_was_left_by_hand(fleet: Callable[..., Fleet]) -> None:
    """Everyone was reset one by one, so nobody made the trial; enough new reports open everyone all the same."""
    three = fleet(cooldown=0.3)
    three.open()
    three.all("breaker.reset()")
    eventually(lambda: three.workers[2].ask("breaker.snapshot().shared.reporters") == 0, what="the cooldown is over")
    for sick in three.workers[:2]:
        sick.run("attempt(fails)")
    eventually(lambda: three.workers[2].ask("breaker.state.value") == "open", what="the third opens, too")


DIE_IN_TRIAL = """
def die():
    while not breaker._core.link.lease.begun:  # so that it is the trial that is lost, and no lease that lapses
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

"""
ASK_ONCE = """
end = time.monotonic() + 20
while breaker.snapshot().retry_after and time.monotonic() < end:
    time.sleep(0.001)
breaker._core.link.wish = time.monotonic()  # as a rejected call does; a slow one might meet the lease all the same
breaker._core.link.contact.signal.wake()
"""
IGNORED = """
def ignored():
    raise KeyError("none of ours")

end = time.monotonic() + 20
result = False
while not result and time.monotonic() < end:
    try:
        breaker.call(ignored)
    except CircuitOpenError:
        time.sleep(0.005)
    except KeyError:
        result = breaker.state.value == "half_open"
"""
REFUSALS = """
result, end = [1], time.monotonic() + 20
while result[-1] and time.monotonic() < end:
    try:
        breaker.call(int)
    except CircuitOpenError as error:
        result.append(error.retry_after)
result = result[1:]
"""
