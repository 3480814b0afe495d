"""What sharing a breaker does to a process: its start, its calls, its forks, its end, and what it leaves in Redis."""

from __future__ import annotations

import contextlib
import copy
import datetime
import gc
import itertools
import logging
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import redis

from booking_resilience import SharedSnapshot
from booking_resilience.breaker import CircuitBreaker, shared
from booking_resilience.breaker.shared import RedisBreaker
from booking_resilience.breaker.shared_agent import AGENTS
from booking_resilience.breaker.shared_link import NOTES
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState
from racing import needs_fork
from redisserver import SOURCE, RedisServer, eventually, free_port, needs_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
pytestmark = needs_redis
GUIDE = SOURCE.parent / "docs" / "how-to" / "share-a-breaker.md"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def owner(server: RedisServer) -> Iterator[RedisBreaker]:
    """What shares breakers of this process, one report being enough."""
    owner = RedisBreaker(server.url, min_reporters=1)
    yield owner
    owner.close()


@pytest.fixture
def make(owner: RedisBreaker, request: pytest.FixtureRequest) -> Callable[..., CircuitBreaker]:
    """Return a function that makes a shared breaker named after the test, and waits until it is connected."""

    def make(**settings: Any) -> CircuitBreaker:
        settings = {"failure_threshold": 1, "cooldown": 0.3, "shared": owner, **settings}
        breaker = CircuitBreaker(request.node.name, **settings)
        eventually(lambda: facts(breaker).connected)
        return breaker

    return make


def facts(breaker: CircuitBreaker) -> SharedSnapshot:
    """Return what is known of the fleet."""
    shared = breaker.snapshot().shared
    assert shared is not None
    return shared


def owner_of(breaker: CircuitBreaker) -> RedisBreaker:
    """Return what the breaker is shared through."""
    return breaker._core.link.owner


def fail(breaker: CircuitBreaker) -> None:
    """Let a call fail."""
    breaker.acquire().failure(OSError("down"))


def agents() -> list[threading.Thread]:
    """Return the threads of shared breakers in this process; that which talks to a Redis comes before its listener."""
    others = ("journal", "fleet", "alert")  # of monitors that other tests have left to the collector
    named = [(thread, thread.name.split()) for thread in threading.enumerate()]
    return [thread for thread, name in named if name[0] == "booking-resilience" and name[1] not in others]


