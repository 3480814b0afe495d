"""What all tests share."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# Machines are slow and noisy: no example is too slow. Each run tries the same examples, so that what it says is about
# the change and not about its luck; HYPOTHESIS_PROFILE=thorough tries others, and more of them.
settings.register_profile(
    "default", deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
# The mutation tester runs a test twice in a process, and must get the same verdict each time.
settings.register_profile(
    "mutants",
    deadline=None,
    max_examples=30,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Have two workers more than there are processors: many tests wait for a process, a server or a clock."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture(scope="session")
def _live_backend() -> Iterator[object]:
    """A database in the Appwrite that the environment names."""
    from backends import drop_database, live_client, make_database

    made = make_database(live_client())
    yield made
    drop_database(made)


@pytest.fixture(params=["embedded", pytest.param("live", marks=pytest.mark.live)])
def backend(request: pytest.FixtureRequest) -> object:
    """An Appwrite with a database: the embedded one; with `-m live` a real one."""
    if request.param == "live":
        return request.getfixturevalue("_live_backend")
    from backends import make_database

    server = request.getfixturevalue("appwrite_server")
    return make_database(server.client(), server)


def hold_coverage_over_forks() -> None:
    """Have no child find coverage's own lock held by a thread that it lacks: it would wait for ever."""
    coverage = sys.modules.get("coverage")
    collector = getattr(coverage and coverage.Coverage.current(), "_collector", None)
    lock = getattr(collector, "data_lock", None)
    if lock is not None and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def let_children_be_interrupted() -> None:
    """Undo that a shell has the tests ignore Ctrl-C because it started them in the background: children inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


hold_coverage_over_forks()
let_children_be_interrupted()
