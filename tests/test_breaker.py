"""The circuit breaker as a caller sees it: each sentence of the design."""

from __future__ import annotations

import copy
import gc
import inspect
import logging
import pickle
import time
import tracemalloc
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, get_type_hints

import freezegun
import pytest

from booking_resilience.breaker import BreakerSnapshot, CircuitBreaker, FailureRate, Guard, Permit, SharedSnapshot
from booking_resilience.breaker.permits import says_nothing
from booking_resilience.breaker.shared import RedisBreaker
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState
from booking_resilience.testing.time import VirtualClock, virtual_time
from booking_resilience.verdicts import is_backend_failure
from drivers import LOOPS

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState


class BackendError(Exception):
    """What the backend's failures raise here."""


class BusyError(BackendError):
    """A failure that is no evidence."""


def boom(error: BaseException | None = None) -> None:
    """Fail."""
    raise BackendError("down") if error is None else error


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Virtual time for the whole test."""
    with virtual_time() as virtual:
        yield virtual


def fail(breaker: CircuitBreaker, times: int = 1, error: BaseException | None = None) -> None:
    """Let calls fail, each with its own error."""
    expected = type(error) if error is not None else BackendError
    for _ in range(times):
        with pytest.raises(expected):
            breaker.call(boom, error)


def opened(**settings: Any) -> CircuitBreaker:
    """Return a breaker that one failure has opened."""
    breaker = CircuitBreaker("appwrite", **{"failure_threshold": 1, **settings})
    fail(breaker)
    assert breaker.state is OPEN
    return breaker


def test_consecutive_failures_open_it_and_the_last_caller_gets_its_own_error() -> None:
    """Four failures do not open it, the fifth does, and its error comes out."""
    breaker = CircuitBreaker("appwrite")
    fail(breaker, 4)
    assert breaker.state is CLOSED
    own = BackendError("the fifth")
    with pytest.raises(BackendError) as caught:
        breaker.call(boom, own)
    assert caught.value is own
    assert breaker.state is OPEN


def test_a_success_empties_the_consecutive_count() -> None:
    """Four failures, a success and four failures leave it closed."""
    breaker = CircuitBreaker("appwrite")
    fail(breaker, 4)
    assert breaker.call(int, "3") == 3
    assert breaker.snapshot().consecutive_failures == 0
    fail(breaker, 4)
    assert breaker.state is CLOSED


def test_the_defaults_are_those_of_the_design() -> None:
    """The constructor's defaults are the documented ones."""
    parameters = inspect.signature(CircuitBreaker).parameters
    defaults = {name: item.default for name, item in parameters.items() if item.kind is item.KEYWORD_ONLY}
    expected = {
        "failure_threshold": 5, "failure_rate": None, "cooldown": 30.0, "max_cooldown": None, "trial_calls": 1,
        "trial_timeout": 60.0, "slow_call": None, "failure_on": is_backend_failure, "ignore": says_nothing,
    }  # fmt: skip
    assert {name: defaults[name] for name in expected} == expected


def test_open_refuses_without_calling_until_the_cooldown_is_over(clock: VirtualClock) -> None:
    """A call just before the end of the cooldown is refused, one at its end is the trial; it stays OPEN in between."""
    breaker, calls = opened(cooldown=30.0), []
    clock.advance(29.99)
    with pytest.raises(CircuitOpenError):
        breaker.call(calls.append, 1)
    assert calls == []
    clock.advance(0.01)
    assert breaker.state is OPEN
    breaker.call(calls.append, 2)
    assert calls == [2]
    assert breaker.state is CLOSED


def test_the_texts_are_those_of_the_design(clock: VirtualClock) -> None:
    """A refusal says the name, the seconds to the next trial or the reason of the isolation."""
    breaker = opened(cooldown=15.0)
    clock.advance(2.7)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert str(caught.value) == "Circuit breaker is OPEN: 'appwrite', next trial in 12.3 s"
    assert (caught.value.name, caught.value.cause) == ("appwrite", "down")
    assert caught.value.retry_after == pytest.approx(12.3)
    breaker.isolate("maintenance")
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert str(caught.value) == "Circuit breaker is OPEN: 'appwrite', isolated: maintenance"
    assert str(CircuitOpenError("appwrite", 0.0)) == "Circuit breaker is OPEN: 'appwrite', a trial call is under way"
    assert (caught.value.retry_after, caught.value.cause) == (None, "maintenance")


