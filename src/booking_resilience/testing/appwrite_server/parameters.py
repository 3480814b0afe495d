"""Reading the parameters of a request, as strictly and as loosely as the real server does."""

from __future__ import annotations

import email.parser
import email.policy
import math
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from booking_resilience.testing.appwrite_server import permissions as rights
from booking_resilience.testing.appwrite_server import php
from booking_resilience.testing.appwrite_server.dialect import (
    ID_RULE,
    UID_RULE,
    ApiError,
    argument,
    is_id,
    not_optional,
)
from booking_resilience.testing.appwrite_server.exchange import Request

_QUERIES_RULE = (
    "Value must a valid array no longer than 100 items and "
    "Value must be a valid string and at least 1 chars and no longer than 4096 chars"
)
_JSON_RULE = "Value must be a valid JSON string"
_OPERATORS = frozenset((
    "increment", "decrement", "multiply", "divide", "modulo", "power", "stringConcat", "stringReplace", "toggle",
    "arrayAppend", "arrayPrepend", "arrayInsert", "arrayRemove", "arrayUnique", "arrayIntersect", "arrayDiff",
    "arrayFilter", "dateAddDays", "dateSubDays", "dateSetNow",
))  # fmt: skip
_LOOSE = {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}


class BodyError(Exception):
    """A body that trips the real server up before its own code runs; `status` is what its HTTP library answers."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def read_body(request: Request) -> None:
    """Parse what the request brings: the query of a GET, the body of all others.

    What is no JSON object and no form, or isn't declared as one, is as good as none.

    Raises:
        BodyError: If the body trips the real server up.
    """
    if request.method in ("GET", "HEAD"):
        request.body = php.parse_query(request.query)
        return
    kind = request.headers.get("content-type", "")
    kind = kind.partition(";")[0] or kind
    if kind == "application/json":
        body = _json(request.raw_body)
    elif kind == "application/x-www-form-urlencoded":
        body = php.parse_query(request.raw_body.decode("utf-8", "replace"))
    elif kind == "multipart/form-data":
        body = _multipart(request)
    else:
        body = None
    if not body:
        body = {}
    if isinstance(body, list):
        body = {str(place): item for place, item in enumerate(body)}
    if not isinstance(body, dict):
        raise BodyError(500)
    request.body = body


def _json(raw: bytes) -> Any:
    try:
        return php.decode(raw)
    except ValueError:
        return None


def _multipart(request: Request) -> dict[str, Any]:
    kind = request.headers["content-type"]
    if "boundary=" not in kind:
        raise BodyError(400)
    head = f"Content-Type: {kind}\r\n\r\n".encode("latin-1")
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.raw_body)
    fields = [(part.get_param("name", header="content-disposition"), part) for part in message.iter_parts()]
    return {
        str(name): str(part.get_payload()).rstrip("\r\n") for name, part in fields if name and not part.get_filename()
    }


def not_emulated(request: Request) -> ApiError:
    """Return the error for a route that the real server has and this one has not."""
    message = f"The embedded Appwrite server does not emulate {request.method} {request.path}."
    return ApiError(501, "general_not_implemented", message)


def queries(body: dict[str, Any]) -> list[str]:
    """Return the queries, as the texts that they are."""
    return texts(body, "queries", longest=4096) if "queries" in body else []


def texts(body: dict[str, Any], name: str, *, longest: int, most: int = 100) -> list[str]:
    """Return a parameter that is a list of texts, none of them empty."""
    asked = body[name]
    listed = list(asked.values()) if isinstance(asked, dict) else asked
    right = isinstance(listed, list) and len(listed) <= most
    if not right or not all(isinstance(text, str) and 1 <= len(text) <= longest for text in listed):
        rule = f"Value must be a valid string and at least 1 chars and no longer than {longest} chars"
        raise argument(name, f"Value must a valid array no longer than {most} items and {rule}")
    return listed


def required(body: dict[str, Any], name: str) -> Any:
    """Return a parameter that must be there."""
    if name not in body:
        raise not_optional(name)
    return body[name]


def text(body: dict[str, Any], name: str, longest: int, default: str | None = None) -> str:
    """Return a parameter that is a text of 1 to so many characters; it must be there, unless it has a default."""
    value = required(body, name) if default is None else body.get(name, default)
    if not isinstance(value, str) or not (1 <= len(value) <= longest or (default is not None and name not in body)):
        raise argument(name, f"Value must be a valid string and at least 1 chars and no longer than {longest} chars")
    return value


def boolean(body: dict[str, Any], name: str, default: bool | None, *, is_loose: bool = False) -> bool:
    """Return a parameter that is true or false; a loose one may be a text or a number that says so."""
    value = required(body, name) if default is None else body.get(name, default)
    if is_loose and isinstance(value, (str, int)) and value in _LOOSE:
        return _LOOSE[value]
    if not isinstance(value, bool):
        raise argument(name, "Value must be a valid boolean")
    return value


def whole(body: dict[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    """Return a parameter that is a whole number in a range."""
    value = required(body, name) if default is None else body.get(name, default)
    found = php.number(value) if php.is_numeric(value) else None
    if not isinstance(found, int) or not low <= found <= high:
        raise argument(name, f"Value must be a valid range between {php.formatted(low)} and {php.formatted(high)}")
    return found


def numeric(body: dict[str, Any], name: str, default: float | None) -> float | None:
    """Return a parameter that is a number, or a text that is one."""
    value = body.get(name, default)
    if value is None and default is None:
        return None
    if not php.is_numeric(value) or not math.isfinite(php.number(value)):
        raise argument(name, "Value must be a valid number" + (" or null" if default is None else ""))
    return php.number(value)


def one_of(body: dict[str, Any], name: str, allowed: Sequence[str]) -> str:
    """Return a parameter that is one of some texts."""
    value = required(body, name)
    if value not in allowed:
        raise argument(name, f"Value must be one of ({', '.join(allowed)})")
    return value  # type: ignore[no-any-return]  # it is one of the texts


def nullable(body: dict[str, Any], name: str, is_right: Callable[[Any], bool], rule: str) -> Any:
    """Return a parameter that may be null or missing."""
    value = body.get(name)
    if value is not None and not is_right(value):
        raise argument(name, f"{rule} or null")
    return value


def unique_id() -> str:
    """Return an ID of our own."""
    return secrets.token_hex(10)


def new_id(body: dict[str, Any], name: str) -> str:
    """Return the ID of what is to be made; one of our own for `unique()`."""
    return checked_id(required(body, name), name)


def checked_id(id_: Any, name: str) -> str:
    """Return an ID that may be `unique()`; true is as good as 1, as PHP compares it with that text."""
    if id_ == "unique()":
        return unique_id()
    if id_ is True:
        return "1"
    if not is_id(id_):
        raise argument(name, ID_RULE)
    return id_  # type: ignore[no-any-return]  # checked above


def uid(id_: Any, name: str) -> str:
    """Return an ID of something that there is."""
    if not is_id(id_):
        raise argument(name, UID_RULE)
    return id_  # type: ignore[no-any-return]  # checked above


def transaction_id(body: dict[str, Any]) -> str | None:
    """Return the ID of the transaction that a request belongs to; the SDK 16 sends null where there is none."""
    return nullable(body, "transactionId", is_id, UID_RULE)  # type: ignore[no-any-return]  # an ID or None


def data(body: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a row: an object, or a text of JSON; over one that holds anything else the real one trips."""
    value = as_json(body.get("data", {}), "data", _JSON_RULE)
    if isinstance(value, dict):
        refuse_operators(value)
        return value
    if not php.is_empty(value):
        raise ApiError(500, "general_unknown", "Server Error")
    return {}


