"""Make a record of an error: read it, redact it, cut it to size. Cheap, because the caller waits."""

from __future__ import annotations

import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from booking_resilience import clock
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import ErrorCategory, FailedAttempt
from booking_resilience.monitor.record import (
    NO_DETAILS,
    Details,
    ErrorRecord,
    Kind,
    Origin,
    Outcome,
    Severity,
    is_mild,
    make_record,
    member_of,
    outcome_of,
    this_process,
)
from booking_resilience.monitor.redact import CYCLE, MESSAGE_LENGTH, Cleaner, Redactor, cut_to, finder, safely, text_of
from booking_resilience.monitor.stacks import (
    FIRST_FRAMES,
    LAST_FRAMES,
    Stack,
    StackTable,
    active_span,
    attributes_of,
    chain,
    fingerprint,
    place_of,
    plain_text,
    traceback_of,
    type_name,
)

_FIRST_TEXTS, _LAST_TEXTS = 4, 12
_MOST_ATTEMPTS = 2**63 - 1
_MOST_SECONDS = 1e18
_OPERATION = 256
_CAUSE_LENGTH = 2 * MESSAGE_LENGTH
_KINDS = 1024
_DEPTH = 3
_NOTES = "__notes__"

Attempts: TypeAlias = "int | Sequence[FailedAttempt] | None"