def test_every_refusal_is_a_fresh_error_within_bounds(clock: VirtualClock) -> None:
    """No two refusals share an error, and `retry_after` lies in [0, cooldown]."""
    breaker, seen = opened(cooldown=30.0), []
    for _ in range(40):
        try:
            breaker.call(boom)
        except (CircuitOpenError, BackendError) as error:
            seen.append(error)
        clock.advance(1.7)
    refusals = [error for error in seen if isinstance(error, CircuitOpenError)]
    assert len({id(error) for error in refusals}) == len(refusals) > 30
    assert all(error.retry_after is not None and 0 <= error.retry_after <= 30 for error in refusals)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_refusal_can_be_pickled_with_its_facts_and_notes(protocol: int) -> None:
    """A refusal comes back whole from a pickle, however it was made."""
    for error in (
        CircuitOpenError("a", 1.5, "E: x"), CircuitOpenError(name="a", retry_after=None, cause="why"),
        CircuitOpenError("a"),
    ):  # fmt: skip
        error.add_note("noted")
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is CircuitOpenError
        assert (again.name, again.retry_after, again.cause) == (error.name, error.retry_after, error.cause)
        assert str(again) == str(error)
        assert again.__notes__ == ["noted"]


def test_a_failed_trial_opens_for_another_cooldown(clock: VirtualClock) -> None:
    """After a failed trial the whole cooldown has to pass again."""
    breaker = opened(cooldown=30.0)
    clock.advance(30)
    fail(breaker)
    assert (breaker.state, breaker.snapshot().retry_after) == (OPEN, 30.0)
    clock.advance(29)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


def test_the_cooldown_doubles_with_each_failed_trial_up_to_its_bound_and_closing_brings_it_back(
    clock: VirtualClock,
) -> None:
    """10, 20, 35, 35 seconds, and 10 again after it was closed."""
    breaker, waited = opened(cooldown=10.0, max_cooldown=35.0), []
    for _ in range(4):
        waited.append(breaker.snapshot().retry_after)
        clock.advance(waited[-1] or 0)
        fail(breaker)
    assert waited == [10, 20, 35, 35]
    clock.advance(35)
    breaker.call(int)
    fail(breaker)
    assert breaker.snapshot().retry_after == 10


def test_half_open_admits_so_many_trials_at_a_time_and_closes_after_so_many_successes(clock: VirtualClock) -> None:
    """With `trial_calls=2`: two at a time, a third is refused with `retry_after` 0, two successes close."""
    breaker = opened(trial_calls=2)
    clock.advance(30)
    first, second = breaker.acquire(), breaker.acquire()
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert caught.value.retry_after == 0.0
    first.success()
    assert breaker.state is HALF_OPEN
    third = breaker.acquire()
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    second.success()
    assert breaker.state is CLOSED
    third.failure()
    assert breaker.snapshot().stale == 1
    assert breaker.snapshot().consecutive_failures == breaker.snapshot().failures == 0


def test_one_failed_trial_of_several_opens(clock: VirtualClock) -> None:
    """A success and a failure of two trials open it, and the third one's result comes too late."""
    breaker = opened(trial_calls=3)
    clock.advance(30)
    one, two, three = (breaker.acquire() for _ in range(3))
    one.success()
    two.failure()
    assert breaker.state is OPEN
    three.success()
    assert (breaker.state, breaker.snapshot().stale) == (OPEN, 1)


@pytest.mark.parametrize("end", ["success", "failure"])
def test_a_late_result_changes_nothing_but_the_stale_count(clock: VirtualClock, end: str) -> None:
    """The end of a call from an earlier epoch leaves every other count, the state and the epoch alone."""
    breaker = CircuitBreaker("appwrite", failure_threshold=1)
    early = [breaker.acquire() for _ in range(3)]
    fail(breaker)
    for now_state in (OPEN, HALF_OPEN, CLOSED):
        if now_state is HALF_OPEN:
            clock.advance(30)
            trial = breaker.acquire()
        if now_state is CLOSED:
            trial.success()
        before = breaker.snapshot()
        assert before.state is now_state
        getattr(early.pop(), end)()
        after = breaker.snapshot()
        assert after.stale == before.stale + 1
        assert replaced(after, stale=0) == replaced(before, stale=0)


def replaced(snapshot: BreakerSnapshot, **changes: Any) -> dict[str, Any]:
    """Return the snapshot's fields with some of them changed."""
    return {**{name: getattr(snapshot, name) for name in BreakerSnapshot.__slots__}, **changes}


def test_a_late_release_is_not_even_stale() -> None:
    """A permit of an earlier epoch that is released changes nothing at all."""
    breaker = CircuitBreaker("appwrite")
    permit = breaker.acquire()
    breaker.reset()
    permit.release()
    assert breaker.snapshot().stale == 0


def test_a_permit_settles_once(clock: VirtualClock) -> None:
    """Whatever is called after the first settlement does nothing."""
    breaker = CircuitBreaker("appwrite")
    permit = breaker.acquire()
    for settle in (permit.failure, permit.failure, permit.success, permit.release):
        settle()
    assert (breaker.snapshot().failures, breaker.snapshot().consecutive_failures) == (1, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), CircuitOpenError("another")])
