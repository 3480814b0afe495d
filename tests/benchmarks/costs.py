"""The rows of the table that are no ratios of calls: memory, imports, cycles and frames."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tempfile
import tracemalloc
from time import perf_counter
from typing import TYPE_CHECKING, Any

import ours
import peers_breaker
import peers_retry
from measure import Spread, collector_off

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from measure import Target

OURS = "ours"
BREAKERS: Mapping[str, Callable[[str], object]] = {
    OURS: ours.new_breaker,
    "hyx": peers_breaker.new_hyx,
    "circuitbreaker": peers_breaker.new_circuitbreaker,
    "pybreaker": peers_breaker.new_pybreaker,
    "aiobreaker": peers_breaker.new_aiobreaker,
    "interlock": peers_breaker.new_interlock,
    "fluxgate": peers_breaker.new_fluxgate,
    "nopanic": peers_breaker.new_nopanic,
}
RETRIES: Mapping[str, Callable[[Callable[..., Any]], Target]] = {
    OURS: ours.retried(ours.AT_ONCE),
    "resilient-circuit": peers_retry.resilient_circuit,
    "tenaz": peers_retry.tenaz_at_once,
    "backoff": peers_retry.backoff_at_once,
    "retrying": peers_retry.retrying,
    "pyresilience": peers_retry.pyresilience_at_once,
    "redress": peers_retry.redress_at_once,
    "stamina": peers_retry.stamina_at_once,
    "tenacity": peers_retry.tenacity,
    "nopanic": peers_retry.nopanic_at_once,
}
IMPORTS = {
    "ours": "import booking_resilience",
    "ours, all names": "from booking_resilience import *",
    "tenacity": "import tenacity",
    "stamina": "import stamina",
    "backoff": "import backoff",
    "pybreaker": "import pybreaker",
    "circuitbreaker": "import circuitbreaker",
    "nopanic": "import nopanic",
    "interlock": "import interlock",
    "hyx": "import hyx.retry, hyx.circuitbreaker",
}
Figures = tuple[dict[str, float], dict[str, str]]
"""The figure of each contestant, and why others have none."""


def _each(contestants: Mapping[str, Any], measure: Callable[[Any], float]) -> Figures:
    figures: dict[str, float] = {}
    broken: dict[str, str] = {}
    for name, contestant in contestants.items():
        try:
            figures[name] = measure(contestant)
        except Exception as error:
            if name == OURS:
                raise
            broken[name] = f"{type(error).__name__}: {error}"
    return figures, broken


def memory(count: int) -> Figures:
    """Return the bytes that one breaker holds, on average over so many, their names aside."""
    names = [f"breaker-{number}" for number in range(count)]

    def measure(make: Callable[[str], object]) -> float:
        make("first")  # what is made once for all
        made: list[object] = [None] * count
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for place, name in enumerate(names):
            made[place] = make(name)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return held / count

    return _each(BREAKERS, measure)


def imports(rounds: int) -> tuple[dict[str, Spread], dict[str, str]]:
    """Return what each import adds to the start of a fresh interpreter, in milliseconds.

    The processes are interleaved in shuffled order; each time, the interpreter's own start in the same round is taken
    off. Bytecode is cached for all alike.
    """
    draw, nothing = random.Random(0), "pass"
    broken: dict[str, str] = {}
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    with tempfile.TemporaryDirectory() as cache:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = cache

        def run(code: str) -> float:
            started = perf_counter()
            subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=60)
            return perf_counter() - started

        for name, code in IMPORTS.items():
            try:
                run(code)
            except subprocess.CalledProcessError as error:
                if name.startswith(OURS):
                    raise
                broken[name] = error.stderr.decode(errors="replace").strip().splitlines()[-1]
                del times[name]
        order = list(times)
        for _ in range(rounds):
            start = run(nothing)
            draw.shuffle(order)
            for name in order:
                times[name].append((run(IMPORTS[name]) - start) * 1000)
    return {name: Spread.of(values) for name, values in times.items()}, broken


def cycles(calls: int) -> Figures:
    """Return how many objects each call that fails three times leaves in reference cycles."""

    def measure(make: Callable[..., Target]) -> float:
        function = make(_refused).function
        with collector_off():
            for _ in range(3):
                _outcome(function)
            gc.collect()
            for _ in range(calls):
                _outcome(function)
            return gc.collect() / calls

    return _each(RETRIES, measure)


def frames() -> Figures:
    """Return how many frames of the library stand in the traceback of a call that fails three times.

    Counted are those between the caller's frame and the function's own, and those of the error's causes.
    """

    def measure(make: Callable[..., Target]) -> float:
        error = _outcome(make(_refused).function)
        count, seen = 0, []
        while error is not None and error not in seen:
            seen.append(error)
            tb = error.__traceback__
            while tb is not None:
                count += tb.tb_frame.f_globals is not globals()
                tb = tb.tb_next
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return count

    return _each(RETRIES, measure)


def _refused() -> None:
    raise ConnectionError("refused")


def _outcome(function: Callable[[], object]) -> BaseException | None:
    try:
        function()
    except Exception as error:
        return error
    raise RuntimeError("the error did not come out")
