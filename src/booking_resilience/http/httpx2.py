"""Transports for httpx2: `httpx2.Client(transport=ResilientTransport())`.

With a transport of its own a client ignores the settings `verify`, `cert`, `http2`, `limits`, `proxy` and
`trust_env` that it's given itself: give them to the transport.
"""

from __future__ import annotations

from typing import Any

import httpx2

from booking_resilience.http.transports import AsyncTransport, SyncTransport

__all__ = ["AsyncResilientTransport", "ResilientTransport"]


class ResilientTransport(SyncTransport, httpx2.BaseTransport):
    """A transport that retries what may be repeated, through a breaker for each origin, within the caller's deadline.

    GET, HEAD, OPTIONS and TRACE are sent again after whatever `retry.retry_on` accepts; any other method only if it
    never left, or carries an `Idempotency-Key`. Bodies that can be read only once are sent once. When it gives up on a
    status, that response comes out; on an exception, that exception; a breaker's refusal is `CircuitOpenError`.

    Args:
        inner: The transport that sends; None for an `httpx2.HTTPTransport`.
        retry: When to send again; a status of 400 or more is asked about as an error with that `response`.
        breakers: The breakers, by origin (`scheme://host:port`); None for new ones.
        monitor: Gets a record of each request that failed or recovered; its operation is `METHOD origin`. Or None.
        deadline_header: The request header that tells what is left of the caller's `deadline`, in whole milliseconds,
            at most 3,600,000; None to send none.
        options: What `httpx2.HTTPTransport` takes, if `inner` is None.

    Raises:
        TypeError: If a setting is of the wrong type.
        ValueError: If the policy has `retry_on_result`, or the header's name is empty.
    """

    library: Any = httpx2
    make_inner: Any = httpx2.HTTPTransport


class AsyncResilientTransport(AsyncTransport, httpx2.AsyncBaseTransport):
    """Does as `ResilientTransport` for an `httpx2.AsyncClient`; each attempt is cut off at its end."""

    library: Any = httpx2
    make_inner: Any = httpx2.AsyncHTTPTransport