def test_interrupts_and_refusals_from_inside_give_the_trial_back(clock: VirtualClock, error: BaseException) -> None:
    """Such an error of the trial passes, is no verdict, and lets the next caller try at once."""
    breaker = opened(failure_on=BaseException)
    clock.advance(30)
    before = breaker.snapshot()
    with pytest.raises(type(error)):
        breaker.call(boom, error)
    assert breaker.state is HALF_OPEN
    assert replaced(breaker.snapshot(), state=0, epoch=0, retry_after=0, reason=0) == replaced(
        before, state=0, epoch=0, retry_after=0, reason=0
    )
    breaker.call(int)
    assert breaker.state is CLOSED


def test_a_lost_trial_is_a_failed_one_from_when_it_is_noticed(clock: VirtualClock) -> None:
    """At `trial_timeout` the next acquire opens it for a whole cooldown; the late answer is stale."""
    breaker = opened(cooldown=10.0, trial_timeout=60.0)
    clock.advance(10)
    lost = breaker.acquire()
    clock.advance(59.9)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert breaker.state is HALF_OPEN
    clock.advance(40)
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert (breaker.state, caught.value.retry_after) == (OPEN, 10.0)
    assert breaker.snapshot().trips == 2
    lost.success()
    assert (breaker.state, breaker.snapshot().stale) == (OPEN, 1)
    clock.advance(10)
    breaker.call(int)
    assert breaker.state is CLOSED


def test_a_lost_trial_is_noticed_at_its_own_late_end_too(clock: VirtualClock) -> None:
    """A trial that comes back after its time does not close, though nobody asked in between."""
    breaker = opened(trial_timeout=60.0)
    clock.advance(30)
    trial = breaker.acquire()
    clock.advance(60)
    trial.success()
    assert (breaker.state, breaker.snapshot().stale, breaker.snapshot().retry_after) == (OPEN, 1, 30.0)


@pytest.mark.parametrize("trial_calls", [1, 2])
@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_a_permit_that_was_dropped_unsettled_comes_back(
    clock: VirtualClock, in_a_cycle: bool, trial_calls: int
) -> None:
    """A trial whose permit is garbage leaves its place to the next caller at once, and says nothing."""
    breaker = opened(trial_calls=trial_calls)
    clock.advance(30)
    held: list[Any] = [breaker.acquire() for _ in range(trial_calls)]
    if in_a_cycle:
        held.append(held)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert breaker.snapshot().refused == 1
    del held
    gc.collect()
    for _ in range(trial_calls):
        assert breaker.state is HALF_OPEN
        breaker.call(int)
    assert breaker.state is CLOSED


def test_a_closed_breaker_does_not_mind_a_dropped_permit() -> None:
    """Nothing is out while it is closed, so nothing comes back."""
    breaker = CircuitBreaker("appwrite")
    breaker.acquire()
    gc.collect()
    assert breaker.snapshot() == CircuitBreaker("appwrite").snapshot()


def test_no_cooldown_means_that_the_next_call_is_a_trial() -> None:
    """With `cooldown=0` it opens, and the very next call is the trial."""
    breaker = opened(cooldown=0)
    fail(breaker)
    assert breaker.state is OPEN
    assert breaker.call(int) == 0
    assert breaker.state is CLOSED


def test_the_failure_rate_trips_at_the_ratio_when_a_failure_comes(clock: VirtualClock) -> None:
    """Five failures among ten calls within 30 s open it; four do not; a success never does."""
    breaker = CircuitBreaker("appwrite", failure_rate=FailureRate(ratio=0.5, minimum_calls=10), failure_threshold=6)
    for _ in range(4):
        fail(breaker)
        breaker.call(int)
        clock.advance(1)
    breaker.call(int)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN
    assert breaker.snapshot().reason == "5 of 10 recent calls failed"
    clock.advance(30)
    breaker.call(int)
    fail(breaker)
    assert breaker.state is CLOSED


def test_an_idle_hour_leaves_no_failure_to_count(clock: VirtualClock) -> None:
    """Failures of an hour ago do not weigh."""
    breaker = CircuitBreaker("appwrite", failure_rate=FailureRate(ratio=0.5, minimum_calls=4), failure_threshold=9)
    fail(breaker, 3)
    clock.advance(3600)
    fail(breaker, 3)
    assert breaker.state is CLOSED
    fail(breaker)
    assert breaker.state is OPEN


