"""One HTTP exchange with Appwrite without blocking, by httpx2's transport, under asyncio or trio.

httpx2 connects, pools, frames and bounds each wait. What it can't know is done here: the deadline of the operation
bounds the whole, `connect_timeout` the whole connecting, and how far the request got tells what a failure proves.
"""

from __future__ import annotations

import math
import ssl
import zlib
from collections.abc import Mapping
from typing import Any, Final

import anyio
import h11
import httpx2

from booking_resilience.appwrite.answers import Answer, decoded
from booking_resilience.appwrite.failures import (
    AppwriteCallError,
    broken_answer,
    no_answer,
    no_connection,
    refused_certificate,
)
from booking_resilience.appwrite.routes import Contexts, Place, Proxy, place_of, proxy_for
from booking_resilience.appwrite.wire import WireRequest
from booking_resilience.deadlines import remaining_time

_FAILURES: Final = (httpx2.TransportError, OSError)
_AHEAD: Final = 0.005  # seconds before the deadline: the one who cuts off an attempt knows less of it than we do
_UNASKED: Final = 101
_VERSIONS: Final = (b"HTTP/1.1", b"HTTP/1.0")
_ONE_FOR_EVER: Final = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)


class AsyncTransport:
    """Makes exchanges over connections that are kept. Never sends a request twice. For one event loop at a time.

    Args:
        connect_timeout: Seconds for connecting, the look-up of the name and the handshake of TLS included.
        read_timeout: Seconds for each wait for the server.
        pool_size: Idle connections kept.
    """

    def __init__(self, *, connect_timeout: float, read_timeout: float, pool_size: int) -> None:
        self._connect_timeout, self._read_timeout = connect_timeout, read_timeout
        self._pool_size = pool_size
        self._contexts = Contexts()
        self._lanes: dict[tuple[Any, ...], _Lane] = {}
        self._loop: object = None

    async def exchange(self, request: WireRequest) -> Answer:
        """Send a request and return the answer, whatever its status.

        Raises:
            AppwriteCallError: If no answer came, or not the whole of it.
            ValueError: If the request can't be sent.
            RuntimeError: If the connections belong to another event loop.
        """
        self._check_loop()
        left = remaining_time()
        if left == 0:
            raise no_connection(TimeoutError("the deadline of the operation has passed"))
        end = math.inf if left is None else anyio.current_time() + max(0.0, left - min(_AHEAD, left / 2))
        scope = anyio.CancelScope(deadline=end)
        progress = _Progress(scope, end, self._connect_timeout)
        with scope:
            try:
                return await self._answer(request, progress)
            except _FAILURES as error:
                raise progress.failure(error) from error
            finally:
                await progress.close_half_made()
        raise progress.failure(TimeoutError("the server took too long"))

    async def aclose(self) -> None:
        """Close the connections."""
        lanes, loop, self._lanes, self._loop = list(self._lanes.values()), self._loop, {}, None
        is_elsewhere = loop is not None and loop != anyio.lowlevel.current_token()
        for lane in lanes:
            try:
                await lane.aclose()
            except RuntimeError:  # their event loop has ended: they go when they are collected
                if not is_elsewhere:
                    raise

    async def _answer(self, request: WireRequest, progress: _Progress) -> Answer:
        place = place_of(request.url, verified=request.verified)
        proxy = proxy_for(place)
        is_forwarded = proxy is not None and place.scheme == "http"
        head = request.head({} if is_forwarded else None)
        timeout = {"connect": None, "read": self._read_timeout, "write": self._read_timeout, "pool": None}
        lane = self._lane(place, proxy)
        sent = httpx2.Request(
            request.method,
            lane.url,
            headers=list(head.fields),
            stream=httpx2.ByteStream(request.body or b""),
            extensions={"target": head.target, "timeout": timeout, "trace": progress.trace},
        )
        transport, response, can_go_on = lane.take(), None, False
        try:
            response = await transport.handle_async_request(sent)
            if response.status_code == _UNASKED or response.extensions.get("http_version") not in _VERSIONS:
                raise httpx2.RemoteProtocolError("a switch to another protocol, which wasn't requested")
            status = response.status_code
            progress.answered(status, _headers_of(response))
            parts = [part async for part in response.stream]  # type: ignore[union-attr] # an asynchronous one
            can_go_on = not _came_more(response.stream)
        finally:
            with anyio.CancelScope(shield=True):
                if response is not None:
                    await response.aclose()
                await (lane.give(transport) if can_go_on else transport.aclose())
        headers = progress.headers
        try:
            body = decoded(b"".join(parts), headers.get("content-encoding", ""))
        except zlib.error as error:
            raise broken_answer(error, status, headers, "unreadable") from error
        return Answer(status, headers, body)

    def _lane(self, place: Place, proxy: Proxy | None) -> _Lane:
        """Return the connections to a place, by the way that leads there now."""
        is_secure = "https" in (place.scheme, None if proxy is None else proxy.scheme)
        context = self._contexts.get(verified=place.verified) if is_secure else _NO_TLS
        route = None if proxy is None else (proxy.scheme, proxy.host, proxy.port, *proxy.headers.values())
        key = (place, context, route)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(place, proxy, context, self._pool_size)
        return lane

    def _check_loop(self) -> None:
        loop = anyio.lowlevel.current_token()
        if self._loop is None:
            self._loop = loop
        elif self._loop != loop:
            raise RuntimeError(
                "the client's connections belong to another event loop; `await client.aclose()` there before you use "
                "it here, or make a client for each"
            )


