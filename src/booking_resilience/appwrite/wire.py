"""The HTTP that both clients share: the request that a call makes, and where a redirect of it leads."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

from appwrite.encoders.value_class_encoder import ValueClassEncoder
from appwrite.query import Query
from urllib3.util import make_headers

from booking_resilience.appwrite.answers import Answer, AnswerKind
from booking_resilience.appwrite.failures import AppwriteCallError
from booking_resilience.appwrite.sdk import Client

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})  # what is said of the body is ours to say
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD: Final = frozenset({307, 308})
_MOST_REDIRECTS: Final = 5
_FILES: Final = re.compile(r"/avatars/.+|.*/(?:download|preview|view)")  # what the SDK's services download
_SILENT: Final = re.compile(r"/project/smtp/tests|/oauth2/[^/]+/revoke")  # POSTs that the server answers with 204


@dataclasses.dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as it goes over the wire.

    Attributes:
        method: The HTTP method, in capitals.
        url: The whole address, already quoted.
        headers: The headers, their names in lower case, without those of a proxy.
        body: The body, or None.
        verified: Whether the server's certificate is checked.
        expects: What the answer has to hold.
        redirects_left: How many more redirects may be followed.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    verified: bool
    expects: AnswerKind
    redirects_left: int = _MOST_REDIRECTS

    def head(self, proxy_headers: Mapping[str, str] | None = None) -> Head:
        """Return the request line's target, and the headers to send.

        Args:
            proxy_headers: What a proxy is told that has to know the whole address; None without one.

        Raises:
            ValueError: If the address or a header can't be sent.
        """
        parts = urlsplit(self.url)
        server = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
        target = self.url if proxy_headers is not None else self.url[self.url.index("/", len(parts.scheme) + 3) :]
        return head_of(self.method, target, server, {**self.headers, **(proxy_headers or {})}, self.body)

    def after(self, answer: Answer) -> WireRequest | None:
        """Return the request that follows a redirect; None if the answer is the end.

        A redirect is followed within the same host only, and never changes the method.
        """
        location = answer.headers.get("location")
        if not self.redirects_left or location is None or answer.status not in _REDIRECTS:
            return None
        target = _redirected(self.url, location)
        if target is None or not (self.method == "GET" or answer.status in _KEEP_METHOD):
            return None
        return dataclasses.replace(self, url=target, redirects_left=self.redirects_left - 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The head of a request, fit to be sent: no header can end it early."""

    line: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    def to_bytes(self) -> bytes:
        """Return it as it goes over the wire."""
        return b"\r\n".join((self.line, *(b"%s: %s" % field for field in self.fields), b"", b""))


def request_of(
    client: Client,
    method: str,
    path: str,
    headers: Mapping[str, str] | None,
    params: Mapping[str, Any] | None,
    response_type: str,
) -> WireRequest | None:
    """Return the request that a call of the SDK's client makes; None for an upload, which is the SDK's own.

    Raises:
        TypeError: If the data can't be sent as JSON.
    """
    sent_headers = {name.lower(): value for name, value in {**client._global_headers, **(headers or {})}.items()}
    content_type = str(sent_headers.get("content-type") or "")
    if content_type.startswith("multipart/form-data"):
        return None
    values = _flattened(params or {})
    url = client._endpoint.rstrip("/") + quote(path, safe="/")
    body: bytes | None = None
    if method.lower() == "get":
        flat: dict[str, Any] = client.flatten(values)
        if query := urlencode({key: _spelt(value) for key, value in _given(flat).items()}):
            url = f"{url}?{query}"
    elif content_type.startswith("application/json"):
        body = _json_of(values)
    else:
        body = urlencode(_given(values), doseq=True).encode()
        sent_headers["content-type"] = content_type or "application/x-www-form-urlencoded"
    wire_headers = {name: str(value) for name, value in _given(sent_headers).items() if value != ""}
    wire_headers.setdefault("accept-encoding", "gzip, deflate")
    expects = _expected(method.lower(), path, response_type, wire_headers, is_direct=headers is None)
    redirects = 0 if response_type == "location" else _MOST_REDIRECTS
    return WireRequest(method.upper(), url, wire_headers, body, not client._self_signed, expects, redirects)


def cannot_send(error: Exception) -> AppwriteCallError:
    """Return the error of an address or a header that can't be sent."""
    return AppwriteCallError(f"the request cannot be sent: {error}")


def head_of(method: str, target: str, host: str, headers: Mapping[str, str], body: bytes | None) -> Head:
    """Return the head of a request.

    Raises:
        ValueError: If a header can't be sent.
    """
    login, _, server = host.rpartition("@")
    given = {"host": server, **headers}
    if login:
        given.setdefault("authorization", make_headers(basic_auth=unquote(login))["authorization"])
    fields = {name: value for name, value in given.items() if name not in _FRAMING}
    if body is not None:
        fields["content-length"] = str(len(body))
    if any(sign in text for text in (method, target, *fields.values()) for sign in "\r\n\0"):
        raise ValueError("a header, the address or the method contains a line break")
    if " " in method or " " in target or not method or not all(map(_NAME.fullmatch, fields)):
        raise ValueError("the name of a header, the address or the method contains an invalid character")
    try:
        texts = [text.encode("latin-1") for text in (f"{method} {target} HTTP/1.1", target, *fields, *fields.values())]
    except UnicodeEncodeError:
        texts = []
    if not texts:  # outside of the block: the codec's error contains the header, the key perhaps
        raise ValueError("a header or the address contains a character that can't be sent")
    line, path, *rest = texts
    return Head(line, path, tuple(zip(rest[: len(fields)], rest[len(fields) :], strict=True)))


def _expected(method: str, path: str, response_type: str, headers: Mapping[str, str], *, is_direct: bool) -> AnswerKind:
    """Return what an answer of success has to hold; SDKs up to 23 don't say in `Accept` what they expect."""
    if response_type in ("text", "location"):
        return AnswerKind(response_type)
    accept = headers.get("accept")
    if accept is None:
        sends_json = headers.get("content-type", "").startswith("application/json")
        is_json = not is_direct and (sends_json or (method == "get" and not _FILES.fullmatch(path)))
    else:
        is_json = accept.startswith("application/json")
    if not is_json:
        return AnswerKind.ANYTHING
    return AnswerKind.OBJECT_OR_NOTHING if method == "delete" or _SILENT.fullmatch(path) else AnswerKind.OBJECT


def _flattened(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with queries as strings; SDKs from 25 on hold them as objects."""
    flatten = getattr(Query, "_flatten", None)
    return dict(params) if flatten is None else {key: flatten(value) for key, value in params.items()}


def _json_of(values: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(values, cls=ValueClassEncoder, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise TypeError(f"the data can't be sent as JSON: {error}") from error


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
