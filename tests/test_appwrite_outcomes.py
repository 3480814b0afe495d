"""`outcome_unknown`, the conflicts, and what is noted on errors that leave it open what became of a write."""

from __future__ import annotations

import datetime
import pickle
from typing import Any

import pytest
from appwrite.exception import AppwriteException

from booking_resilience import (
    CircuitOpenError,
    DeadlineExceededError,
    TransientError,
    deadline,
    is_backend_failure,
    is_transient,
    with_retry,
)
from booking_resilience.appwrite import (
    AppwriteCallError,
    Row,
    RowConflictError,
    SlotTakenError,
    appwrite_retry,
    classify,
    outcome_unknown,
)
from booking_resilience.appwrite.evidence import Evidence, leave_open
from booking_resilience.appwrite.outcomes import mark_outcome
from booking_resilience.retry.history import remember
from booking_resilience.testing import virtual_time

NINE = datetime.datetime(2026, 12, 1, 9, tzinfo=datetime.UTC)


class Marked(str):
    """A string of a kind of its own, as an idempotent ID is."""

    __slots__ = ()


class Closed(Exception):  # noqa: N818 - it is a fake
    """An error that refuses attributes, and hides those that it has."""

    def __getattribute__(self, name: str) -> Any:
        """Hide everything."""
        raise RuntimeError("hidden")

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse everything."""
        raise RuntimeError("closed")


def test_the_error_itself_tells_what_is_open():
    """No answer or a passing failure is open; what was refused, or never left, or asks to slow down, isn't."""
    for error in (TimeoutError(), ConnectionResetError(), AppwriteException("no", 500, "general_unknown"),
                  AppwriteException("no", 408, "database_timeout"), TransientError()):  # fmt: skip
        assert outcome_unknown(error)
        assert outcome_unknown(ExceptionGroup("both", [ValueError(), error]))
    for error in (ValueError(), ConnectionRefusedError(), CircuitOpenError("b"), DeadlineExceededError(),
                  AppwriteException("no", 429, "general_rate_limit_exceeded"), AppwriteException("no", 400, "x"),
                  RowConflictError("r", None), SlotTakenError("t", NINE)):  # fmt: skip
        assert not outcome_unknown(error)
    with pytest.raises(TypeError, match="error must be an exception, not None"):
        outcome_unknown(None)


def test_the_attempts_before_tell_too():
    """A clean refusal that came after an ambiguous attempt carries its doubt."""
    errors = [ConnectionResetError(), AppwriteException("no", 401, "user_unauthorized")]

    def call():
        raise errors.pop(0)

    with pytest.raises(AppwriteException) as caught:
        with_retry(call, policy=appwrite_retry(base_delay=0))
    assert outcome_unknown(caught.value)


def test_conflicts_are_values():
    """The conflicts are 409s, no failures, keep their facts when pickled, and the very ID that was given."""
    marked = Marked("r1")
    error = RowConflictError(marked, Row("r1", {"a": 1}))
    assert error.row_id is marked
    for made in (error, RowConflictError("r", None), SlotTakenError("t", NINE)):
        assert isinstance(made, AppwriteException)
        assert made.code == 409
        assert not is_transient(made)
        assert not classify(made).transient
        assert not is_backend_failure(made)
        again = pickle.loads(pickle.dumps(made))
        assert type(again) is type(made)
        assert str(again) == str(made)
        assert {**vars(again)} == {**vars(made)}


@pytest.mark.parametrize("is_open", [True, False])
def test_what_a_write_found_out_goes_before_what_its_error_means(is_open):
    """The note on an error decides, in a group too, and survives pickling."""
    for error in (TimeoutError(), ValueError()):
        mark_outcome(error, is_open=is_open)
        assert outcome_unknown(error) is is_open
        assert outcome_unknown(ExceptionGroup("one", [error])) is is_open
        assert outcome_unknown(pickle.loads(pickle.dumps(error))) is is_open


def test_an_attempt_that_the_deadline_cut_off_is_open():
    """The deadline leaves it open if an attempt had been made, and not if there was none."""

    def call():
        clock.advance(2.0)
        raise ConnectionResetError

    with virtual_time() as clock:
        with pytest.raises(Exception) as caught, deadline(1.0):  # noqa: PT011 - which of the two is not the point
            with_retry(call, policy=appwrite_retry(base_delay=0))
        assert outcome_unknown(caught.value)
        with pytest.raises(DeadlineExceededError) as none, deadline(0.0):
            with_retry(call, policy=appwrite_retry(base_delay=0))
    assert not outcome_unknown(none.value)


def test_a_deadline_with_attempts_cut_one_off() -> None:
    """Whatever the attempts before ended with, the one that was under way may have been carried out."""
    error = DeadlineExceededError()
    remember(error, [(1, ConnectionRefusedError(), 0.0, 0.0)], "book: gave up after 1 attempt")
    assert outcome_unknown(error)


def test_a_note_of_another_kind_is_none() -> None:
    """What isn't True or False under the note's name doesn't count."""
    error = TimeoutError()
    error.__dict__["__booking_resilience_open__"] = "no"
    assert outcome_unknown(error)
    mark_outcome(error, is_open=False)
    assert not outcome_unknown(error)


def test_an_error_that_refuses_attributes_stays_as_it_is():
    """Nothing can be noted on it, and nothing is raised."""
    error = Closed()
    leave_open(error)
    mark_outcome(error, is_open=True)
    assert not outcome_unknown(error)


def test_an_error_that_is_left_open_is_transient():
    """What was known stays known; of another's error, its verdict is noted. Either means the call may find out."""
    known = AppwriteCallError("cut", evidence=Evidence("answer", "maybe", 409, "row_already_exists", {"a": "b"}))
    leave_open(known)
    assert known.evidence == Evidence("open", "maybe", 409, "row_already_exists", {"a": "b"})
    other = AppwriteException("taken", 409, "row_already_exists")
    leave_open(other)
    assert other.evidence == Evidence("open", "yes", 409, "row_already_exists")
    for error in (known, other):
        assert classify(error).transient
