"""The rate limits on writes: a fixed window of 60 s for each address, method, path and user. Keys are never refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from booking_resilience import clock
from booking_resilience.testing.appwrite_server.dialect import ApiError

if TYPE_CHECKING:
    from booking_resilience.testing.appwrite_server.exchange import Request

WINDOW = 60
WRITES, DELETES = 120, 60


class RateLimits:
    """Counts the guests' writes."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}

    def check(self, request: Request, is_guest: bool, headers: dict[str, str]) -> int:
        """Count the request, put the limit's headers, return how many are left.

        Raises:
            ApiError: If a guest has made too many.
        """
        limit = DELETES if request.method == "DELETE" else WRITES
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
        if is_guest:
            if made >= limit - 1:  # as observed: the last of the announced ones is refused
                text = "Rate limit for the current endpoint has been exceeded. Please try again after some time."
                raise ApiError(429, "general_rate_limit_exceeded", text)
            self._counts[key] = (window, made + 1)
        return remaining
