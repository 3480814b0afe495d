"""Taking secrets out of texts.

Nothing here raises, whatever it is given, and every pattern runs in time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from booking_resilience.checks import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REDACTED, CYCLE, TRUNCATED = "<redacted>", "<cycle>", "<truncated>"
MESSAGE_LENGTH = 1024
_WINDOW = 16_384  # characters looked at for secrets: one that begins in the part that is kept ends in these
_TAIL = 512  # of these the last may have lost the end by which they would be known
_UNFINISHED = re.compile(r"(?:(?<=://)[^\s/?#\"'<>]+|(?<![\w-])eyJ[\w-]+)\Z")  # userinfo or a token that goes on

_KEYS = frozenset(
    {
        "password", "passwd", "pwd", "secret", "token", "apikey", "appwritekey", "devkey", "auth", "cookie", "session",
        "jwt", "bearer", "csrf", "xsrf", "credential", "privatekey", "signature", "cardnumber", "cvv", "cvc", "iban",
    }
)  # fmt: skip
_EXACT_KEYS = frozenset({"sid", "key"})
# Every pattern is linear: none can begin at many places of one run of letters, and where one repeats, what follows
# cannot be a part of it.
_CREDENTIALS = (
    (re.compile(r"(?<=://)[^\s/?#\"'<>]+(?=@)"), REDACTED),  # userinfo of a URL, up to the last @ of its host part
    (re.compile(r"((?i:bearer)[\s:]{1,8}[\"']?)[\w.~+/=-]+"), rf"\1{REDACTED}"),
    (re.compile(r"((?i:basic)[\s:]{1,8}[\"']?)(?=[a-z]*[A-Z0-9+/=_-])[\w+/=-]{8,}"), rf"\1{REDACTED}"),
    (re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), REDACTED),  # a JSON Web Token
    # Appwrite's keys: long, or with a digit, which tells them from words such as standard_deviation
    (
        re.compile(
            r"(?<![A-Za-z0-9])(?:standard|ephemeral|dynamic|organization|account)_"
            r"(?:(?=[A-Za-z_.-]*[0-9])[\w.-]{6,}|[\w.-]{16,})"
        ),
        REDACTED,
    ),
    (re.compile(r"a_session_[\w.-]+(?:=[^\s;,]*)?"), REDACTED),
)
# What comes before a value, with its key as group 1, and the value.
_QUOTED = r"""b?\\{0,3}"[^"\n]*"?|b?\\{0,3}'[^'\n]*'?"""
_VALUES = (
    (re.compile(r"(?<![\w.%\[\]-])([\w.%\[\]-]+)="), re.compile(rf"{_QUOTED}|[^&\s#\"'<>;,]+")),  # key=value
    (re.compile(r"(?<![\w.-])([\w.-]+)(?:%5[Dd])?%3[Dd]"), re.compile(r"[^&\s#\"'<>;,%]+")),  # the same, in a parameter
    (  # "key": value, as in JSON
        re.compile(r"""["']([\w.% -]{1,128})\\{0,3}["']\s{0,8}:\s{0,8}"""),
        re.compile(rf"{_QUOTED}|[^\s,}}\]\"']+"),
    ),
    (  # Some-Key: value, as in the head of a request
        re.compile(r"(?<![\w-])([A-Za-z]+(?:-[A-Za-z]+)+):[ \t]{0,8}(?!(?i:bearer|basic)\s)"),
        re.compile(r"[^\s,;\"']+"),
    ),
)
_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){12,}")
_CARD_LENGTHS = range(19, 12, -1)
_SUSPECT = re.compile(  # each branch begins with a letter of its own, which makes the search quick
    r"://|=|_|%3[Dd]|\"\s{0,8}:|'\s{0,8}:|-[A-Za-z]+:|J(?<=eyJ)|b(?:[Ee][Aa][Rr]|[Aa][Ss][Ii])|"
    r"B(?:[Ee][Aa][Rr]|[Aa][Ss][Ii])|" + "|".join(rf"{digit}[0-9 -]{{11}}" for digit in range(10))
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
    patterns: Iterable[re.Pattern[str] | str] = ()
    exact_keys: Iterable[str] = _EXACT_KEYS

    def __post_init__(self) -> None:
        for name in ("keys", "exact_keys"):
            keys = getattr(self, name)
            check(name, keys, not isinstance(keys, (str, bytes)), "several texts, not one")
            object.__setattr__(self, name, frozenset(_plain(key) for key in keys))
        check("patterns", self.patterns, not isinstance(self.patterns, (str, bytes)), "several patterns, not one")
        object.__setattr__(self, "patterns", tuple(re.compile(pattern) for pattern in self.patterns))

    def hides(self, key: str) -> bool:
        """Tell whether the key's value is taken out."""
        plain = _plain(key)
        return plain in self.exact_keys or any(word in plain for word in self.keys)

    def clean(self, text: str) -> str:
        """Return the text without what looks like a secret."""
        for pattern in self.patterns:
            text = cast("re.Pattern[str]", pattern).sub(REDACTED, text)
        if _SUSPECT.search(text) is None:
            return text
        for key, value in _VALUES:
            text = self._without_values(text, key, value)
        for credential, replacement in _CREDENTIALS:
            text = credential.sub(replacement, text)
        return _DIGITS.sub(_without_cards, text)

    def _without_values(self, text: str, key: re.Pattern[str], value: re.Pattern[str]) -> str:
        """Return the text without the values of telling keys; a value may itself hold keys and values."""
        kept, end = [], 0
        for match in key.finditer(text):
            if match.end() > end and self.hides(match[1]) and (found := value.match(text, match.end())):
                kept += [text[end : match.end()], REDACTED]
                end = found.end()
        return "".join([*kept, text[end:]])


DEFAULT_REDACTION = Redaction()


def _without_cards(match: re.Match[str]) -> str:
    """Return a run of digits without the card numbers in it: 13 to 19 digits that stand by themselves, after Luhn."""
    text = match[0]
    places = [place for place, letter in enumerate(text) if letter not in " -"]
    digits = [int(text[place]) for place in places]
    sums = ([0], [0])  # of all digits so far, those at even places doubled, and those at odd ones
    for place, digit in enumerate(digits):
        doubled = sum(divmod(2 * digit, 10))
        sums[0].append(sums[0][-1] + (digit if place % 2 else doubled))
        sums[1].append(sums[1][-1] + (doubled if place % 2 else digit))
    kept, begin, end = [], 0, 0
    while begin < len(digits):
        size = 0
        if begin == 0 or places[begin] - places[begin - 1] > 1:
            size = next((size for size in _CARD_LENGTHS if _is_card(places, sums, begin, begin + size)), 0)
        if size:
            kept += [text[end : places[begin]], REDACTED]
            end = places[begin + size - 1] + 1
        begin += size or 1
    return "".join([*kept, text[end:]])


def _is_card(places: list[int], sums: tuple[list[int], list[int]], begin: int, end: int) -> bool:
    """Tell whether the digits from `begin` to `end` end where a number ends, and add up."""
    if end > len(places) or (end < len(places) and places[end] - places[end - 1] == 1):
        return False
    added = sums[end % 2]  # the last digit is not doubled, the one before it is
    return (added[end] - added[begin]) % 10 == 0


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
    """Return the value's text; a marker if it cannot be had, whatever its `__str__` raises. A text is its own."""
    try:
        if convert is str and issubclass(type(value), str):
            return str.__str__(cast("str", value))
        return str.__str__(convert(value))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it may even exit; what is being recorded matters more
        return f"<{convert.__name__}() failed>"


def clean_text(text: str, redact: Redactor, key: str = "message", length: int = MESSAGE_LENGTH) -> str:
    """Return the text redacted, and only then cut to `length`, so that no half of a secret stays."""
    is_long = len(text) > _WINDOW
    cut = text[:_WINDOW] if is_long else text
    try:
        if isinstance(redact, Redaction):
            cut = redact.clean(_UNFINISHED.sub(REDACTED, cut) if is_long else cut)
        elif redact is not None:
            cut = text_of(redact(key, cut))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a redactor that fails redacts all
        return REDACTED
    if is_long and len(cut) < length + _TAIL and not cut.endswith(REDACTED):
        cut = cut[:-_TAIL]
    cut = cut[:length]
    if not cut.isascii():  # half a surrogate pair is no text that a file could hold
        cut = cut.encode("utf-8", "backslashreplace").decode("utf-8")[:length]
    return cut