def test_a_slow_call_is_a_failure_unless_its_error_is_ignored(clock: VirtualClock) -> None:
    """Longer than `slow_call` fails, whatever comes back; just as long does not; ignored errors stay ignored."""
    breaker = CircuitBreaker("appwrite", slow_call=2.0, failure_on=BackendError, ignore=BusyError)
    breaker.call(clock.advance, 2.0)
    assert breaker.snapshot().failures == 0
    breaker.call(clock.advance, 2.01)
    assert breaker.snapshot().failures == 1

    def slow(error: Exception) -> None:
        clock.advance(3)
        raise error

    for error, failures, ignored in ((ValueError(), 2, 0), (BusyError(), 2, 1), (BackendError(), 3, 1)):
        with pytest.raises(type(error)):
            breaker.call(slow, error)
        assert (breaker.snapshot().failures, breaker.snapshot().ignored) == (failures, ignored)
    with breaker.guard():
        clock.advance(5)
    assert breaker.snapshot().failures == 4


@pytest.mark.parametrize("ignore", [BusyError, (BusyError, KeyError), lambda error: isinstance(error, BusyError)])
@pytest.mark.parametrize("failure_on", [BackendError, (OSError, BackendError), lambda e: isinstance(e, BackendError)])
def test_filters_are_types_tuples_or_functions(ignore: Any, failure_on: Any) -> None:
    """What is ignored changes no count but its own; what is no failure is a success; ignore is asked first."""
    breaker = CircuitBreaker("appwrite", ignore=ignore, failure_on=failure_on)
    fail(breaker, 2)
    fail(breaker, 1, BusyError())
    counts = breaker.snapshot()
    assert (counts.consecutive_failures, counts.failures, counts.ignored) == (2, 2, 1)
    fail(breaker, 1, ValueError("refused booking"))
    counts = breaker.snapshot()
    assert (counts.consecutive_failures, counts.failures, counts.ignored) == (0, 2, 1)


def test_an_ignored_trial_gives_its_permit_back(clock: VirtualClock) -> None:
    """It is neither a success nor a failure, and the next caller is the trial; late ones add no permit."""
    breaker = opened(ignore=BusyError)
    clock.advance(30)
    for _ in range(3):
        fail(breaker, 1, BusyError())
        assert breaker.state is HALF_OPEN
    trial = breaker.acquire()
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    trial.failure(BusyError())
    trial.failure(BusyError())
    held = breaker.acquire()
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    held.success()
    assert breaker.state is CLOSED


