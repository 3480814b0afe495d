"""The rows of the table that are ratios to a bare call: what is called, through whom, and how it is timed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import least
import ours
import peers_breaker
import peers_limits
import peers_retry
from measure import BARE, Clocked, Spread, Target, time_awaits, time_calls, time_refusals, time_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Make = Callable[[Callable[..., Any]], Target]

LIMIT = "limit"
TRIPS = 200  # failing calls that open every breaker at its settings


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        key: Its name in the JSON.
        what: Its title.
        works: Makes the function that is called.
        bare: Makes the call without any library.
        limit: Makes the least that a hand-written closure can do.
        ours: This library's ways, by name.
        peers: The other libraries, by name.
        kind: How it is timed.
    """

    key: str
    what: str
    works: Callable[[], Callable[..., Any]]
    limit: Make
    ours: Mapping[str, Make]
    peers: Mapping[str, Make]
    kind: Literal["sync", "async", "failures", "threads", "refusals"] = "sync"
    bare: Make = field(default=Target)


@dataclass(frozen=True)
class Result:
    """What was measured of a row.

    Attributes:
        ratios: Of each contestant to the bare call.
        bare: Nanoseconds of the bare call.
        broken: Why a peer could not be measured.
    """

    ratios: dict[str, Spread]
    bare: Spread
    broken: dict[str, str]


def measure(row: Row, *, rounds: int, block: float) -> Result:
    """Measure one row; a peer that is missing or does not do what the row is about is left out, with the reason."""
    contestants: dict[str, Make] = {BARE: row.bare, LIMIT: row.limit, **row.ours, **row.peers}
    targets: dict[str, Target] = {}
    broken: dict[str, str] = {}
    with asyncio.Runner() as runner, _no_sleep() if row.kind == "failures" else contextlib.nullcontext():
        for name, make in contestants.items():
            try:
                target = make(row.works())
                _check(row, name, target, runner)
            except Exception as error:
                if name not in row.peers:
                    raise
                broken[name] = f"{type(error).__name__}: {error}"
            else:
                targets[name] = target
        timers = {"threads": time_threads, "refusals": time_refusals, "async": time_awaits(runner)}
        timer = gauge = timers.get(row.kind, time_calls)
        if row.kind == "threads":
            # A few switches from thread to thread; and starting threads must not be taken for work.
            gauge, block = time_calls, max(0.02, block)
        ratios, bare = Clocked(targets, timer, gauge, block).ratios(rounds)
    return Result(ratios, bare, broken)


@contextlib.contextmanager
def _no_sleep() -> Iterator[None]:
    """Have nobody sleep: a `time.sleep(0)`, which some peers make, costs more than all else."""
    sleep, time.sleep = time.sleep, lambda seconds: None
    try:
        yield
    finally:
        time.sleep = sleep


def _check(row: Row, name: str, target: Target, runner: asyncio.Runner) -> None:
    """See that the contestant does what the row is about, before it is timed."""
    if row.kind == "refusals":
        if name == BARE:
            return
        for _ in range(TRIPS):
            with contextlib.suppress(Exception):
                target.function(*target.args)
        called = failing.calls
        with contextlib.suppress(Exception):
            target.function(*target.args)
        if failing.calls != called:
            raise RuntimeError("does not open")
        return
    for _ in range(3):
        outcome = target.function(*target.args)
        if row.kind == "async":
            outcome = runner.run(_awaited(outcome))
        if outcome != "done":
            raise RuntimeError(f"returned {outcome!r}")


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def succeeds() -> Callable[[], str]:
    """Return a function that succeeds."""

    def work() -> str:
        return "done"

    return work


def succeeds_async() -> Callable[[], Any]:
    """Return a coroutine function that succeeds."""

    async def work() -> str:
        return "done"

    return work


def fails_twice() -> Callable[[], str]:
    """Return a function that fails twice, then succeeds, over and over."""
    calls = 0

    def work() -> str:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ConnectionError
        return "done"

    return work


class _Failing:
    """A function that always fails, and counts its calls."""

    calls = 0

    def __call__(self) -> Callable[[], str]:
        def work() -> str:
            self.calls += 1
            raise ConnectionError

        return work


failing = _Failing()


