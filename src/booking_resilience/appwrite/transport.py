"""One HTTP exchange with Appwrite: connect or reuse, send, read to the end; and what it proves if it fails."""

from __future__ import annotations

import http
import http.client
import ipaddress
import os
import re
import ssl
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError
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

    from booking_resilience.appwrite.evidence import Kind
    from booking_resilience.appwrite.sockets import BoundedSocket

_PORTS: Final = {"http": 80, "https": 443}
_FAILURES: Final = (OSError, http.client.HTTPException, HTTPError)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})  # what is said of the body is ours to say


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
        self.pool: ConnectionPool = ConnectionPool(pool_size)
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
        if connection.proxy_headers is None:
            target = url[url.index("/", len(parts.scheme) + 3) :]
        else:
            target, headers = url, {**headers, **connection.proxy_headers}
        try:
            server = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
            request = _request_of(method, target, server, headers, body)
            answer, goes_on = _converse(connection.sock, method, request)
        except BaseException:
            connection.close()
            raise
        if goes_on:
            self.pool.give(place, connection)
        else:
            connection.close()
        return answer

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
            bounded(self._read_timeout)  # if connecting took all the time, nothing is sent any more
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
    kind = AppwriteTimeoutError if isinstance(error, TimeoutError) else AppwriteConnectionError
    reason = str(error) or type(error).__name__
    return kind(f"{what}: {reason}", evidence.status or 0, None, None, evidence=evidence)


def _request_of(method: str, target: str, host: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return the bytes of a request, head and body in one piece: one packet, if it is small.

    Raises:
        ValueError: If a header cannot be sent.
    """
    login, _, server = host.rpartition("@")
    fields = {"host": server, **headers}
    if login:
        fields.setdefault("authorization", make_headers(basic_auth=unquote(login))["authorization"])
    lines = [
        f"{method} {target} HTTP/1.1",
        *(f"{key}: {value}" for key, value in fields.items() if key not in _FRAMING),
    ]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
        raise ValueError("a header, the address or the method holds a line break")
    if lines[0].count(" ") != 2 or not all(map(_NAME.fullmatch, fields)):
        raise ValueError("the name of a header, the address or the method holds a sign that does not belong there")
    try:
        return head.encode("latin-1") + b"\r\n\r\n" + (body or b"")
    except UnicodeEncodeError:
        pass  # its own error holds the whole head, the key included
    raise ValueError("a header or the address holds a character that cannot be sent")


def _converse(sock: BoundedSocket, method: str, request: bytes) -> tuple[Answer, bool]:
    """Send a request and read the answer to its end; tell as well whether the connection can be used again."""
    response = _Response(sock, method=method)  # type: ignore[arg-type] # only makefile is asked for
    try:
        try:
            try:
                sock.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server may have answered before it had read everything: a 413, say
            response.begin()
        except _FAILURES as error:
            raise _failure("no answer", error, Evidence("network", "maybe")) from error
        headers = {name.lower(): value for name, value in response.getheaders()}
        try:
            body = _decoded(response.read(), headers.get("content-encoding", ""))
        except (*_FAILURES, zlib.error) as error:
            kind: Kind = "unreadable" if isinstance(error, zlib.error) else "cut"
            evidence = Evidence("answer" if response.status >= 300 else kind, "yes", response.status, None, headers)
            what = f"the answer {response.status} could not be read to its end"
            raise _failure(what, error, evidence) from error
        response.close()
        return Answer(response.status, headers, body), not (response.will_close or sock.has_leftovers)
    finally:
        response.close()


class _Response(http.client.HTTPResponse):
    """Passes over the answers that only announce one (103, say): http.client takes them for the answer itself."""

    def begin(self) -> None:
        super().begin()
        while self.status < http.HTTPStatus.OK:
            if self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                raise http.client.UnknownProtocol("101, which nobody asked for")
            self.headers: Any = None  # has the next ones read
            super().begin()


def _decoded(body: bytes, encoding: str) -> bytes:
    if body and encoding.lower() in ("gzip", "x-gzip", "deflate"):
        return zlib.decompress(body, wbits=zlib.MAX_WBITS | 32)  # 32: either header, of gzip or of zlib
    return body