def run(code: str, *arguments: object, cwd: Path | None = None) -> str:
    """Run a program and return what it prints; it must end well, and without a word of complaint."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", code, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])}
    if "os.fork()" in code or "interpreters" in code:  # coverage has a lock of its own, and no subinterpreters
        env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_PROCESS")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": ""}, "url must be a string that isn't empty"),
        ({"url": "http://user:hidden@host"}, "url must be a complete URL that begins with redis://"),
        ({"url": "redis://user:hidden@host:port/0"}, "url must be a complete URL that begins with redis://"),
        ({"prefix": ""}, "prefix must be a string that isn't empty, not ''"),
        ({"machine": ""}, "machine must be a string that isn't empty, not ''"),
        ({"min_reporters": 0}, "min_reporters must be a whole number, 1 or more, not 0"),
    ],
)
def test_a_setting_out_of_its_range_is_rejected(settings: dict[str, Any], message: str) -> None:
    """The message names the setting and what is allowed, and never the URL."""
    check_rejected(ValueError, settings, message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": None}, "url must be a string, not a NoneType"),
        ({"url": b"redis://user:hidden@host"}, "url must be a string, not a bytes"),
        ({"prefix": 5}, "prefix must be a string, not 5"),
        ({"machine": 5}, "machine must be a string, not 5"),
        ({"min_reporters": True}, "min_reporters must be a whole number, 1 or more, not True"),
        ({"min_reporters": "2"}, "min_reporters must be a whole number, 1 or more, not '2'"),
        ({"client": object()}, "client must be a redis.Redis or None, not <class 'object'>"),
    ],
)
def test_a_setting_of_the_wrong_type_is_a_type_error(settings: dict[str, Any], message: str) -> None:
    """The message names the setting and what is allowed, and never the URL."""
    check_rejected(TypeError, settings, message)


def check_rejected(kind: type[Exception], settings: dict[str, Any], message: str) -> None:
    """Check that the settings raise that error, which shows nothing of a password."""
    url = settings.pop("url", "redis://127.0.0.1:1/0")
    with pytest.raises(kind, match=re.escape(message)) as caught:
        RedisBreaker(url, **settings)
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_only_a_redis_breaker_shares(server: RedisServer) -> None:
    """Anything else is refused when the breaker is made, and so is one that is closed."""
    with pytest.raises(TypeError, match="shared must be a RedisBreaker or None, not 'redis"):
        CircuitBreaker("b", shared=server.url)  # type: ignore[arg-type] # the mistake that is tested
    closed = RedisBreaker(server.url)
    closed.close()
    with pytest.raises(ValueError, match="shared must be a RedisBreaker that is not closed"):
        CircuitBreaker("b", shared=closed)


def test_it_cannot_be_copied_or_pickled(owner: RedisBreaker) -> None:
    """A copy would have no thread; the error says what to do instead."""
    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="make one in each process"):
            act(owner)


@pytest.mark.parametrize("act", ["reset", "isolate"])
def test_without_a_fleet_nothing_is_done_to_one(act: str, make: Callable[..., CircuitBreaker]) -> None:
    """`fleet=True` raises `ValueError`, and changes nothing, without `shared` and once that is closed."""
    local, shared = CircuitBreaker("b"), make()
    owner_of(shared).close()
    for breaker in (local, shared):
        epoch = breaker.snapshot().epoch
        with pytest.raises(ValueError, match="fleet must be False for a breaker that is not shared"):
            getattr(breaker, act)("why", fleet=True)
        assert breaker.snapshot().epoch == epoch


def test_a_breaker_that_is_not_shared_says_so() -> None:
    """Its snapshot has None."""
    assert CircuitBreaker("b").snapshot().shared is None


def test_the_snapshot_says_what_is_known_of_the_fleet(make: Callable[..., CircuitBreaker]) -> None:
    """Whether it is connected, the fleet's state, who reported, and since when by the clock of Redis."""
    breaker = make(cooldown=30.0)
    assert breaker.snapshot().shared == SharedSnapshot(connected=True, state=CLOSED, reporters=0, since=None)
    fail(breaker)
    eventually(lambda: facts(breaker).state is OPEN)
    known = facts(breaker)
    assert (known.connected, known.reporters) == (True, 1)
    assert known.since is not None
    assert known.since.tzinfo is datetime.UTC
    assert abs(datetime.datetime.now(datetime.UTC) - known.since) < datetime.timedelta(minutes=1)


def test_the_core_knows_no_redis() -> None:
    """Neither the package nor the breaker imports the client, nor the module that shares."""
    run(
        "import sys, booking_resilience, booking_resilience.breaker as b; b.CircuitBreaker('b');"
        "assert not {'redis', 'booking_resilience.breaker.shared'} & set(sys.modules)"
    )


def test_without_the_client_the_error_names_it() -> None:
    """An `ImportError` when it is made, not when the module is imported."""
    run(
        "import sys; sys.modules['redis'] = None\n"
        "from booking_resilience.breaker.shared import RedisBreaker\n"
        "try: RedisBreaker('redis://localhost')\n"
        "except ImportError as error: assert 'redis' in str(error), error\n"
        "else: raise AssertionError('no error')"
    )


def test_making_it_neither_waits_nor_raises() -> None:
    """Nor does a breaker with it, whatever becomes of the connection: here the far side never answers."""
    took = []
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            begin = time.monotonic()
            owner = RedisBreaker(f"redis://127.0.0.1:{silent.getsockname()[1]}")
            breaker = CircuitBreaker("b", shared=owner)
            took.append(time.monotonic() - begin)
            assert breaker.call(int) == 0
            assert not facts(breaker).connected
            owner.close()
    assert min(took) < 1.5  # waiting for an answer would take 2 s each time
    eventually(lambda: not agents(), what="its thread has noticed, and is in no other test's way")


