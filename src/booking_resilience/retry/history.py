"""The failed attempts of an operation, kept with the error that comes out of it.

They hang on the error itself, in its `__dict__`: an error of a builtin type cannot be referred to weakly, and a table
beside it would keep it alive. The error is not among them (that would be a cycle) but put back when they are read.
"""

from __future__ import annotations

import contextlib

from booking_resilience.events import FailedAttempt

_KEY = "__booking_resilience_attempts__"


class _Attempts(tuple[FailedAttempt | tuple[int, float | None, float], ...]):
    """What is kept: whole attempts, and (number, delay, elapsed) of those that raised the very error it hangs on."""

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
        item if isinstance(item, FailedAttempt) else FailedAttempt(item[0], error, item[1], item[2]) for item in kept
    )


def remember(error: BaseException, attempts: list[FailedAttempt], note: str) -> None:
    """Hang the attempts and a note on the error; one that refuses either comes out all the same."""
    kept = _Attempts((item.number, item.delay, item.elapsed) if item.error is error else item for item in attempts)
    with contextlib.suppress(Exception):
        error.__dict__[_KEY] = kept
    with contextlib.suppress(Exception):
        about = note[: note.index(": gave up ")]
        # An error that is raised again and again (a constant, say) has one note of each operation, not thousands.
        notes = [line for line in getattr(error, "__notes__", ()) if not str(line).startswith(f"{about}: gave up ")]
        if notes:
            error.__notes__[:] = notes
        error.add_note(note)
