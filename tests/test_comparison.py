"""The comparison with other libraries: each cell of its tables of behaviour is what that library does here.

A table after `<!-- tried: … -->` has a column for each library and a row for each trial, in the trials' own words. A
cell is `yes`, `no`, or a dash where the question doesn't arise. Libraries that aren't installed are skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import pickle
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from booking_resilience import DeadlineExceededError, RetryPolicy, remaining_time, with_retry, with_retry_async
from peers import COOLDOWN, FAILURES, MODULES, Breaker, both_of, breaker_of, retry_of
from test_docs import DOCS

PAGE = DOCS / "explanation" / "comparison.md"
CALLERS = 50
QUICKLY = 0.3  # seconds of patience with what is known to stand still
PATIENCE = {"pybreaker": QUICKLY}
Trial = Callable[[str], bool | None]
"""Tells whether the library of that name does it; None where the question doesn't arise."""
BREAKERS: dict[str, Trial] = {}
RETRIES: dict[str, Trial] = {}


class RefusedError(ConnectionError):
    """What the backend of these trials raises."""


def patience_with(name: str) -> float:
    """Return how long to wait for callers to move: long, as the machine may be busy, unless they are known not to."""
    return PATIENCE.get(name, 20.0)


def fail() -> None:
    """Fail."""
    raise RefusedError("refused")


def run(breaker: Breaker, fn: Callable[[], Any]) -> Any:
    """Call a plain function through the breaker, whatever its colour."""
    if not breaker.is_async:
        return breaker.call(fn)

    async def work() -> Any:
        return fn()

    return asyncio.run(breaker.call_async(work))


def open_up(breaker: Breaker) -> list[Exception]:
    """Fail until it is open; return what came out."""
    errors = []
    for _ in range(FAILURES):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - some raise an error of their own
            run(breaker, fail)
        errors.append(caught.value)
    return errors


def refusal_of(breaker: Breaker) -> Exception | None:
    """Return what an open breaker raises; None if it calls the function."""
    try:
        run(breaker, int)
    except Exception as error:
        return error
    return None


def breaker_trial(title: str) -> Callable[[Callable[[Breaker], bool | None]], Trial]:
    """Name a trial of a breaker."""

    def add(trial: Callable[[Breaker], bool | None]) -> Trial:
        def tried(name: str) -> bool | None:
            with breaker_of(name) as breaker:
                return trial(breaker)

        BREAKERS[title] = tried
        return tried

    return add


def retry_trial(title: str) -> Callable[[Trial], Trial]:
    """Name a trial of a retry."""

    def add(trial: Trial) -> Trial:
        RETRIES[title] = trial
        return trial

    return add


