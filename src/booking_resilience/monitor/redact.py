"""Taking secrets out of what is kept, and making plain, bounded values of what an application hands over.

Nothing here raises, whatever it is given, and every pattern runs in time linear in the text.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

REDACTED, CYCLE, TRUNCATED = "<redacted>", "<cycle>", "<truncated>"
MESSAGE_LENGTH = 1024
_WINDOW = 65_536  # characters looked at for secrets: one that begins in the part that is kept ends in these
_DEPTH, _BREADTH, _VALUES = 5, 32, 200

_KEYS = frozenset(
    {
        "password", "passwd", "pwd", "secret", "token", "apikey", "appwritekey", "devkey", "auth", "cookie", "session",
        "jwt", "bearer", "csrf", "xsrf", "credential", "privatekey", "signature", "cardnumber", "cvv", "cvc", "iban",
    }
)  # fmt: skip
_EXACT_KEYS = frozenset({"sid", "key"})
_PATTERNS = (
    re.compile(r"(?<=://)[^\s/?#\"'<>]{1,2048}(?=@)"),  # userinfo of a URL, up to the last @ of its host part
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]+"),
    re.compile(r"(?i)(?<=basic )[\w+/=-]{8,}"),
    re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"),  # a JSON Web Token
    re.compile(r"(?<![A-Za-z0-9])(?:standard|ephemeral|dynamic|organization|account)_[\w.-]{16,}"),  # Appwrite's keys
    re.compile(r"a_session_[\w.-]+(?:=[^\s;,]*)?"),
)
_PARAMETER = re.compile(r"(?<![^\s?&;,({\"'])([\w.%\[\]-]{1,128})=([^&\s#\"'<>;,]+)")
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_SUSPECT = re.compile(  # each branch begins with a letter of its own, which makes the search quick
    r"://|=|_|J(?<=eyJ)|b(?:[Ee][Aa][Rr]|[Aa][Ss][Ii])|B(?:[Ee][Aa][Rr]|[Aa][Ss][Ii])|"
    + "|".join(rf"{digit}[\d -]{{11}}" for digit in range(10))
)
_PLAIN_KEY = str.maketrans("", "", "-_. ")


def _plain(key: str) -> str:
    return key.translate(_PLAIN_KEY).casefold()


Redactor: TypeAlias = "Redaction | Callable[[str, Any], Any] | None"


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is taken out: the values of telling keys, and what looks like a secret in any text.

    Attributes:
        keys: A key that contains one of these, letter case and `-_.` aside, has its value taken out.
        patterns: What these match is taken out of messages and values, beside what is always looked for: userinfo and
            sensitive parameters of URLs, credentials, tokens, Appwrite keys and sessions, card numbers.
        exact_keys: As `keys`, but the key must be the same.
    """

    keys: Iterable[str] = _KEYS
    patterns: Iterable[re.Pattern[str]] = ()
    exact_keys: Iterable[str] = _EXACT_KEYS

    def __post_init__(self) -> None:
        for name in ("keys", "exact_keys"):
            object.__setattr__(self, name, frozenset(_plain(key) for key in getattr(self, name)))
        object.__setattr__(self, "patterns", tuple(self.patterns))

    def hides(self, key: str) -> bool:
        """Tell whether the key's value is taken out."""
        plain = _plain(key)
        return plain in self.exact_keys or any(word in plain for word in self.keys)

    def clean(self, text: str) -> str:
        """Return the text without what looks like a secret."""
        for pattern in self.patterns:
            text = pattern.sub(REDACTED, text)
        if _SUSPECT.search(text) is None:
            return text
        text = _PARAMETER.sub(self._parameter, text)
        for pattern in _PATTERNS:
            text = pattern.sub(REDACTED, text)
        return _CARD.sub(_card, text)

    def _parameter(self, match: re.Match[str]) -> str:
        return f"{match[1]}={REDACTED}" if self.hides(match[1]) else match[0]


DEFAULT_REDACTION = Redaction()


