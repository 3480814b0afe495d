"""`AppwriteClient`: the SDK's client with a transport of its own, with timeouts and connections that are kept.

The SDK's services use nothing of a client but `call`, `get_config` and `chunked_upload`, so `call` is what is replaced.
"""

from __future__ import annotations

import json
import logging
import weakref
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urljoin, urlsplit

from appwrite.encoders.value_class_encoder import ValueClassEncoder
from appwrite.query import Query

from booking_resilience.appwrite.evidence import Evidence
from booking_resilience.appwrite.failures import AppwriteCallError
from booking_resilience.appwrite.sdk import Client
from booking_resilience.appwrite.transport import Answer, Transport
from booking_resilience.checks import check, is_positive, is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

logger: logging.Logger = logging.getLogger("booking_resilience.appwrite")

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD: Final = frozenset({307, 308})
_MOST_REDIRECTS: Final = 5
_MOST_WARNINGS: Final = 64


class AppwriteClient(Client):
    """A client of the Appwrite SDK, with all its setters, that does not hang and says what went wrong.

    It keeps connections alive, and bounds each wait by its timeouts and by `remaining_time()` of the operation that it
    is called in. Every failure of a call is an `AppwriteException` (see `failures`), but for a `TypeError` for data
    that is no JSON and what the SDK's models reject afterwards. It never sends a request twice. Uploads are left to
    the SDK. A proxy that the environment names is used, though not for this machine itself. A redirect is followed
    within the same host only, and never changes the method. Safe to share between threads, and across `fork`.

    Args:
        connect_timeout: Seconds for connecting, all addresses and TLS included, without the look-up of the name;
            above 0.
        read_timeout: Seconds for each wait for the server, not for the whole; above 0.
        pool_size: Idle connections kept at most; 1 or more. More threads than that open more.

    Raises:
        ValueError: If a setting is out of its range.

    >>> client = AppwriteClient(read_timeout=5.0).set_endpoint("http://localhost/v1").set_project("demo")
    """

    def __init__(self, *, connect_timeout: float = 2.0, read_timeout: float = 10.0, pool_size: int = 10) -> None:
        above = "a finite number above 0"
        check("connect_timeout", connect_timeout, is_positive(connect_timeout), above)
        check("read_timeout", read_timeout, is_positive(read_timeout), above)
        check("pool_size", pool_size, is_whole(pool_size), "a whole number, 1 or more")
        super().__init__()
        self._transport = Transport(connect_timeout=connect_timeout, read_timeout=read_timeout, pool_size=pool_size)
        self._warnings_told: dict[str, object] = {}
        weakref.finalize(self, self._transport.pool.close)

    def call(
        self,
        method: str,
        path: str = "",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        response_type: str = "json",
    ) -> Any:
        """Call a route, as the SDK's services do.

        Args:
            method: The HTTP method, in any case.
            path: The path behind the endpoint, unquoted: everything but `/` is quoted here.
            headers: Headers beside the client's own.
            params: The query of a GET, else what the body holds.
            response_type: `json`, `text` or `location`.

        Returns:
            What the JSON holds, or the body's bytes if it is none; its text; or the Location header.

        Raises:
            AppwriteCallError: If the call failed, in whatever way.
            TypeError: If the data is no JSON.
        """
        sent_headers = {name.lower(): value for name, value in {**self._global_headers, **(headers or {})}.items()}
        content_type = str(sent_headers.get("content-type") or "")
        if content_type.startswith("multipart/form-data"):
            return super().call(method, path, headers, params, response_type)
        values = _flattened(params or {})
        url = self._endpoint.rstrip("/") + quote(path, safe="/")
        body: bytes | None = None
        if method.lower() == "get":
            flat: dict[str, Any] = self.flatten(values)
            if query := urlencode({key: _spelt(value) for key, value in _given(flat).items()}):
                url = f"{url}?{query}"
        elif content_type.startswith("application/json"):
            body = _json_of(values)
        else:
            body = urlencode(_given(values), doseq=True).encode()
            sent_headers["content-type"] = content_type or "application/x-www-form-urlencoded"
        wire_headers = {name: str(value) for name, value in _given(sent_headers).items() if value != ""}
        wire_headers.setdefault("accept-encoding", "gzip, deflate")
        try:
            answer = self._follow(method.upper(), url, wire_headers, body, to_the_end=response_type != "location")
        except (ValueError, LookupError) as error:  # an address or a header that cannot be sent
            raise AppwriteCallError(f"the request cannot be sent: {error}") from error
        self._log_warnings(answer)
        return _content(answer, response_type)

    def close(self) -> None:
        """Close the idle connections. The client can still be used; it closes them too when it is collected."""
        self._transport.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, to_the_end: bool
    ) -> Answer:
        """Return the answer at the end of the redirects; one that cannot be followed is the end."""
        redirects_left = _MOST_REDIRECTS if to_the_end else 0
        while True:
            answer = self._transport.exchange(method, url, headers, body, verified=not self._self_signed)
            location = answer.headers.get("location")
            if not redirects_left or location is None or answer.status not in _REDIRECTS:
                return answer
            target = _redirected(url, location)
            if target is None or not (method == "GET" or answer.status in _KEEP_METHOD):
                return answer
            url = target
            redirects_left -= 1

    def _log_warnings(self, answer: Answer) -> None:
        """Log what the server warns of, each text once; the SDK prints it at every call."""
        text = answer.headers.get("x-appwrite-warning")
        if not text or len(self._warnings_told) >= _MOST_WARNINGS:
            return
        mine = object()
        if self._warnings_told.setdefault(text, mine) is mine:  # in one step: of many threads, one tells it
            logger.info("Appwrite warns: %s", text)


