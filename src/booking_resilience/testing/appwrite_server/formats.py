"""What the formats of text columns accept, as PHP's filters and Appwrite's validators do."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_WORD = r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+|\"(?:[^\"\\\0\t\n\r ]|\\.)*\")"
_ADDRESS = r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|[iI][pP][vV]6:[0-9A-Fa-f:.]+)\]"
_EMAIL = re.compile(rf"{_WORD}(?:\.{_WORD})*@(?:(?:{_LABEL}\.)+(?=[A-Za-z]){_LABEL}|{_ADDRESS})")
_URL_SIGNS = re.compile(r"[A-Za-z0-9$\-_.+!*'(),{}|\\^~\[\]`<>#%\";/?:@&=]+")
_WITHOUT_HOST = ("mailto", "news", "file")


def is_email(text: str) -> bool:
    """Tell whether it is an address of ASCII characters with a domain of at least two labels; blanks around it go."""
    text = text.strip(" \t\n\r\0\v")
    local = text.partition("@")[0]
    return text.count("@") == 1 and text.isascii() and len(local) <= 64 and _EMAIL.fullmatch(text) is not None


def is_url(text: str) -> bool:
    """Tell whether it has a scheme and a host, and for the web a valid host name; ASCII only."""
    if not _URL_SIGNS.fullmatch(text):
        return False
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*", parts.scheme):
        return False
    if not host:
        return parts.scheme in _WITHOUT_HOST
    if parts.scheme in ("http", "https"):
        return is_ip(host) if ":" in host else len(host) <= 253 and _HOST.fullmatch(host) is not None
    return True


def is_ip(text: str) -> bool:
    """Tell whether it is an address of IPv4 (no leading zeros) or IPv6 (no zone)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
