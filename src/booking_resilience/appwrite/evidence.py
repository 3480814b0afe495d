"""What an exception proves about a call: found along its chain, by names and attributes.

Errors are known by the names of their types, so that requests, urllib3 and httpx are recognised alike, none is
imported, and the SDK may change its transport. The SDK raises without `from`: what went wrong hangs in `__context__`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Sent: TypeAlias = Literal["no", "maybe", "yes"]
Kind: TypeAlias = Literal["answer", "open", "unreadable", "cut", "network", "certificate", "local"]

_MOST_LINKS: Final = 40
_CERTIFICATE: Final = frozenset({"SSLCertVerificationError", "CertificateError"})
# Raised before a connection stood, so no byte of the request had left.
_UNSENT: Final = frozenset(
    {
        "ConnectError", "ConnectTimeout", "ConnectTimeoutError", "ConnectionRefusedError", "EmptyPoolError",
        "NameResolutionError", "NewConnectionError", "PoolTimeout", "gaierror",
    }
)  # fmt: skip
_NETWORK: Final = _UNSENT | {
    "ChunkedEncodingError", "ConnectionError", "ContentDecodingError", "DecodeError", "HTTPException", "MaxRetryError",
    "ProtocolError", "ReadTimeoutError", "SSLError", "Timeout", "TimeoutError", "TransportError",
}  # fmt: skip
_ANSWERED: Final = frozenset({"HTTPError", "HTTPStatusError"})
_UNREADABLE: Final = frozenset({"JSONDecodeError", "KeyError", "UnicodeDecodeError", "ValidationError"})
# The caller's mistakes, found before anything is sent; in requests they are RequestExceptions like the others.
_LOCAL: Final = frozenset({"InvalidHeader", "InvalidURL", "InvalidSchema", "MissingSchema", "LocationValueError"})


class Evidence(NamedTuple):
    """What is known of a failed call.

    Attributes:
        kind: A failure was answered; one that says nothing as long as nobody looks; a success was answered that cannot
            be read; one began and broke off; no answer came; the server's certificate was refused; or the call never
            got as far as the network.
        sent: Whether the request reached the server.
        status: The HTTP status, if one is in reach.
        type: Appwrite's error type, if one is in reach.
        headers: The answer's headers, if they are in reach.
    """

    kind: Kind
    sent: Sent
    status: int | None = None
    type: str | None = None
    headers: Mapping[str, str] = {}


def evidence_of(error: BaseException) -> Evidence:
    """Return what the error proves.

    An error of `AppwriteClient` knows itself; of the plain SDK's, everything is looked for along its chain.
    """
    if isinstance(told := attribute(error, "evidence"), Evidence):
        return told
    links = tuple(_links(error))
    response = next((found for link in links if (found := _response_of(link)) is not None), None)
    status = status_of(error)
    if status:
        kind = attribute(error, "type")
        return Evidence("answer", "yes", status, kind if isinstance(kind, str) else None, _headers_of(response))
    names = _names(error)
    is_decoding = isinstance(error, (KeyError, TypeError, AttributeError, ValueError)) and not names & _NETWORK
    if response is not None and (status == 0 or is_decoding or names & (_NETWORK | _ANSWERED)):
        found = attribute(response, "status_code")
        return Evidence("answer", "yes", int(str(found)), _type_in(response), _headers_of(response))
    if is_decoding:
        return Evidence("unreadable", "yes") if _is_of_an_answer(error) else Evidence("local", "no")
    if status == 0 and any("ValidationError" in _names(link) and _is_of_an_answer(link) for link in links):
        return Evidence("unreadable", "yes")  # the SDK's services wrap what their models reject
    if status == 0 or names & _NETWORK:
        return _without_an_answer(links)
    return Evidence("local", "no")


def leave_open(error: BaseException) -> None:
    """Note on an error that it does not say what became of the call: the same call may find out."""
    with contextlib.suppress(Exception):
        setattr(error, "evidence", evidence_of(error)._replace(kind="open"))  # noqa: B010 - any error's attribute


def status_of(error: BaseException) -> int | None:
    """Return the `code` of an AppwriteException, known by its attributes; None if it is none, 0 without an answer."""
    code, kind = attribute(error, "code"), attribute(error, "type", missing=error)
    if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 600 and isinstance(kind, (str, type(None))):
        return code
    return None


def attribute(thing: object, name: str, missing: object = None) -> object:
    """Return an attribute; `missing` if there is none or it cannot be read."""
    try:
        return getattr(thing, name, missing)
    except Exception:  # noqa: BLE001 - a broken property says nothing
        return missing


def _without_an_answer(links: tuple[BaseException, ...]) -> Evidence:
    names = frozenset[str]().union(*map(_names, links))
    if names & _CERTIFICATE:
        return Evidence("certificate", "no")
    if names & _LOCAL or not names & _NETWORK:
        return Evidence("local", "no")
    unsent = names & _UNSENT or ("SSLError" in names and any("do_handshake" in _functions(link) for link in links))
    return Evidence("network", "no" if unsent else "maybe")


def _is_of_an_answer(error: BaseException) -> bool:
    """Tell whether the SDK stumbled over an answer of success: in its models, or in its client after the request."""
    where = [module for module in _modules(error) if module.startswith("appwrite.")]
    if not where or where[-1].startswith("appwrite.services"):
        return False
    return where[-1].startswith("appwrite.models") or bool(_names(error) & _UNREADABLE)


def _links(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it came from, nearest first, up to an SDK's error of an earlier call.

    A context that is suppressed counts as well: Python's own JSON decoder suppresses that of its error.
    """
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST_LINKS:
        link = waiting.pop(0)
        if id(link) in seen or (seen and status_of(link) is not None):
            continue
        seen.add(id(link))
        yield link
        held = (attribute(link, "message"), attribute(link, "reason"), *link.args[:2])
        waiting += [other for other in (link.__cause__, link.__context__, *held) if isinstance(other, BaseException)]


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(base.__name__ for base in type(error).__mro__)


def _modules(error: BaseException) -> Iterator[str]:
    tb = error.__traceback__
    while tb is not None:
        yield str(tb.tb_frame.f_globals.get("__name__", ""))
        tb = tb.tb_next


def _functions(error: BaseException) -> Iterator[str]:
    tb = error.__traceback__
    while tb is not None:
        yield tb.tb_frame.f_code.co_name
        tb = tb.tb_next


def _response_of(link: BaseException) -> Any:
    """Return the answer that an HTTP library hung on its error, if it is one of a failure."""
    response = attribute(link, "response")
    status = attribute(response, "status_code")
    return response if isinstance(status, int) and status >= 300 else None


def _headers_of(response: Any) -> Mapping[str, str]:
    headers = attribute(response, "headers")
    return {str(name): str(value) for name, value in headers.items()} if isinstance(headers, Mapping) else {}


def _type_in(response: Any) -> str | None:
    try:
        kind = response.json()["type"]
    except Exception:  # noqa: BLE001 - no JSON, no object, or no type in it
        return None
    return kind if isinstance(kind, str) else None
