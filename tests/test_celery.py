"""Celery tasks: attempts by the policy, waits for open breakers, run directly, eagerly and by a worker."""

from __future__ import annotations

import contextlib
import itertools

import pytest

pytest.importorskip("celery")
import celery
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore

from booking_resilience import CircuitBreaker, CircuitOpenError, ErrorMonitor, RetryBudget, RetryPolicy, remaining_time
from booking_resilience.celery import resilient_task

QUICK = RetryPolicy(max_attempts=3, base_delay=0.01, max_delay=0.02, jitter=0.0)


_NUMBERS = itertools.count()


class DownError(ConnectionError):
    """The backend is down."""


class Function:
    """A task's function that fails a given number of times, each time with the next error."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls, self.left = list(errors), [], []

    def task(self, app, **settings):
        """Make a task of it."""

        @resilient_task(app, **{"retry": QUICK, "name": f"work{next(_NUMBERS)}", **settings})
        def work(value):
            self.calls.append(value)
            self.left.append(remaining_time())
            if self.errors:
                raise self.errors.pop(0)
            return value * 2

        return work


@pytest.fixture(scope="module")
def by_worker():
    """Run a task to its end by one worker for all tests: it takes seconds to stop."""
    yield from runner(eager=False)


@pytest.fixture
def run_eagerly():
    """Run a task to its end in this process."""
    yield from runner(eager=True)


@pytest.fixture(params=["run_eagerly", "by_worker"])
def run(request):
    """Run a task to its end, in this process or by a worker."""
    return request.getfixturevalue(request.param)


def runner(*, eager):
    """Yield what runs a task."""
    app = celery.Celery("bookings", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.update(task_always_eager=eager, worker_hijack_root_logger=False, worker_redirect_stdouts=False)
    app.conf.update(broker_connection_retry_on_startup=True, broker_transport_options={"polling_interval": 0.01})

    def go(function, **settings):
        task = function.task(app, **settings)
        if eager:
            return task.delay(21).get(timeout=20, disable_sync_subtasks=False)
        worker.consumer.update_strategies()  # it knows the tasks of when it began
        return task.delay(21).get(timeout=20)

    go.app, go.eager = app, eager
    with contextlib.ExitStack() as stack:
        if not eager:
            how = {"perform_ping_check": False, "shutdown_timeout": 20}
            worker = stack.enter_context(start_worker(app, loglevel="WARNING", **how))  # which is the root logger's
        yield go
    app.close()


def test_a_transient_error_is_tried_again_by_the_policy(run):
    """Two failures and a success are three tries of the same task, and one record of a recovery."""
    monitor, function = ErrorMonitor(), Function(ConnectionError("down"), DownError("still down, token=s3cret"))
    assert run(function, monitor=monitor) == 42
    assert function.calls == [21, 21, 21]
    (record,) = monitor.recent()
    assert (record.outcome, record.severity.value, record.attempts) == ("recovered", "warning", 3)
    assert (record.error_type, record.operation[:4]) == (f"{__name__}.DownError", "work")
    assert record.message.startswith("still down")
    assert "s3cret" not in monitor.to_json()


def test_the_policys_attempts_are_the_last_word(run_eagerly):
    """After the last attempt the error comes out, and one record has the number of attempts."""
    monitor, function = ErrorMonitor(), Function(*[ConnectionError("down") for _ in range(9)])
    with pytest.raises(ConnectionError, match="down"):
        run_eagerly(function, monitor=monitor)
    assert len(function.calls) == 3
    (record,) = monitor.recent()
    assert (record.attempts, record.outcome, record.operation[:4]) == (3, "failed", "work")


def test_other_errors_come_out_at_once(run_eagerly):
    """An error that is not transient is not tried again."""
    function = Function(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        run_eagerly(function)
    assert len(function.calls) == 1


class SilentError(ConnectionError):
    """An error without a text."""

    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [ConnectionError("always the same"), SilentError()], ids=["constant", "silent"])
def test_each_task_that_fails_with_the_same_error_has_its_record(run_eagerly, error):
    """An error that an earlier task raised too is recorded again, and what has no text is tried again all the same."""
    monitor = ErrorMonitor()
    for _ in range(2):
        function = Function(*[error] * 3)
        with pytest.raises(type(error)):
            run_eagerly(function, monitor=monitor)
        assert len(function.calls) == 3
    assert [record.attempts for record in monitor.recent()] == [3, 3]


def test_a_monitor_that_raises_changes_nothing(run_eagerly, caplog):
    """What a monitor raises is logged, and the task ends as it would without."""

    class Broken:
        def record(self, error, **_):
            raise RuntimeError("monitor is broken")

    assert run_eagerly(Function(ConnectionError("down")), monitor=Broken()) == 42
    with pytest.raises(ValueError, match="no"):
        run_eagerly(Function(ValueError("no")), monitor=Broken())
    assert caplog.messages.count("the monitor's record raised") == 2


def test_a_budget_pays_the_retries(run_eagerly):
    """Without a token there is no retry; a success adds one."""
    budget = RetryBudget(capacity=2.0, initial=1.0, deposit=1.0)
    function = Function(*[ConnectionError("down") for _ in range(9)])
    policy = RetryPolicy(max_attempts=5, base_delay=0.0, budget=budget)
    with pytest.raises(ConnectionError):
        run_eagerly(function, retry=policy)
    assert len(function.calls) == 2
    assert run_eagerly(Function(), retry=policy) == 42
    assert budget.tokens == 1


def test_the_policys_deadline_bounds_each_try(run_eagerly):
    """Each try has the policy's whole deadline, or the shorter time of an attempt; without either there is none."""
    function = Function(ConnectionError("down"))
    assert run_eagerly(function) == 42
    assert [3 < left <= 4 for left in function.left] == [True, True]
    run_eagerly(function, retry=RetryPolicy(attempt_timeout=2.0))
    assert 0 < function.left.pop() <= 2
    function = Function()
    run_eagerly(function, retry=RetryPolicy(deadline=None))
    assert function.left == [None]


