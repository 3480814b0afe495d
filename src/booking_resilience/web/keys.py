"""IDs that follow from a request's idempotency key, so that a repeated request means the same rows."""

from __future__ import annotations

import hashlib
import json
import uuid
from contextvars import ContextVar
from typing import NamedTuple


class KeyedRequest(NamedTuple):
    """A request that came with an idempotency key."""

    key: str
    method: str
    path: str
    body: bytes


current_request: ContextVar[KeyedRequest | None] = ContextVar("booking_resilience_keyed_request", default=None)


class IdempotentId(str):
    """An ID that follows from an idempotency key: another's row under it means that the key was used twice."""

    __slots__ = ()


def idempotent_id(*parts: str | int) -> str:
    """Return 32 hexadecimal digits that follow from the request's idempotency key and the parts.

    The same key and parts give the same ID, in every process and after a restart. Name the caller among the parts:
    keys of two customers may be equal. Outside of a request with a key the ID is a fresh random one.

    Args:
        parts: What tells apart the IDs made from one key: the caller's identity, what the ID is for. Strings and
            whole numbers.

    Raises:
        TypeError: If a part is neither.
    """
    for part in parts:
        if not isinstance(part, (str, int)) or isinstance(part, bool):
            raise TypeError(f"parts must be strings or whole numbers, not {part!r}")
    request = current_request.get()
    if request is None:
        return uuid.uuid4().hex
    text = json.dumps([request.key, *parts])  # no two lists of parts have the same text
    return IdempotentId(hashlib.sha256(text.encode()).hexdigest()[:32])


def request_fingerprint() -> str:
    """Return 64 hexadecimal digits that stand for the request's method, path and body; "" outside of one with a key.

    Stored with the row, and compared by `compare=("request",)`, it tells a repeated request from another one with the
    same key, also when the row has been changed since.
    """
    request = current_request.get()
    if request is None:
        return ""
    digest = hashlib.sha256()
    for part in (request.method.encode(), request.path.encode("utf-8", "surrogatepass"), request.body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
