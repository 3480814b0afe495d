"""Reading the parameters of a request, as strictly and as loosely as the real server does."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from booking_resilience.testing.appwrite_server.dialect import ApiError, argument, not_optional

if TYPE_CHECKING:
    from booking_resilience.testing.appwrite_server.exchange import Request

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")
_ID_RULE = (
    "Parameter must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, period, hyphen, and underscore. "
    "Can't start with a special char"
)
_UID_RULE = (
    "UID must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, and underscore. "
    "Can't start with a leading underscore"
)
_ROLES = ("any", "guests", "users", "user", "team", "member", "label")
_PERMISSION = re.compile(r'(read|create|update|delete|write)\("([a-z]+)(?::[^"]*)?"\)')


class BodyError(Exception):
    """A body that trips the real server up: JSON, but a text."""


def read_body(request: Request) -> None:
    """Parse the body; what is no JSON object and no form, or is not declared as one, is as good as none."""
    request.body = {}
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind == "application/x-www-form-urlencoded":
        request.body = dict(parse_qsl(request.raw_body.decode("latin-1")))
    elif kind == "application/json" and request.raw_body:
        try:
            body = json.loads(request.raw_body)
            json.dumps(body, ensure_ascii=False).encode()  # PHP refuses half a surrogate pair
        except (ValueError, RecursionError):
            return
        if isinstance(body, str):
            raise BodyError
        if isinstance(body, dict):
            request.body = body


def not_emulated(request: Request) -> ApiError:
    """Return the error for a route that the real server has and this one has not."""
    message = f"The embedded Appwrite server does not emulate {request.method} {request.path}."
    return ApiError(501, "general_not_implemented", message)


def queries(request: Request) -> list[str]:
    """Return the queries of a list, as the texts that they are."""
    pairs = parse_qsl(request.query, keep_blank_values=True)
    if any(name == "queries" for name, _ in pairs):
        text = "Value must be a valid string and at least 1 chars and no longer than 4096 chars"
        raise argument("queries", f"Value must a valid array no longer than 100 items and {text}")
    return [value for name, value in pairs if re.fullmatch(r"queries\[\d*\]", name)]


def wants_total(request: Request) -> bool:
    """Return whether a list is to say how many rows there are."""
    text = dict(parse_qsl(request.query)).get("total", "true")
    if text not in ("true", "false", "1", "0"):
        raise argument("total", "Value must be a valid boolean")
    return text in ("true", "1")


def required(body: dict[str, Any], name: str) -> Any:
    """Return a parameter that must be there."""
    if body.get(name) is None:
        raise not_optional(name)
    return body[name]


def new_id(body: dict[str, Any], name: str) -> str:
    """Return the ID of what is to be made; one of our own for `unique()`."""
    id_ = required(body, name)
    if id_ == "unique()":
        return secrets.token_hex(10)
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise argument(name, _ID_RULE)
    return id_


def uid(id_: str, name: str) -> None:
    """Check an ID in a path."""
    if not _ID.fullmatch(id_):
        raise argument(name, _UID_RULE)


def permissions(body: dict[str, Any]) -> list[str] | None:
    """Return the permissions, None if none are given."""
    asked = body.get("permissions")
    if asked is None:
        return None
    if not isinstance(asked, list):
        raise argument("permissions", "Value must be an array. or null")
    for text in asked:
        match = _PERMISSION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise argument("permissions", f'Permission "{text}" is not allowed. or null')
        if match[2] not in _ROLES:
            listed = ", ".join(_ROLES)
            raise argument("permissions", f'Role "{match[2]}" is not allowed. Must be one of: {listed}. or null')
    return asked