class Crew:
    """Threads that call through a breaker, and a function that holds whoever is inside."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker, self.entered, self.ended = breaker, 0, 0
        self.release, self.moved = threading.Event(), threading.Condition()
        self.threads: list[threading.Thread] = []
        self.fails = False

    def _hold(self) -> None:
        with self.moved:
            self.entered += 1
            self.moved.notify_all()
        self.release.wait(20)
        if self.fails:
            fail()

    def _one(self) -> None:
        with contextlib.suppress(Exception):
            self.breaker.call(self._hold)
        with self.moved:
            self.ended += 1
            self.moved.notify_all()

    def start(self, count: int) -> None:
        """Start so many callers."""
        started = [threading.Thread(target=self._one) for _ in range(count)]
        self.threads += started
        for thread in started:
            thread.start()

    def settle(self, enough: Callable[[], bool], patience: float) -> bool:
        """Wait until enough have moved, or nobody moves for so long."""
        with self.moved:
            return self.moved.wait_for(enough, patience)

    def end(self, *, failing: bool = False) -> None:
        """Let all out, and wait for them."""
        self.fails = failing
        self.release.set()
        for thread in self.threads:
            thread.join(20)


@breaker_trial("calls through one breaker run in parallel")
def in_parallel(breaker: Breaker) -> bool:
    """Two callers are inside at the same time."""
    if breaker.is_async:
        return asyncio.run(both_inside(breaker))
    crew = Crew(breaker)
    crew.start(2)
    both = crew.settle(lambda: crew.entered == 2, patience_with(breaker.name))
    crew.end()
    return both


async def both_inside(breaker: Breaker) -> bool:
    """Tell whether two tasks are inside at the same time."""
    barrier = asyncio.Barrier(2)
    async with asyncio.timeout(20):
        await asyncio.gather(*(breaker.call_async(barrier.wait) for _ in range(2)))
    return True


@breaker_trial("failures of coroutine functions open it")
def opens_async(breaker: Breaker) -> bool:
    """A decorated coroutine function that fails three times is refused the fourth time."""
    calls = []

    @breaker.decorate
    async def work() -> None:
        calls.append(1)
        fail()

    async def main() -> None:
        for _ in range(FAILURES + 1):
            with contextlib.suppress(Exception):
                await work()

    asyncio.run(main())
    return len(calls) == FAILURES


@breaker_trial("the call that opens it raises its own error")
def own_error(breaker: Breaker) -> bool:
    """The last of the failures comes out as itself."""
    return isinstance(open_up(breaker)[-1], RefusedError)


@breaker_trial("the rejection says when to try again")
def says_when(breaker: Breaker) -> bool:
    """The rejection has the seconds that are left."""
    open_up(breaker)
    return 0 < getattr(refusal_of(breaker), "retry_after", 0) <= COOLDOWN


@breaker_trial("the rejection can be pickled")
def pickles(breaker: Breaker) -> bool:
    """The rejection crosses a process pool."""
    open_up(breaker)
    error = refusal_of(breaker)
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    except TypeError:
        return False


@breaker_trial("a step of the wall clock doesn't end the cooldown")
def wall_clock(breaker: Breaker) -> bool:
    """An hour more on the wall clock alone leaves it open."""
    real = time.time
    with pytest.MonkeyPatch.context() as patch:
        open_up(breaker)
        patch.setattr(time, "time", lambda: real() + 3600)
        if type(breaker.breaker).__module__.partition(".")[0] in {"pybreaker", "hyx"}:
            breaker.pass_time(3600)  # these ask `datetime` for the wall clock
        return refusal_of(breaker) is not None


@breaker_trial("one caller of 50 gets the trial, the others are rejected at once")
def one_trial(breaker: Breaker) -> bool:
    """While a trial is under way, nobody else is inside, and nobody waits."""
    open_up(breaker)
    breaker.pass_time(COOLDOWN + 1)
    if breaker.is_async:
        return asyncio.run(one_trial_async(breaker)) == 1
    crew = Crew(breaker)
    crew.start(CALLERS)
    crew.settle(lambda: crew.entered + crew.ended == CALLERS, patience_with(breaker.name))
    entered, ended = crew.entered, crew.ended
    crew.end()
    return (entered, ended) == (1, CALLERS - 1)


async def one_trial_async(breaker: Breaker) -> int:
    """Return how many of the tasks are inside at the same time."""
    entered, release = [], asyncio.Event()

    async def hold() -> None:
        entered.append(1)
        await release.wait()

    tasks = [asyncio.create_task(breaker.call_async(hold)) for _ in range(CALLERS)]
    for _ in range(100):
        await asyncio.sleep(0)
    inside = len(entered)
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    return inside


@breaker_trial("a trial that never returns is given up")
def given_up(breaker: Breaker) -> bool:
    """Ten minutes after the trial began somebody else may try."""
    open_up(breaker)
    breaker.pass_time(COOLDOWN + 1)
    if breaker.is_async:
        return True  # everybody may, at any time
    crew = Crew(breaker)
    crew.start(1)
    crew.settle(lambda: crew.entered == 1, 20)
    for _ in range(3):  # the loss of a trial opens it anew, in some
        breaker.pass_time(600)
        ended = crew.ended
        crew.start(1)
        crew.settle(lambda ended=ended: crew.entered > 1 or crew.ended > ended, patience_with(breaker.name))
    another = crew.entered > 1
    crew.end()
    return another


@breaker_trial("a trial that is cancelled makes room for another")
def cancelled(breaker: Breaker) -> bool | None:
    """After a cancelled trial, the next call after a cooldown gets through."""
    if not hasattr(breaker, "call_async"):
        return None
    open_up(breaker)
    breaker.pass_time(COOLDOWN + 1)

    async def main() -> bool:
        task = asyncio.create_task(breaker.call_async(asyncio.Event().wait))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        breaker.pass_time(COOLDOWN + 1)

        async def fine() -> bool:
            return True

        with contextlib.suppress(Exception):
            return bool(await breaker.call_async(fine))
        return False

    return asyncio.run(main())


@breaker_trial("late failures of calls from before the outage don't open it again")
def late_failures(breaker: Breaker) -> bool | None:
    """Calls that began before it opened, and fail after it closed, change nothing."""
    if breaker.is_async:
        return asyncio.run(late_failures_async(breaker))
    crew = Crew(breaker)
    crew.start(FAILURES)
    if not crew.settle(lambda: crew.entered == FAILURES, patience_with(breaker.name)):
        crew.end()
        return None  # they follow one another
    open_up(breaker)
    breaker.pass_time(COOLDOWN + 1)
    assert refusal_of(breaker) is None
    crew.end(failing=True)
    return refusal_of(breaker) is None


async def late_failures_async(breaker: Breaker) -> bool:
    """Do the same with tasks."""
    release = asyncio.Event()

    async def hold() -> None:
        await release.wait()
        fail()

    async def fail_now() -> None:
        fail()

    async def fine() -> bool:
        return True

    tasks = [asyncio.create_task(breaker.call_async(hold)) for _ in range(FAILURES)]
    await asyncio.sleep(0)
    for _ in range(FAILURES):
        with contextlib.suppress(RefusedError):
            await breaker.call_async(fail_now)
    breaker.pass_time(COOLDOWN + 1)
    assert await breaker.call_async(fine)
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(Exception):
        return bool(await breaker.call_async(fine))
    return False


def raising_listener(name: str) -> bool | None:
    """A listener's mistake replaces no error of the call, and it opens all the same."""
    with breaker_of(name, raising=True) as breaker:
        if breaker.told is None:
            return None
        first = open_up(breaker)
        assert breaker.told
        refused = refusal_of(breaker)
        return not any(type(error) is RuntimeError for error in first) and refused is not None


