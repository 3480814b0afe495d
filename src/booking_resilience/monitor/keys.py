"""The keys whose values are sensitive, and how a key is told to be one of them: by its words."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LONGEST_KEY = 1024
KEYS = (
    "password", "passwd", "pwd", "passphrase", "secret", "api key", "credential", "cookie", "jwt", "bearer", "csrf",
    "xsrf", "cvv", "cvc", "iban", "appwrite key", "private key", "dev key", "card number",
)  # fmt: skip
LAST_KEYS = ("token", "auth", "authorization", "session", "signature", "sid")
_COMPOUND = frozenset({"password", "passwd", "passphrase", "secret", "api key", "credential", "cookie", "token"})
_HUMPS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SEPARATORS = re.compile(r"[\W_]+")
_ESCAPE = re.compile(r"%(?:25)?([0-9A-Fa-f]{2})")


def words_of(key: str) -> str:
    """Return a key's words, which separators, digits and camel humps part, with a space between them."""
    if len(key) > _LONGEST_KEY:
        key = key[: _LONGEST_KEY // 2] + key[-_LONGEST_KEY // 2 :]
    if "%" in key:
        key = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), key)
    return " ".join(_HUMPS.findall(key)).casefold()


def joined(key: str) -> str:
    """Return a key without separators."""
    return _SEPARATORS.sub("", key).casefold()


def pattern_of(keys: Iterable[str], after: str = "") -> re.Pattern[str]:
    """Return what finds one of the keys, each in the plural as well, among the words of a key."""
    known = [
        (r"\S*" if key in _COMPOUND else "") + re.escape(words_of(key) or key.casefold()).replace(r"\ ", " ?")
        for key in sorted(keys)
    ]
    return re.compile(rf"(?<!\S)(?:{'|'.join(known)})s?{after}(?!\S)" if known else r"(?!)")
