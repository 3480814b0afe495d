"""Retries, a breaker for each origin and deadlines for HTTP clients: one module for each client, on one set of rules.

`httpx2` and `httpx` have transports, `requests` an adapter, `aiohttp` a middleware. Importing this package imports no
client.
"""

from booking_resilience.http.rules import HTTP_RETRY

__all__ = ["HTTP_RETRY"]


def __dir__() -> list[str]:
    return sorted(__all__)