def _flattened(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with queries as texts; SDKs from 25 on hold them as objects."""
    flatten = getattr(Query, "_flatten", None)
    return dict(params) if flatten is None else {key: flatten(value) for key, value in params.items()}


def _json_of(values: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(values, cls=ValueClassEncoder, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise TypeError(f"the data is no JSON: {error}") from error


def _spelt(value: Any) -> Any:
    """Return a value of a query as the server reads it; older SDKs leave `True` to Python's own spelling."""
    return str(value).lower() if isinstance(value, bool) else value


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not None: the SDK leaves that out, too."""
    return {key: value for key, value in values.items() if value is not None}


def _redirected(url: str, location: str) -> str | None:
    """Return where a redirect leads, if the key may go there: the same server, or the same name with TLS; else None."""
    try:
        target = urljoin(url, location).partition("#")[0]
        old, new = urlsplit(url), urlsplit(target)
        has_port = new.port is None or new.port > 0
    except ValueError:
        return None
    if not target.isascii() or not has_port or any(sign.isspace() for sign in target):
        return None
    is_same = (old.scheme, old.netloc) == (new.scheme, new.netloc)
    is_safer = (old.scheme, new.scheme) == ("http", "https") and old.hostname == new.hostname
    return target if is_same or is_safer else None


def _content(answer: Answer, response_type: str) -> Any:
    status, headers, body = answer
    if status >= 400 or (status >= 300 and response_type != "location"):
        raise _error_of(answer)
    if response_type == "location":
        return headers.get("location")
    kind = headers.get("content-type", "application/json" if body else "")
    is_json = kind.lower().startswith("application/json")
    if not is_json and response_type != "text":
        return body
    try:
        return body.decode() if response_type == "text" else json.loads(body)
    except (ValueError, RecursionError) as error:
        evidence = Evidence("unreadable", "yes", status, None, headers)
        text = body.decode(errors="replace")
        raise AppwriteCallError(
            f"the answer {status} cannot be read: {error}", status, None, text, evidence=evidence
        ) from error


def _error_of(answer: Answer) -> AppwriteCallError:
    """Return the error that an answer tells of; some of Appwrite's say that their JSON is HTML."""
    status, headers, body = answer
    text = body.decode(errors="replace")
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        facts = {}
    message, kind = facts.get("message"), facts.get("type")
    if not isinstance(message, str):
        message = text or f"HTTP status {status}"
    kind = kind if isinstance(kind, str) else None
    return AppwriteCallError(message, status, kind, text, evidence=Evidence("answer", "yes", status, kind, headers))
