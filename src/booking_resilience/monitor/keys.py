"""Tell of a key, by its words, whether its value is a secret."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable

NEVER, ALWAYS, UNLESS_PLAIN = 0, 1, 2
"""Whether a key's value is redacted; a number, a boolean or None stays with `UNLESS_PLAIN`."""

_LONGEST_KEY = 1024
_REMEMBERED, _LONGEST_REMEMBERED = 1024, 128
KEYS = (
    "password", "passwd", "pwd", "passphrase", "secret", "api key", "credential", "cookie", "jwt", "bearer", "csrf",
    "xsrf", "cvv", "cvc", "iban", "appwrite key", "private key", "dev key", "card number",
)  # fmt: skip
LAST_KEYS = ("token", "auth", "authorization", "session", "signature", "sid")
_COMPOUND = frozenset({"password", "passwd", "passphrase", "secret", "api key", "credential", "cookie", "token"})
_HUMPS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SEPARATORS = re.compile(r"[\W_]+")
_ESCAPE = re.compile(r"%(?:25)?([0-9A-Fa-f]{2})")


def judge_of(keys: Iterable[str], last_keys: Iterable[str], exact_keys: Iterable[str]) -> Callable[[str], int]:
    """Return what tells of a key whether its value is redacted, by its words; it remembers the keys that it has met.

    Args:
        keys: Sensitive anywhere in a key.
        last_keys: Sensitive as a key's last word, or before `id`, `value`, `header`, `key` or `hash`.
        exact_keys: Sensitive as the whole key.
    """
    anywhere, last = _pattern_of(keys), _pattern_of(last_keys, "(?: ?(?:id|value|header|key|hash)s?)?$")
    exact = frozenset(map(_joined, exact_keys))

    def judge(key: str) -> int:
        words = _words_of(key)
        together = words.replace(" ", "")
        if anywhere.search(words) or anywhere.fullmatch(together) or _joined(key) in exact:
            return ALWAYS
        return UNLESS_PLAIN if last.search(words) or last.fullmatch(together) else NEVER

    remembered = functools.lru_cache(_REMEMBERED)(judge)
    return lambda key: remembered(key) if len(key) <= _LONGEST_REMEMBERED else judge(key)


def _words_of(key: str) -> str:
    """Return a key's words, which separators, digits and camel humps part, with a space between them."""
    if len(key) > _LONGEST_KEY:
        key = key[: _LONGEST_KEY // 2] + key[-_LONGEST_KEY // 2 :]
    if "%" in key:
        key = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), key)
    return " ".join(_HUMPS.findall(key)).casefold()


def _joined(key: str) -> str:
    """Return a key without separators."""
    return _SEPARATORS.sub("", key).casefold()


def _pattern_of(keys: Iterable[str], after: str = "") -> re.Pattern[str]:
    """Return what finds one of the keys, each in the plural as well, among the words of a key."""
    known = [
        (r"\S*" if key in _COMPOUND else "") + re.escape(_words_of(key) or key.casefold()).replace(r"\ ", " ?")
        for key in sorted(keys)
    ]
    return re.compile(rf"(?<!\S)(?:{'|'.join(known)})s?{after}(?!\S)" if known else r"(?!)")