def by_hand(fn: Callable[..., Any]) -> Target:
    """Do the same raising and catching in a loop by hand."""

    def call() -> Any:
        while True:
            try:
                return fn()
            except ConnectionError:
                pass

    return Target(call)


def raises(fn: Callable[..., Any]) -> Target:
    """Raise an error, and nothing else."""

    def refuse() -> Any:
        raise least.RefusedError

    return Target(refuse)


def of(decorate: Callable[..., Any]) -> Make:
    """Return what makes a target of a decorator."""
    return lambda fn: Target(decorate(fn))


ROWS = (
    Row(
        "retry_sync",
        "retry, success, sync decorated",
        succeeds,
        of(least.retry),
        {
            "ours, no deadline": ours.retried(ours.NO_DEADLINE),
            "ours, default policy": ours.retried(ours.DEFAULT),
        },
        {
            "resilient-circuit": peers_retry.resilient_circuit,
            "tenaz": peers_retry.tenaz,
            "nopanic": peers_retry.nopanic,
            "pyresilience": peers_retry.pyresilience,
            "backoff": peers_retry.backoff,
            "retrying": peers_retry.retrying,
            "redress": peers_retry.redress,
            "stamina": peers_retry.stamina,
            "tenacity": peers_retry.tenacity,
        },
    ),
    Row(
        "retry_async",
        "retry, success, async decorated",
        succeeds_async,
        of(least.retry_async),
        {
            "ours, no deadline": ours.retried(ours.NO_DEADLINE),
            "ours, default policy": ours.retried(ours.DEFAULT),
        },
        {
            "resilient-circuit": peers_retry.resilient_circuit,
            "tenaz": peers_retry.tenaz,
            "nopanic": peers_retry.nopanic,
            "hyx": peers_retry.hyx,
            "backoff": peers_retry.backoff,
            "stamina": peers_retry.stamina,
            "tenacity": peers_retry.tenacity,
        },
        "async",
    ),
    Row(
        "retry_failures",
        "two failures, then success, no sleep",
        fails_twice,
        of(least.retry),
        {
            "ours, no deadline": ours.retried(ours.AT_ONCE_NO_DEADLINE),
            "ours, default policy": ours.retried(ours.AT_ONCE),
        },
        {
            "resilient-circuit": peers_retry.resilient_circuit,
            "tenaz": peers_retry.tenaz_at_once,
            "nopanic": peers_retry.nopanic_at_once,
            "backoff": peers_retry.backoff_at_once,
            "retrying": peers_retry.retrying,
            "pyresilience": peers_retry.pyresilience_at_once,
            "redress": peers_retry.redress_at_once,
            "tenacity": peers_retry.tenacity,
            "stamina": peers_retry.stamina_at_once,
        },
        "failures",
        by_hand,
    ),
    Row(
        "both_sync",
        "retry + breaker, success, sync",
        succeeds,
        of(least.both),
        {"ours, call": ours.pipeline_call, "ours, decorated": ours.pipeline_protect},
        {
            "tenaz": peers_retry.tenaz_breaker,
            "nopanic": peers_breaker.nopanic_both,
            "interlock": peers_breaker.interlock_both,
            "pyresilience": peers_retry.pyresilience_breaker,
            "backoff+circuitbreaker": peers_breaker.backoff_circuitbreaker,
            "stamina+circuitbreaker": peers_breaker.stamina_circuitbreaker,
            "tenacity+pybreaker": peers_breaker.tenacity_pybreaker,
        },
    ),
    Row(
        "both_async",
        "retry + breaker, success, async",
        succeeds_async,
        of(least.both_async),
        {"ours, call": ours.pipeline_call_async, "ours, decorated": ours.pipeline_protect},
        {
            "tenaz": peers_retry.tenaz_breaker,
            "nopanic": peers_breaker.nopanic_both,
            "interlock": peers_breaker.interlock_both,
            "hyx": peers_breaker.hyx_both,
            "backoff+circuitbreaker": peers_breaker.backoff_circuitbreaker,
        },
        "async",
    ),
    Row(
        "breaker_decorated",
        "breaker closed, success, decorated",
        succeeds,
        of(least.breaker),
        {"ours": ours.breaker},
        {
            "circuitbreaker": peers_breaker.circuitbreaker,
            "nopanic": peers_breaker.nopanic,
            "purgatory": peers_breaker.purgatory,
            "aiobreaker": peers_breaker.aiobreaker,
            "pybreaker": peers_breaker.pybreaker,
            "interlock": peers_breaker.interlock,
            "fluxgate": peers_breaker.fluxgate,
            "resilient-circuit": peers_breaker.resilient_circuit,
            "pyresilience": peers_breaker.pyresilience,
        },
    ),
    Row(
        "breaker_call",
        "breaker closed, success, plain call",
        succeeds,
        lambda fn: Target(least.Breaker().call, (fn,)),
        {"ours": ours.breaker_call},
        {
            "nopanic": peers_breaker.nopanic_call,
            "purgatory": peers_breaker.purgatory_block,
            "aiobreaker": peers_breaker.aiobreaker_call,
            "tenaz": peers_breaker.tenaz,
            "redress": peers_breaker.redress_call,
        },
    ),
    Row(
        "breaker_async",
        "breaker closed, success, async",
        succeeds_async,
        of(least.breaker_async),
        {"ours, decorated": ours.breaker, "ours, call": ours.breaker_call_async},
        {
            "circuitbreaker": peers_breaker.circuitbreaker,
            "nopanic": peers_breaker.nopanic,
            "interlock": peers_breaker.interlock,
            "hyx": peers_breaker.hyx,
            "tenaz": peers_breaker.tenaz,
            "purgatory": peers_breaker.purgatory_async,
        },
        "async",
    ),
    Row(
        "breaker_refusal",
        "breaker open, refusal",
        failing,
        of(least.breaker),
        {"ours": ours.breaker},
        {
            "circuitbreaker": peers_breaker.circuitbreaker,
            "nopanic": peers_breaker.nopanic,
            "fluxgate": peers_breaker.fluxgate,
            "pyresilience": peers_breaker.pyresilience,
            "pybreaker": peers_breaker.pybreaker,
            "interlock": peers_breaker.interlock,
        },
        "refusals",
        raises,
    ),
    Row(
        "breaker_threads",
        "breaker closed, success, 8 threads",
        succeeds,
        of(least.breaker),
        {"ours": ours.breaker},
        {
            "circuitbreaker": peers_breaker.circuitbreaker,
            "nopanic": peers_breaker.nopanic,
            "purgatory": peers_breaker.purgatory,
            "pybreaker": peers_breaker.pybreaker,
            "interlock": peers_breaker.interlock,
        },
        "threads",
    ),
    Row(
        "limit_sync",
        "concurrency limit, free place, sync",
        succeeds,
        of(least.limit),
        {
            "ours, call": ours.limit_call,
            "ours, decorated": ours.limit,
            "ours, adaptive call": ours.adaptive_call,
            "ours, adaptive decorated": ours.adaptive,
        },
        {"nopanic": peers_limits.nopanic_bulkhead, "pyresilience": peers_limits.pyresilience_bulkhead},
    ),
    Row(
        "limit_async",
        "concurrency limit, free place, async",
        succeeds_async,
        of(least.limit_async),
        {"ours, decorated": ours.limit, "ours, adaptive decorated": ours.adaptive},
        {
            "nopanic": peers_limits.nopanic_bulkhead,
            "hyx": peers_limits.hyx_bulkhead,
            "pyresilience": peers_limits.pyresilience_bulkhead,
        },
        "async",
    ),
    Row(
        "rate_sync",
        "rate limit, free turn, sync",
        succeeds,
        of(least.rate),
        {"ours, call": ours.rate_call, "ours, decorated": ours.rate},
        {
            "nopanic": peers_limits.nopanic_rate,
            "pyresilience": peers_limits.pyresilience_rate,
            "limits": peers_limits.limits_fixed_window,
        },
    ),
    Row(
        "rate_async",
        "rate limit, free turn, async",
        succeeds_async,
        of(least.rate_async),
        {"ours, decorated": ours.rate},
        {
            "nopanic": peers_limits.nopanic_rate,
            "hyx": peers_limits.hyx_rate,
            "aiolimiter": peers_limits.aiolimiter,
            "pyresilience": peers_limits.pyresilience_rate,
        },
        "async",
    ),
)