BREAKERS["a listener that raises hides no error and keeps it from nothing"] = raising_listener


@retry_trial("an error that isn't transient (`ValueError`) isn't retried unless you say so")
def not_transient(name: str) -> bool | None:
    """A `ValueError` comes out at the first attempt, with nothing said about what to retry."""
    if name in {"stamina", "backoff"}:
        return None  # they ask what to retry
    calls = attempts_made(name, ValueError("bad data"), on=None)
    return calls == 1


@retry_trial("the number of attempts is limited unless you say otherwise")
def limited(name: str) -> bool:
    """An error that never goes away comes out."""
    return attempts_made(name, RefusedError("refused")) < 100


@retry_trial("the original exception comes out")
def original(name: str) -> bool:
    """What the function raised last comes out of the decorated one, by default."""
    error = RefusedError("refused")
    raised = []
    attempts_made(name, error, attempts=2, raised=raised)
    return raised == [error]


@retry_trial("the code inside can ask how much time is left")
def time_left(name: str) -> bool:
    """A function tells the seconds until the operation's deadline."""
    if name == "this library":
        return with_retry(remaining_time, policy=RetryPolicy(deadline=4.0)) is not None
    library: Any = pytest.importorskip(MODULES[name])
    if name == "nopanic":
        return library.compose(library.deadline(4.0), library.retry())(library.time_remaining)() is not None
    return any("remaining" in thing for thing in dir(library))


@retry_trial("an asynchronous attempt that hangs is cut off when the operation's time is over")
def cut_off(name: str) -> bool | None:
    """A coroutine that never ends raises in time, with nothing but the operation's own limit."""
    library: Any = pytest.importorskip(MODULES[name])
    limits = {
        "tenacity": lambda: library.retry(stop=library.stop_after_delay(0.1)),
        "stamina": lambda: library.retry(on=OSError, timeout=0.1),
        "backoff": lambda: library.on_exception(library.expo, OSError, max_time=0.1),
        "nopanic": lambda: library.compose(library.deadline(0.1), library.retry()),
    }

    async def hang() -> None:
        await asyncio.Event().wait()

    async def main(call: Callable[[], Any]) -> bool:
        task = asyncio.create_task(call())
        done, _ = await asyncio.wait([task], timeout=20.0 if name == "this library" else QUICKLY)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, DeadlineExceededError, TimeoutError):
            await task
        return bool(done)

    if name == "this library":
        return asyncio.run(main(lambda: with_retry_async(hang, policy=RetryPolicy(deadline=0.1))))
    if name not in limits:
        return None  # its limits are for each attempt
    return asyncio.run(main(limits[name]()(hang)))


