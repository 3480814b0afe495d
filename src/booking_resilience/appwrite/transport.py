"""One HTTP exchange with Appwrite: connect or reuse, send, read to the end; and what it proves if it fails."""

from __future__ import annotations

import http
import http.client
import ssl
import zlib
from typing import Any, Final

from urllib3.exceptions import HTTPError
from urllib3.util.ssl_match_hostname import CertificateError

from booking_resilience.appwrite.answers import Answer, decoded
from booking_resilience.appwrite.evidence import Kind
from booking_resilience.appwrite.failures import broken_answer, no_answer, no_connection, refused_certificate
from booking_resilience.appwrite.routes import Contexts, Place, place_of, proxy_for
from booking_resilience.appwrite.sockets import BoundedSocket, Connection, ConnectionPool, SecureConnection, bounded
from booking_resilience.appwrite.wire import WireRequest

_FAILURES: Final = (OSError, http.client.HTTPException, HTTPError)
_TOO_LONG: Final = (OverflowError, MemoryError)  # the body, by its Content-Length


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
        self._contexts = Contexts()

    def exchange(self, request: WireRequest) -> Answer:
        """Send a request and return the answer, whatever its status.

        Raises:
            AppwriteCallError: If no answer came, or not the whole of it.
            ValueError: If the request can't be sent.
        """
        place = place_of(request.url, verified=request.verified)
        try:
            bounded(self._read_timeout)
            connection = self.pool.take(place, lambda: self._connect(place))
        except (ssl.SSLCertVerificationError, CertificateError) as error:
            raise refused_certificate(error) from error
        except _FAILURES as error:
            raise no_connection(error) from error
        try:
            sent = request.head(connection.proxy_headers).to_bytes() + (request.body or b"")
            answer, goes_on = _converse(connection.sock, request.method, sent)
        except BaseException:
            connection.close()
            raise
        if goes_on:
            self.pool.give(place, connection)
        else:
            connection.close()
        return answer

    def _connect(self, place: Place) -> Connection:
        proxy = proxy_for(place)
        first = place if proxy is None else Place(proxy.scheme, proxy.host, proxy.port, place.verified)
        timeout = bounded(self._connect_timeout)
        if "https" in (place.scheme, first.scheme):
            connection: Connection = SecureConnection(
                first.host,
                first.port,
                timeout=timeout,
                ssl_context=self._contexts.get(verified=place.verified),
                cert_reqs="CERT_REQUIRED" if place.verified else "CERT_NONE",
            )
        else:
            connection = Connection(first.host, first.port, timeout=timeout)
        connection.read_timeout = self._read_timeout
        if proxy is not None:
            if place.scheme == "https":
                connection.set_tunnel(place.host, place.port, headers=proxy.headers, scheme=first.scheme)
            else:
                connection.proxy_headers = proxy.headers
        try:
            connection.connect()
            bounded(self._read_timeout)  # if connecting took all the time, nothing is sent any more
        except BaseException:
            connection.close()
            raise
        return connection


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
            raise no_answer(error) from error
        headers = {name.lower(): value for name, value in response.getheaders()}
        try:
            body = decoded(response.read(), headers.get("content-encoding", ""))
        except (*_FAILURES, *_TOO_LONG, zlib.error) as error:
            kind: Kind = "unreadable" if isinstance(error, zlib.error) else "cut"
            raise broken_answer(error, response.status, headers, kind) from error
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
                raise http.client.UnknownProtocol("101, a switch to another protocol, which wasn't requested")
            self.headers: Any = None  # has the next ones read
            super().begin()