@contextlib.contextmanager
def no_threads() -> Iterator[None]:
    """Let no thread start, as when the system has no more."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


@pytest.mark.parametrize("what", ["owner", "breaker"])
def test_a_thread_that_could_not_be_started_starts_for_the_next_owner_or_breaker(
    server: RedisServer, what: str
) -> None:
    """All are shared then, and what was asked for by hand meanwhile is told."""
    url = server.url.removesuffix("0") + "1"
    with no_threads():
        owners = [RedisBreaker(url)]
        breaker = CircuitBreaker(what, shared=owners[0])
        breaker.isolate("meanwhile", fleet=True)
    if what == "owner":
        owners.append(RedisBreaker(url))
    else:
        CircuitBreaker("next", shared=owners[0])
    eventually(lambda: facts(breaker).connected and facts(breaker).state is ISOLATED)
    for owner in owners:
        owner.close()


def test_an_agent_without_a_thread_keeps_little_and_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notes of its breakers are bounded, closing doesn't wait for what nobody tells, and nothing of it is left."""
    monkeypatch.setattr(shared, "FAREWELL", 60.0)
    url = f"redis://127.0.0.1:{free_port()}"
    with no_threads():
        owner = RedisBreaker(url)
        breaker = CircuitBreaker("b", shared=owner, failure_threshold=1, cooldown=0.0)
    for _ in range(NOTES):
        fail(breaker)
    assert len(breaker._core.link.notes) == NOTES
    begin = time.monotonic()
    owner.close()
    assert time.monotonic() - begin < 30
    assert url not in AGENTS


def test_notes_are_taken_while_redis_is_gone() -> None:
    """A breaker that goes on opening keeps no more than what there is to tell."""
    owner = RedisBreaker(f"redis://127.0.0.1:{free_port()}")
    breaker = CircuitBreaker("b", shared=owner, failure_threshold=1, cooldown=0.0)
    fail(breaker)
    eventually(lambda: not breaker._core.link.notes)
    owner.close()


def test_one_thread_talks_and_one_listens_for_all_breakers_of_a_redis(server: RedisServer, owner: RedisBreaker) -> None:
    """However many there are, and however many objects share them."""
    owners = [owner, *(RedisBreaker(server.url, prefix=f"p{number}") for number in range(3))]
    breakers = [CircuitBreaker(f"b{number}", shared=one) for one in owners for number in range(3)]
    eventually(lambda: all(facts(breaker).connected for breaker in breakers))
    assert [" listens " in thread.name for thread in agents()] == [False, True]
    assert all(thread.daemon for thread in agents())
    for one in owners[1:]:
        one.close()
    assert len(agents()) == 2


def test_prefixes_and_names_keep_fleets_apart(server: RedisServer, owner: RedisBreaker) -> None:
    """Nothing that happens to one reaches another."""
    elsewhere = RedisBreaker(server.url, prefix="elsewhere", min_reporters=1)
    here = CircuitBreaker("apart", shared=owner, failure_threshold=1)
    others = CircuitBreaker("apart", shared=elsewhere), CircuitBreaker("other", shared=owner)
    eventually(lambda: all(facts(breaker).connected for breaker in (here, *others)))
    fail(here)
    eventually(lambda: facts(here).state is OPEN)
    for other in others:
        read_again(other)
    assert [breaker.state for breaker in others] == [CLOSED, CLOSED]
    elsewhere.close()


def read_again(breaker: CircuitBreaker) -> None:
    """Wait until the agent has read once more how the fleet stands."""
    link = breaker._core.link
    assert link is not None
    before = link.fact
    eventually(lambda: link.fact is not before, what="the periodic re-read")


def test_keys_have_the_prefix_and_an_expiry(server: RedisServer) -> None:
    """All of them, in every state of the fleet; nothing is left for ever."""
    server.client().flushall()
    owner = RedisBreaker(server.url, prefix="mine", min_reporters=1)
    breaker = CircuitBreaker("keys", shared=owner, failure_threshold=1, cooldown=0.1)
    seen = set()

    def look() -> None:
        for key in server.client().scan_iter():
            assert key.startswith(b"mine:")
            assert server.client().ttl(key) > 0
            seen.add(key)

    fail(breaker)
    eventually(lambda: facts(breaker).state is OPEN)
    look()
    eventually(lambda: passes(breaker) and facts(breaker).state is CLOSED)
    look()
    breaker.isolate("why", fleet=True)
    eventually(lambda: facts(breaker).state is ISOLATED)
    look()
    assert seen == {b"mine:{keys}:fleet"}
    owner.close()