@retry_trial("a generator function is retried or refused, not left alone")
def generators(name: str) -> bool | None:
    """Decorating a generator function that fails twice yields its items, or raises."""
    calls = []

    def items() -> Any:
        calls.append(1)
        if len(calls) < 3:
            fail()
        yield "item"

    with instant():
        try:
            decorated = retry_of(name, 3)(items)
            if name == "hyx":
                asyncio.run(decorated())
            return list(decorated()) == ["item"]
        except TypeError:
            return True
        except Exception:
            return False


@retry_trial("with the same library's breaker: the attempt that opens it is the last, and its error comes out")
def last_attempt(name: str) -> bool | None:
    """Nobody sleeps in front of an open breaker, and the caller learns what happened."""
    if name not in {"this library", "nopanic", "interlock", "hyx"}:
        return None
    with breaker_of(name) as breaker, instant() as sleeps:
        work = both_of(name, breaker.breaker, FAILURES + 2)

        async def fail_async() -> None:
            fail()

        try:
            asyncio.run(work(fail_async)()) if breaker.is_async else work(fail)()
        except Exception as error:
            paused = breaker.sleeps if name == "this library" else sleeps
            return isinstance(error, RefusedError) and len(paused) < FAILURES
    raise AssertionError("nothing came out")


@contextlib.contextmanager
def instant() -> Any:
    """Have nobody sleep; yields the list of the pauses."""
    sleeps: list[float] = []
    pause = asyncio.sleep

    def slept(seconds: float, result: Any = None) -> Any:
        sleeps.append(seconds)
        return pause(0, result)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", sleeps.append)
        patch.setattr(asyncio, "sleep", slept)
        yield sleeps


def attempts_made(name: str, error: Exception, raised: list[Exception] | None = None, **settings: Any) -> int:
    """Return how many attempts a library makes at an error that never goes away; 100 are for ever."""
    calls = []

    def work() -> None:
        calls.append(1)
        if len(calls) >= 100:
            raise KeyboardInterrupt
        raise error

    async def work_async() -> None:
        work()

    with instant():
        decorate = retry_of(name, **{"attempts": None, "on": ConnectionError, **settings})
        try:
            if name == "hyx":
                asyncio.run(decorate(work_async)())
            else:
                decorate(work)()
        except Exception as found:
            if raised is not None:
                raised.append(found)
        except KeyboardInterrupt:
            pass
    return len(calls)


