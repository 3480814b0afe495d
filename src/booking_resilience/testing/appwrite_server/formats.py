"""What the formats of text columns accept, as PHP's filters and Appwrite's validators do."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_EMAIL = re.compile(rf"(?:{_ATOM}(?:\.{_ATOM})*|\"(?:[^\"\\\x00-\x1f]|\\.)+\")@(?:{_LABEL}(?:\.{_LABEL})+|\[[\w:.]+\])")
_URL_SIGNS = re.compile(r"[A-Za-z0-9$\-_.+!*'(),{}|\\^~\[\]`<>#%\";/?:@&=]+")
_WITHOUT_HOST = ("mailto", "news", "file")


def is_email(text: str) -> bool:
    """Tell whether it is an address of ASCII characters with a domain of at least two labels."""
    local = text.rpartition("@")[0]
    return text.isascii() and len(text) <= 254 and len(local) <= 64 and _EMAIL.fullmatch(text) is not None


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
    if parts.scheme in _WITHOUT_HOST:
        return bool(parts.path or host)
    if not host:
        return False
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
