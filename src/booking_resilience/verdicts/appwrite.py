"""What the errors of Appwrite's SDK mean, and the bare ones that it lets out. Its rules come before the table's.

The rules are those of the server's source and of what it was seen to do. A status alone doesn't tell: Appwrite sends
unknown codes as 500 with their own type, so a 500 is only the server's trouble if its type says so. The SDK raises
without `from`: what went wrong hangs in `message` or `__context__`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from booking_resilience.checks import is_a
from booking_resilience.verdicts import table
from booking_resilience.verdicts.facts import Found, attribute
from booking_resilience.verdicts.meanings import MEANINGS

_MOST_LINKS: Final = 40
_SDK: Final = "AppwriteException"
_STUMBLES: Final = (AttributeError, KeyError, TypeError, ValueError)
"""What comes bare out of the SDK, when it can't read an answer or is given what it can't send."""
_UNREADABLE: Final = frozenset({"JSONDecodeError", "KeyError", "UnicodeDecodeError", "ValidationError"})
_KINDS: Final = {
    "certificate": "untrusted", "cut": "cut", "local": "mistake", "network": "unanswered", "open": "unanswered",
    "unreadable": "cut",
}  # fmt: skip
"""What `AppwriteClient` knows of a call that was not answered with a failure."""


def find_appwrite(error: BaseException, is_sdk: bool, find: Callable[[BaseException], Found]) -> Found | None:
    """Return what an error of Appwrite's SDK, or of `AppwriteClient`, means; None if it is neither's.

    Args:
        error: The error.
        is_sdk: Whether it is an `AppwriteException`.
        find: Tells what another error means that this one holds.
    """
    if is_sdk and (found := _known(attribute(error, "evidence"))):
        return found
    if is_sdk and (status := status_of(error)):
        kind, response = attribute(error, "type"), _response(error)
        return by_status(status, kind if isinstance(kind, str) else None, attribute(response, "headers"))
    if not is_sdk and not (issubclass(type(error), _STUMBLES) and _came_through(error)):
        return None
    if found := by_response(error):  # of the request, while the SDK could not read its body
        return found
    if not is_sdk:
        return Found("cut", of_appwrite=True) if _is_of_an_answer(error) else Found("mistake")
    for link in _links(error):
        if is_a(link, ValueError) and _came_through(link) and _is_of_an_answer(link):
            return Found("cut", of_appwrite=True)  # the SDK's services wrap what their models reject
        if link is not error and (found := find(link)).meaning in ("cut", "unanswered", "unsent", "untrusted"):
            return found
    return Found("mistake")


def by_response(error: BaseException) -> Found | None:
    """Return what the answer means that an HTTP library hung on its error, somewhere in the chain; None if none is."""
    response = _response(error)
    if response is None:
        return None
    return by_status(attribute(response, "status_code"), _type_in(response), attribute(response, "headers"))


def by_status(status: int, error_type: str | None, headers: Any = None, sent: Any = None) -> Found:
    """Return what an answer of Appwrite means.

    Args:
        status: Its HTTP status, of a failure.
        error_type: Appwrite's error type, or None.
        headers: Its headers.
        sent: Whether the request is known to have arrived; `"yes"` if None.
    """
    if status == 429:
        meaning = "busy"
    else:
        is_failure = status >= 500 or status == 408
        passes = is_passing(status, error_type)
        meaning = ("trouble" if passes else "broken") if is_failure else ("again" if passes else "answered")
    return Found(meaning, sent, status, error_type, headers if MEANINGS[meaning].transient else None, of_appwrite=True)


def is_passing(status: int, error_type: str | None) -> bool:
    """Tell whether an answer with this status and type may be another one later.

    Args:
        status: The HTTP status of a failure.
        error_type: Appwrite's error type, or None.
    """
    if status in (408, 429) or error_type in table.APPWRITE_PASSING:
        return True
    if status < 500 or status in (501, 505):  # not implemented; HTTP version: the same request meets the same answer
        return False
    if status in (502, 504):
        return True
    return error_type not in table.APPWRITE_DISABLED if status == 503 else error_type in table.APPWRITE_TROUBLE


def status_of(error: BaseException) -> int | None:
    """Return the `code` of an AppwriteException, 0 without an answer; None if it isn't one."""
    code = attribute(error, "code")
    return code if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 600 else None


def _known(evidence: Any) -> Found | None:
    kind, status = attribute(evidence, "kind"), attribute(evidence, "status")
    if kind == "answer" and isinstance(status, int):
        return by_status(
            status, attribute(evidence, "type"), attribute(evidence, "headers"), attribute(evidence, "sent")
        )
    if kind not in _KINDS:
        return None
    is_answered = kind in ("open", "unreadable")
    return Found(
        _KINDS[kind], attribute(evidence, "sent"), status, attribute(evidence, "type"), of_appwrite=is_answered
    )


def _links(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it came from, nearest first, up to an SDK's error of an earlier call.

    A context that is suppressed counts as well: Python's own JSON decoder suppresses that of its error.
    """
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST_LINKS:
        link = waiting.pop(0)
        if id(link) in seen or (seen and _is_sdk(link)):
            continue
        seen.add(id(link))
        yield link
        held = (attribute(link, "message"), link.__cause__, link.__context__)
        waiting += [other for other in held if is_a(other, BaseException)]


def _is_sdk(error: BaseException) -> bool:
    return any(base.__name__ == _SDK for base in type(error).__mro__)


def _response(error: BaseException) -> Any:
    """Return the answer that an HTTP library hung on its error, if it is one of a failure."""
    for link in _links(error):
        response = attribute(link, "response")
        status = attribute(response, "status_code")
        if isinstance(status, int) and status >= 300:
            return response
    return None


def _type_in(response: Any) -> str | None:
    try:
        kind = response.json()["type"]
    except Exception:  # noqa: BLE001 - no JSON, no object, or no type in it
        return None
    return kind if isinstance(kind, str) else None


def _came_through(error: BaseException) -> bool:
    return any(module.startswith("appwrite.") for module in _modules(error))


def _is_of_an_answer(error: BaseException) -> bool:
    """Tell whether the SDK stumbled over an answer of success: in its models, or in its client after the request."""
    where = [module for module in _modules(error) if module.startswith("appwrite.")]
    if where[-1].startswith("appwrite.services"):
        return False
    kinds = {base.__name__ for base in type(error).__mro__}
    return where[-1].startswith("appwrite.models") or bool(kinds & _UNREADABLE)


def _modules(error: BaseException) -> Iterator[str]:
    tb = error.__traceback__
    while tb is not None:
        yield str(tb.tb_frame.f_globals.get("__name__", ""))
        tb = tb.tb_next