def test_a_filter_that_raises_is_logged_and_the_error_comes_out(caplog: pytest.LogCaptureFixture) -> None:
    """The call's own error is what the caller sees; it counts as a failure."""

    def broken(error: BaseException) -> bool:
        raise RuntimeError("filter")

    breaker = CircuitBreaker("appwrite", failure_on=broken)
    fail(breaker)
    assert breaker.snapshot().failures == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_an_error_without_a_text_still_opens() -> None:
    """An error whose `__str__` raises is named by its type."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    breaker = CircuitBreaker("appwrite", failure_threshold=1)
    fail(breaker, 1, MuteError())
    with pytest.raises(CircuitOpenError) as caught:
        breaker.acquire()
    assert caught.value.cause == "MuteError"


def test_permits_are_judged_by_the_settings_only_with_an_error() -> None:
    """`failure()` is a failure; `failure(error)` is what `ignore` and `failure_on` say of it."""
    breaker = CircuitBreaker("appwrite", ignore=BusyError, failure_on=BackendError)
    breaker.acquire().failure()
    breaker.acquire().failure(BackendError())
    assert breaker.snapshot().consecutive_failures == 2
    breaker.acquire().failure(BusyError())
    breaker.acquire().failure(KeyboardInterrupt())
    assert (breaker.snapshot().consecutive_failures, breaker.snapshot().ignored) == (2, 1)
    breaker.acquire().failure(ValueError())
    assert breaker.snapshot().consecutive_failures == 0


def test_reset_closes_and_empties_from_every_state(clock: VirtualClock) -> None:
    """After a reset it is closed with all counts at nothing, in a new epoch, closed before or not."""
    for state in BreakerState:
        breaker = CircuitBreaker("appwrite", failure_threshold=1)
        if state is ISOLATED:
            breaker.isolate("why")
        elif state is not CLOSED:
            fail(breaker)
            clock.advance(30 if state is HALF_OPEN else 1)
        if state is HALF_OPEN:
            breaker.acquire()
        events: list[BreakerEvent] = []
        breaker.subscribe(events.append)
        before = breaker.snapshot()
        assert before.state is state
        breaker.reset()
        assert breaker.snapshot() == BreakerSnapshot(
            **replaced(
                before, state=CLOSED, epoch=before.epoch + 1, consecutive_failures=0, failures=0, refused=0, stale=0,
                ignored=0, trips=0, retry_after=None, reason="reset by hand",
            )
        )  # fmt: skip
        assert [(event.old, event.new) for event in events] == ([] if state is CLOSED else [(state, CLOSED)])


def test_isolate_refuses_for_its_reason_until_reset(clock: VirtualClock) -> None:
    """Time does not end it, again only changes the reason, and the reset says why it closed."""
    breaker, events = CircuitBreaker("appwrite"), []
    breaker.subscribe(events.append)
    breaker.isolate("first")
    epoch = breaker.snapshot().epoch
    breaker.isolate("second")
    clock.advance(1e6)
    for _ in range(2):
        with pytest.raises(CircuitOpenError, match="isolated: second"):
            breaker.call(int)
    counts = breaker.snapshot()
    assert (counts.state, counts.epoch, counts.reason, counts.refused) == (ISOLATED, epoch, "second", 2)
    breaker.reset("fixed")
    assert breaker.call(int) == 0
    assert [(event.new, event.reason) for event in events] == [(ISOLATED, "first"), (CLOSED, "fixed")]
    with pytest.raises(ValueError, match="reason must be"):
        breaker.isolate("")
    for act in (partial(breaker.isolate, "why"), breaker.reset):
        with pytest.raises(TypeError, match="fleet must be True or False, not 'no'"):
            act(fleet="no")  # type: ignore[arg-type] # on purpose


def test_a_reset_during_a_call_makes_its_end_stale() -> None:
    """A call that resets the breaker and then fails does not count in the new epoch."""
    breaker = CircuitBreaker("appwrite", failure_threshold=1)

    def reset_and_fail() -> None:
        breaker.reset()
        raise BackendError

    with pytest.raises(BackendError):
        breaker.call(reset_and_fail)
    assert (breaker.state, breaker.snapshot().stale, breaker.snapshot().failures) == (CLOSED, 1, 0)


def test_the_snapshot_counts(clock: VirtualClock) -> None:
    """Failures, refusals, ignored and stale results and trips are counted, failed trials as trips too."""
    breaker = CircuitBreaker("appwrite", failure_threshold=2, ignore=BusyError)
    early = breaker.acquire()
    fail(breaker, 1, BusyError())
    fail(breaker, 2)
    for _ in range(3):
        with pytest.raises(CircuitOpenError):
            breaker.call(int)
    early.success()
    clock.advance(30)
    fail(breaker)
    clock.advance(12)
    found = replaced(breaker.snapshot())
    found.pop("shared", None)
    assert found.pop("would_refuse") == 0
    assert found == {
        "name": "appwrite", "state": OPEN, "epoch": 3, "consecutive_failures": 3, "failures": 3, "refused": 3,
        "stale": 1, "ignored": 1, "trips": 2, "retry_after": 18.0, "reason": "the trial failed",
    }  # fmt: skip
    clock.advance(100)
    assert breaker.snapshot().retry_after == 0.0


def test_listeners_see_every_transition_in_order_until_they_are_closed(clock: VirtualClock) -> None:
    """Each listener gets each transition once, one that subscribed twice gets it twice."""
    breaker = CircuitBreaker("appwrite", failure_threshold=1)
    seen: list[BreakerEvent] = []
    with breaker.subscribe(seen.append), breaker.subscribe(seen.append) as second:
        fail(breaker)
        second.close()
        clock.advance(30)
        breaker.call(int)
    breaker.isolate("unseen")
    steps = [(event.name, event.old, event.new) for event in seen]
    assert steps == [
        ("appwrite", CLOSED, OPEN), ("appwrite", CLOSED, OPEN), ("appwrite", OPEN, HALF_OPEN),
        ("appwrite", HALF_OPEN, CLOSED),
    ]  # fmt: skip
    with pytest.raises(TypeError, match="listener must be"):
        breaker.subscribe(3)  # type: ignore[arg-type] - that is the point


def test_a_listener_that_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The others are told, the caller gets its own error, the breaker trips."""
    breaker, seen = CircuitBreaker("appwrite", failure_threshold=1), []

    def broken(event: BreakerEvent) -> None:
        raise ValueError("listener")

    breaker.subscribe(broken)
    breaker.subscribe(seen.append)
    fail(breaker)
    assert breaker.state is OPEN
    assert len(seen) == 1
    assert "a listener raised on BreakerEvent" in caplog.messages


def test_a_log_handler_that_raises_changes_nothing() -> None:
    """The breaker trips and tells its listeners though the logging is broken."""

    class BrokenHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    logger, handler = logging.getLogger("booking_resilience.breaker"), BrokenHandler()
    logger.addHandler(handler)
    try:
        breaker, seen = CircuitBreaker("appwrite", failure_threshold=1), []
        breaker.subscribe(seen.append)
        fail(breaker)
    finally:
        logger.removeHandler(handler)
    assert (breaker.state, len(seen)) == (OPEN, 1)


