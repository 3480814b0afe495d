"""The verdict on an error, and the questions that retries, breakers and people ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from booking_resilience.checks import is_a, leaves
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import ErrorCategory
from booking_resilience.verdicts.facts import Found, attribute
from booking_resilience.verdicts.find import find
from booking_resilience.verdicts.meanings import Sent, Text
from booking_resilience.verdicts.waits import seconds_of, wait_in

_RISK: Final[dict[Sent, int]] = {"no": 0, "yes": 1, "maybe": 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error of a call means.

    Attributes:
        transient: Whether the same call may succeed later.
        sent: Whether the request reached the server: `"no"`, it provably never left; `"maybe"`, no answer came;
            `"yes"`, an answer came, also one that broke off or can't be read.
        category: `APPWRITE` if Appwrite answered, else `NETWORK`.
        status: The HTTP status; None if there is none, or none in reach.
        type: The server's own name for it: Appwrite's type, the name of a gRPC code, a SQLSTATE, an AWS error code,
            the first word of Redis' answer; else None.
        retry_after: Seconds to wait before the next attempt, as the error or the answer's headers ask, infinity
            included; None if they name no usable time.
    """

    transient: bool
    sent: Sent
    category: ErrorCategory
    status: int | None
    type: str | None
    retry_after: float | None


def classify(error: BaseException) -> Verdict:
    """Return what an error means: one of a common library, known by its class, or any with a `response`.

    An exception group means what its leaves mean together. What isn't known is not transient, and may have been sent.

    Raises:
        TypeError: If `error` isn't an exception.

    >>> verdict = classify(ConnectionRefusedError())
    >>> verdict.transient, verdict.sent, verdict.category.value
    (True, 'no', 'network')
    """
    return judge(error, find)


def judge(error: BaseException, find_one: Callable[[BaseException], Found]) -> Verdict:
    """Return what an error means, by what `find_one` knows of each that isn't a group."""
    _check(error)
    each = [(leaf, find_one(leaf)) for leaf in leaves(error)]
    first, is_group = each[0][1], is_a(error, BaseExceptionGroup)
    return Verdict(
        transient=all(found.says.transient for _, found in each),
        sent=max((found.reached for _, found in each), key=_RISK.__getitem__),
        category=ErrorCategory.APPWRITE if first.of_appwrite else ErrorCategory.NETWORK,
        status=None if is_group else first.status,
        type=None if is_group else first.type,
        retry_after=_longest_wait(each),
    )


def is_transient(error: BaseException) -> bool:
    """Tell whether the same call may succeed later: `classify(error).transient`.

    >>> is_transient(TimeoutError()), is_transient(KeyError("slot"))
    (True, False)
    """
    _check(error)
    return all(find(leaf).says.transient for leaf in leaves(error))


def is_backend_failure(error: BaseException) -> bool:
    """Tell whether an error counts as a failure of the backend. Errors of an unknown kind do.

    The answers of a healthy backend (a refused login, a 404, a conflict) don't, nor does what is no evidence.
    """
    _check(error)
    return any(find(leaf).says.failure for leaf in leaves(error))


def is_no_evidence(error: BaseException) -> bool:
    """Tell whether an error says nothing of the backend's health.

    These are requests to slow down, rejections by this library's own breakers and limits, the end of an enclosing
    deadline, mistakes of the program, and interrupts.
    """
    _check(error)
    return not any(find(leaf).says.evidence for leaf in leaves(error))


def retry_after_of(error: BaseException) -> float | None:
    """Return the seconds to wait that an error asks for, 0 or more, infinity included; None if it asks for none.

    Its attribute `retry_after` is asked first, then the headers of its answer; of a group, the longest counts.
    """
    return _longest_wait((leaf, find(leaf)) for leaf in leaves(error))


def told_of(error: BaseException) -> tuple[Text, int | None]:
    """Return the text for people of an error that isn't a group, the network's or the service's, and its status."""
    found = find(error)
    return found.says.text, found.status


def holds(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Tell whether an error is of one of these types, or a group that holds such a one."""
    return any(issubclass(type(leaf), kinds) for leaf in leaves(error))


def holds_interrupt(error: BaseException) -> bool:
    """Tell whether an error is an interrupt, an exit or a cancellation, or a group that holds one."""
    return any(not is_a(leaf, Exception) for leaf in leaves(error))


def is_own_refusal(error: BaseException) -> bool:
    """Tell whether all of an error are refusals of breakers and limits of ours, or interrupts."""
    return all(
        is_a(leaf, CircuitOpenError) or is_a(leaf, LimitExceededError) or not is_a(leaf, Exception)
        for leaf in leaves(error)
    )


def _check(error: object) -> None:
    if not is_a(error, BaseException):
        raise TypeError(f"error must be an exception, not {error!r}")


def _longest_wait(each: Iterable[tuple[BaseException, Found]]) -> float | None:
    waits = (_wait(leaf, found) for leaf, found in each)
    return max((wait for wait in waits if wait is not None), default=None)


def _wait(error: BaseException, found: Found) -> float | None:
    wait = seconds_of(attribute(error, "retry_after"))
    if wait is None:
        wait = found.wait
    return wait_in(found.headers, found.status, found.of_appwrite) if wait is None else wait
