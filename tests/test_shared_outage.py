"""A shared breaker whose Redis is killed, frozen, emptied, slow or elsewhere."""

from __future__ import annotations

import logging
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.breaker.shared import RedisBreaker
from booking_resilience.breaker.shared_link import Link
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerState
from redisserver import Fleet, RedisServer, Relay, eventually, free_port, hired, needs_redis, passed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


def owner_of(breaker: CircuitBreaker) -> RedisBreaker:
    """Return what the breaker is shared through."""
    link = breaker._core.link
    assert isinstance(link, Link)
    assert isinstance(link.owner, RedisBreaker)
    return link.owner


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
    """Killed or frozen, no call waits, the local breaker protects; one line each way, and it comes back."""
    caplog.set_level(logging.INFO, "booking_resilience.breaker")
    one, two = share(server.url), share(server.url)
    server.kill() if how == "killed" else server.freeze()
    took: list[float] = []

    def timed(breaker: CircuitBreaker, fn: Callable[[], object] = int) -> str:
        begin = time.perf_counter()
        said = attempt(breaker, fn)
        took.append(time.perf_counter() - begin)
        return said

    end = time.monotonic() + 20
    while facts(one).connected and time.monotonic() < end:
        assert timed(one) == "passed"
    assert timed(one, fails) == "failed"
    assert timed(one) == "refused"
    assert timed(two) == "passed"
    eventually(lambda: timed(one) == "passed", what="the cooldown, and a trial of its own")
    assert statistics.median(took) < 1.5  # calls that waited for Redis would take 2 s each
    server.start() if how == "killed" else server.thaw()
    connected(one)
    connected(two)
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
    passed(1.2)
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
        old = CircuitBreaker("old", failure_threshold=1, cooldown=0.1, shared=owner_of(here))
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
    isolated = CircuitBreaker("isolated", shared=owner_of(breaker))
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
    server: RedisServer, share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture
) -> None:
    """FLUSHALL and SCRIPT FLUSH change nobody, and nothing is logged; what happens next is a fact again."""
    one, two = share(server.url, cooldown=30.0), share(server.url, cooldown=30.0)
    attempt(one, fails)
    eventually(lambda: two.state is OPEN)
    server.client().flushall()
    server.client().script_flush()
    eventually(lambda: facts(one).state is CLOSED and facts(two).state is CLOSED, what="the empty Redis is read")
    assert (one.state, two.state) == (OPEN, OPEN)
    one.reset(fleet=True)
    eventually(lambda: two.state is CLOSED, what="the reset arrived")
    assert lines(caplog) == []


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
        connected(one)
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
            assert attempt(here, fails) == "failed"
            took = []
            for _ in range(5):
                begin = time.perf_counter()
                assert attempt(here) == "refused"
                took.append(time.perf_counter() - begin)
            assert min(took) < 0.4
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
        near_other = CircuitBreaker("other", shared=owner_of(near))
        far_other = CircuitBreaker("other", shared=owner_of(far))
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
        owner = owner_of(right)
        server.kill()
        connected(right, False)
        eventually(lambda: len(lines(caplog)) == 2, what="the second warning")
        text = caplog.text + repr(owner)
        assert not [word for word in ("wrongword", "opensesame", "hidden") if word in text]
    finally:
        server.kill()


def test_a_user_without_the_right_to_channels_is_one_warning(
    server: RedisServer, share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture
) -> None:
    """Changes are read once a second then, and all the rest is as ever."""
    caplog.set_level(logging.INFO, "booking_resilience.breaker")
    server.client().execute_command("ACL", "SETUSER", "mute", "reset", "on", ">word", "~*", "resetchannels", "+@all")
    one, two = (share(f"redis://mute:word@127.0.0.1:{server.port}/{empty}") for empty in ("", "0"))
    attempt(one, fails)
    eventually(lambda: two.state is OPEN, what="it was read")
    eventually(lambda: attempt(two) == "passed")
    eventually(lambda: one.state is CLOSED)
    passed(2.2)  # in which it is tried again
    logged = lines(caplog)
    assert [level for level, _ in logged] == [logging.WARNING] * 2  # one for each of the two ways to the Redis
    assert all("rejects a channel" in text for _, text in logged)
    assert facts(one).connected


