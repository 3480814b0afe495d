"""The rate limits on writes: a fixed window of 60 s for each address, method, path and user. Keys are never refused."""

from __future__ import annotations

from booking_resilience import clock
from booking_resilience.testing.appwrite_server.dialect import ApiError
from booking_resilience.testing.appwrite_server.exchange import Request

WINDOW = 60


class RateLimits:
    """Counts the guests' writes."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}

    def check(
        self, request: Request, limit: int, counts: bool, headers: dict[str, str], *, allowed: int | None = None
    ) -> int:
        """Count the request, put the limit's headers, return how many are left.

        Args:
            request: The request.
            limit: How many the headers announce.
            counts: Whether it counts: a guest's does, one with a key doesn't.
            headers: Where the headers go.
            allowed: How many are let through; None for one less than announced, as observed of writes.

        Raises:
            ApiError: If a guest has made too many.
        """
        window = int(clock.utc_now().timestamp()) // WINDOW
        if len(self._counts) > 10_000:
            self._counts.clear()
        key = (request.method, request.path)
        counted, made = self._counts.get(key, (window, 0))
        if counted != window:
            made = 0
        remaining = max(0, limit - made - 1)
        headers["X-Ratelimit-Limit"] = str(limit)
        headers["X-Ratelimit-Remaining"] = str(remaining)
        headers["X-Ratelimit-Reset"] = str((window + 1) * WINDOW)
        if counts:
            if made >= (limit - 1 if allowed is None else allowed):
                text = "Rate limit for the current endpoint has been exceeded. Please try again after some time."
                raise ApiError(429, "general_rate_limit_exceeded", text)
            self._counts[key] = (window, made + 1)
        return remaining
