"""A shared breaker whose Redis is killed, frozen, emptied, slow or elsewhere."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.breaker.shared import RedisBreaker
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerState
from redisserver import Fleet, RedisServer, Relay, eventually, free_port, hired, needs_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
pytestmark = needs_redis


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of the test's own, to be done to what it likes."""
    server = RedisServer()
    yield server
    server.thaw() if server._process else None
    server.kill()


@pytest.fixture
def share() -> Iterator[Callable[..., CircuitBreaker]]:
    """Return a function that makes a shared breaker in this process, and waits until it is connected."""
    owners: list[RedisBreaker] = []

    def make(url: str, *, wait: bool = True, min_reporters: int = 1, **settings: Any) -> CircuitBreaker:
        owners.append(RedisBreaker(url, min_reporters=min_reporters))
        settings = {"failure_threshold": 1, "cooldown": 0.2, **settings}
        breaker = CircuitBreaker("b", shared=owners[-1], **settings)
        if wait:
            connected(breaker)
        return breaker

    yield make
    for owner in owners:
        owner.close()


def connected(breaker: CircuitBreaker, value: bool = True) -> float:
    """Wait until the breaker is connected, or no longer so; return the seconds that took."""
    return eventually(lambda: facts(breaker).connected is value, what=f"connected is {value}")


def facts(breaker: CircuitBreaker) -> Any:
    """Return what is known of the fleet."""
    shared = breaker.snapshot().shared
    assert shared is not None
    return shared


def fails() -> None:
    """Fail."""
    raise OSError("down")


def attempt(breaker: CircuitBreaker, fn: Callable[[], object] = int) -> str:
    """Call through the breaker and return how it ended."""
    try:
        breaker.call(fn)
    except CircuitOpenError:
        return "refused"
    except OSError:
        return "failed"
    return "passed"


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return the level and text of what was logged of a Redis."""
    return [(r.levelno, r.getMessage()) for r in caplog.records if hasattr(r, "redis")]


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_redis_each_process_goes_by_its_own_machine(
    server: RedisServer, share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Killed or frozen, no call waits, the local breaker protects; one line each way, and back within 2 s."""
    caplog.set_level(logging.INFO, "booking_resilience.breaker")
    one, two = share(server.url), share(server.url)
    server.kill() if how == "killed" else server.freeze()
    slowest = 0.0

    def timed(breaker: CircuitBreaker, fn: Callable[[], object] = int) -> str:
        nonlocal slowest
        begin = time.perf_counter()
        said = attempt(breaker, fn)
        slowest = max(slowest, time.perf_counter() - begin)
        return said

    end = time.monotonic() + 20
    while facts(one).connected and time.monotonic() < end:
        assert timed(one) == "passed"
    assert timed(one, fails) == "failed"
    assert timed(one) == "refused"
    assert timed(two) == "passed"
    eventually(lambda: timed(one) == "passed", what="the cooldown, and a trial of its own")
    assert slowest < 1.5  # a call that waited for Redis would take 2 s
    server.start() if how == "killed" else server.thaw()
    assert max(connected(one), connected(two)) < 2.0
    eventually(lambda: len(lines(caplog)) > 1, what="the line that tells of its return")
    logged = lines(caplog)
    assert [level for level, _ in logged] == [logging.WARNING, logging.INFO]
    assert all(f"redis://127.0.0.1:{server.port}/0" in text for _, text in logged)


