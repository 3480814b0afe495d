"""The failed attempts of an operation, kept with the error that comes out of it.

They hang on the error itself, in its `__dict__`: an error of a builtin type cannot be referred to weakly, and a table
beside it would keep it alive. The error is not among them (that would be a cycle) but put back when they are read.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeAlias

from booking_resilience.events import FailedAttempt

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = "__booking_resilience_attempts__"

RawAttempt: TypeAlias = tuple[int, BaseException | None, float | None, float]
"""Number, error, delay and elapsed of an attempt; the error is None where it is the very one that this hangs on."""


class _Attempts(tuple[RawAttempt, ...]):
    """What hangs on an error."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[tuple[()]], tuple[()]]:
        # Earlier errors may refuse to be pickled; they must not take the one that came out with them.
        return (tuple, ())


def attempts_of(error: BaseException) -> tuple[FailedAttempt, ...]:
    """Return every failed attempt of the operation that the error came out of, the last included.

    Returns:
        The attempts in order; an empty tuple if the error did not come out of a retried operation, or has been
        pickled or copied since.
    """
    try:
        kept = error.__dict__.get(_KEY, ())
    except Exception:  # noqa: BLE001 - an error may hide its attributes
        return ()
    return tuple(
        FailedAttempt(number, error if failed is None else failed, delay, elapsed)
        for number, failed, delay, elapsed in kept
    )


def remember(error: BaseException, attempts: Sequence[RawAttempt], note: str) -> None:
    """Hang the attempts and a note on the error; one that refuses either comes out all the same."""
    kept = _Attempts(
        (number, None if failed is error else failed, delay, elapsed) for number, failed, delay, elapsed in attempts
    )
    with contextlib.suppress(Exception):
        error.__dict__[_KEY] = kept
    with contextlib.suppress(Exception):
        # An error that is raised again and again (a constant, say) has one note of each operation, not thousands.
        about = note[: note.index(": gave up ")] + ": gave up "
        notes = getattr(error, "__notes__", None)
        if notes:
            notes[:] = [line for line in notes if not str(line).startswith(about)]
        error.add_note(note)


def forget(error: BaseException) -> None:
    """Take the attempts off the error, because another one carries them now."""
    with contextlib.suppress(Exception):
        error.__dict__.pop(_KEY, None)