def passes(breaker: CircuitBreaker) -> bool:
    """Tell whether a call passes."""
    try:
        breaker.call(int)
    except CircuitOpenError:
        return False
    return True


def test_the_callers_path_makes_no_socket_call(
    make: Callable[..., CircuitBreaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one, through trips, refusals, trials, resets and isolations: the agent makes them all."""
    breaker = make(cooldown=0.05)
    gc.collect()  # what other tests left closes its sockets on whatever thread collects it
    calls: list[int] = []
    for name in ("connect", "send", "sendall", "sendto", "sendmsg", "recv", "recv_into", "recvfrom", "shutdown"):
        real = getattr(socket.socket, name)

        def counted(*args: Any, _real: Any = real, **kwargs: Any) -> Any:
            calls.append(threading.get_ident())
            return _real(*args, **kwargs)

        monkeypatch.setattr(socket.socket, name, counted)
    for _ in range(3):
        assert breaker.call(int) == 0
        fail(breaker)
        eventually(lambda: facts(breaker).state is OPEN)
        eventually(lambda: passes(breaker))
        breaker.isolate("why", fleet=True)
        breaker.reset(fleet=True)
        eventually(lambda: facts(breaker).state is CLOSED)
        breaker.snapshot()
    assert agents()[0].ident in calls
    assert threading.get_ident() not in calls


def test_a_shared_breaker_is_as_fast_as_a_local_one(make: Callable[..., CircuitBreaker]) -> None:
    """A healthy call takes at most 1.2 times as long, measured in turn in one run."""
    shared, local = make(), CircuitBreaker("local")

    def seconds(breaker: CircuitBreaker) -> float:
        call = breaker.call
        begin = time.perf_counter()
        for _ in range(5000):
            call(int)
        return time.perf_counter() - begin

    def ratio() -> float:
        pairs = [(seconds(shared), seconds(local)) for _ in range(15)]
        return min(one for one, _ in pairs) / min(other for _, other in pairs)

    assert any(ratio() <= 1.2 for _ in range(5))


def test_listeners_are_told_in_order_and_under_no_lock(make: Callable[..., CircuitBreaker]) -> None:
    """What the fleet does is told as what this process does; a listener may use the breaker, and may raise."""
    one, two = make(), make()
    seen: list[BreakerEvent] = []

    def listener(event: BreakerEvent) -> None:
        seen.append(event)
        two.snapshot()
        done = threading.Thread(target=two.snapshot)
        done.start()
        done.join(20)
        assert not done.is_alive()
        raise SystemExit if event.new is OPEN else RuntimeError

    two.subscribe(listener)
    logging.getLogger("booking_resilience.breaker").disabled = True
    try:
        fail(one)
        eventually(lambda: two.state is OPEN)
        eventually(lambda: passes(one))
        eventually(lambda: len(seen) == 3, what="the rest is told, and sharing goes on")
    finally:
        logging.getLogger("booking_resilience.breaker").disabled = False
    assert [event.new for event in seen] == [OPEN, HALF_OPEN, CLOSED]
    assert all(before.new is after.old for before, after in itertools.pairwise(seen))


def test_closing_ends_the_sharing_and_leaves_a_given_client_alone(server: RedisServer) -> None:
    """The thread and its connections are gone, the breaker is a local one, the client goes on."""
    client = server.client()
    before = len(client.client_list())
    owner = RedisBreaker("the main one", client=client, min_reporters=1)
    breaker = CircuitBreaker("closing", shared=owner, failure_threshold=1, cooldown=30.0)
    eventually(lambda: facts(breaker).connected)
    eventually(lambda: len(client.client_list()) == before + 2, what="both of its connections are there")
    owner.close()
    owner.close()
    eventually(lambda: len(client.client_list()) == before, what="its two connections are closed")
    eventually(lambda: agents() == [], what="its threads ended")
    assert client.ping()
    assert not facts(breaker).connected
    fail(breaker)
    assert breaker.state is OPEN
    assert server.client().keys("*closing*") == []
    breaker.reset()
    assert breaker.call(int) == 0
    client.close()


def test_what_was_asked_for_by_hand_is_told_before_the_end(server: RedisServer) -> None:
    """A program may isolate the fleet and end at once, with or without closing."""
    watching = RedisBreaker(server.url)
    breaker = CircuitBreaker("ops", shared=watching)
    eventually(lambda: facts(breaker).connected)
    for ending in ("", "owner.close()"):
        run(
            "import sys\nfrom booking_resilience import CircuitBreaker\n"
            "from booking_resilience.breaker.shared import RedisBreaker\n"
            "owner = RedisBreaker(sys.argv[1])\n"
            f"CircuitBreaker('ops', shared=owner).isolate('maintenance', fleet=True)\n{ending}",
            server.url,
        )
        eventually(lambda: breaker.state is ISOLATED)
        breaker.reset(fleet=True)
        eventually(lambda: facts(breaker).state is CLOSED)
    watching.close()


def test_what_is_dropped_is_collected_and_its_thread_ends(server: RedisServer) -> None:
    """Without a call of `close`; the lease that a dropped breaker held is given back."""
    owner = RedisBreaker(server.url, min_reporters=1)
    pair = [CircuitBreaker("dropped", shared=owner, failure_threshold=1, cooldown=0.1) for _ in range(2)]
    eventually(lambda: all(facts(breaker).connected for breaker in pair))
    fail(pair[0])
    eventually(lambda: facts(pair[0]).state is OPEN and pair[0].snapshot().retry_after == 0)
    assert not passes(pair[0])
    eventually(lambda: facts(pair[1]).state is HALF_OPEN)
    alive = weakref.ref(pair.pop(0))
    eventually(lambda: alive() is None)
    eventually(lambda: passes(pair[0]), what="the lease is free")
    del owner
    pair.clear()
    eventually(lambda: gc.collect() >= 0 and agents() == [], what="the thread ended")


@needs_fork
def test_children_of_a_preforking_server_share_from_the_start(server: RedisServer) -> None:
    """Made before the fork, the breaker is connected in each child; one opens, all do, and are one machine."""
    printed = run(PREFORK, server.url)
    assert printed.split() == ["open"] * 4 + ["1"]


PREFORK = """
import os, signal, sys, time
from booking_resilience import CircuitBreaker
from booking_resilience.breaker.shared import RedisBreaker

owner = RedisBreaker(sys.argv[1], min_reporters=1)
breaker = CircuitBreaker("prefork", shared=owner, failure_threshold=1, cooldown=30.0)

def until(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)

until(lambda: breaker.snapshot().shared.connected)
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(50)
        until(lambda: breaker.snapshot().shared.connected)
        if number == 0:
            breaker.acquire().failure()
        until(lambda: breaker.snapshot().shared.state.value == breaker.state.value == "open")
        os.write(1, breaker.state.value.encode() + b"\\n")
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
until(lambda: breaker.snapshot().shared.state.value == "open")
print(breaker.state.value, breaker.snapshot().shared.reporters)
"""


@needs_fork
def test_a_fork_waits_for_a_connection_that_is_being_made(server: RedisServer, tmp_path: Path) -> None:
    """A client that imports a module when it connects is whole in a child that is forked just then."""
    (tmp_path / "slowly.py").write_text("import time\ntime.sleep(0.5)\nvalue = 1\n")
    assert run(FORKED_WHILE_CONNECTING, server.port, cwd=tmp_path).split() == ["True", "True"]


FORKED_WHILE_CONNECTING = """
import os, signal, sys, time
sys.path.insert(0, "")
import redis
from booking_resilience import CircuitBreaker
from booking_resilience.breaker.shared import RedisBreaker

class Slow(redis.Connection):
    def connect(self):
        import slowly
        assert slowly.value
        super().connect()

client = redis.Redis(connection_pool=redis.ConnectionPool(Slow, port=int(sys.argv[1])))
owner = RedisBreaker("redis://here", client=client)
breaker = CircuitBreaker("forked", shared=owner)

def connects():
    end = time.monotonic() + 20
    while not breaker.snapshot().shared.connected and time.monotonic() < end:
        time.sleep(0.005)
    return breaker.snapshot().shared.connected

while "slowly" not in sys.modules:  # as it is from the beginning of its import on
    time.sleep(0.001)
child = os.fork()
if child == 0:
    signal.alarm(50)
    os.write(1, f"{connects()}\\n".encode())
    os._exit(0)
os.waitpid(child, 0)
print(connects())
"""


@needs_fork
def test_each_process_has_its_warning() -> None:
    """A child whose parent has warned that Redis is gone warns, too, and does not tell that it is back."""
    assert run(WARNINGS, free_port()).split() == ["WARNING", "WARNING"]


WARNINGS = """
import logging, os, signal, sys, time
from booking_resilience.breaker.shared import RedisBreaker

said = []

class Listener(logging.Handler):
    def emit(self, record):
        os.write(1, record.levelname.encode() + b"\\n")
        said.append(record.levelname)  # last: who waits for it may end the process

def until(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)

logging.getLogger("booking_resilience.breaker").addHandler(Listener())
owner = RedisBreaker(f"redis://127.0.0.1:{sys.argv[1]}/0")
until(lambda: said)
child = os.fork()
if child == 0:
    signal.alarm(50)
    until(lambda: len(said) == 2)
    os._exit(0)
os.waitpid(child, 0)
"""


@needs_fork
def test_a_child_does_not_use_what_its_parent_holds(server: RedisServer) -> None:
    """The lease stays the parent's, and so do its connections: both go on when the child has ended."""
    assert run(FORKED_WITH_LEASE, server.url).split() == ["refused", "closed", "True"]


FORKED_WITH_LEASE = """
import os, signal, sys, time
from booking_resilience import CircuitBreaker, CircuitOpenError
from booking_resilience.breaker.shared import RedisBreaker

owner = RedisBreaker(sys.argv[1], min_reporters=1)
breaker = CircuitBreaker("lease", shared=owner, failure_threshold=1, cooldown=0.1)

def until(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)

def refused():
    try:
        breaker.acquire().success()
    except CircuitOpenError:
        return True
    return False

until(lambda: breaker.snapshot().shared.connected)
breaker.acquire().failure()
until(lambda: breaker.snapshot().shared.state.value == "open" and not breaker.snapshot().retry_after)
assert refused()
until(lambda: breaker._core.link.lease is not None)
child = os.fork()
if child == 0:
    signal.alarm(50)
    os.write(1, b"refused\\n" if refused() else b"passed\\n")
    until(lambda: breaker.snapshot().shared.connected)
    os._exit(0)
os.waitpid(child, 0)
until(lambda: not refused())
until(lambda: breaker.snapshot().shared.state.value == "closed")
print(breaker.state.value, breaker.snapshot().shared.connected)
"""


def test_a_listener_that_takes_long_delays_nothing_else(server: RedisServer, owner: RedisBreaker) -> None:
    """Neither what the process hears of the fleet, for that breaker and others, nor the listeners of others."""
    elsewhere = RedisBreaker("elsewhere", client=server.client(), min_reporters=1)
    here, other = (CircuitBreaker(f"slow {n}", shared=owner, failure_threshold=1, cooldown=0.1) for n in range(2))
    far, far_other = (
        CircuitBreaker(f"slow {n}", shared=elsewhere, failure_threshold=1, cooldown=0.1) for n in range(2)
    )
    begun, leave, told = threading.Event(), threading.Event(), threading.Event()
    here.subscribe(lambda _: begun.set() or leave.wait(60))
    other.subscribe(lambda event: told.set() if event.new is ISOLATED else None)
    try:
        eventually(lambda: all(facts(breaker).connected for breaker in (here, other, far, far_other)))
        fail(far)
        assert begun.wait(20)
        eventually(lambda: passes(far))
        eventually(lambda: here.state is CLOSED, what="the same breaker")
        far_other.isolate("why", fleet=True)
        eventually(lambda: other.state is ISOLATED, what="another breaker")
        assert told.wait(20)
        assert facts(here).connected
    finally:
        leave.set()
        elsewhere.close()


@needs_fork
def test_a_fork_waits_for_no_redis(server: RedisServer) -> None:
    """Not while one is frozen, which is being connected to; a second Redis is shared through meanwhile."""
    frozen = RedisServer()
    frozen.freeze()
    try:
        printed = run(FORKED_WHILE_FROZEN, frozen.url, server.url).split()
        assert printed[:2] == ["True", "True"]
        assert float(printed[2]) < 0.8  # the median; each waited up to 1.9 s when they did
    finally:
        frozen.thaw()
        frozen.kill()


FORKED_WHILE_FROZEN = """
import os, sys, time
from booking_resilience import CircuitBreaker
from booking_resilience.breaker.shared import RedisBreaker

breakers = [CircuitBreaker("b", shared=RedisBreaker(url)) for url in sys.argv[1:]]

def connected():
    end = time.monotonic() + 20
    while not breakers[1].snapshot().shared.connected and time.monotonic() < end:
        time.sleep(0.005)
    return breakers[1].snapshot().shared.connected

print(connected(), flush=True)
taken = []
for number in range(9):
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        if number == 0:
            os.write(1, b"True " if connected() else b"False ")
        os._exit(0)
    taken.append(time.monotonic() - begin)
    os.waitpid(child, 0)
    time.sleep(0.2)
print(sorted(taken)[4])
"""


@needs_fork
def test_a_daemon_that_closes_all_descriptors_shares_all_the_same(server: RedisServer, tmp_path: Path) -> None:
    """It does so just after the fork, before anything is connected; what it opens then is its own."""
    assert run(DAEMON, server.url, cwd=tmp_path).split() == ["True", "True", "True"]


DAEMON = """
import os, sys, time
from booking_resilience import CircuitBreaker
from booking_resilience.breaker import shared_agent
from booking_resilience.breaker.shared import RedisBreaker

shared_agent.SETTLE = 1.0  # so that the test does not depend on how soon after the fork it goes on
breaker = CircuitBreaker("daemon", shared=RedisBreaker(sys.argv[1], min_reporters=1), failure_threshold=1)

def until(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()

def connected():
    return breaker.snapshot().shared.connected

def daemon():
    os.closerange(3, 256)
    files = [os.open(f"file {number}", os.O_RDWR | os.O_CREAT, 0o600) for number in range(20)]
    ends = [os.pipe() for _ in range(4)]
    os.write(1, b"True " if until(connected) else b"False ")
    for file in files:
        assert os.fstat(file).st_size == 0, file
        os.write(file, b"x")
    for near, far in ends:
        os.write(far, b"y")
        assert os.read(near, 10) == b"y"
    breaker.acquire().failure()
    os.write(1, b"True " if until(lambda: breaker.snapshot().shared.state.value == "open") else b"False ")

print(until(connected), flush=True)
child = os.fork()
if child == 0:
    try:
        daemon()
    finally:
        os._exit(0)
os.waitpid(child, 0)
"""


def test_the_rights_that_the_guide_names_suffice(server: RedisServer) -> None:
    """A user with those commands, keys and channels, and nothing else, can share a breaker."""
    if not GUIDE.exists():
        pytest.skip("the documentation is not beside the tests")
    rights = re.findall(r"^evalsha .+$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)[0].split()
    user = ["me", "reset", "on", ">word", "~mine:*", "&mine:*", *(f"+{command}" for command in rights)]
    server.client().execute_command("ACL", "SETUSER", *user)
    owner = RedisBreaker(f"redis://me:word@127.0.0.1:{server.port}/0", prefix="mine", min_reporters=1)
    one, two = (CircuitBreaker("acl", shared=owner, failure_threshold=1, cooldown=0.1) for _ in range(2))
    eventually(lambda: facts(one).connected)
    fail(one)
    eventually(lambda: two.state is OPEN)
    eventually(lambda: passes(two))
    eventually(lambda: one.state is CLOSED)
    one.isolate("why", fleet=True)
    eventually(lambda: two.state is ISOLATED)
    owner.close()


def test_a_url_may_carry_a_user_and_tls_and_a_socket(server: RedisServer) -> None:
    """What the client makes of the URL is what the agent connects with."""
    from booking_resilience.breaker.shared_wires import place_of, settings_of

    kind, settings = settings_of("rediss://me:secret@redis.example:6390/3?ssl_cert_reqs=required", None)
    made = kind(**settings)
    assert isinstance(made, redis.SSLConnection)
    assert (made.host, made.port, made.db, made.username, made.password) == (
        "redis.example", 6390, 3, "me", "secret",
    )  # fmt: skip
    assert settings_of("unix:///tmp/redis.sock?db=1", None)[0] is redis.UnixDomainSocketConnection
    assert place_of("rediss://me:secret@redis.example:6390/3?password=x") == "rediss://redis.example:6390/3"
    assert place_of("user:secret@main?password=x") == "main"
    assert place_of(f"redis://[::1:{free_port()}") == "?"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:p@hid/den@main:6379/0", "redis://main:6379/0"),
        ("redis://me:hid?den@main:6379/0", "redis://?"),
        ("redis://me:p@hid#den@main:6379/0", "redis://?"),
        ("redis://main:6379/0?password=p@hidden", "redis://?"),
        ("the second?password=p@hidden", "?"),
        ("me:hid://den@main", "main"),
        ("the second", "the second"),
        ("redis://", "redis://"),
    ],
)
def test_what_is_told_of_a_place_has_no_part_of_a_password(url: str, place: str) -> None:
    """Not even where the password was not quoted as it should be, so that nobody can tell where it ends."""
    from booking_resilience.breaker.shared_wires import place_of

    assert place_of(url) == place


def test_a_process_is_one_reporter_by_whichever_way_it_reaches_the_redis(server: RedisServer) -> None:
    """By another spelling of the URL, or a client of its own: it alone must not stop the fleet."""
    name = "one-of-many-ways"
    client = redis.Redis(port=server.port)
    owners = [RedisBreaker(server.url), RedisBreaker("main", client=client)]
    breakers = [CircuitBreaker(name, failure_threshold=1, shared=owner) for owner in owners]
    watcher = CircuitBreaker(name, shared=owners[0])
    try:
        for breaker in breakers:
            eventually(lambda breaker=breaker: facts(breaker).connected)
            fail(breaker)
            eventually(lambda breaker=breaker: breaker._core.link.news is None, what="it has reported")
        fields = server.client().hkeys(owners[0].key(name, "fleet"))
        assert [field for field in fields if field.startswith(b"report:")] == [f"report:{owners[0]._machine}".encode()]
        eventually(lambda: facts(watcher).reporters == 1)
        assert (facts(breakers[1]).state, watcher.state) == (CLOSED, CLOSED)
    finally:
        for owner in owners:
            owner.close()
        client.close()


def test_a_breaker_whose_sharing_ended_goes_by_its_own_trial_calls(server: RedisServer) -> None:
    """Not by those of the fleet whose last trial it made."""
    owner = RedisBreaker(server.url, min_reporters=1)
    settings: dict[str, Any] = {"failure_threshold": 1, "cooldown": 0.2, "shared": owner}
    one, three = (CircuitBreaker("own-trial-calls", trial_calls=calls, **settings) for calls in (1, 3))

    def passes() -> bool:
        with contextlib.suppress(CircuitOpenError):
            three.acquire().success()
            return True
        return False

    try:
        eventually(lambda: facts(one).connected)
        fail(one)
        eventually(lambda: three.state is OPEN)
        eventually(passes)
        eventually(lambda: (three.state, facts(three).state, three._core.link.lease) == (CLOSED, CLOSED, None))
    finally:
        owner.close()
    fail(three)
    eventually(passes)
    assert three.state is HALF_OPEN


def test_a_wait_without_end_does_not_end_the_sharing(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A cooldown and a trial that nobody lives to see the end of are told as long ones."""
    caplog.set_level(logging.INFO)
    owner = RedisBreaker(server.url, min_reporters=1)
    settings: dict[str, Any] = {"failure_threshold": 1, "trial_timeout": 1e306, "shared": owner}
    short, long = (
        CircuitBreaker("short-wait", cooldown=0.0, **settings),
        CircuitBreaker("long", cooldown=1e20, **settings),
    )

    def passes() -> bool:
        with contextlib.suppress(CircuitOpenError):
            short.acquire().success()
            return True
        return False

    try:
        eventually(lambda: facts(short).connected)
        fail(long)
        fail(short)
        eventually(lambda: (facts(short).state, facts(long).state) == (OPEN, OPEN))
        eventually(passes)
        eventually(lambda: facts(short).state is CLOSED)
        assert not [record for record in caplog.records if hasattr(record, "redis")]
    finally:
        owner.close()
