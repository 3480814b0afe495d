"""How the environment leads to a server: proxies, as requests finds them, and certificates that are trusted."""

from __future__ import annotations

import functools
import ipaddress
import os
import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.util import create_urllib3_context, make_headers
from urllib3.util.url import parse_url

_PORTS = {"http": 80, "https": 443}


class Place(NamedTuple):
    """Where connections of one kind lead: they are kept and taken by it."""

    scheme: str
    host: str
    port: int
    verified: bool


class Proxy(NamedTuple):
    """A proxy: where it is, and what it is told beside the request."""

    scheme: str
    host: str
    port: int
    headers: dict[str, str]


def place_of(url: str, *, verified: bool) -> Place:
    """Return where an address leads.

    Raises:
        ValueError: If its port is none.
    """
    parts = urlsplit(url)
    return Place(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], verified)


def proxy_for(place: Place) -> Proxy | None:
    """Return the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY` and so on); None for this machine itself.

    Raises:
        ValueError: If it speaks another protocol than HTTP: a SOCKS port must not be sent plain HTTP, the key in it.
    """
    if is_loopback(place.host):
        return None
    host = f"[{place.host}]" if ":" in place.host else place.host
    url = f"{place.scheme}://{host}:{place.port}"
    named = select_proxy(url, get_environ_proxies(url))
    if not named:
        return None
    via = parse_url(named)
    scheme = via.scheme or "http"
    if scheme not in _PORTS:
        raise ValueError(f"the proxy that the environment names must be an HTTP proxy, not one for {scheme!r}")
    login = make_headers(proxy_basic_auth=unquote(via.auth)) if via.auth else {}
    return Proxy(scheme, via.host or "", via.port or _PORTS[scheme], login)


@functools.lru_cache(maxsize=64)  # asked before each request, of the same few hosts
def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself, which no proxy leads to."""
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Contexts:
    """The TLS contexts of a client, made once for each bundle of certificates that the environment names."""

    def __init__(self) -> None:
        self._made: dict[tuple[bool, str], ssl.SSLContext] = {}

    def get(self, *, verified: bool) -> ssl.SSLContext:
        """Return the context.

        Raises:
            OSError: If there is no such bundle.
        """
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
        context = self._made.get((verified, bundle))
        if context is None:
            context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verified else ssl.CERT_NONE)
            if verified:
                is_folder = Path(bundle).is_dir()
                context.load_verify_locations(None if is_folder else bundle, bundle if is_folder else None)
            self._made[verified, bundle] = context
        return context