@pytest.mark.parametrize("how", ["replica", "full", "alone"])
def test_a_redis_that_takes_no_writes_is_one_warning_and_not_connected(
    server: RedisServer, share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Even for a process that has nothing to tell, and however many reports are made in vain."""
    caplog.set_level(logging.INFO, "booking_resilience.breaker")
    breaker = share(server.url, cooldown=0.05)
    client = server.client()
    if how == "replica":
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    elif how == "full":
        client.config_set("maxmemory", 1)
    else:
        client.config_set("min-replicas-to-write", 1)
    connected(breaker, False)
    eventually(lambda: lines(caplog), what="the warning")
    before = client.info("stats")["total_connections_received"]
    for count in range(1, 4):
        eventually(lambda: attempt(breaker, fails) == "failed", what="a report that cannot be told")
        tried = before + 2 * count
        eventually(lambda tried=tried: client.info("stats")["total_connections_received"] >= tried)
        assert not facts(breaker).connected
    assert [level for level, _ in lines(caplog)] == [logging.WARNING]
    if how == "replica":
        client.execute_command("REPLICAOF", "NO", "ONE")
    elif how == "full":
        client.config_set("maxmemory", 0)
    else:
        client.config_set("min-replicas-to-write", 0)
    connected(breaker)
    eventually(lambda: [level for level, _ in lines(caplog)] == [logging.WARNING, logging.INFO])


def test_a_connection_that_listens_and_hears_nothing_more_is_replaced(
    server: RedisServer, share: Callable[..., CircuitBreaker]
) -> None:
    """It holds, but no sign of life comes through it any more: within some seconds there is another."""
    relay = Relay(server.port)
    try:
        near, far = share(server.url, cooldown=60.0), share(relay.url, cooldown=60.0)
        eventually(lambda: relay.listening, what="it listens")
        relay.deaf |= relay.listening
        eventually(lambda: relay.listening - relay.deaf, what="a new connection listens")
        near.isolate("to be heard", fleet=True)
        eventually(lambda: far.state is ISOLATED)
        assert facts(far).connected
    finally:
        relay.close()


@pytest.mark.parametrize("by_hand", [True, False])
def test_an_older_state_of_the_fleet_is_not_followed(
    server: RedisServer, share: Callable[..., CircuitBreaker], by_hand: bool
) -> None:
    """A dump, or a replica that was behind, opens no healthy fleet and undoes no operator's reset."""
    one, two = share(server.url, cooldown=0.3), share(server.url.replace("127.0.0.1", "localhost"), cooldown=0.3)
    client, key = server.client(), owner_of(one).key("b", "fleet")
    attempt(one, fails)
    eventually(lambda: two.state is OPEN)
    dump = client.dump(key)
    assert isinstance(dump, bytes)
    if by_hand:
        one.reset("by an operator", fleet=True)
    else:
        eventually(lambda: attempt(one) == "passed")
    eventually(lambda: (one.state, two.state, facts(two).state) == (CLOSED, CLOSED, CLOSED))
    epochs = one.snapshot().epoch, two.snapshot().epoch
    client.restore(key, 0, dump, replace=True)
    eventually(lambda: client.hget(key, "state") == b"closed", what="those who know better say so")
    eventually(lambda: facts(one).state is CLOSED and facts(two).state is CLOSED)
    assert (one.state, two.state) == (CLOSED, CLOSED)
    assert (one.snapshot().epoch, two.snapshot().epoch) == epochs
    attempt(one, fails)
    eventually(lambda: two.state is OPEN, what="what happens next counts")


def test_a_clock_of_redis_that_is_set_back_stops_nothing(
    server: RedisServer, share: Callable[..., CircuitBreaker]
) -> None:
    """All that Redis had noted lies in the future then; the fleet opens and closes as ever."""
    one, two = share(server.url, cooldown=0.3), share(server.url, cooldown=0.3)
    client, key = server.client(), owner_of(one).key("b", "fleet")

    def set_back() -> None:
        ahead = int(time.time() * 1000) + 3_600_000
        for field in ("since", "turned", "opened", "commanded"):
            client.hset(key, field, ahead)

    one.reset(fleet=True)
    eventually(lambda: facts(two).since is not None)
    set_back()
    attempt(one, fails)
    eventually(lambda: two.state is OPEN, what="the report counts")
    set_back()
    eventually(lambda: attempt(two) == "passed", what="the cooldown is over")
    eventually(lambda: one.state is CLOSED)


def test_a_recovery_that_is_under_way_does_not_close_what_opened_since(
    server: RedisServer, share: Callable[..., CircuitBreaker]
) -> None:
    """With a slow Redis a breaker hears of the trial's success when it has failed again; that is the newer thing."""
    relay = Relay(server.port)
    try:
        near, far = share(server.url, cooldown=0.5), share(relay.url, cooldown=0.5, min_reporters=9)
        attempt(near, fails)
        eventually(lambda: far.state is OPEN)
        far.reset()
        epoch = far.snapshot().epoch
        relay.delay = 0.4
        eventually(lambda: attempt(near) == "passed")
        assert attempt(far, fails) == "failed"
        eventually(lambda: facts(far).state is CLOSED, what="it heard of the recovery")
        assert (far.state, far.snapshot().epoch) == (OPEN, epoch + 1)
    finally:
        relay.delay = 0.0
        relay.close()


def test_a_breaker_whose_keys_are_elsewhere_goes_alone_by_itself(
    share: Callable[..., CircuitBreaker], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """One foreign slot of a cluster is that breaker's matter: one warning, and the others stay shared."""
    caplog.set_level(logging.INFO, "booking_resilience.breaker")
    cluster = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-port", str(free_port())]
    server = RedisServer(*cluster, "--dir", str(tmp_path))
    try:
        client = server.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        slots = {name: client.execute_command("CLUSTER KEYSLOT", name) for name in (f"b{n}" for n in range(50))}
        ours = next(name for name, slot in slots.items() if slot <= 8191)
        foreign = next(name for name, slot in slots.items() if slot > 8191)
        owner = owner_of(share(server.url, wait=False))
        mine, other, away = (
            CircuitBreaker(name, shared=owner, failure_threshold=1, cooldown=30.0) for name in (ours, ours, foreign)
        )
        connected(mine)
        connected(other)
        attempt(mine, fails)
        eventually(lambda: other.state is OPEN)
        assert attempt(away, fails) == "failed"
        passed(1.2)
        assert (away.state, facts(away).connected, facts(mine).connected) == (OPEN, False, True)
        assert [level for level, text in lines(caplog) if repr(foreign) in text] == [logging.WARNING]
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        connected(away)
    finally:
        server.kill()


@pytest.mark.parametrize("settings", [{"encoding": "latin-1"}, {"encoding": "latin-1", "decode_responses": True}])
def test_a_client_in_another_encoding_shares_all_names(server: RedisServer, settings: dict[str, Any]) -> None:
    """What the client is set to for its own calls is no matter of the names of breakers."""
    owners = [
        RedisBreaker(server.url, min_reporters=1),
        RedisBreaker("latin", client=redis.Redis(port=server.port, **settings), min_reporters=1),
    ]
    try:
        one, two = (CircuitBreaker("Z\u00fcrich \u2602", shared=owner, failure_threshold=1) for owner in owners)
        connected(one)
        connected(two)
        attempt(two, fails)
        eventually(lambda: one.state is OPEN)
    finally:
        for owner in owners:
            owner.close()


AN_HOUR_AHEAD = """
import booking_resilience.clock
wall, steady = time.time, time.monotonic
time.time, time.monotonic = lambda: wall() + 3600, lambda: steady() + 3600
booking_resilience.clock.monotonic = time.monotonic
"""