FEATURES = {
    "retries": {
        "tenacity": "tenacity:retry",
        "stamina": "stamina:retry",
        "backoff": "backoff:on_exception",
        "nopanic": "nopanic:retry",
        "interlock": "interlock.integrations.tenacity:RetryStrategy",
        "hyx": "hyx.retry:retry",
    },
    "waits as long as the backend asks (`Retry-After`)": {"nopanic": "nopanic:retry.honor_retry_after"},
    "retry budget": {"nopanic": "nopanic:RetryBudget"},
    "deadline that the code inside can see": {"nopanic": "nopanic:time_remaining"},
    "circuit breaker": {
        "pybreaker": "pybreaker:CircuitBreaker",
        "nopanic": "nopanic:circuit_breaker",
        "interlock": "interlock:CircuitBreaker",
        "hyx": "hyx.circuitbreaker:consecutive_breaker",
    },
    "trips on a failure rate": {"nopanic": "nopanic:BreakerMetrics", "interlock": "interlock:WindowType"},
    "trips on slow calls": {
        "nopanic": "nopanic:BreakerMetrics.slow_call_rate",
        "interlock": "interlock:Config.slow_call_rate_threshold",
    },
    "shadow mode": {"interlock": "interlock:State.METRICS_ONLY"},
    "opened and closed by hand": {
        "pybreaker": "pybreaker:CircuitBreaker.open",
        "nopanic": "nopanic:circuit_breaker.force_open",
        "interlock": "interlock:CircuitBreaker.force_open",
    },
    "a breaker for each host or tenant": {"nopanic": "nopanic:keyed", "interlock": "interlock:Registry"},
    "breaker shared by processes": {
        "pybreaker": "pybreaker:CircuitRedisStorage",
        "interlock": "interlock.integrations.redis:RedisStorage",
    },
    "timeout": {"nopanic": "nopanic:timeout", "interlock": "interlock:timeout", "hyx": "hyx.timeout:timeout"},
    "limit of calls at once": {
        "nopanic": "nopanic:bulkhead",
        "interlock": "interlock:BulkheadStrategy",
        "hyx": "hyx.bulkhead:bulkhead",
    },
    "limit that adapts itself": {"nopanic": "nopanic:adaptive_rate_limit"},
    "rate limit": {"nopanic": "nopanic:rate_limit", "hyx": "hyx.ratelimit:tokenbucket"},
    "hedging": {"nopanic": "nopanic:hedge"},
    "fallback": {
        "nopanic": "nopanic:fallback",
        "interlock": "interlock:FallbackStrategy",
        "hyx": "hyx.fallback:fallback",
    },
    "cache that survives outages": {"nopanic": "nopanic:cache"},
    "HTTP clients": {"interlock": "interlock.integrations.httpx2:CircuitBreakerTransport"},
    "web frameworks": {"interlock": "interlock.integrations.fastapi:install_exception_handler"},
    "metrics": {
        "stamina": "stamina.instrumentation:PrometheusOnRetryHook",
        "interlock": "interlock.integrations.otel:OTelEventListener",
    },
    "tests without sleeping": {
        "stamina": "stamina:set_testing",
        "nopanic": "nopanic.testing:instant",
        "interlock": "interlock:Clock",
    },
}
"""Where a library has what the page says that it has. What it says to be lacking was looked for in documentation."""


def table(title: str) -> list[dict[str, str]]:
    """Return the rows of the table after `<!-- title -->`, by the columns' names."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {title} -->\s*\n((?:\|.*\n)+)", text)
    assert found is not None
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found[1].splitlines()]
    columns = [re.sub(r"\[(.+?)\]\(.*\)", r"\1", cell) for cell in lines[0]]
    return [dict(zip(columns, line, strict=True)) for line in lines[2:]]


def cells(title: str, trials: dict[str, Trial]) -> list[Any]:
    """Return each cell of a table with its trial."""
    return [
        pytest.param(trials[row[""]], name, said, id=f"{name}: {row['']}")
        for row in table(title)
        for name, said in row.items()
        if name
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the other libraries, on newer Pythons
@pytest.mark.parametrize(
    ("trial", "name", "said"), cells("tried: breakers", BREAKERS) + cells("tried: retries", RETRIES)
)
def test_a_cell_of_a_table_is_what_the_library_does(trial: Trial, name: str, said: str) -> None:
    """The trial's result is what the page says."""
    assert said == {True: "yes", False: "no", None: "–"}[trial(name)]


def test_every_trial_stands_in_the_page() -> None:
    """No trial was left out because of its result."""
    assert [row[""] for row in table("tried: breakers")] == list(BREAKERS)
    assert [row[""] for row in table("tried: retries")] == list(RETRIES)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "this library"])
def test_a_library_has_what_the_page_says_that_it_has(name: str) -> None:
    """Each `yes` in a library's column is a name that can be imported."""
    pytest.importorskip(MODULES[name])
    said = {row[""]: row[name] for row in table("features")}
    known = {what: places[name] for what, places in FEATURES.items() if name in places}
    assert {what for what, cell in said.items() if what in FEATURES and cell.startswith("yes")} == set(known)
    for place in known.values():
        module, _, path = place.partition(":")
        thing: Any = importlib.import_module(module)
        for part in path.split("."):
            thing = getattr(thing, part)


def test_the_versions_in_the_page_are_those_that_are_tried() -> None:
    """The page was written for the installed versions, up to the minor one."""
    text = PAGE.read_text(encoding="utf-8")
    for name, version in re.findall(
        r"(\S+) (\d+\.\d+\.\d+)[,.]", text.partition("<!-- versions -->")[2].split("\n\n")[0]
    ):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed = importlib.metadata.version(name)
            assert installed.split(".")[:2] == version.split(".")[:2], f"{name} {installed}: try the page anew"