def test_a_listener_that_interrupts_the_start_of_a_trial_costs_no_permit(clock: VirtualClock) -> None:
    """The interrupt passes, the trial's place is free, and later transitions are told."""
    breaker, seen, interrupts = opened(), [], []

    def listener(event: BreakerEvent) -> None:
        seen.append(event.new)
        if interrupts:
            raise interrupts.pop()

    breaker.subscribe(listener)
    clock.advance(30)
    for start in (breaker.acquire, partial(breaker.call, int), breaker.guard().__enter__):
        breaker.reset()
        fail(breaker)
        clock.advance(30)
        interrupts.append(KeyboardInterrupt())
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            start()
        assert breaker.state is HALF_OPEN
        assert breaker.call(int) == 0
        assert seen == [HALF_OPEN, CLOSED]


def test_listeners_may_use_the_breaker_and_the_order_stays() -> None:
    """A listener that resets, isolates and calls inside an event gets the further events after it."""
    breaker, seen = CircuitBreaker("appwrite", failure_threshold=1), []

    def listener(event: BreakerEvent) -> None:
        seen.append((event.old, event.new))
        if event.new is OPEN:
            breaker.reset("by a listener")
            assert breaker.call(int) == 0
            breaker.isolate("by a listener")

    breaker.subscribe(listener)
    fail(breaker)
    assert seen == [(CLOSED, OPEN), (OPEN, CLOSED), (CLOSED, ISOLATED)]


def test_the_log_has_levels_and_facts(caplog: pytest.LogCaptureFixture, clock: VirtualClock) -> None:
    """Opening is a warning, closing an info, with the facts as fields and without the error's text."""
    caplog.set_level(logging.INFO, "booking_resilience.breaker")
    breaker = CircuitBreaker("appwrite", failure_threshold=1)
    fail(breaker, 1, BackendError("secret"))
    clock.advance(30)
    breaker.call(int)
    facts = [(item.levelname, item.breaker, item.old, item.new) for item in caplog.records]  # type: ignore[attr-defined] - fields of `extra`
    assert facts == [
        ("WARNING", "appwrite", "closed", "open"), ("INFO", "appwrite", "open", "half_open"),
        ("INFO", "appwrite", "half_open", "closed"),
    ]  # fmt: skip
    assert "secret" not in caplog.text


def test_a_function_may_call_the_breaker_it_is_called_through(clock: VirtualClock) -> None:
    """Nested calls count each by itself; inside a trial there is no second one."""
    breaker = CircuitBreaker("appwrite", failure_threshold=3)
    assert breaker.call(breaker.call, breaker.call, int, "7") == 7
    with pytest.raises(BackendError):
        breaker.call(breaker.call, boom)
    assert breaker.snapshot().failures == 2
    fail(breaker)
    clock.advance(30)
    with pytest.raises(CircuitOpenError):
        breaker.call(breaker.call, int)
    assert breaker.state is HALF_OPEN
    assert breaker.call(int) == 0


def test_the_forms_of_use_agree(clock: VirtualClock) -> None:
    """Decorator, call, guard and permit count alike, on functions and methods."""
    breaker = CircuitBreaker("appwrite", failure_threshold=4)

    class Service:
        @breaker
        def book(self, number: int, *, fails: bool = False) -> int:
            """Book."""
            if fails:
                boom()
            return number

    assert Service().book(3) == 3
    assert (Service.book.__name__, Service.book.__doc__) == ("book", "Book.")
    with pytest.raises(BackendError):
        Service().book(3, fails=True)
    fail(breaker)
    with pytest.raises(BackendError), breaker.guard():
        boom()
    assert breaker.snapshot().failures == 3
    with breaker.guard():
        pass
    assert breaker.snapshot().consecutive_failures == 0
    breaker.isolate("now")
    for use in (partial(Service().book, 1), partial(breaker.call, int), breaker.guard().__enter__, breaker.acquire):
        with pytest.raises(CircuitOpenError):
            use()


