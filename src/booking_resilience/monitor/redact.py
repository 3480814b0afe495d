"""Take secrets out of texts and contexts, and bound both: in length, depth, breadth and in what is scanned.

Nothing here raises, whatever it is given; only an interrupt in a redactor comes out. Types are asked what they are,
never objects, which may lie or raise.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
import logging
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

from booking_resilience.callbacks import ask, safely, text_of
from booking_resilience.checks import check_type
from booking_resilience.monitor.cards import is_card
from booking_resilience.monitor.scanner import ALWAYS, NEVER, REDACTED, SUSPECT, UNLESS_PLAIN, clean

CYCLE, TRUNCATED, _FAILED = "<cycle>", "<truncated>", "<copy failed>"
MESSAGE_LENGTH = 1024
_SCANNED = 65_536  # characters of text per record; the rest is dropped
_WINDOW = 4096  # of these, for one text: a secret that begins in the part that is kept ends in these
_TAIL = 512  # of these the last may have lost the end by which they would be known
_UNFINISHED = re.compile(r"(?:(?<=://)[^\s/?#\"'<>]+|(?<![\w-])eyJ[\w-]+)\Z")  # userinfo or a token that goes on
_OPEN = re.compile(r"(<([A-Za-z][\w.:-]{0,128})(?:\s[^<>]*)?>(?:<!\[CDATA\[)?[^<>]+>?)(?:<[^<>]*)?\Z")  # of XML
_DEPTH, _BREADTH, _VALUES, _KEY_LENGTH, _RETRIES = 5, 32, 200, 128, 20
_logger = logging.getLogger("booking_resilience.monitor")

KEYS = (
    "password", "passwd", "pwd", "passphrase", "secret", "api key", "credential", "cookie", "jwt", "bearer", "csrf",
    "xsrf", "cvv", "cvc", "iban", "appwrite key", "private key", "dev key", "card number", "a session",
)  # fmt: skip
LAST_KEYS = ("token", "auth", "authorization", "session", "signature", "sid", "jsessionid", "phpsessid")
_COMPOUND = frozenset({"password", "passwd", "passphrase", "secret", "api key", "credential", "cookie", "token"})
_LONGEST_KEY, _REMEMBERED = 1024, 1024
_HUMPS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SEPARATORS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is redacted: the values of sensitive keys, and whatever looks like a secret in any text.

    Keys are split into words at `_`, `-`, `.`, spaces, digits and camel humps; case doesn't matter, and each word
    counts in the plural, too.

    Attributes:
        keys: A key that contains one of these (as words) has its value taken out.
        patterns: What these match is taken out of messages and values, beside what is always looked for: userinfo and
            sensitive parameters of URLs, credentials, tokens, keys of known forms, card numbers.
        exact_keys: As `keys`, but the key must be the same.
        last_keys: As `keys`, but it must be the last word, or stand before `id`, `value`, `header`, `key` or `hash`;
            a number, a boolean or None stays (`max_tokens=5`).

    Raises:
        TypeError: If a setting is one string in the place of several, or an item is neither string nor pattern.
        ValueError: If a pattern isn't a regular expression.
    """

    keys: Iterable[str] = KEYS
    patterns: Iterable[re.Pattern[str] | str] = ()
    exact_keys: Iterable[str] = ("key",)
    last_keys: Iterable[str] = LAST_KEYS

    def __post_init__(self) -> None:
        for name in ("keys", "exact_keys", "last_keys"):
            items = _several(name, getattr(self, name), "strings")
            check_type(name, items, all(isinstance(item, str) for item in items), "strings")
            object.__setattr__(self, name, frozenset(map(str, items)))
        object.__setattr__(self, "patterns", tuple(map(_compiled, _several("patterns", self.patterns, "patterns"))))

    def hides(self, key: str) -> bool:
        """Tell whether the key's value is taken out (if it is a string, for `last_keys`)."""
        return self.sensitivity(key) != NEVER

    def sensitivity(self, key: str) -> int:
        """Tell whether the key's value is taken out: `NEVER`, `ALWAYS` or `UNLESS_PLAIN`."""
        if len(key) > _LONGEST_KEY:
            key = key[: _LONGEST_KEY // 2] + key[-_LONGEST_KEY // 2 :]
        judge = _judged if len(key) <= _KEY_LENGTH else _judge
        return judge(key, frozenset(self.keys), frozenset(self.last_keys), frozenset(self.exact_keys))

    def clean(self, text: str) -> str:
        """Return the text without what looks like a secret."""
        for pattern in self.patterns:
            text = cast("re.Pattern[str]", pattern).sub(REDACTED, text)
        return text if SUSPECT.search(text) is None else clean(text, self.sensitivity)


def _judge(key: str, keys: frozenset[str], last_keys: frozenset[str], exact_keys: frozenset[str]) -> int:
    words = _words_of(key)
    together = words.replace(" ", "")
    anywhere = _pattern_of(keys)
    if anywhere.search(words) or anywhere.fullmatch(together) or _joined(key) in map(_joined, exact_keys):
        return ALWAYS
    last = _pattern_of(last_keys, "(?: ?(?:id|value|header|key|hash)s?)?$")
    return UNLESS_PLAIN if last.search(words) or last.fullmatch(together) else NEVER


_judged = functools.lru_cache(_REMEMBERED)(_judge)


def _words_of(key: str) -> str:
    """Return a key's words, which separators, digits and camel humps part, with a space between them."""
    return " ".join(_HUMPS.findall(unquote(key))).casefold()


def _joined(key: str) -> str:
    return _SEPARATORS.sub("", key).casefold()


@functools.lru_cache(32)
def _pattern_of(keys: Iterable[str], after: str = "") -> re.Pattern[str]:
    """Return what finds one of the keys, each in the plural as well, among the words of a key."""
    known = [
        (r"\S*" if key in _COMPOUND else "") + re.escape(_words_of(key) or key.casefold()).replace(r"\ ", " ?")
        for key in sorted(keys)
    ]
    return re.compile(rf"(?<!\S)(?:{'|'.join(known)})s?{after}(?!\S)" if known else r"(?!)")


def _several(name: str, value: Iterable[Any], what: str) -> list[Any]:
    is_several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    check_type(name, value, is_several, f"a collection of {what}")
    return list(value)


def _compiled(item: Any) -> re.Pattern[str]:
    is_text = isinstance(item.pattern if isinstance(item, re.Pattern) else item, str)
    check_type("patterns", item, is_text, "strings or compiled patterns of strings")
    try:
        return re.compile(item)
    except re.error as error:
        raise ValueError(f"patterns must be regular expressions, not {item!r}: {error}") from None


Redactor: TypeAlias = Redaction | Callable[[str, Any], Any] | None
DEFAULT_REDACTION = Redaction()


def finder(redact: Redactor) -> Callable[[str], object]:
    """Return a quick test: None for a text in which the redactor would find nothing; false alarms are allowed."""
    if redact is None:
        return lambda _: None
    if isinstance(redact, Redaction) and type(redact) is Redaction and not redact.patterns:  # a subclass may do more
        return SUSPECT.search
    return str


class Cleaner:
    """Takes the secrets out of the texts and the context of one record, and bounds them.

    Args:
        redact: What takes the secrets out. A function is asked of texts by `message` and the like, of each value of a
            mapping by its key, and of texts in lists and texts that objects are turned into by the key that leads
            there.
    """

    __slots__ = ("_fn", "_inside", "_redaction", "_scanned", "_values")

    def __init__(self, redact: Redactor) -> None:
        self._redaction = redact if isinstance(redact, Redaction) else None
        self._fn = None if isinstance(redact, Redaction) else redact
        self._scanned = _SCANNED
        self._values = _VALUES
        self._inside: set[int] = set()

    def text(self, text: str, key: str | None = "message", length: int = MESSAGE_LENGTH) -> str:
        """Return the text redacted, and only then cut to `length`, so that no half of a secret stays.

        With None as the key only a `Redaction` looks at it.
        """
        window = min(_WINDOW, self._scanned)
        if text and not window:
            return TRUNCATED
        self._scanned -= min(window, len(text))
        is_cut = len(text) > window
        cut: str = safely(REDACTED, self._redacted, text[:window], key, is_cut)  # one that fails redacts all
        if is_cut and len(cut) < length + _TAIL and not cut.endswith(REDACTED):
            cut = cut[:-_TAIL]
        return cut_to(cut, length)

    def _redacted(self, text: str, key: str | None, is_cut: bool) -> str:
        if self._redaction is not None:
            if is_cut:
                text = _OPEN.sub(r"\1</\2>", _UNFINISHED.sub(REDACTED, text))
            return self._redaction.clean(text)
        if self._fn is None or key is None:
            return text
        return text_of(ask(self._fn, key, text, unknown=REDACTED, logger=_logger))

    def context(self, context: object) -> dict[str, Any]:
        """Return a redacted copy that consists of plain values."""
        if context is None:
            return {}
        copy = self._copy(context, "", 0)
        return copy if isinstance(copy, dict) else {"context": copy}

    def _copy(self, value: Any, key: str, depth: int) -> Any:
        self._values -= 1
        return safely(_FAILED, self._plain, value, type(value), key, depth)

    def _plain(self, value: Any, kind: type, key: str, depth: int) -> Any:
        if value is None or kind is bool:
            return value
        if issubclass(kind, enum.Enum):
            value = value.value
            kind = type(value)
        if issubclass(kind, str):
            return self.text(str.__str__(value), key)
        if issubclass(kind, int):
            number = int.__int__(value)
            return self._number(number) if abs(number) < 2**63 else f"<int of {number.bit_length()} bits>"
        if issubclass(kind, float):
            return self._number(float.__float__(value))
        if issubclass(kind, (bytes, bytearray, memoryview)):
            return f"<{len(value)} bytes>"
        if issubclass(kind, tuple) and type(names := getattr(kind, "_fields", None)) is tuple:  # a named tuple
            value, kind = dict(zip(names, value, strict=True)), dict
        if issubclass(kind, (Mapping, list, tuple, Set)):
            return self._container(value, key, depth, is_mapping=issubclass(kind, Mapping))
        return self.text(text_of(value), key)

    def _number(self, number: float) -> float | str:
        if not math.isfinite(number):
            return repr(number)
        is_whole = self._redaction is not None and number == int(number)
        return REDACTED if is_whole and is_card(str(int(number))) else number

    def _container(self, value: Any, key: str, depth: int, *, is_mapping: bool) -> Any:
        if id(value) in self._inside:
            return CYCLE
        if depth >= _DEPTH or self._values <= 0:
            return TRUNCATED
        self._inside.add(id(value))
        try:
            return self._mapping(value, depth) if is_mapping else self._sequence(value, key, depth)
        finally:
            self._inside.discard(id(value))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        is_plain = type(value) is dict  # read at once: other threads may write to it
        items = _first(dict.items(cast("dict[Any, Any]", value)) if is_plain else value)
        for number, item in enumerate(items):
            if number >= _BREADTH or self._values <= 0:
                return {**copy, TRUNCATED: len(value) - number}
            key, inner = item if is_plain else (item, safely(_FAILED, operator.getitem, value, item))
            full = text_of(key)
            name = self.text(full, None, _KEY_LENGTH)
            copy[name] = self._value(full, inner, depth)
        return copy

    def _sequence(self, value: Any, key: str, depth: int) -> list[Any]:
        copy: list[Any] = []
        for number, item in enumerate(_first(value)):
            if number >= _BREADTH or self._values <= 0:
                return [*copy, TRUNCATED]
            if type(item) in (list, tuple) and len(item) == 2 and issubclass(type(item[0]), (str, bytes)):
                name = text_of(item[0]) if issubclass(type(item[0]), str) else item[0].decode("latin-1")
                if self._hides(name, item[1]):  # a list of pairs is a mapping
                    item = (item[0], REDACTED)
            copy.append(self._copy(item, key, depth + 1))
        return copy

    def _hides(self, key: str, value: object) -> bool:
        level = NEVER if self._redaction is None else self._redaction.sensitivity(key)
        return level == ALWAYS or (level == UNLESS_PLAIN and type(value) not in (int, float, bool, type(None)))

    def _value(self, key: str, value: Any, depth: int) -> Any:
        if self._hides(key, value):
            return REDACTED
        if self._fn is not None:
            value = safely(REDACTED, ask, self._fn, key, value, unknown=REDACTED, logger=_logger)
            if issubclass(type(value), str):  # the answer; it is not asked again
                self._values -= 1
                return cut_to(str.__str__(value))
        return self._copy(value, key, depth + 1)


def _first(items: Iterable[Any]) -> list[Any]:
    """Return the first items, one more than are kept, as of one moment: another thread may change them meanwhile."""
    for _ in range(_RETRIES):
        with contextlib.suppress(RuntimeError):  # it changed size
            return list(itertools.islice(items, _BREADTH + 1))
    return list(items)[: _BREADTH + 1]


def cut_to(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Return the text cut to a length, without looking for secrets; half a surrogate pair becomes an escape."""
    text = text[:length]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")[:length]
