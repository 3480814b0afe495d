"""What a client of ours knows of a call that failed; the verdicts read it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from booking_resilience.verdicts import classify
from booking_resilience.verdicts.meanings import Sent

Kind: TypeAlias = Literal["answer", "open", "unreadable", "cut", "network", "certificate", "local"]


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


def leave_open(error: BaseException) -> None:
    """Note on an error that it does not say what became of the call: the same call may find out."""
    target: Any = error
    with contextlib.suppress(Exception):  # one that refuses attributes
        told, verdict = getattr(error, "evidence", None), classify(error)
        known = told if isinstance(told, Evidence) else Evidence("open", verdict.sent, verdict.status, verdict.type)
        target.evidence = known._replace(kind="open")