def _card(match: re.Match[str]) -> str:
    digits = [int(digit) for digit in match[0] if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(reversed(digits))]
    return REDACTED if sum(doubled) % 10 == 0 else match[0]


def finder(redact: Redactor) -> Callable[[str], object]:
    """Return what says None of a text in which the redactor would find nothing; it may doubt, but must be quick."""
    if redact is None:
        return _nothing
    if isinstance(redact, Redaction) and type(redact) is Redaction and not redact.patterns:
        return _SUSPECT.search
    return str


def _nothing(text: str) -> None:
    """Say None of any text."""


def text_of(value: object, convert: Callable[[Any], str] = str) -> str:
    """Return the value's text; a marker if it cannot be had, whatever its `__str__` raises."""
    try:
        return str.__str__(convert(value))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it may even exit; what is being recorded matters more
        return f"<{convert.__name__}() failed>"


def clean_text(text: str, redact: Redactor, key: str = "message", length: int = MESSAGE_LENGTH) -> str:
    """Return the text redacted, and only then cut to `length`, so that no half of a secret stays."""
    cut = text[:_WINDOW] if len(text) > _WINDOW else text
    try:
        if isinstance(redact, Redaction):
            cut = redact.clean(cut)
        elif redact is not None:
            cut = text_of(redact(key, cut))
    except Exception:  # noqa: BLE001 - a redactor that fails redacts all
        return REDACTED
    cut = cut[:length]
    if not cut.isascii():  # half a surrogate pair is no text that a file could hold
        cut = cut.encode("utf-8", "backslashreplace").decode("utf-8")
    return cut


class ContextCopy:
    """Copies a context: redacted, plain, and bounded in depth, breadth and number of values."""

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._left = _VALUES
        self._inside: set[int] = set()

    def of(self, context: Mapping[Any, Any] | None) -> dict[str, Any]:
        """Return the copy; never raises."""
        if not context:
            return {}
        try:
            copy = self._copy(context, 0)
            return copy if isinstance(copy, dict) else {"context": copy}
        except Exception:  # noqa: BLE001 - a context that cannot be read is none
            return {"context": "<copy failed>"}

    def _copy(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            value = value.value
        if isinstance(value, str):
            return clean_text(str.__str__(value), self._redact, "")
        if isinstance(value, int):
            return int(value) if abs(value) < 2**63 else f"<int of {value.bit_length()} bits>"
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else repr(float(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"<{len(value)} bytes>"
        if isinstance(value, (Mapping, list, tuple, Set)):
            return self._container(value, depth)
        return clean_text(text_of(value), self._redact, "")

    def _container(self, value: Any, depth: int) -> Any:
        if id(value) in self._inside:
            return CYCLE
        if depth >= _DEPTH or self._left <= 0:
            return TRUNCATED
        self._inside.add(id(value))
        try:
            return self._mapping(value, depth) if isinstance(value, Mapping) else self._sequence(value, depth)
        finally:
            self._inside.discard(id(value))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for number, key in enumerate(value):
            if number >= _BREADTH or self._left <= 0:
                copy[TRUNCATED] = len(value) - number
                break
            texts = self._redact if isinstance(self._redact, Redaction) else None  # a function is asked of values only
            name = clean_text(key if type(key) is str else text_of(key), texts, "", 128)
            copy[name] = self._value(name, value[key], depth)
        return copy

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        copy = []
        for number, item in enumerate(value):
            if number >= _BREADTH or self._left <= 0:
                copy.append(TRUNCATED)
                break
            copy.append(self._copy(item, depth + 1))
        return copy

    def _value(self, name: str, value: Any, depth: int) -> Any:
        if isinstance(self._redact, Redaction):
            return REDACTED if self._redact.hides(name) else self._copy(value, depth + 1)
        if self._redact is not None:
            try:
                value = self._redact(name, value)
            except Exception:  # noqa: BLE001 - a redactor that fails redacts all
                return REDACTED
        return self._copy(value, depth + 1)
