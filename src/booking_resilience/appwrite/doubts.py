"""What the attempts to write leave open, and what may be said in the end: decided here, for every write and colour.

A 409 proves nothing: a unique index answers it as well as a taken ID does, and the server repeats writes by itself. An
attempt without an answer, or answered by a 5xx, may have been carried out. So after either the row is read, and what
the reading tells decides. A write without an answer may even be carried out after the reading.
"""

from __future__ import annotations

from typing import Final

from booking_resilience.appwrite.classify import classify
from booking_resilience.appwrite.evidence import leave_open
from booking_resilience.appwrite.rows import MISSING
from booking_resilience.errors import DeadlineExceededError
from booking_resilience.retry import attempts_of
from booking_resilience.retry.history import forget, remember

_CONFLICT: Final = 409
_REQUEST_TIMEOUT: Final = 408


class Doubts:
    """What is known of one write. Pure: it is told what happened, and asked what to do.

    Args:
        operation: The write's name, for notes.

    Attributes:
        conflict: The latest 409: the row is there, or something else is in its way.
        missing: The latest answer that the row isn't there.
        ambiguous: The latest error that leaves open whether the write was carried out.
        unanswered: The latest of those that came without any answer: it may still be carried out.
        is_open: Whether the operation ends without knowing.
    """

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self.conflict: BaseException | None = None
        self.missing: BaseException | None = None
        self.ambiguous: BaseException | None = None
        self.unanswered: BaseException | None = None
        self.is_open = False

    def note_all(self, failure: Exception, since: int = 1) -> None:
        """Take in how the attempts failed that ended with this error.

        Args:
            failure: What the attempts ended with.
            since: The number of the first attempt that may have sent the write.
        """
        attempts = attempts_of(failure)
        for item in attempts:
            if item.number >= since:
                self.note(item.error)
        if not attempts and not isinstance(failure, DeadlineExceededError):  # that one came before any attempt
            self.note(failure)

    def note(self, error: BaseException) -> bool:
        """Take in how an attempt failed; tell whether that leaves open what became of it."""
        verdict = classify(error)
        status = verdict.status or 0
        is_unread_success = verdict.transient and verdict.sent == "yes" and status < 300
        was_cut_off = isinstance(error, DeadlineExceededError)
        if verdict.sent == "maybe" or was_cut_off:
            self.ambiguous = self.unanswered = error
        elif status >= 500 or status == _REQUEST_TIMEOUT or is_unread_success:
            self.ambiguous = error
        if status == _CONFLICT:
            self.conflict = error
        if verdict.type in MISSING:
            self.missing = error
        return self.ambiguous is error

    @property
    def are_there(self) -> bool:
        """Whether the stored row has to be read before anything is said."""
        return self.conflict is not None or self.ambiguous is not None or self.missing is not None

    def open_error(self, failure: Exception) -> Exception:
        """Return what to raise where no reading could tell: the error that leaves it open, whatever came later.

        It carries the attempts of the operation. A mere 409 becomes transient to `classify`, since the same call may
        find out.

        Args:
            failure: What the attempts ended with.
        """
        self.is_open = True
        error = self.ambiguous or self.conflict or failure
        if error is self.conflict:
            leave_open(error)
        if error is failure or not isinstance(error, Exception):
            failure.add_note(f"{self._operation}: the row could not be read")
            return failure
        attempts = [(item.number, item.error, item.delay, item.elapsed) for item in attempts_of(failure)]
        count = len(attempts)
        forget(failure)  # its attempts, and a refusal's cause, would lead in a circle
        if failure.__cause__ is error:
            failure.__cause__ = None
        remember(error, attempts, f"{self._operation}: gave up after {count} attempts, the row could not be read")
        return error

    def let_go(self) -> None:
        """Drop the errors: their tracebacks lead back here."""
        self.conflict = self.missing = self.ambiguous = self.unanswered = None
