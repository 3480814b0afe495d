"""One HTTP exchange with Appwrite: connect or reuse, send, read to the end; and what it proves if it fails."""

from __future__ import annotations

import http.client
import ipaddress
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.exceptions import DecodeError, HTTPError, ReadTimeoutError
from urllib3.util import create_urllib3_context, make_headers
from urllib3.util.ssl_match_hostname import CertificateError
from urllib3.util.url import parse_url

from booking_resilience.appwrite.evidence import Evidence
from booking_resilience.appwrite.failures import AppwriteCallError, AppwriteConnectionError, AppwriteTimeoutError
from booking_resilience.appwrite.sockets import (
    Connection,
    ConnectionPool,
    Place,
    PlainConnection,
    SecureConnection,
    bounded,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS: Final = {"http": 80, "https": 443}
_FAILURES: Final = (OSError, http.client.HTTPException, HTTPError)


class Answer(NamedTuple):
    """An answer, read to its end; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Makes exchanges over connections that are kept. Never sends a request twice. Safe to share between threads.

    Args:
        connect_timeout: Seconds for connecting, the handshake of TLS included.
        read_timeout: Seconds for each wait for the server.
        pool_size: Idle connections kept for one server.
    """

    def __init__(self, *, connect_timeout: float, read_timeout: float, pool_size: int) -> None:
        self._connect_timeout, self._read_timeout = connect_timeout, read_timeout
        self.pool = ConnectionPool(pool_size)
        self._contexts: dict[tuple[bool, str], ssl.SSLContext] = {}

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, verified: bool
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Args:
            method: The HTTP method, in capitals.
            url: The whole address, already quoted.
            headers: The request's headers.
            body: Its body, or None.
            verified: Whether the server's certificate is checked.

        Raises:
            AppwriteCallError: If no answer came, or not the whole of it.
        """
        parts = urlsplit(url)
        place = Place(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], verified)
        try:
            bounded(self._read_timeout)
            connection = self.pool.take(place, lambda: self._connect(place))
        except (ssl.SSLCertVerificationError, CertificateError) as error:
            evidence = Evidence("certificate", "no")
            raise AppwriteCallError(f"the server's certificate was refused: {error}", evidence=evidence) from error
        except _FAILURES as error:
            raise _failure("no connection", error, Evidence("network", "no")) from error
        target = url[url.index("/", len(parts.scheme) + 3) :]
        if connection.proxy_headers is not None:
            target, headers = url, {**headers, **connection.proxy_headers}
        done = False
        try:
            answer = self._converse(connection, method, target, headers, body)
            done = True
        finally:
            if not done:
                connection.close()
        self.pool.give(place, connection)
        return answer

    def _converse(
        self, connection: Connection, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        try:
            try:
                connection.request(method, target, body=body, headers=headers, preload_content=False)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server may have answered before it had read everything: a 413, say
            response = connection.getresponse()
        except _FAILURES as error:
            raise _failure("no answer", error, Evidence("network", "maybe")) from error
        received = {name.lower(): value for name, value in response.headers.items()}
        try:
            data = response.read()
        except (*_FAILURES, ValueError) as error:
            if response.status >= 300:
                evidence = Evidence("answer", "yes", response.status, None, received)
            else:
                kind = "unreadable" if isinstance(error, DecodeError) else "cut"
                evidence = Evidence(kind, "yes", response.status, None, received)  # type: ignore[arg-type] # of Kind
            raise _failure(f"the answer {response.status} could not be read to its end", error, evidence) from error
        return Answer(response.status, received, data)

    def _connect(self, place: Place) -> Connection:
        proxy = None if is_loopback(place.host) else _proxy_of(place)
        via = parse_url(proxy) if proxy is not None else None
        first = place if via is None else Place(via.scheme or "http", via.host or "", via.port or 80, place.verified)
        timeout = bounded(self._connect_timeout)
        connection: Connection
        if "https" in (place.scheme, first.scheme):
            connection = SecureConnection(
                first.host,
                first.port,
                timeout=timeout,
                ssl_context=self._context(place.verified),
                cert_reqs="CERT_REQUIRED" if place.verified else "CERT_NONE",
            )
        else:
            connection = PlainConnection(first.host, first.port, timeout=timeout)
        connection.read_timeout = self._read_timeout
        if via is not None:
            login = make_headers(proxy_basic_auth=unquote(via.auth)) if via.auth else {}
            if place.scheme == "https":
                connection.set_tunnel(place.host, place.port, headers=login, scheme=first.scheme)
            else:
                connection.proxy_headers = login
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _context(self, verified: bool) -> ssl.SSLContext:
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
        context = self._contexts.get((verified, bundle))
        if context is None:
            context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verified else ssl.CERT_NONE)
            if verified:
                is_folder = Path(bundle).is_dir()
                context.load_verify_locations(None if is_folder else bundle, bundle if is_folder else None)
            self._contexts[verified, bundle] = context
        return context


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself, which no proxy leads to."""
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _proxy_of(place: Place) -> str | None:
    """Return the proxy that the environment names, as requests finds it: `HTTPS_PROXY`, `NO_PROXY` and so on."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    url = f"{place.scheme}://{host}:{place.port}"
    return select_proxy(url, get_environ_proxies(url))


def _failure(what: str, error: BaseException, evidence: Evidence) -> AppwriteCallError:
    kind = AppwriteTimeoutError if isinstance(error, (TimeoutError, ReadTimeoutError)) else AppwriteConnectionError
    reason = str(error) or type(error).__name__
    return kind(f"{what}: {reason}", evidence.status or 0, None, None, evidence=evidence)
