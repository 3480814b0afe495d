"""Who may see the dashboard."""

from __future__ import annotations

import inspect
import ipaddress
import logging
import re
from typing import Any

from booking_resilience.dashboard.mount import Authorize, Scope
from booking_resilience.events import log_raised

_logger = logging.getLogger("booking_resilience.dashboard")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::\d+)?")


async def visitor_of(scope: Scope, authorize: Authorize | None) -> str | None:
    """Return the visitor's name, empty if he has none; None if he may not see the page.

    Without `authorize` only the loopback is let in.
    """
    if authorize is None:
        return "" if _is_local(scope) else None
    try:
        found = authorize(scope)
        if inspect.isawaitable(found):
            found = await found
        is_let_in = bool(found)
    except Exception as error:  # noqa: BLE001 - an error is no permission
        log_raised(_logger, error, "authorize raised; the request is answered with 403")
        return None
    if not is_let_in:
        return None
    return " ".join(found.split()) if isinstance(found, str) else ""


def _is_local(scope: Scope) -> bool:
    """Tell whether a request comes from this machine itself: loopback peer and Host, and no sign of a proxy."""
    client = scope.get("client")
    headers = [(name.decode("latin-1").lower().replace("_", "-"), value) for name, value in scope["headers"]]
    if any(name.startswith("x-forwarded-") or name in ("forwarded", "x-real-ip") for name, _ in headers):
        return False
    hosts = [value.decode("latin-1") for name, value in headers if name == "host"]
    host = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if not client or host is None:
        return False
    name = host[1].strip("[]").lower()
    return _is_loopback(client[0]) and (name == "localhost" or _is_loopback(name))


def _is_loopback(address: Any) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
