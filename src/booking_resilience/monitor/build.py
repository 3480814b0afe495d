"""Making a record of an error: what is read off it, redacted, and cut to size. Cheap, since the caller waits."""

from __future__ import annotations

import itertools
import secrets
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

from booking_resilience import clock
from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.context import ContextCopy
from booking_resilience.monitor.facts import TypeFacts, active_span, chain, fingerprint, traceback_of
from booking_resilience.monitor.record import (
    NO_DETAILS,
    OUTCOMES,
    Details,
    Draft,
    ErrorRecord,
    Kind,
    Severity,
    frozen,
)
from booking_resilience.monitor.redact import (
    CYCLE,
    MESSAGE_LENGTH,
    clean_text,
    finder,
    text_of,
)
from booking_resilience.monitor.stacks import StackTable, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from booking_resilience.events import FailedAttempt
    from booking_resilience.monitor.record import Outcome
    from booking_resilience.monitor.redact import Redactor
    from booking_resilience.monitor.stacks import Stack

_FIRST_ATTEMPTS, _LAST_ATTEMPTS = 4, 12
_MOST_ATTEMPTS = 2**63 - 1
_MOST_SECONDS = 1e18
_TYPES = 1024
_DEPTH = 3


class RecordBuilder:
    """Makes records; what many of them have in common is kept once, in tables of bounded size.

    Args:
        redact: What takes the secrets out.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._finds = finder(redact)
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._stacks = StackTable()
        self._find = self._stacks.find
        self._types: dict[type, TypeFacts] = {}
        self._busy = threading.local()

    def build(
        self,
        error: BaseException,
        operation: str,
        category: ErrorCategory | str,
        severity: Severity | str,
        context: Mapping[str, Any] | None,
        attempts: int | Sequence[FailedAttempt] | None,
        outcome: Outcome,
    ) -> ErrorRecord:
        """Return the record of an error.

        Raises:
            ValueError: If category, severity or outcome is unknown.
        """
        type_ = type(error)
        notes = self._find(traceback_of(error))
        kind: Kind | None = notes.get(type_) if type(type_) is type else None
        if kind is not None and kind.told is not None:
            was_operation, was_category, was_severity, was_outcome = kind.told
            if not (
                was_operation is operation
                and was_category is category
                and was_severity is severity
                and was_outcome is outcome
            ):
                kind = _noted(notes, type_, operation, category, severity, outcome)
        if kind is None or error.__cause__ is not None or error.__context__ is not None:
            return self._full(error, notes, operation, category, severity, context, attempts, outcome)
        args = error.args
        if kind.text_is_argument and len(args) == 1 and type(args[0]) is str:
            text = args[0]
        else:
            text = self._text_of(error, self._facts_of(type_))
        if text == kind.text:
            text = message = kind.text
        else:
            message = self._clean(text, kind)
        details = NO_DETAILS
        if message is not text or context is not None or attempts is not None or "opentelemetry.trace" in sys.modules:
            details = self._details(error, text, message, context, attempts, (), outcome)
        draft = Draft()
        draft._kind, draft._details, draft.message = kind, details, message
        draft._moment, draft._number = clock.timestamp(), next(self._numbers)
        draft.__class__ = ErrorRecord  # type: ignore[assignment] # `frozen`, without the call
        return draft  # type: ignore[return-value] # it is one now

    def _full(
        self,
        error: BaseException,
        notes: dict[Any, Any],
        operation: object,
        category: ErrorCategory | str,
        severity: Severity | str,
        context: Mapping[str, Any] | None,
        attempts: int | Sequence[FailedAttempt] | None,
        outcome: Outcome,
    ) -> ErrorRecord:
        """Return the record of an error that has causes, or the first of its kind."""
        links = list(chain(error))
        causes = tuple((self._line(link), self._stack_of(link)) for link in links[1:])
        kind = self._kind(error, links[-1], notes, operation, category, severity, outcome)
        text = self._text_of(error, self._facts_of(type(error)))
        draft = Draft()
        draft._kind, draft.message = kind, self._clean(text)
        draft._details = self._details(error, text, draft.message, context, attempts, causes, outcome)
        draft._moment, draft._number = clock.timestamp(), next(self._numbers)
        return frozen(draft)

    def _kind(
        self,
        error: BaseException,
        root: BaseException,
        notes: dict[Any, Any],
        operation: object,
        category: ErrorCategory | str,
        severity: Severity | str,
        outcome: Outcome,
    ) -> Kind:
        """Return what the record has in common with others, and note it where it can be found again."""
        member, level = member_of(ErrorCategory, category), member_of(Severity, severity)
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}, not {outcome!r}")
        outcome = OUTCOMES[OUTCOMES.index(outcome)]  # exactly: it may have been a subclass of str
        if outcome in ("recovered", "fell_back") and level is Severity.ERROR:  # the default; what went well is no error
            level = Severity.WARNING
        text = text_of(operation)
        name, root_name = self._facts_of(type(error)).name, self._facts_of(type(root)).name
        cleaned = clean_text(text, self._redact, "operation", 256)
        key: tuple[Any, ...] = (type(error), cleaned, member, level, outcome)
        if error is not root:
            key = (*key, root_name)
        facts = self._facts_of(type(error))
        found = notes.get(key) if facts.is_plain else None
        if found is not None:
            return cast("Kind", found)
        stack: Stack = notes["stack"]
        code, line, _ = stack[-1] if stack else (None, None, None)
        kind = Kind(
            category=member,
            severity=level,
            operation=cleaned,
            error_type=name,
            outcome=outcome,
            fingerprint=fingerprint(member, cleaned, name, root_name, stack),
            place=(None, None, None) if code is None else (*place_of(code), line),
            stack=stack,
            prefix=self._prefix,
            redact=self._redact,
        )
        kind.text_is_argument = facts.text_is_argument
        if facts.is_plain:
            self._stacks.note(notes, key, kind)
            if error is root and type(operation) is str and operation == cleaned:
                kind.told = (operation, category, severity, outcome)
                self._stacks.note(notes, type(error), kind)
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
    ) -> Details:
        least = 0 if outcome in ("refused", "fell_back") else 1  # what fell back may have been refused
        number, errors, duration = self._attempts(error, text, attempts, least)
        if errors and outcome == "recovered":
            number += 1  # the one that succeeded
        trace_id, span_id = active_span()
        copied = ContextCopy(self._redact).of(context) or None
        length = None if len(text) == len(message) else len(text)
        details = Details(copied, number, errors, causes, duration, trace_id, span_id, length)
        return NO_DETAILS if details == NO_DETAILS else details

    def _attempts(
        self, error: BaseException, text: str, attempts: int | Sequence[FailedAttempt] | None, least: int
    ) -> tuple[int, tuple[str, ...], float | None]:
        kind = type(attempts)
        if attempts is None or issubclass(kind, int):
            given = 1 if attempts is None else int.__int__(cast("int", attempts))
            return min(max(least, given), _MOST_ATTEMPTS), (), None
        if not issubclass(kind, (tuple, list)):
            return 1, (), None
        try:
            shown = tuple(cast("Sequence[FailedAttempt]", attempts))
            number, duration = len(shown), shown[-1].elapsed if shown else None
            if number > _FIRST_ATTEMPTS + _LAST_ATTEMPTS:
                shown = (*shown[:_FIRST_ATTEMPTS], *shown[-_LAST_ATTEMPTS:])
            lines = tuple(self._line(item.error, text if item.error is error else None) for item in shown)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - no attempts, then
            return 1, (), None
        return max(1, number), lines, _seconds(duration)

    def _line(self, error: BaseException, text: str | None = None) -> str:
        """Return `type: message`, redacted."""
        facts = self._facts_of(type(error))
        message = self._clean(self._text_of(error, facts) if text is None else text)
        return f"{facts.name}: {message}" if message else facts.name

    def _clean(self, text: str, kind: Kind | None = None) -> str:
        """Return the text redacted and cut; if it was neither, the kind remembers it."""
        if len(text) > MESSAGE_LENGTH or not text.isascii() or self._finds(text) is not None:
            return clean_text(text, self._redact)
        if kind is not None:
            kind.text = text
        return text

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
                self._types.clear()
            self._types[kind] = facts
        return facts


def _seconds(value: Any) -> float | None:
    """Return seconds if JSON could tell them: no infinity and no NaN."""
    return value if type(value) in (int, float) and abs(value) < _MOST_SECONDS else None


def _noted(notes: dict[Any, Any], *key: object) -> Kind | None:
    """Return the kind that is noted under the key; none if a part of it is nothing that could be a key."""
    if type(key[1]) is not str:
        return None
    try:
        return cast("Kind | None", notes.get(key))
    except Exception:  # noqa: BLE001 - it is checked, and refused, in the other way
        return None


def member_of(kind: Any, value: Any) -> Any:
    """Return the member of an enumeration, given as itself or as its value.

    Raises:
        ValueError: If there is none; it names the setting and what is allowed.
    """
    if type(value) is kind:
        return value
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(member.value) for member in kind)
        name = "category" if kind is ErrorCategory else "severity"
        raise ValueError(f"{name} must be one of {known}, not {value!r}") from None
