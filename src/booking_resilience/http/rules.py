"""The settings of every client's transport: what may be sent again, through which breaker, and what is recorded."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from booking_resilience.breakers import Breakers
from booking_resilience.checks import check_header_name, check_type
from booking_resilience.pipeline import Pipeline
from booking_resilience.recording import ErrorRecorder
from booking_resilience.retry import DEFAULT_RETRY, RetryPolicy
from booking_resilience.verdicts import classify

HTTP_RETRY: RetryPolicy = dataclasses.replace(DEFAULT_RETRY, deadline=None)
"""`DEFAULT_RETRY` without a deadline: the client has timeouts of its own, and the caller may set a deadline."""

DEADLINE_HEADER = "X-Request-Timeout-Ms"
KEY_HEADER = "Idempotency-Key"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1
_PORTS = {"http": 80, "https": 443}


class Rules:
    """A transport's settings, as `ResilientTransport` describes them.

    Raises:
        TypeError: If a setting is of the wrong type.
        ValueError: If the policy has `retry_on_result`, or the header's name is empty.
    """

    def __init__(
        self,
        retry: RetryPolicy,
        breakers: Breakers | None,
        monitor: ErrorRecorder | None,
        deadline_header: str | None,
    ) -> None:
        check_type("breakers", breakers, breakers is None or isinstance(breakers, Breakers), "Breakers or None")
        if deadline_header is not None:
            check_header_name("deadline_header", deadline_header)
        Pipeline(retry=retry, monitor=monitor)  # which checks both
        if retry.retry_on_result is not None:
            raise ValueError("retry must be a policy without retry_on_result: responses are judged by their status")
        self.header: str | None = deadline_header
        self.breakers: Breakers = Breakers() if breakers is None else breakers
        self.monitor: ErrorRecorder | None = monitor
        self._freely = retry
        self._if_never_left = dataclasses.replace(
            retry, retry_on=lambda error: classify(error).sent == "no" and retry.passes(error)
        )
        self._never = dataclasses.replace(retry, retry_on=())

    def policy_for(self, method: str, headers: Mapping[str, str], *, can_repeat: bool) -> RetryPolicy:
        """Return when a request is sent again.

        Args:
            method: Its HTTP method, in capitals.
            headers: Its headers, found whatever their case.
            can_repeat: Whether its body can be sent again.
        """
        if not can_repeat:
            return self._never
        has_key = bool((headers.get(KEY_HEADER) or "").strip())  # spaces alone arrive as an empty value
        return self._freely if method in _SAFE or has_key else self._if_never_left


@functools.lru_cache(1024)
def origin_of(scheme: str, host: str | bytes | None, port: int | None) -> str:
    """Return `scheme://host:port` in lower case, with the port that the scheme implies."""
    host = host.decode("ascii") if isinstance(host, bytes) else host or ""
    scheme, host = scheme.lower(), host.lower()
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    port = _PORTS.get(scheme) if port is None else port
    return f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}"
