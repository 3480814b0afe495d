"""The failed attempts of an operation, kept with the error that comes out of it.

They hang on the error itself, in its `__dict__`: an error of a builtin type cannot be referred to weakly, and a table
beside it would keep it alive. The error is not among them (that would be a cycle) but put back when they are read.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TypeAlias

from booking_resilience import clock
from booking_resilience.checks import check_type, is_a
from booking_resilience.events import FailedAttempt

_KEY = "__booking_resilience_attempts__"
_traceback = BaseException.__dict__["__traceback__"].__get__  # past a class that overrides it
_PLUMBING = tuple(
    f"booking_resilience.{part}"
    for part in ("retry.", "breaker.", "load.", "pipeline", "parts", "batch", "cutoff", "awaitables")
)

RawAttempt: TypeAlias = tuple[int, BaseException | None, float | None, float]
"""Number, error, delay and elapsed of an attempt; the error is None where it is the very one that this hangs on."""


class _Attempts(tuple[RawAttempt, ...]):  # noqa: SLOT001 - a tuple of any length cannot have slots
    """What hangs on an error: its attempts, and what else one must know to tell whose they are.

    Attributes:
        owner: The `id` of the error: a copy takes them along, but has another.
        notes: The notes of this library on the error, each with the moment it was added.
    """

    owner: int
    notes: dict[str, float]

    def __reduce__(self) -> tuple[type[tuple[()]], tuple[()]]:
        # Earlier errors may refuse to be pickled; they must not take the one that came out with them.
        return (tuple, ())


def attempts_of(error: BaseException) -> tuple[FailedAttempt, ...]:
    """Return every failed attempt of the operation that the error came out of, the last included.

    Returns:
        The attempts in order; an empty tuple if the error did not come out of a retried operation, or has been
        pickled or copied since.

    Raises:
        TypeError: If `error` isn't an exception.
    """
    check_type("error", error, is_a(error, BaseException), "an exception")
    return tuple(
        FailedAttempt(number, error if failed is None else failed, delay, elapsed)
        for number, failed, delay, elapsed in _kept(error)
    )


def _kept(error: BaseException) -> _Attempts:
    try:
        kept = error.__dict__.get(_KEY)
    except Exception:  # noqa: BLE001 - an error may hide its attributes
        return _NONE
    return kept if isinstance(kept, _Attempts) and kept.owner == id(error) else _NONE


_NONE = _Attempts()
_NONE.owner, _NONE.notes = 0, {}


def remember(error: BaseException, attempts: Sequence[RawAttempt], note: str, started: float = math.inf) -> None:
    """Hang the attempts and a note on the error; one that refuses either comes out all the same.

    Args:
        error: The error that comes out.
        attempts: The operation's failed attempts.
        note: What came of the operation; the part before `: gave up ` names it.
        started: When the operation began, on the monotonic clock. An error that is raised again and again, a constant,
            has one note of each operation, not thousands; but an operation inside this one may have the same name.
    """
    kept = _Attempts(
        (number, None if failed is error else failed, delay, elapsed) for number, failed, delay, elapsed in attempts
    )
    about = note[: note.index(": gave up ")] + ": gave up "
    before = _kept(error).notes
    old = [line for line, added in before.items() if line == note or (line.startswith(about) and added < started)]
    kept.owner, kept.notes = id(error), {line: added for line, added in before.items() if line not in old}
    kept.notes[note] = clock.monotonic()
    with contextlib.suppress(Exception):
        error.__dict__[_KEY] = kept
    with contextlib.suppress(Exception):
        notes = getattr(error, "__notes__", None)
        if notes and old:
            notes[:] = [line for line in notes if line not in old]
        error.add_note(note)


def forget(error: BaseException) -> None:
    """Take the attempts off the error, because another one carries them now."""
    with contextlib.suppress(Exception):
        error.__dict__.pop(_KEY, None)


def hide_plumbing(error: BaseException | None) -> None:
    """Take this library's own frames out of the error's traceback, but for the first: they tell nothing of what failed.

    An error that is raised again and again, a constant, brings the frames of each time; so does a nested operation.
    """
    tb = None if error is None else _traceback(error)
    while tb is not None:
        after = tb.tb_next
        # Whoever calls `exec` may have put anything there.
        while after is not None and str(after.tb_frame.f_globals.get("__name__")).startswith(_PLUMBING):
            after = after.tb_next
        if after is not tb.tb_next:
            tb.tb_next = after
        tb = after
