"""The facts that an error carries: a status, a number, a code, a word. Each reader gives what they tell, or None."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from booking_resilience.verdicts import table
from booking_resilience.verdicts.meanings import MEANINGS, Meaning, Rule, Sent
from booking_resilience.verdicts.waits import header, seconds_of

_TEXT_READ: Final = 10_000
_PIPELINED: Final = re.compile(r"^Command # \d+ .*? caused error: ", re.DOTALL)
_WORD: Final = re.compile(r"^-?([A-Z][A-Z0-9]{2,})\b")
_COUNTED: Final = re.compile(r"too many (\d{3}) error responses")
_NUMBERS: Final = {getattr(errno, name): meaning for name, meaning in table.ERRNOS.items() if hasattr(errno, name)}


class Found(NamedTuple):
    """What was found out of an error.

    Attributes:
        meaning: A key of `MEANINGS`.
        sent: Whether the request reached the server, where that isn't what the meaning says.
        status: The HTTP status.
        type: The server's own name for the error.
        headers: The answer's headers.
        wait: Seconds to wait that the answer asks for elsewhere.
        of_appwrite: Whether Appwrite answered.
    """

    meaning: str
    sent: Sent | None = None
    status: int | None = None
    type: str | None = None
    headers: Any = None
    wait: float | None = None
    of_appwrite: bool = False

    @property
    def says(self) -> Meaning:
        """What it says of the call and of the backend."""
        return MEANINGS[self.meaning]

    @property
    def reached(self) -> Sent:
        """Whether the request reached the server."""
        return self.sent or self.says.sent


def attribute(thing: object, path: str) -> Any:
    """Return an attribute, or with dots an attribute's attribute; None if there is none or it can't be read."""
    try:
        for name in path.split("."):
            thing = thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a broken property says nothing
        return None
    return thing


def text_of(error: BaseException) -> str:
    """Return the beginning of an error's text; an empty string if it can't be had."""
    try:
        return str(error)[:_TEXT_READ]
    except Exception:  # noqa: BLE001 - a broken __str__ says nothing
        return ""


def by_status(status: int, headers: object = None) -> Found:
    """Return what an HTTP status means, 400 to 599."""
    meaning = table.STATUSES.get(status) or ("answered" if status < 500 else "broken")
    return Found(meaning, status=status, headers=headers)


def _status(error: BaseException, rule: Rule) -> Found | None:
    status = attribute(error, rule.where)
    if not isinstance(status, int) or isinstance(status, bool):
        return None
    if 400 <= status <= 599:
        holder, _, _ = rule.where.rpartition(".")
        found = by_status(int(status), attribute(error, f"{holder}.headers" if holder else "headers"))
        return found._replace(meaning="busy") if rule.meaning == "busy" else found
    if rule.meaning == "unknown" or not 100 <= status < 400:
        return None
    return Found(rule.meaning if status < 300 else "answered", status=int(status))


def _counted(error: BaseException, _rule: Rule) -> Found | None:
    found = _COUNTED.search(text_of(error))
    return by_status(int(found[1])) if found and 400 <= int(found[1]) <= 599 else None


def _errno(error: BaseException, _rule: Rule) -> Found | None:
    number = attribute(error, "errno")
    if number is None:
        return None
    meaning = _NUMBERS.get(number, "unknown") if isinstance(number, int) else "unknown"
    return Found(meaning)


def _ssl(error: BaseException, _rule: Rule) -> Found | None:
    reason, library = attribute(error, "reason"), attribute(error, "library")
    if isinstance(reason, str) and any(sign in reason.upper().replace(" ", "_") for sign in table.SSL_REASONS):
        return Found("untrusted")
    return Found("unknown") if isinstance(library, str) and library != "SSL" else None


def _grpc(error: BaseException, _rule: Rule) -> Found | None:
    code = attribute(_called(error, "code"), "name")
    if not isinstance(code, str):
        return None
    meaning, sent = table.GRPC_CODES.get(code, ("answered", "yes"))
    pushback = header(_called(error, "trailing_metadata"), "grpc-retry-pushback-ms")
    if pushback is None:
        return Found(meaning, sent, type=code)
    wait = seconds_of(pushback)
    if wait is not None:
        return Found(meaning, "yes", type=code, wait=wait / 1000)
    says = MEANINGS[meaning]
    if says.transient:  # the server forbids a retry
        meaning = "broken" if says.failure else "answered"
    return Found(meaning, "yes", type=code)


def _called(error: BaseException, name: str) -> Any:
    method = attribute(error, name)
    try:
        return method() if callable(method) else None
    except Exception:  # noqa: BLE001 - a call that has no end yet, or a broken method
        return None


def _redis(error: BaseException, rule: Rule) -> Found | None:
    if rule.where:
        return Found(rule.meaning, type=rule.where)
    found = _WORD.match(_PIPELINED.sub("", text_of(error)))
    word = found[1] if found else None
    return Found(table.REDIS_WORDS.get(word or "", rule.meaning), type=word)


def _sqlstate(error: BaseException, _rule: Rule) -> Found | None:
    state = attribute(error, "sqlstate")
    if not isinstance(state, str) or len(state) != 5:
        return None
    for length in (5, 4, 2):
        if meaning := table.SQLSTATES.get(state[:length]):
            return Found(meaning, type=state)
    return Found("answered", type=state)


def _invalidated(error: BaseException, _rule: Rule) -> Found | None:
    return Found("unanswered") if attribute(error, "connection_invalidated") is True else None


def _aws(error: BaseException, rule: Rule) -> Found | None:
    response = attribute(error, "response")
    code, status = attribute(response, "Error.Code"), attribute(response, "ResponseMetadata.HTTPStatusCode")
    headers = attribute(response, "ResponseMetadata.HTTPHeaders")
    is_status = isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599
    found = by_status(status, headers) if is_status else Found(rule.meaning, headers=headers)
    if isinstance(code, str):
        found = found._replace(type=code)
        if code.lower() in table.AWS_THROTTLING:
            found = found._replace(meaning="busy")
    return found


READERS: Final[dict[str, Callable[[BaseException, Rule], Found | None]]] = {
    "aws": _aws,
    "counted": _counted,
    "errno": _errno,
    "grpc": _grpc,
    "invalidated": _invalidated,
    "redis": _redis,
    "sqlstate": _sqlstate,
    "ssl": _ssl,
    "status": _status,
}
