"""Protects the demo server from other web sites, and tells browsers to be strict.

A page elsewhere can make a browser send requests to the loopback: under a host name of its own that resolves to it (DNS
rebinding), or across sites. The guard rejects both.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Headers of every answer, unless it sets its own."""

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::\d+)?")


def page_policy(page: str) -> str:
    """Return the Content-Security-Policy of a page: its own script and style by their hashes, its own server."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(hashes['script'])}",
            f"style-src {' '.join(hashes['style'])}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


class Guard:
    """Middleware: rejects foreign hosts and origins, and adds the headers.

    Args:
        app: The application to guard.
        host: The address that the server is bound to. The loopback's names are always allowed; a server bound to all
            addresses also answers to any address, but to no other name: only names can be made to resolve elsewhere.
    """

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        self._app = app
        self._names = frozenset({*LOOPBACK, host.lower()})
        self._any_address = is_address(host) and ipaddress.ip_address(host).is_unspecified

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_strictly)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if not self._knows(headers.getlist("host")):
            return JSONResponse({"message": "this host name is not served here"}, 400)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        is_foreign = origin is not None and origin.partition("://")[2].lower() != headers["host"].lower()
        if is_foreign or (site not in ("none", "same-origin") and scope["path"].startswith("/api/")):
            return JSONResponse({"message": "requests from other web sites are not served"}, 403)
        return None

    def _knows(self, hosts: Iterable[str]) -> bool:
        matches = [_HOST.fullmatch(host) for host in hosts]
        if len(matches) != 1 or matches[0] is None:
            return False
        name = matches[0][1].strip("[]").lower()
        return name in self._names or (self._any_address and is_address(name))


def is_address(host: str) -> bool:
    """Tell whether it is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