class RecordBuilder:
    """Makes records. What many of them share is kept once, in bounded tables.

    Args:
        redact: Takes the secrets out.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._finds = finder(redact)
        self._origin = Origin(*this_process(), secrets.token_hex(4), redact)
        self._stacks = StackTable()
        self._kinds: dict[tuple[object, ...], Kind] = {}
        self._busy = threading.local()

    def build(
        self,
        error: BaseException,
        attributes: dict[Any, Any],
        operation: str,
        category: ErrorCategory | str,
        severity: Severity | str,
        outer: Mapping[str, Any] | None,
        context: Mapping[str, Any] | None,
        attempts: Attempts,
        outcome: Outcome,
    ) -> ErrorRecord:
        """Return the record of an error that has these attributes; it has no number yet.

        Its own context wins over the outer one.

        Raises:
            ValueError: If category, severity or outcome is unknown.
        """
        links = chain(error)
        type_, root = type(error), type(links[-1])
        if outcome == "refused":  # nothing was called, so the traceback tells only of this library
            stack, group = self._stacks.find_caller(traceback_of(error)), _refused_by(error, operation)
        else:
            stack, group = self._stacks.find(traceback_of(error)), None
        kind, is_key = None, type(type_) is type is type(root) and type(operation) is str
        key = (id(stack), type_, root, operation, category, severity, outcome, group)
        try:
            if is_key:
                kind = self._kinds.get(key)
        except Exception:  # noqa: BLE001 - whatever was given instead of a string
            is_key = False
        if kind is None:
            kind = self._kind_of(stack, type_, root, operation, category, severity, outcome, group)
            if is_key and len(operation) <= _OPERATION and len(stack) < FIRST_FRAMES + LAST_FRAMES:
                self._kinds = self._kinds if len(self._kinds) < _KINDS else {}
                self._kinds[key] = kind
        text = self._text_of(error)
        is_harmless = self._is_harmless(text)
        is_bare = context is None and attempts is None and not outer and len(links) < 2 and _NOTES not in attributes
        if is_harmless and is_bare and kind.outcome != "refused" and "opentelemetry.trace" not in sys.modules:
            return make_record(kind, NO_DETAILS, text, clock.timestamp(), self._origin)
        cleaner = Cleaner(self._redact)
        message = text if is_harmless else cleaner.text(text)
        number, errors, duration = self._attempts(error, message, attempts, kind.outcome, cleaner)
        trace_id, span_id = active_span()
        details = Details(
            context={**cleaner.context(outer), **cleaner.context(context)} or None,
            attempts=number,
            attempt_errors=errors,
            causes=tuple((self._cause(link, cleaner), self._stacks.find(traceback_of(link))) for link in links[1:]),
            notes=self._notes(attributes, cleaner),
            duration=duration,
            trace_id=trace_id,
            span_id=span_id,
            message_length=None if len(text) == len(message) else len(text),
        )
        details = NO_DETAILS if details == NO_DETAILS else details
        return make_record(kind, details, message, clock.timestamp(), self._origin)

    def _kind_of(
        self, stack: Stack, type_: type, root: type,
        operation: str, category: ErrorCategory | str, severity: Severity | str, outcome: Outcome, group: str | None,
    ) -> Kind:  # fmt: skip
        """Return what records of all this have in common; without a group it is named as the operation is."""
        outcome = outcome_of(outcome)
        member, level = member_of(ErrorCategory, category), member_of(Severity, severity)
        if level is Severity.ERROR and is_mild(type_, outcome):
            level = Severity.WARNING  # error is the default
        name = text_of(operation)
        is_text = issubclass(type(operation), str)
        name = cut_to(name, _OPERATION) if is_text else Cleaner(self._redact).text(name, "operation", _OPERATION)
        group = name if group is None else group
        if outcome == "refused":
            print_ = fingerprint([member, type_name(type_), group])
        else:
            print_ = fingerprint([member, name, type_name(type_), type_name(root)], stack)
        code, line, *_ = stack[-1] if stack else (None, None)
        function, file = (None, None) if code is None else place_of(code)
        return Kind(member, level, name, type_name(type_), outcome, print_, function, file, line, stack, group)

    def _attempts(
        self, error: BaseException, message: str, attempts: Attempts, outcome: Outcome, cleaner: Cleaner
    ) -> tuple[int, tuple[str, ...], float | None]:
        """Return how many attempts were made, the texts of those that failed, and the seconds that they took."""
        kind, number, seconds = type(attempts), 1, None
        lines: tuple[str, ...] = ()
        if issubclass(kind, int):
            number = int.__int__(cast("int", attempts))
        elif issubclass(kind, (tuple, list)):
            number, lines, seconds = safely((1, (), None), self._failed, error, message, attempts, cleaner)
        if outcome == "refused" or (outcome == "fell_back" and number == 0):  # what fell back may have been refused
            return 0, lines, seconds
        succeeded = 1 if lines and outcome == "recovered" else 0
        return min(max(1, number) + succeeded, _MOST_ATTEMPTS), lines, seconds

    def _failed(
        self, error: BaseException, message: str, attempts: Sequence[FailedAttempt], cleaner: Cleaner
    ) -> tuple[int, tuple[str, ...], float | None]:
        failed = tuple(attempts)
        lines = tuple(
            self._line(item.error, cleaner, message if item.error is error else None) for item in _ends(failed)
        )
        return max(1, len(failed)), lines, _seconds(failed[-1].elapsed) if failed else None

    def _cause(self, error: BaseException, cleaner: Cleaner) -> str:
        """Return `type: message` and the notes, a line each."""
        lines = self._line(error, cleaner), *self._notes(attributes_of(error), cleaner)
        return cut_to("\n".join(lines), _CAUSE_LENGTH)

    def _line(self, error: BaseException, cleaner: Cleaner, message: str | None = None) -> str:
        """Return `type: message`, redacted."""
        name = type_name(type(error))
        if message is None:
            message = self._clean(self._text_of(error), cleaner)
        return f"{name}: {message}" if message else name

    def _notes(self, attributes: dict[Any, Any], cleaner: Cleaner) -> tuple[str, ...]:
        notes = attributes.get(_NOTES)
        shown = _ends(notes) if isinstance(notes, (list, tuple)) else ()
        return tuple(self._clean(text_of(note), cleaner) for note in shown)

    def _clean(self, text: str, cleaner: Cleaner) -> str:
        return text if self._is_harmless(text) else cleaner.text(text)

    def _is_harmless(self, text: str) -> bool:
        return len(text) <= MESSAGE_LENGTH and text.isascii() and self._finds(text) is None

    def _text_of(self, error: BaseException) -> str:
        """Return the error's text; a marker if making it records an error whose text does the same, and so on."""
        if (text := plain_text(error)) is not None:
            return text
        depth = getattr(self._busy, "depth", 0)
        if depth >= _DEPTH:
            return CYCLE
        self._busy.depth = depth + 1
        try:
            return text_of(error)
        finally:
            self._busy.depth = depth


def _refused_by(error: BaseException, operation: str) -> str | None:
    """Return the name of the breaker or limit that refused a call; None if it was something else."""
    if not issubclass(type(error), (CircuitOpenError, LimitExceededError)):
        return None
    return cut_to(text_of(safely(operation, getattr, error, "name")), _OPERATION)


def _ends(items: Sequence[Any]) -> tuple[Any, ...]:
    """Return the items; of very many, the first and the last."""
    shown = tuple(items)
    return shown if len(shown) <= _FIRST_TEXTS + _LAST_TEXTS else (*shown[:_FIRST_TEXTS], *shown[-_LAST_TEXTS:])


def _seconds(value: Any) -> float | None:
    """Return the seconds if JSON can represent them, which it can't for infinity and NaN."""
    return value if type(value) in (int, float) and abs(value) < _MOST_SECONDS else None
