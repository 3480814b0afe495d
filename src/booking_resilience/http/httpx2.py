"""Transports for httpx2: `httpx2.Client(transport=ResilientTransport())`; what they do, transports.py says.

With a transport of its own a client ignores the settings `verify`, `cert`, `http2`, `limits`, `proxy` and
`trust_env` that it's given itself: give them to the transport.
"""

import httpx2

from booking_resilience.http.transports import AsyncTransport, SyncTransport

__all__ = ["AsyncResilientTransport", "ResilientTransport"]


class ResilientTransport(SyncTransport, httpx2.BaseTransport):  # noqa: D101 - it has its base's docstring
    __doc__ = SyncTransport.__doc__
    library = httpx2


class AsyncResilientTransport(AsyncTransport, httpx2.AsyncBaseTransport):  # noqa: D101 - it has its base's docstring
    __doc__ = AsyncTransport.__doc__
    library = httpx2