def test_a_redis_that_is_not_there_is_one_warning(
    share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is tried, and for however many breakers; the calls are the local breaker's."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    breakers = [share(url, wait=False) for _ in range(3)]
    eventually(lambda: lines(caplog), what="the warning")
    assert attempt(breakers[0], fails) == "failed"
    assert [attempt(breaker) for breaker in breakers] == ["refused", "passed", "passed"]
    begin = time.monotonic()
    eventually(lambda: time.monotonic() - begin > 1.2)
    assert [level for level, _ in lines(caplog)] == [logging.WARNING]


def test_a_redis_that_refuses_what_it_is_told_is_one_warning(
    server: RedisServer, share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture
) -> None:
    """A replica, a full one or one with a broken disk lets itself be read; that does not make it one that is back."""
    caplog.set_level(logging.INFO, "booking_resilience.breaker")
    breaker = share(server.url, cooldown=60.0)
    client = server.client()
    client.config_set("min-replicas-to-write", 1)
    assert attempt(breaker, fails) == "failed"
    eventually(lambda: lines(caplog), what="the warning")
    before = client.info("stats")["total_connections_received"]
    eventually(lambda: client.info("stats")["total_connections_received"] >= before + 6, what="three more attempts")
    assert [level for level, _ in lines(caplog)] == [logging.WARNING]
    assert not facts(breaker).connected
    client.config_set("min-replicas-to-write", 0)
    connected(breaker)
    assert facts(breaker).state is OPEN
    eventually(lambda: [level for level, _ in lines(caplog)] == [logging.WARNING, logging.INFO])
    client.close()


def test_reports_that_are_still_valid_are_delivered_when_redis_is_back(
    server: RedisServer, share: Callable[..., CircuitBreaker]
) -> None:
    """One of the two needed was made while Redis was away; what is older than a cooldown is dropped."""
    with hired() as (other,):
        fleet = Fleet([other], server.url, "b", cooldown=30.0)
        here = share(server.url, min_reporters=2, cooldown=30.0)
        old = CircuitBreaker(
            "old", failure_threshold=1, cooldown=0.1, shared=here._shared.owner if here._shared else None
        )
        server.kill()
        connected(here, False)
        attempt(here, fails)
        attempt(old, fails)
        begin = time.monotonic()
        eventually(lambda: time.monotonic() - begin > 0.2)
        server.start()
        connected(here)
        eventually(lambda: facts(here).reporters == 1, what="the report arrived")
        assert facts(old).reporters == 0
        assert other.ask("attempt(fails)") == "failed"
        fleet.until("open")
        eventually(lambda: facts(here).state is OPEN)


def test_a_report_of_before_a_reset_is_not_delivered(server: RedisServer, share: Callable[..., CircuitBreaker]) -> None:
    """A breaker that was closed again before Redis came back has nothing to report."""
    breaker = share(server.url, cooldown=30.0)
    server.kill()
    connected(breaker, False)
    attempt(breaker, fails)
    breaker.reset()
    server.start()
    connected(breaker)
    eventually(lambda: facts(breaker).reporters == 0)
    assert breaker.state is CLOSED
    assert server.client().keys("*") == []


def test_an_emptied_redis_changes_nobody_and_nobody_writes_the_old_state_back(
    server: RedisServer, share: Callable[..., CircuitBreaker]
) -> None:
    """Everyone keeps his state, and goes on by his own machine."""
    breaker = share(server.url, cooldown=2.5)
    isolated = CircuitBreaker("isolated", shared=breaker._shared.owner if breaker._shared else None)
    connected(isolated)
    attempt(breaker, fails)
    isolated.isolate("maintenance", fleet=True)
    eventually(lambda: facts(breaker).state is OPEN and facts(isolated).state is ISOLATED)
    server.kill()
    server.start()
    begin = time.monotonic()
    eventually(lambda: facts(breaker).connected and facts(breaker).state is CLOSED, what="the empty Redis is read")
    eventually(lambda: time.monotonic() - begin > 1.2)  # as long as it takes to read it again
    assert server.client().keys("*") == []
    assert (breaker.state, isolated.state) == (OPEN, ISOLATED)
    eventually(lambda: attempt(breaker) == "passed", what="a trial of its own")
    assert breaker.state is CLOSED


def test_an_emptied_redis_on_a_connection_that_holds_is_the_same(
    server: RedisServer, share: Callable[..., CircuitBreaker]
) -> None:
    """FLUSHALL and SCRIPT FLUSH change nobody; what happens next is a fact again."""
    one, two = share(server.url, cooldown=30.0), share(server.url, cooldown=30.0)
    attempt(one, fails)
    eventually(lambda: two.state is OPEN)
    server.client().flushall()
    server.client().script_flush()
    eventually(lambda: facts(one).state is CLOSED and facts(two).state is CLOSED, what="the empty Redis is read")
    assert (one.state, two.state) == (OPEN, OPEN)
    one.reset(fleet=True)
    eventually(lambda: two.state is CLOSED, what="the reset arrived")


def test_a_trial_made_while_redis_was_away_closes_the_fleet(
    server: RedisServer, share: Callable[..., CircuitBreaker]
) -> None:
    """What a process found out by itself is told when Redis is back, which still has the old state."""
    one, two = share(server.url, cooldown=1.0), share(server.url, cooldown=1.0)
    attempt(one, fails)
    eventually(lambda: two.state is OPEN)
    server.freeze()
    connected(one, False)
    eventually(lambda: attempt(one) == "passed", what="a trial of its own")
    assert two.state is OPEN
    server.thaw()
    eventually(lambda: two.state is CLOSED, what="the success arrived")
    assert facts(two).state is CLOSED


def test_the_agents_find_the_redis_that_took_over(share: Callable[..., CircuitBreaker]) -> None:
    """After a failover the same address leads to another server."""
    old, new = RedisServer(), RedisServer()
    relay = Relay(old.port)
    try:
        one, two = share(relay.url, cooldown=30.0), share(relay.url, cooldown=30.0)
        old.kill()
        relay.cut()
        connected(one, False)
        relay.target = new.port
        assert connected(one) < 2.0
        attempt(one, fails)
        eventually(lambda: two.state is OPEN, what="the report went through the new server")
        assert new.client().keys("*") != []
    finally:
        relay.close()
        old.kill()
        new.kill()


def test_a_redis_slow_by_half_a_second_is_slow_and_not_gone(
    server: RedisServer, share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture
) -> None:
    """The fleet opens and closes, later; no call waits for it."""
    relay = Relay(server.port)
    try:
        with hired() as (other,):
            fleet = Fleet([other], server.url, "b", min_reporters=1, cooldown=1.0)
            here = share(relay.url, cooldown=1.0)
            relay.delay = 0.5
            begin = time.perf_counter()
            assert attempt(here, fails) == "failed"
            assert attempt(here) == "refused"
            assert time.perf_counter() - begin < 0.4
            fleet.until("open")
            eventually(lambda: attempt(here) == "passed" or here.state is CLOSED, what="the trial")
            fleet.until("closed")
            other.run("attempt(fails)")
            eventually(lambda: here.state is OPEN, what="the news arrived")
            assert facts(here).connected
            assert lines(caplog) == []
    finally:
        relay.delay = 0.0
        relay.close()


def test_clocks_apart_by_an_hour_do_not_matter(server: RedisServer) -> None:
    """Neither the wall clocks nor the monotonic ones of the processes have to agree: that of Redis counts."""
    with hired(2) as workers:
        workers[1].run(AN_HOUR_AHEAD)
        fleet = Fleet(workers, server.url, "b", cooldown=1.0)
        fleet.open()
        assert all(0 < left <= 1 for left in fleet.all("breaker.snapshot().retry_after"))
        times = fleet.all("breaker.snapshot().shared.since")
        assert times[0] == times[1]
        assert workers[1].ask("attempt_until('passed')")
        fleet.until("closed")


def test_what_was_asked_for_by_hand_is_told_late_unless_it_is_overtaken(
    server: RedisServer, share: Callable[..., CircuitBreaker]
) -> None:
    """Cut off for more than 2 s: an isolation arrives all the same, but not after a later word by hand."""
    relay = Relay(server.port)
    try:
        near, far = share(server.url), share(relay.url)
        assert near._shared is not None
        assert far._shared is not None
        near_other = CircuitBreaker("other", shared=near._shared.owner)
        far_other = CircuitBreaker("other", shared=far._shared.owner)
        connected(near_other)
        connected(far_other)
        relay.target = free_port()
        relay.cut()
        connected(far, False)
        far.isolate("of long ago", fleet=True)
        far_other.isolate("still in force", fleet=True)
        begin = time.monotonic()
        eventually(lambda: time.monotonic() - begin > 2.2)
        near.reset("by who is there", fleet=True)
        eventually(lambda: facts(near).since is not None, what="the reset was told")
        relay.target = server.port
        eventually(lambda: near_other.state is ISOLATED, what="the late isolation")
        eventually(lambda: far.state is CLOSED, what="the reset arrived")
        assert near.state is CLOSED
        assert near_other.snapshot().reason == "still in force"
    finally:
        relay.close()


def test_passwords_never_reach_the_log(share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture) -> None:
    """Neither a wrong one nor the right one, of a server that then goes away."""
    caplog.set_level(logging.DEBUG)
    server = RedisServer("--requirepass", "opensesame")
    try:
        share(f"redis://:wrongword@127.0.0.1:{server.port}/0?client_name=hidden", wait=False)
        eventually(lambda: lines(caplog), what="the warning")
        right = share(f"redis://default:opensesame@127.0.0.1:{server.port}/0")
        owner = right._shared.owner if right._shared else None
        server.kill()
        connected(right, False)
        eventually(lambda: len(lines(caplog)) == 2, what="the second warning")
        text = caplog.text + repr(owner)
        assert not [word for word in ("wrongword", "opensesame", "hidden") if word in text]
    finally:
        server.kill()


AN_HOUR_AHEAD = """
import booking_resilience.clock
wall, steady = time.time, time.monotonic
time.time, time.monotonic = lambda: wall() + 3600, lambda: steady() + 3600
booking_resilience.clock.monotonic = time.monotonic
"""