def test_awaitables_and_generators_are_refused() -> None:
    """`call` on a coroutine function names `call_async` and gives its permit back; generators fail at decoration."""
    for breaker in (CircuitBreaker("calm"), CircuitBreaker("watched", slow_call=1.0)):

        async def coroutine() -> None: ...

        for call in (partial(breaker.call, coroutine), breaker(lambda: coroutine())):
            with pytest.raises(TypeError, match="call_async"):
                call()
        counts = breaker.snapshot()
        assert (counts.failures, counts.stale, counts.refused) == (0, 0, 0)

        def generator() -> Iterator[int]:
            yield 1

        async def async_generator() -> Any:
            yield 1

        class Callable:
            def __call__(self) -> Iterator[int]:
                yield 1

        for wrong in (generator, async_generator):
            with pytest.raises(TypeError, match="generator"):
                breaker(wrong)
        for wrong in (generator, async_generator, partial(generator), Callable()):
            with pytest.raises(TypeError, match=r"CircuitBreaker.call was given the generator function"):
                breaker.call(wrong)
            with pytest.raises(TypeError, match=r"CircuitBreaker.call_async was given"):
                LOOPS[0].run(lambda breaker=breaker, wrong=wrong: breaker.call_async(wrong))
        assert list(breaker.call(lambda: (number for number in range(2)))) == [0, 1]
        counts = breaker.snapshot()
        assert (counts.failures, counts.stale, counts.refused) == (0, 0, 0)


def test_what_is_no_function_is_named() -> None:
    """A value instead of a function is refused with what to give, by a calm breaker and by one that watches."""
    for breaker in (CircuitBreaker("calm"), CircuitBreaker("watched", slow_call=1.0)):
        with pytest.raises(TypeError, match="fn must be a function, not 42; pass the function itself, not"):
            breaker.call(42)  # type: ignore[arg-type] # that is the point
        with pytest.raises(TypeError, match="fn must be a function, not 42"):
            LOOPS[0].run(lambda breaker=breaker: breaker.call_async(42))
        with pytest.raises(TypeError, match="fn must be a function, not <coroutine"):
            breaker.call(nothing())  # type: ignore[arg-type] # that is the point
        with pytest.raises(TypeError, match="fn must be a function, not None"):
            breaker.call(None)  # type: ignore[arg-type] # that is the point
        assert breaker.snapshot().failures == 0


async def nothing() -> None:
    """Return nothing."""


def test_what_cannot_be_called_so_gives_the_trial_back(clock: VirtualClock) -> None:
    """A misuse in a trial leaves the trial to the next caller, in both colours."""
    breaker = opened()
    clock.advance(30)

    async def coroutine() -> None: ...

    awaited = partial(LOOPS[0].run, partial(breaker.call_async, None))
    for misuse in (partial(breaker.call, None), partial(breaker.call, coroutine), awaited):
        with pytest.raises(TypeError, match=r"fn must be a function, not None|use call_async"):
            misuse()
        assert breaker.state is HALF_OPEN
    assert breaker.call(int) == 0


@pytest.mark.parametrize("error", ["timeout", TimeoutError, 3])
def test_what_is_no_exception_is_no_failure(clock: VirtualClock, error: Any) -> None:
    """A text or a type instead of an exception is refused, and the permit stays to be settled."""
    breaker = opened()
    clock.advance(30)
    permit = breaker.acquire()
    with pytest.raises(TypeError, match=r"^error must be an exception that was raised, or None, not "):
        permit.failure(error)
    permit.success()
    assert breaker.state is CLOSED


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_breaker_cannot_be_copied_or_pickled(copied: Any) -> None:
    """A copy would count by itself, so it is refused with what to do."""
    for thing in (CircuitBreaker("appwrite"), [CircuitBreaker("appwrite")]):
        if copied is not copy.copy or not isinstance(thing, list):
            with pytest.raises(TypeError, match=r"'appwrite' closed> can't be copied or pickled: .+RedisBreaker"):
                copied(thing)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name", ""), ("failure_threshold", 0), ("failure_threshold", 2.5), ("cooldown", -1),
        ("cooldown", float("nan")), ("cooldown", float("inf")), ("max_cooldown", 29.0), ("max_cooldown", float("inf")),
        ("trial_calls", 0), ("trial_timeout", 0), ("trial_timeout", -1.0), ("slow_call", 0),
        ("slow_call", float("nan")),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting: str, value: Any) -> None:
    """Each raises `ValueError` with the setting, its value and what is allowed."""
    settings = {"name": "appwrite", setting: value}
    with pytest.raises(ValueError, match=f"^{setting} must be .+, not ") as caught:
        CircuitBreaker(settings.pop("name"), **settings)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name", None), ("failure_threshold", True), ("failure_threshold", "5"), ("failure_rate", 0.5),
        ("failure_rate", FailureRate), ("cooldown", "30"), ("max_cooldown", "60"), ("trial_calls", None),
        ("trial_timeout", None), ("slow_call", "1"), ("failure_on", 3), ("failure_on", int), ("failure_on", (int,)),
        ("failure_on", (3,)), ("ignore", "x"), ("ignore", None), ("shared", 3),
        ("shared", RedisBreaker),
    ],
)  # fmt: skip
def test_settings_of_the_wrong_type_are_refused(setting: str, value: Any) -> None:
    """Each raises `TypeError` with the setting, its value and what is allowed."""
    settings = {"name": "appwrite", setting: value}
    with pytest.raises(TypeError, match=f"^{setting} must be .+, not ") as caught:
        CircuitBreaker(settings.pop("name"), **settings)
    assert repr(value) in str(caught.value)