class _Lane:
    """The idle connections to one place by one way.

    Each is a transport of its own: the pool of httpx2 looks at all its connections before and after every request.
    There is no limit of those in use: who waits for a place has not begun, and nothing would tell why it takes so long.
    """

    def __init__(self, place: Place, proxy: Proxy | None, context: ssl.SSLContext, size: int) -> None:
        self.url = httpx2.URL(scheme=place.scheme, host=_host(place.host), port=place.port)
        self._proxy, self._context, self._size = proxy, context, size
        self._idle: list[httpx2.AsyncHTTPTransport] = []

    def take(self) -> httpx2.AsyncHTTPTransport:
        """Return the connection that was used last, or one that is yet to be made."""
        return self._idle.pop() if self._idle else self._made()

    async def give(self, transport: httpx2.AsyncHTTPTransport) -> None:
        """Keep a connection; closed if there are enough."""
        if len(self._idle) < self._size:
            self._idle.append(transport)
        else:
            await transport.aclose()

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        idle, self._idle, self._size = self._idle, [], 0
        for transport in idle:
            await transport.aclose()

    def _made(self) -> httpx2.AsyncHTTPTransport:
        proxy, via = self._proxy, None
        if proxy is not None:
            via = httpx2.Proxy(
                httpx2.URL(scheme=proxy.scheme, host=_host(proxy.host), port=proxy.port),
                headers=proxy.headers,
                ssl_context=self._context if proxy.scheme == "https" else None,
            )
        return httpx2.AsyncHTTPTransport(
            verify=self._context, trust_env=False, limits=_ONE_FOR_EVER, proxy=via, http2=False
        )


class _Progress:
    """How far an exchange got, as httpx2 tells it.

    Args:
        scope: What ends the exchange; its deadline is moved while it connects.
        end: The scope's deadline otherwise.
        connect_timeout: Seconds for connecting.
    """

    def __init__(self, scope: anyio.CancelScope, end: float, connect_timeout: float) -> None:
        self._scope, self._end, self._connect_timeout = scope, end, connect_timeout
        self._has_left = False
        self._half_made: Any = None
        self._status: int | None = None
        self.headers: Mapping[str, str] = {}

    async def trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Be told by httpx2 of a step."""
        if name == "connection.connect_tcp.started":
            self._scope.deadline = min(self._end, anyio.current_time() + self._connect_timeout)
        elif name == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            self._has_left, self._half_made = True, None
            self._scope.deadline = self._end
        elif name == "connection.connect_tcp.complete":
            self._half_made = info["return_value"]

    async def close_half_made(self) -> None:
        """Close a connection that was given up during the handshake of TLS: httpx2 forgets it."""
        if self._half_made is not None:
            with anyio.CancelScope(shield=True):
                await self._half_made.aclose()

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Note that the head of the answer is there."""
        self._status, self.headers = status, headers

    def failure(self, error: Exception) -> AppwriteCallError:
        """Return what a failure means at this point."""
        if isinstance(error, httpx2.TimeoutException):
            error = TimeoutError(str(error) or "timed out")
        if self._status is not None:
            return broken_answer(error, self._status, self.headers)
        if self._has_left:
            return no_answer(error)
        certificate = _certificate_error(error)
        return no_connection(error) if certificate is None else refused_certificate(certificate)


def _certificate_error(error: BaseException) -> BaseException | None:
    link: BaseException | None = error
    while link is not None and not isinstance(link, ssl.SSLCertVerificationError):
        link = link.__cause__ or link.__context__
    return link


def _headers_of(response: httpx2.Response) -> dict[str, str]:
    """Return the answer's headers; of one that comes twice the last, as the synchronous client does."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}


def _came_more(stream: object) -> bool:
    """Tell whether a connection received more than the answer: httpx2 would take it for the next one's.

    Nothing public leads to the connection; where the way is another one, nothing is known.
    """
    for name in ("_httpcore_stream", "_stream", "_connection", "_h11_state"):
        stream = getattr(stream, name, None)
    return isinstance(stream, h11.Connection) and bool(stream.trailing_data[0])


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _no_tls() -> ssl.SSLContext:
    """Return a context for connections without TLS: httpx2 would load the system's certificates for each client."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


_NO_TLS: Final = _no_tls()