def refuse_operators(fields: dict[str, Any]) -> None:
    """Refuse the SDK's operators in a row's data: the real server carries them out, this one would store their text.

    Raises:
        ApiError: If there is one; a 501.
    """
    for text in fields.values():
        if isinstance(text, str) and text.startswith("{"):
            try:
                value = php.decode(text)
            except ValueError:
                continue
            if isinstance(value, dict) and str(value.get("method")) in _OPERATORS:
                message = f"The embedded Appwrite server does not emulate operators such as {value['method']}."
                raise ApiError(501, "general_not_implemented", message)


def as_json(value: Any, name: str, rule: str) -> Any:
    """Return what a parameter of JSON holds."""
    if isinstance(value, str):
        try:
            value = php.decode(value)
        except ValueError:
            raise argument(name, rule) from None
    elif not isinstance(value, (dict, list)):
        raise argument(name, rule)
    if isinstance(value, list):
        return {str(place): item for place, item in enumerate(value)}
    return value


def rows(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a parameter that is a list of up to 100 objects."""
    listed, rule = body[name], f"Value must a valid array no longer than 100 items and {_JSON_RULE}"
    if not isinstance(listed, list) or len(listed) > 100:
        raise argument(name, rule)
    found = [as_json(item, name, rule) for item in listed]
    given = [item if isinstance(item, dict) else {} for item in found]
    for fields in given:
        refuse_operators(fields)
    return given


def permissions(body: dict[str, Any], *, for_table: bool = False) -> list[str] | None:
    """Return the permissions, None if none are given."""
    asked = body.get("permissions")
    if asked is None:
        return None
    if problem := rights.problem(asked, rights.TABLE_ACTIONS if for_table else rights.ROW_ACTIONS):
        raise argument("permissions", f"{problem} or null")
    return rights.aggregated(asked, for_table=for_table)
