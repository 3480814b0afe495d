"""Make a record of an error: read it, redact it, cut it to size. Cheap, because the caller waits."""

from __future__ import annotations

import functools
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from booking_resilience import clock
from booking_resilience.callbacks import safely, text_of
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
from booking_resilience.monitor.redact import CYCLE, MESSAGE_LENGTH, Cleaner, Redactor, cut_to, finder
from booking_resilience.monitor.stacks import (
    Known,
    Place,
    PlaceTable,
    TypeFacts,
    active_span,
    attributes_of,
    chain,
    fingerprint,
    place_of,
    traceback_of,
)

_FIRST_TEXTS, _LAST_TEXTS = 4, 12
_MOST_ATTEMPTS = 2**63 - 1
_MOST_SECONDS = 1e18
_OPERATION = 256
_CAUSE_LENGTH = 2 * MESSAGE_LENGTH
_TYPES = 1024
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
        self._places = PlaceTable()
        self._find = self._places.find
        self._facts = functools.lru_cache(_TYPES)(TypeFacts)
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

        Its own context wins over the outer one, also where both are more than a record holds.

        Raises:
            ValueError: If category, severity or outcome is unknown.
        """
        type_, place = type(error), self._find(traceback_of(error))
        links: Sequence[BaseException] = ()
        known: Known | None = None
        if type(type_) is type and type(operation) is str:
            try:
                known = place.known.get((type_, operation, category, severity, outcome, None))
            except Exception:  # noqa: BLE001, S110 - what cannot be a key is refused below
                pass
        if known is None or error.__cause__ is not None or error.__context__ is not None:
            links = chain(error)
            known = self._known_as(error, links[-1], place, operation, category, severity, outcome)
        kind: Kind = known.kind
        text = self._text_of(error, known.facts)
        is_harmless = text == known.text or self._is_harmless(text)
        if is_harmless:
            known.text = text
            is_bare = context is None is attempts and not outer and len(links) < 2 and _NOTES not in attributes
            if is_bare and kind.outcome != "refused" and "opentelemetry.trace" not in sys.modules:
                return make_record(kind, NO_DETAILS, text, clock.timestamp(), self._origin)
        cleaner = Cleaner(self._redact)
        message = text if is_harmless else cleaner.text(text)
        number, errors, duration = self._attempts(error, message, attempts, kind.outcome, cleaner)
        trace_id, span_id = active_span()
        own = cleaner.context(context)
        details = Details(
            context={**cleaner.context(outer), **own} or None,
            attempts=number,
            attempt_errors=errors,
            causes=tuple((self._cause(link, cleaner), self._find(traceback_of(link)).stack) for link in links[1:]),
            notes=self._notes(attributes, cleaner),
            duration=duration,
            trace_id=trace_id,
            span_id=span_id,
            message_length=None if len(text) == len(message) else len(text),
        )
        details = NO_DETAILS if details == NO_DETAILS else details
        return make_record(kind, details, message, clock.timestamp(), self._origin)

    def _known_as(
        self, error: BaseException, root: BaseException, place: Place,
        operation: str, category: ErrorCategory | str, severity: Severity | str, outcome: Outcome,
    ) -> Known:  # fmt: skip
        """Return what such records share, and note it where `build` finds it the next time."""
        type_, facts, root_name = type(error), self._facts_of(type(error)), self._facts_of(type(root)).name
        member, outcome = member_of(ErrorCategory, category), outcome_of(outcome)
        told = level = member_of(Severity, severity)
        if level is Severity.ERROR and is_mild(type_, outcome):
            level = Severity.WARNING  # error is the default
        name = text_of(operation)
        is_text = issubclass(type(operation), str)
        name = cut_to(name, _OPERATION) if is_text else Cleaner(self._redact).text(name, "operation", _OPERATION)
        group = name
        extra = None if error is root and facts.is_plain else root_name
        facts_in_common = [member, name, facts.name, root_name]
        if outcome == "refused":  # nothing was called, so the traceback tells only of this library
            is_named = issubclass(type_, (CircuitOpenError, LimitExceededError))
            place = self._places.find_caller(traceback_of(error))
            extra = group = cut_to(text_of(safely(name, getattr, error, "name")), _OPERATION) if is_named else name
            facts_in_common = [member, facts.name, group]
        key = (type_, name, member, told, outcome, extra)
        known = place.known.get(key) if type(type_) is type else None
        if known is None:
            print_ = fingerprint(facts_in_common, () if outcome == "refused" else place.stack)
            code, line, _ = place.stack[-1] if place.stack else (None, None, None)
            function, file = (None, None) if code is None else place_of(code)
            kind = Kind(member, level, name, facts.name, outcome, print_, function, file, line, place.stack, group)
            known = Known(kind, facts)
            if type(type_) is type:
                self._places.note(place, key, known)
        return known

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
        facts = self._facts_of(type(error))
        if message is None:
            message = self._clean(self._text_of(error, facts), cleaner)
        return f"{facts.name}: {message}" if message else facts.name

    def _notes(self, attributes: dict[Any, Any], cleaner: Cleaner) -> tuple[str, ...]:
        notes = attributes.get(_NOTES)
        shown = _ends(notes) if isinstance(notes, (list, tuple)) else ()
        return tuple(self._clean(text_of(note), cleaner) for note in shown)

    def _clean(self, text: str, cleaner: Cleaner) -> str:
        return text if self._is_harmless(text) else cleaner.text(text)

    def _is_harmless(self, text: str) -> bool:
        return len(text) <= MESSAGE_LENGTH and text.isascii() and self._finds(text) is None

    def _text_of(self, error: BaseException, facts: TypeFacts) -> str:
        """Return the error's text; a marker if making it records an error whose text does the same, and so on."""
        if facts.text_is_builtin and len(error.args) == 1 and type(error.args[0]) is str:
            return text_of(error)
        depth = getattr(self._busy, "depth", 0)
        if depth >= _DEPTH:
            return CYCLE
        self._busy.depth = depth + 1
        try:
            return text_of(error)
        finally:
            self._busy.depth = depth

    def _facts_of(self, kind: type) -> TypeFacts:
        """Return the facts of an exception type; those of a type with its own metaclass are never remembered."""
        return self._facts(kind) if type(kind) is type else TypeFacts(kind)


def _ends(items: Sequence[Any]) -> tuple[Any, ...]:
    """Return the items; of very many, the first and the last."""
    shown = tuple(items)
    return shown if len(shown) <= _FIRST_TEXTS + _LAST_TEXTS else (*shown[:_FIRST_TEXTS], *shown[-_LAST_TEXTS:])


def _seconds(value: Any) -> float | None:
    """Return the seconds if JSON can represent them, which it can't for infinity and NaN."""
    return value if type(value) in (int, float) and abs(value) < _MOST_SECONDS else None
