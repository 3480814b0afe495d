"""How fast eight processes open together, and how many trials they make.

SHARED_ROUNDS sets the number of rounds (a hundred for a measurement); the figures are printed (`pytest -s`). The bounds
here are wide, since the machines that run tests are noisy.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from redisserver import Fleet, RedisServer, Worker, eventually, hired, needs_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = needs_redis
ROUNDS = int(os.environ.get("SHARED_ROUNDS", "6"))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    """Eight processes."""
    with hired(8) as workers:
        yield workers


@pytest.mark.parametrize("min_reporters", [1, 2])
def test_the_fleet_opens_together(server: RedisServer, workers: list[Worker], min_reporters: int) -> None:
    """From the OPEN of the process that completes the report to everyone's takes some milliseconds."""
    fleet = Fleet(workers, server.url, f"spread {min_reporters}", min_reporters=min_reporters, cooldown=60.0)
    delays, last = [], []
    for number in range(ROUNDS):
        turn = fleet.workers[number % 8 :] + fleet.workers[: number % 8]
        fleet.all("events.clear()")
        for reporter in turn[: min_reporters - 1]:
            reporter.run("attempt(fails)")
            eventually(partial(turn[-1].ask, "breaker.snapshot().shared.reporters == 1"), what="the report arrived")
        turn[min_reporters - 1].run("attempt(fails)")
        fleet.until("open")
        eventually(partial(is_told_everywhere, fleet), what="the listeners are told")
        opened = [worker.ask("events[-1][0]") for worker in turn]
        begin = opened[min_reporters - 1]
        taken = [moment - begin for moment in opened[min_reporters:]]
        delays += taken
        last.append(max(taken))
        turn[0].run("breaker.reset(fleet=True)")
        fleet.until("closed")
        eventually(partial(turn[-1].ask, "breaker.snapshot().shared.state.value == 'closed'"))
    fleet.leave()
    print(
        f"\nmin_reporters {min_reporters}, {ROUNDS} rounds: median {statistics.median(delays) * 1000:.1f} ms, "
        f"median of the last {statistics.median(last) * 1000:.1f} ms, worst {max(delays) * 1000:.1f} ms"
    )
    assert statistics.median(delays) < 0.15
    assert max(delays) < 2.0


def is_told_everywhere(fleet: Fleet) -> bool:
    """Tell whether each process's listener was told that the breaker opened."""
    return all(fleet.all("[new for _, _, new in events][-1:] == ['open']"))


COOLDOWN, LEASE = 0.3, 0.6


def test_one_trial_for_each_cooldown(server: RedisServer, workers: list[Worker], tmp_path: Path) -> None:
    """With every process calling all the time, and every fourth holder killed in its trial, there is one each time."""
    record, stop = tmp_path / "trials", tmp_path / "stop"
    record.touch()
    fleet = Fleet(workers, server.url, "trials", cooldown=COOLDOWN, trial_timeout=LEASE)
    fleet.open()
    names = {"record": str(record), "stop": str(stop)}
    for worker in workers:
        worker.send(CALL_ALL_THE_TIME, **names)
    end = time.monotonic() + 30 + 3 * ROUNDS
    while len(lines := record.read_text().splitlines()) < ROUNDS and time.monotonic() < end:
        for place, worker in enumerate(workers):
            if worker.process.poll() is not None:
                worker.kill()
                workers[place] = Worker()
                fleet.enter(workers[place])
                workers[place].send(CALL_ALL_THE_TIME, **names)
        time.sleep(0.01)
    stop.touch()
    for worker in workers:
        if worker.process.poll() is None:
            worker.receive()
    trials = [(float(moment), fate) for moment, fate in (line.split() for line in lines)]
    gaps = [
        (after[0] - before[0], before[1]) for before, after in itertools.pairwise(trials)
    ]  # one trial for each cooldown: the next begins once the cooldown that this one began is over, and not much later
    early = [gap for gap, fate in gaps if gap < COOLDOWN * 0.9 + (LEASE * 0.9 if fate == "killed" else 0)]
    late = [gap for gap, fate in gaps if gap > COOLDOWN + (LEASE if fate == "killed" else 0) + 2.0]
    killed = sum(fate == "killed" for _, fate in trials)
    print(f"\n{len(trials)} trials, {killed} holders killed, longest gap {max(gap for gap, _ in gaps):.2f} s")
    assert len(trials) >= ROUNDS
    assert killed >= ROUNDS // 4
    assert early == []
    assert late == []


CALL_ALL_THE_TIME = """
def trial():
    with open(record, "r+") as file:
        number = len(file.readlines()) + 1
        fate = "killed" if number % 4 == 0 else "failed"
        file.write(f"{time.monotonic()} {fate}\\n")
    while fate == "killed" and not breaker._core.link.lease.begun:
        time.sleep(0.001)
    if fate == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError("still down")

while not os.path.exists(stop):
    attempt(trial)
    time.sleep(0.005)
"""
