"""The script that Redis runs for shared breakers, asked directly: reports, the lease, commands by hand, clocks."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.shared_script import SCRIPT, Fact, settings_arguments
from booking_resilience.events import BreakerState
from redisserver import RedisServer, eventually, needs_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
pytestmark = needs_redis
FUTURE = 3_600_000  # milliseconds


class Script:
    """Runs the script for one fleet, each time with a token of its own."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.client, self.name = client, name
        self.key = f"t:{{{name}}}:fleet"
        self._numbers = itertools.count()

    def __call__(
        self,
        op: str,
        subject: str = "",
        detail: str = "",
        *,
        age: int = 0,
        machine: str = "m1",
        min_reporters: int = 2,
        **settings: Any,
    ) -> Fact:
        """Run it and return the facts."""
        numbers = settings_arguments(Machine(**{"cooldown": 10.0, "trial_timeout": 5.0, **settings}), min_reporters)
        keys = self.key, f"t:{{{self.name}}}:none"
        about = op, f"token{next(self._numbers)}-", str(age), subject, detail
        return Fact.parse(self.client.eval(SCRIPT, 2, *keys, *about, machine, f"t:{{{self.name}}}:changed", *numbers))

    def opens(self, **settings: Any) -> None:
        """Open the fleet by one report that is enough."""
        assert self("report", min_reporters=1, **settings).state is OPEN


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def script(server: RedisServer, request: pytest.FixtureRequest) -> Script:
    """The script, for a fleet named after the test."""
    return Script(server.client(), request.node.name)


def test_a_machine_counts_once_however_many_processes_report(script: Script) -> None:
    """Two workers of one machine, or one that restarts, are one reporter; the second machine opens the fleet."""
    for _ in range(3):
        fact = script("report", machine="m1")
        assert (fact.state, fact.reporters) == (CLOSED, 1)
    fact = script("report", machine="m2")
    assert (fact.state, fact.reporters, fact.move) == (OPEN, 2, "TRIP")


def test_a_lease_that_is_not_begun_lapses_and_the_next_who_asks_gets_it(script: Script) -> None:
    """It does not count as a failed trial: the fleet stays half-open."""
    script.opens(cooldown=0.0)
    lease = script("ask").lease
    assert script("ask").answer == ""
    taken: list[Fact] = []
    begin = time.monotonic()
    eventually(lambda: taken.append(script("ask")) or taken[-1].answer == "yours")
    assert time.monotonic() - begin > 0.4
    assert (taken[-1].state, taken[-1].lease != lease) == (HALF_OPEN, True)
    assert script("begin", lease).lease == taken[-1].lease
    assert script("done", lease, "success").state is HALF_OPEN


def test_a_lease_that_is_begun_late_is_good_as_long_as_nobody_else_has_it(script: Script) -> None:
    """A slow connection alone costs no trial."""
    script.opens(cooldown=0.0)
    fact = script("ask")
    assert fact.wait <= 0.5
    script.client.hset(script.key, "until", 1)
    assert script("begin", fact.lease).lease == fact.lease
    assert script("done", fact.lease, "success").state is CLOSED


def test_a_lease_that_is_begun_lasts_the_trials_timeout_and_is_lost_with_its_holder(script: Script) -> None:
    """A lost trial is a failed one: open for another cooldown."""
    script.opens(cooldown=0.0)
    fact = script("begin", script("ask").lease, trial_timeout=60.0, cooldown=0.0)
    assert (fact.state, 59 < fact.wait <= 60) == (HALF_OPEN, True)
    script.client.hset(script.key, "until", 1)
    fact = script("read")
    assert (fact.state, fact.move, fact.lease) == (OPEN, "RELAPSE", "")


def test_a_trial_that_says_nothing_frees_the_lease(script: Script) -> None:
    """The next who asks gets it, at once."""
    script.opens(cooldown=0.0)
    assert script("done", script("ask").lease, "nothing").state is HALF_OPEN
    assert script("ask", machine="m2").answer == "yours"


def test_as_many_successes_as_trial_calls_close(script: Script) -> None:
    """One at a time, in a row; a failure between them begins anew."""
    script.opens(cooldown=0.0, trial_calls=2)
    assert script("done", script("ask").lease, "success").trials_left == 1
    assert script("done", script("ask").lease, "failure").state is OPEN
    assert script("done", script("ask").lease, "success").trials_left == 1
    assert script("done", script("ask").lease, "success").state is CLOSED


@pytest.mark.parametrize("state", ["closed", "open", "half_open"])
def test_a_clock_that_is_set_back_stops_nothing(script: Script, state: str) -> None:
    """What lies in the future then, happened just now: reports count, cooldowns end, leases run out."""
    script.opens(cooldown=0.0)
    if state == "closed":
        script("reset", "why")
    if state == "half_open":
        script("begin", script("ask").lease)
    ahead = int(time.time() * 1000) + FUTURE
    for field in ("since", "turned", "opened", "commanded", "until"):
        if script.client.hexists(script.key, field):
            script.client.hset(script.key, field, ahead)
    fact = script("read", trial_timeout=5.0)
    assert fact.age >= 0
    if state == "closed":
        script.opens()
    elif state == "open":
        assert script("ask").answer == "yours"
    else:
        assert 0 < fact.wait <= 5


def test_reports_of_before_the_clock_was_set_back_count_and_end(script: Script) -> None:
    """They are neither dropped nor good for longer than a cooldown."""
    script("report", machine="m1")
    script.client.hset(script.key, "report:m1", int(time.time() * 1000) + FUTURE)
    assert script("report", machine="m2").state is OPEN


def test_a_change_is_made_where_it_cannot_be_announced(server: RedisServer) -> None:
    """A user without the channels' right can share all the same."""
    server.client().execute_command("ACL", "SETUSER", "mute", "reset", "on", ">word", "~*", "resetchannels", "+@all")
    script = Script(redis.Redis(port=server.port, username="mute", password="word"), "muted")
    script("report", machine="m1")
    assert script("report", machine="m2").state is OPEN


@pytest.mark.parametrize("how", ["replica", "full", "alone"])
def test_a_redis_that_takes_no_writes_answers_with_an_error_even_to_readers(how: str) -> None:
    """So that nobody takes it for one that can be told something; nothing is written to find out."""
    server = RedisServer()
    try:
        client = server.client()
        script = Script(client, "refusing")
        script("read")
        assert client.dbsize() == 0
        if how == "replica":
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
        elif how == "full":
            client.config_set("maxmemory", 1)
        else:
            client.config_set("min-replicas-to-write", 1)
        with pytest.raises(redis.exceptions.RedisError):
            script("read")
    finally:
        server.kill()


def test_a_recovery_of_before_the_end_of_the_cooldown_closes_nothing(script: Script) -> None:
    """A trial that succeeded elsewhere counts if the fleet's cooldown was over by then."""
    script.opens()
    assert script("recover").state is OPEN
    script.client.hset(script.key, "opened", 1)
    assert script("recover").state is CLOSED


def test_what_is_left_behind_by_old_reports_is_removed(script: Script) -> None:
    """Reports older than an hour and two cooldowns are forgotten with the next one; all of it expires."""
    script.client.hset(script.key, "report:old", 1)
    script("report", machine="m1")
    assert script.client.hkeys(script.key) == [b"report:m1"]
    assert script.client.ttl(script.key) > 86400
