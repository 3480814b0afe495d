"""Making a record of an error: what is read off it, redacted, and cut to size. Cheap, since the caller waits."""

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
    Outcome,
    Severity,
    make_record,
    member_of,
    outcome_of,
)
from booking_resilience.monitor.redact import CYCLE, MESSAGE_LENGTH, Cleaner, Redactor, cut_to, finder, text_of
from booking_resilience.monitor.source import this_process
from booking_resilience.monitor.stacks import (
    Known,
    Position,
    Stack,
    StackTable,
    TypeFacts,
    active_span,
    attributes_of,
    callers,
    chain,
    fingerprint,
    place_of,
    traceback_of,
)

_FIRST_TEXTS, _LAST_TEXTS = 4, 12
_MOST_ATTEMPTS = 2**63 - 1
_MOST_SECONDS = 1e18
_OPERATION = 256
_TYPES = 1024
_DEPTH = 3
_NOTES = "__notes__"


Told: TypeAlias = tuple[Any, Any, Any, Any]
"""Operation, category, severity and outcome, as they were given."""


class RecordBuilder:
    """Makes records; what many of them have in common is kept once, in tables of bounded size.

    Args:
        redact: What takes the secrets out.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._finds = finder(redact)
        self._prefix = secrets.token_hex(4)
        self._source = this_process()
        self._stacks = StackTable()
        self._find = self._stacks.find
        self._types: dict[type, TypeFacts] = {}
        self._refusals: dict[Any, Known] = {}
        self._busy = threading.local()

    def build(
        self,
        error: BaseException,
        attributes: dict[Any, Any],
        operation: str,
        category: ErrorCategory | str,
        severity: Severity | str,
        context: Mapping[str, Any] | None,
        attempts: int | Sequence[FailedAttempt] | None,
        outcome: Outcome,
    ) -> ErrorRecord:
        """Return the record of an error with these attributes, without a number yet.

        Raises:
            ValueError: If category, severity or outcome is unknown.
        """
        type_ = type(error)
        notes = self._find(traceback_of(error))
        known: Known | None = notes.get(type_) if type(type_) is type else None
        if known is not None:
            was_operation, was_category, was_severity, was_outcome = known.told
            if not (
                was_operation is operation
                and was_category is category
                and was_severity is severity
                and was_outcome is outcome
            ):
                known = _noted(notes, type_, operation, category, severity, outcome)
        if known is None or error.__cause__ is not None or error.__context__ is not None or _NOTES in attributes:
            return self._full(error, notes, (operation, category, severity, outcome), context, attempts)
        args = error.args
        if known.text_is_argument and len(args) == 1 and type(args[0]) is str:
            text = args[0]
        else:
            text = self._text_of(error, self._facts_of(type_))
        message = known.text  # read once: another thread may write it
        cleaner: Cleaner | None = None
        if text != message:
            if len(text) <= MESSAGE_LENGTH and text.isascii() and self._finds(text) is None:
                known.text = message = text
            else:
                cleaner = Cleaner(self._redact)
                message = cleaner.text(text)
        details = NO_DETAILS
        if cleaner or context is not None or attempts is not None or "opentelemetry.trace" in sys.modules:
            cleaner = cleaner or Cleaner(self._redact)
            details = self._details(error, text, message, context, attempts, (), outcome, cleaner)
        return make_record(known.kind, details, message, clock.timestamp())

    def _full(
        self,
        error: BaseException,
        notes: dict[Any, Any],
        told: Told,
        context: Mapping[str, Any] | None,
        attempts: int | Sequence[FailedAttempt] | None,
    ) -> ErrorRecord:
        """Return the record of an error that has causes or notes, or the first of its kind."""
        links, cleaner = chain(error), Cleaner(self._redact)
        kind = self._kind(error, links[-1], notes, told)
        text = self._text_of(error, self._facts_of(type(error)))
        message = self._clean(text, cleaner)
        causes = tuple((self._line(link, cleaner), self._stack_of(link)) for link in links[1:])
        details = self._details(error, text, message, context, attempts, causes, kind.outcome, cleaner)
        return make_record(kind, details, message, clock.timestamp())

    def _kind(self, error: BaseException, root: BaseException, notes: dict[Any, Any], told: Told) -> Kind:
        """Return what the record has in common with others, and note it where it can be found again."""
        operation, category, severity, outcome = told
        member, level = member_of(ErrorCategory, category), member_of(Severity, severity)
        outcome = outcome_of(outcome)
        facts, root_name = self._facts_of(type(error)), self._facts_of(type(root)).name
        is_limit = issubclass(type(error), LimitExceededError)
        if level is Severity.ERROR and (outcome in ("recovered", "fell_back") or (is_limit and outcome == "refused")):
            level = Severity.WARNING  # error is the default, but nothing failed
        name = text_of(operation)
        is_text = issubclass(type(operation), str)
        name = cut_to(name, _OPERATION) if is_text else Cleaner(self._redact).text(name, "operation", _OPERATION)
        stack: Stack = notes["stack"]
        if outcome == "refused":  # nothing was called, so the traceback tells only of this library
            is_named = is_limit or issubclass(type(error), CircuitOpenError)
            group = cut_to(text_of(error, _refuser), _OPERATION) if is_named else name
            stack = callers(traceback_of(error))
            key: tuple[Any, ...] = (type(error), name, member, level, group, *map(_place, stack))
            notes = self._refusals
        else:
            group, key = name, (type(error), name, member, level, outcome)
            if error is not root:
                key = (*key, root_name)
        found = notes.get(key) if facts.is_plain else None
        if found is not None:
            return cast("Kind", found.kind)
        parts = [member, facts.name, group] if outcome == "refused" else [member, name, facts.name, root_name]
        print_ = fingerprint(parts, () if outcome == "refused" else stack)
        code, line, _ = stack[-1] if stack else (None, None, None)
        function, file = (None, None) if code is None else place_of(code)
        kind = Kind(
            member, level, name, facts.name, outcome, print_, function, file, line, stack, group,
            f"{print_}{level}{outcome}", self._prefix, self._redact, self._source,
        )  # fmt: skip
        known = Known(kind, told, text_is_argument=facts.text_is_argument)
        if facts.is_plain and outcome == "refused":
            if len(notes) >= _TYPES:
                notes = self._refusals = {}
            notes[key] = known  # which keeps the code alive whose addresses are in the key
        elif facts.is_plain:
            self._stacks.note(notes, key, known)
            if error is root and type(operation) is str and operation == name:
                self._stacks.note(notes, type(error), known)
        return kind

    def _details(
        self,
        error: BaseException,
        text: str,
        message: str,
        context: Mapping[str, Any] | None,
        attempts: int | Sequence[FailedAttempt] | None,
        causes: tuple[tuple[str, Stack], ...],
        outcome: Outcome,
        cleaner: Cleaner,
    ) -> Details:
        number, errors, duration = self._attempts(error, message, attempts, cleaner)
        if outcome == "refused" or (outcome == "fell_back" and attempts == 0):  # what fell back may have been refused
            number = 0
        elif errors and outcome == "recovered":
            number += 1  # the one that succeeded
        noted = attributes_of(error).get(_NOTES)
        shown = _ends(noted) if isinstance(noted, (list, tuple)) else ()
        lines = tuple(self._clean(text_of(note), cleaner) for note in shown)
        trace_id, span_id = active_span()
        copied = cleaner.context(context) or None
        length = None if len(text) == len(message) else len(text)
        details = Details(copied, number, errors, causes, lines, duration, trace_id, span_id, length)
        return NO_DETAILS if details == NO_DETAILS else details

    def _attempts(
        self,
        error: BaseException,
        message: str,
        attempts: int | Sequence[FailedAttempt] | None,
        cleaner: Cleaner,
    ) -> tuple[int, tuple[str, ...], float | None]:
        kind = type(attempts)
        if attempts is None or issubclass(kind, int):
            return min(max(1, int.__int__(1 if attempts is None else cast("int", attempts))), _MOST_ATTEMPTS), (), None
        if not issubclass(kind, (tuple, list)):
            return 1, (), None
        try:
            failed = tuple(cast("Sequence[FailedAttempt]", attempts))
            lines = tuple(
                self._line(item.error, cleaner, message if item.error is error else None) for item in _ends(failed)
            )
            return max(1, len(failed)), lines, _seconds(failed[-1].elapsed) if failed else None
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - no attempts, then
            return 1, (), None

    def _line(self, error: BaseException, cleaner: Cleaner, message: str | None = None) -> str:
        """Return `type: message`, redacted."""
        facts = self._facts_of(type(error))
        if message is None:
            message = self._clean(self._text_of(error, facts), cleaner)
        return f"{facts.name}: {message}" if message else facts.name

    def _clean(self, text: str, cleaner: Cleaner) -> str:
        is_harmless = len(text) <= MESSAGE_LENGTH and text.isascii() and self._finds(text) is None
        return text if is_harmless else cleaner.text(text)

    def _text_of(self, error: BaseException, facts: TypeFacts) -> str:
        """Return the error's text. One that is made by recording another error, and so on, ends here."""
        if facts.text_is_own and len(error.args) == 1 and type(error.args[0]) is str:
            return text_of(error)
        depth = getattr(self._busy, "depth", 0)
        if depth >= _DEPTH:
            return CYCLE
        self._busy.depth = depth + 1
        try:
            return text_of(error)
        finally:
            self._busy.depth = depth

    def _stack_of(self, error: BaseException) -> Stack:
        return cast("Stack", self._stacks.find(traceback_of(error))["stack"])

    def _facts_of(self, kind: type) -> TypeFacts:
        """Return what is known of an exception type. One with a metaclass of its own is looked at anew each time."""
        found = self._types.get(kind) if type(kind) is type else None
        if found is not None:
            return found
        facts = TypeFacts(kind)
        if type(kind) is type:
            if len(self._types) >= _TYPES:
                self._types = {}
            self._types[kind] = facts
        return facts


def _ends(items: Sequence[Any]) -> tuple[Any, ...]:
    """Return the first and the last of very many."""
    shown = tuple(items)
    return shown if len(shown) <= _FIRST_TEXTS + _LAST_TEXTS else (*shown[:_FIRST_TEXTS], *shown[-_LAST_TEXTS:])


def _place(position: Position) -> tuple[int, int]:
    return id(position[0]), position[1]


def _refuser(error: Any) -> str:
    """Return the name of the breaker or limit that refused."""
    return cast("str", error.name)


def _seconds(value: Any) -> float | None:
    """Return seconds if JSON could tell them: no infinity and no NaN."""
    return value if type(value) in (int, float) and abs(value) < _MOST_SECONDS else None


def _noted(notes: dict[Any, Any], *key: object) -> Known | None:
    """Return what is noted under the key; None if a part of it is nothing that could be a key."""
    if type(key[1]) is not str:
        return None
    try:
        return cast("Known | None", notes.get(key))
    except Exception:  # noqa: BLE001 - it is checked, and refused, in the other way
        return None