def test_a_refusal_is_waited_for_by_a_worker_and_comes_out_eagerly(run):
    """While the breaker is open a task waits, which is no attempt; run eagerly it is refused."""
    breaker = CircuitBreaker("backend", failure_threshold=1, cooldown=0.3)
    function = Function(ConnectionError("down"), ConnectionError("still down"))
    if run.eager:
        with pytest.raises(CircuitOpenError):
            run(function, breaker=breaker)
        assert len(function.calls) == 1
    else:
        assert run(function, breaker=breaker) == 42
        assert len(function.calls) == 3  # the failed trial was an attempt, too
        assert breaker.snapshot().trips == 2


def test_the_waiting_ends(run):
    """A task that has waited long enough for an isolated breaker is refused, with a record that says so."""
    monitor, breaker = ErrorMonitor(), CircuitBreaker("backend")
    breaker.isolate("maintenance")
    function = Function()
    with pytest.raises(CircuitOpenError):
        run(function, breaker=breaker, monitor=monitor, max_open_wait=0.2)
    (record,) = monitor.recent()
    assert (function.calls, record.outcome, record.attempts) == ([], "refused", 0)


def test_celerys_own_words_pass():
    """What a function says to Celery itself is no failure, and a bound function has its task."""
    app = celery.Celery("bookings", broker="memory://", backend="cache+memory://", set_as_current=False)
    breaker = CircuitBreaker("backend", failure_threshold=1)

    @resilient_task(app, breaker=breaker, bind=True)
    def work(task):
        assert task.name.endswith("work")
        raise Ignore

    with pytest.raises(Ignore):
        work()
    assert breaker.snapshot().failures == 0


def test_a_direct_call_is_made_once():
    """A task that is called as a function waits for nothing and tries once; the error is recorded and comes out."""
    app, monitor = celery.Celery("bookings", set_as_current=False), ErrorMonitor()
    function = Function(ConnectionError("down"))
    with pytest.raises(ConnectionError):
        function.task(app, monitor=monitor)(21)
    assert len(function.calls) == len(monitor.recent()) == 1
    breaker = CircuitBreaker("backend")
    breaker.isolate("maintenance")
    with pytest.raises(CircuitOpenError):
        function.task(app, breaker=breaker, name="other")(21)


def test_settings_that_make_no_sense_are_refused():
    """Wrong settings are refused when the task is made."""
    app = celery.Celery("bookings", set_as_current=False)
    for option in ("max_retries", "autoretry_for"):
        with pytest.raises(TypeError, match=option):
            resilient_task(app, **{option: 3})
    for wrong in (None, celery.Celery):
        with pytest.raises(TypeError, match="app must be a Celery application"):
            resilient_task(wrong)
    with pytest.raises(TypeError, match="retry must be a RetryPolicy"):
        resilient_task(app, retry=3)  # type: ignore[arg-type] - of the wrong type on purpose
    with pytest.raises(ValueError, match="max_open_wait"):
        resilient_task(app, max_open_wait=-1.0)
    with pytest.raises(ValueError, match="retry_on_result"):
        resilient_task(app, retry=RetryPolicy(retry_on_result=bool))

    async def task() -> None:
        """Never run: a worker can't."""

    def generator():
        yield

    for wrong, says in ((task, "plain function"), (generator, "generator function"), (3, "decorates func")):
        with pytest.raises(TypeError, match=says):
            resilient_task(app)(wrong)