async def coroutine_filter(error: BaseException) -> bool:
    """Be a filter that nobody would await."""
    return True


def generator_filter(error: BaseException) -> Iterator[bool]:
    """Be a filter whose body would never run."""
    yield True


@pytest.mark.parametrize("wrong", [coroutine_filter, partial(coroutine_filter), generator_filter])
@pytest.mark.parametrize("setting", ["failure_on", "ignore", "listener"])
def test_functions_that_would_never_run_are_refused_when_they_are_given(setting: str, wrong: Any) -> None:
    """A coroutine or generator function as filter or listener is a `TypeError` that names the argument."""
    with pytest.raises(TypeError, match=f"^{setting} must be "):
        if setting == "listener":
            CircuitBreaker("appwrite").subscribe(wrong)
        else:
            CircuitBreaker("appwrite", **{setting: wrong})


def test_filters_that_turn_out_to_give_an_awaitable_answer_no_and_yes(caplog: pytest.LogCaptureFixture) -> None:
    """It is closed and logged once: the error is not ignored, and is a failure."""
    breaker = CircuitBreaker("appwrite", ignore=lambda _: nothing(), failure_on=lambda _: nothing())
    fail(breaker, 5)
    assert breaker.state is OPEN
    assert [record.getMessage().count("returned an awaitable") for record in caplog.records] == [1, 1, 0]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("setting", ["failure_on", "ignore", "text"])
def test_an_exit_out_of_user_code_passes_and_gives_the_trial_back(
    clock: VirtualClock, setting: str, kind: type[BaseException]
) -> None:
    """An exit or interrupt of a filter, or of an error's own text, comes out; the next caller is the trial."""
    armed = False

    def exits(_: object = None) -> bool:
        if armed:
            raise kind
        return setting == "failure_on"

    class SpokenError(BackendError):
        def __str__(self) -> str:
            return str(exits())

    filters = {} if setting == "text" else {setting: exits}
    breaker = opened(**filters)
    clock.advance(30)
    armed = True
    with pytest.raises(kind):
        breaker.call(boom, SpokenError())
    armed = False
    assert breaker.state is HALF_OPEN
    assert breaker.call(int) == 0
    assert breaker.state is CLOSED


def test_a_frozen_clock_ends_a_cooldown_and_letting_it_go_leaves_a_way_out() -> None:
    """Ticks of freezegun count; when its clock is let go, a cooldown begun under it does not last for ever."""
    with freezegun.freeze_time("2030-01-01") as frozen:
        breaker = opened(cooldown=30.0)
        frozen.tick(29)
        with pytest.raises(CircuitOpenError):
            breaker.acquire()
        frozen.tick(1)
        breaker.acquire()
        assert breaker.state is HALF_OPEN
    with pytest.raises(CircuitOpenError):
        breaker.acquire()
    assert breaker.state is OPEN
    with freezegun.freeze_time("2030-01-01"):
        breaker = opened(cooldown=30.0)
    assert breaker.call(int) == 0


def test_wall_clock_jumps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock a day ahead does not end a cooldown."""
    breaker = opened()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(CircuitOpenError):
        breaker.acquire()


def test_it_says_what_it_is_and_lets_itself_be_collected() -> None:
    """The repr has name and state, and a dropped breaker is freed without the garbage collector."""
    breaker = CircuitBreaker("appwrite")
    assert repr(breaker) == "<CircuitBreaker 'appwrite' closed>"
    fail(breaker)
    alive = weakref.ref(breaker)
    del breaker
    assert alive() is None
    function = CircuitBreaker("decorator")(int)
    alive = weakref.ref(function.__circuit_breaker__)
    assert alive() is not None
    del function
    assert alive() is None


def test_annotations_can_be_read_at_runtime() -> None:
    """`typing.get_type_hints` knows every name in the annotations of what is public."""
    for public in (CircuitBreaker, Permit, Guard, BreakerSnapshot, SharedSnapshot, FailureRate):
        get_type_hints(public)
        for name, member in vars(public).items():
            if not name.startswith("__") or name in ("__init__", "__call__", "__enter__", "__exit__", "__aexit__"):
                function = member.fget if isinstance(member, property) else member
                if inspect.isfunction(function):
                    get_type_hints(function)


def test_one_breaker_takes_at_most_500_bytes() -> None:
    """Measured over 2,000 of them."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        breakers = [CircuitBreaker("appwrite") for _ in range(2000)]
        each = (tracemalloc.get_traced_memory()[0] - before) / len(breakers)
    finally:
        tracemalloc.stop()
    assert each <= 500
