"""What a call returns, or raises, for an answer that was read to its end."""

from __future__ import annotations

import enum
import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from booking_resilience.appwrite.evidence import Evidence
from booking_resilience.appwrite.failures import AppwriteCallError


class Answer(NamedTuple):
    """An answer, read to its end; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class AnswerKind(enum.Enum):
    """What an answer of success has to hold; any other one can't be read."""

    OBJECT = "object"
    OBJECT_OR_NOTHING = "object or nothing"
    ANYTHING = "anything"
    TEXT = "text"
    LOCATION = "location"


def content_of(answer: Answer, expects: AnswerKind) -> Any:
    """Return what the answer holds: JSON, text, bytes, or where it leads.

    Raises:
        AppwriteCallError: If it is a failure, or not what was expected.
    """
    status, headers, body = answer
    if status >= 400 or (status >= 300 and expects is not AnswerKind.LOCATION):
        raise _error_of(answer)
    if expects is AnswerKind.LOCATION:
        return headers.get("location")
    is_expected = expects in (AnswerKind.OBJECT, AnswerKind.OBJECT_OR_NOTHING)
    kind = headers.get("content-type", "application/json" if body else "").lower()
    is_json = kind.startswith("application/json")
    if not body and not is_json and expects is not AnswerKind.OBJECT and expects is not AnswerKind.TEXT:
        return body
    if not is_json and expects is AnswerKind.ANYTHING:
        return body
    try:
        if expects is AnswerKind.TEXT:
            return body.decode()
        if is_expected and not is_json:
            raise ValueError(f"it isn't JSON but {kind or 'nothing'}")
        value = json.loads(body)
        if is_expected and not isinstance(value, dict):
            raise ValueError("it isn't a JSON object")
    except (ValueError, RecursionError) as error:
        raise unreadable(answer, error) from error
    return value


def unreadable(answer: Answer, error: Exception) -> AppwriteCallError:
    """Return the error of a success that can't be read."""
    status, headers, body = answer
    evidence = Evidence("unreadable", "yes", status, None, headers)
    text = body.decode(errors="replace")
    return AppwriteCallError(f"the answer {status} cannot be read: {error}", status, None, text, evidence=evidence)


def decoded(body: bytes, encoding: str) -> bytes:
    """Return a body as it was before the `Content-Encoding`; one that isn't known is left as it is.

    Like every client of today it takes raw deflate as well (RFC 9110, section 8.4.1.2), and several members of gzip.

    Raises:
        zlib.error: If the body isn't what it claims to be.
    """
    for coding in reversed([item.strip().lower() for item in encoding.split(",")]):
        if not body:
            break
        if coding in ("gzip", "x-gzip"):
            body = _gunzip(body)
        elif coding == "deflate":
            body = _inflate(body)
        elif coding not in ("", "identity"):
            break
    return body


def _gunzip(body: bytes) -> bytes:
    parts: list[bytes] = []
    while body:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            parts.append(member.decompress(body))
        except zlib.error:
            if not parts:
                raise
            break  # what follows the last member is padding
        if not member.eof:
            raise zlib.error("the body ends within a member of gzip")
        body = member.unused_data
    return b"".join(parts)


def _inflate(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error:
        return zlib.decompress(body, wbits=-zlib.MAX_WBITS)


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
