"""What the embedded Appwrite server does wrong, on request: single faults, scripts of them, and a rate."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from booking_resilience.checks import check, check_number, check_text, check_type, check_whole, is_number
from booking_resilience.locks import new_lock

Kind: TypeAlias = Literal[
    "status", "reset", "close", "hang", "cut_body", "slow_body", "invalid_json", "rate_limited", "torn_commit"
]
Told: TypeAlias = Literal["committed", "conflict"]

TYPES = {
    401: "user_unauthorized",
    404: "row_not_found",
    408: "database_timeout",
    409: "row_already_exists",
    429: "general_rate_limit_exceeded",
    500: "general_unknown",
    501: "general_not_implemented",
}
"""The error types that go with a status, where a fault names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong with one request; made by the functions below.

    Attributes:
        kind: What goes wrong.
        after_commit: Whether the request is carried out first, so that only its answer is lost or wrong.
        code: The HTTP status, of `status`.
        type: Appwrite's error type in the body, of `status`.
        html: Whether the body is a proxy's HTML page, of `status`.
        content_type: The Content-Type header, of `status`; None for none at all, "" for what fits the body.
        seconds: How long it takes, of `hang` and `slow_body`.
        reset_in: In how many seconds the limit is lifted, of `rate_limited`.
        told: What the answer says, of `torn_commit`: `committed` or `conflict`.
        kept: How many operations are applied, of `torn_commit`.
    """

    kind: Kind
    after_commit: bool = False
    code: int = 500
    type: str | None = None
    html: bool = False
    content_type: str | None = ""
    seconds: float = 0.0
    reset_in: float = 0.0
    told: Told = "committed"
    kept: int = 0

    @classmethod
    def status(
        cls,
        code: int,
        *,
        type: str | None = None,  # noqa: A002 - it is what Appwrite calls it
        html: bool = False,
        content_type: str | None = "",
        after_commit: bool = False,
    ) -> Fault:
        """Answer with an error status: Appwrite's JSON, or HTML as a proxy would.

        Raises:
            TypeError: If `code` is not a whole number.
            ValueError: If `code` is not from 400 to 599.
        """
        allowed = "a status from 400 to 599"
        check_type("code", code, isinstance(code, int) and not isinstance(code, bool), allowed)
        check("code", code, 400 <= code <= 599, allowed)
        kind: Kind = "status"
        return cls(kind=kind, code=code, type=type, html=html, content_type=content_type, after_commit=after_commit)

    @classmethod
    def reset(cls, *, after_commit: bool = False) -> Fault:
        """Reset the connection (RST) without an answer."""
        return cls(kind="reset", after_commit=after_commit)

    @classmethod
    def close(cls, *, after_commit: bool = False) -> Fault:
        """Close the connection (FIN) without an answer."""
        return cls(kind="close", after_commit=after_commit)

    @classmethod
    def hang(cls, seconds: float, *, after_commit: bool = False) -> Fault:
        """Say nothing for so many seconds of real time, then close the connection.

        Raises:
            ValueError: If `seconds` is negative or infinite.
        """
        return cls(kind="hang", seconds=_seconds("seconds", seconds), after_commit=after_commit)

    @classmethod
    def cut_body(cls, *, after_commit: bool = False) -> Fault:
        """Promise a whole body and close in the middle of it."""
        return cls(kind="cut_body", after_commit=after_commit)

    @classmethod
    def slow_body(cls, seconds: float, *, after_commit: bool = True) -> Fault:
        """Carry the request out, and drip the answer over so many seconds of real time.

        Raises:
            ValueError: If `seconds` is negative or infinite.
        """
        return cls(kind="slow_body", seconds=_seconds("seconds", seconds), after_commit=after_commit)

    @classmethod
    def invalid_json(cls, *, after_commit: bool = False) -> Fault:
        """Answer 200 with a body that isn't JSON."""
        return cls(kind="invalid_json", after_commit=after_commit)

    @classmethod
    def rate_limited(cls, reset_in: float = 1.0, *, after_commit: bool = False) -> Fault:
        """Answer 429, with an `X-Ratelimit-Reset` so many seconds ahead.

        Raises:
            ValueError: If `reset_in` is negative or infinite.
        """
        return cls(kind="rate_limited", reset_in=_seconds("reset_in", reset_in), after_commit=after_commit)

    @classmethod
    def torn_commit(cls, *, told: Told = "committed", kept: int = 1) -> Fault:
        """Apply only the first operations of a transaction, as a deadlock of the real database does.

        In a script it waits for the next commit; other requests pass it by.

        Args:
            told: What the commit answers: `committed` (200) or `conflict` (409).
            kept: How many operations are applied, 0 or more; the rest is lost.

        Raises:
            TypeError: If `kept` is not a whole number, or `told` no string.
            ValueError: If `kept` is negative, or `told` says something else.
        """
        check_text("told", told)
        check("told", told, told in ("committed", "conflict"), "'committed' or 'conflict'")
        check_whole("kept", kept, 0)
        return cls(kind="torn_commit", after_commit=True, told=told, kept=kept)


def _seconds(name: str, value: float) -> float:
    check_number(name, value)
    return float(value)


_NAMED: dict[str, Callable[[random.Random], Fault]] = {
    "status": lambda draw: draw.choice(
        (Fault.status(500), Fault.status(502, html=True), Fault.status(503), Fault.status(504, html=True))
    ),
    "reset": lambda _: Fault.reset(),
    "close": lambda _: Fault.close(),
    "hang": lambda draw: Fault.hang(30.0, after_commit=draw.random() < 0.5),
    "cut_body": lambda draw: Fault.cut_body(after_commit=draw.random() < 0.5),
    "slow_body": lambda _: Fault.slow_body(2.0),
    "invalid_json": lambda draw: Fault.invalid_json(after_commit=draw.random() < 0.5),
    "rate_limited": lambda _: Fault.rate_limited(1.0),
    "lost": lambda draw: draw.choice((Fault.reset(after_commit=True), Fault.close(after_commit=True))),
}
KINDS = tuple(_NAMED)
"""The names that `Faults.rate` knows; `lost` is a write that happened and whose answer is lost."""


@dataclass(slots=True)
class _Script:
    faults: deque[Fault | None]
    method: str | None
    path: str | None


class Faults:
    """Which requests to a server go wrong, and how. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._seed: int | None = None  # of draws by request
        self._asked = Counter[bytes]()
        self.clear()

    def script(self, faults: Iterable[Fault | None], *, method: str | None = None, path: str | None = None) -> None:
        """Have the next requests go wrong, one after the other; None is one that does not. Then all is well again.

        Args:
            faults: What happens to the requests, in order.
            method: Only to requests with this method.
            path: Only to requests whose path, without the query, contains this.

        Raises:
            TypeError: If it is a single `Fault`, an item is no `Fault` and not None, or `method` or `path` no string.
        """
        check_type("faults", faults, isinstance(faults, Iterable), "a list of faults")
        listed = deque(faults)
        for item in listed:
            check_type("each of faults", item, item is None or isinstance(item, Fault), "a Fault or None")
        for name, text in (("method", method), ("path", path)):
            check_type(name, text, text is None or isinstance(text, str), "a string")
        with self._lock:
            self._scripts.append(_Script(listed, None if method is None else method.upper(), path))

    def rate(
        self,
        rate: float,
        *,
        seed: int = 0,
        kinds: Sequence[str | Fault] = ("status", "reset", "lost"),
        by_request: bool = False,
    ) -> None:
        """Make a share of the requests fail at random; the same seed draws the same sequence.

        It starts with the next request, whatever it is: call it after creating tables and the like.

        Args:
            rate: The share, 0 to 1.
            seed: What the draws derive from.
            kinds: What may happen, each equally likely: faults, or names from `KINDS`.
            by_request: Draw for each request by what it asks (method, path, query, body) and how often that was asked
                before, instead of from one sequence. Parallel callers then meet the same faults in every run.

        Raises:
            TypeError: If the rate isn't a number, or the kinds aren't a sequence.
            ValueError: If the rate is out of its range or a kind is unknown.
        """
        check_number("rate", rate, allowed="a number from 0 to 1")
        check("rate", rate, is_number(rate, 0, 1), "a number from 0 to 1")
        listed = isinstance(kinds, Sequence) and not isinstance(kinds, str)
        check_type("kinds", kinds, listed, "a sequence that is not empty")
        check("kinds", kinds, len(kinds) > 0, "a sequence that is not empty")
        for kind in kinds:
            known = isinstance(kind, Fault) or kind in _NAMED
            check("kinds", kind, known, f"a Fault or one of {', '.join(map(repr, KINDS))}")
        with self._lock:
            self._rate, self._kinds, self._draw = rate, tuple(kinds), random.Random(seed)
            self._seed, self._asked = seed if by_request else None, Counter()

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._scripts: list[_Script] = []
            self._rate, self._kinds, self._draw = 0.0, (), random.Random(0)
            self._seed, self._asked = None, Counter()

    def next_for(self, method: str, path: str, content: bytes = b"", *, commits: bool = False) -> Fault | None:
        """Return what happens to a request; scripts come before the rate.

        Args:
            method: The request's method.
            path: Its path.
            content: Its query and body.
            commits: Whether it commits a transaction, which only such a request's fault can tear.
        """
        with self._lock:
            for script in self._scripts:
                if not script.faults or (_is_torn(script.faults[0]) and not commits):
                    continue
                if script.method in (None, method) and (script.path is None or script.path in path):
                    return script.faults.popleft()
            draw = self._draw if self._seed is None else self._draw_for(method, path, content)
            if self._rate and draw.random() < self._rate:
                kind = draw.choice(self._kinds)
                fault = kind if isinstance(kind, Fault) else _NAMED[kind](draw)
                return None if _is_torn(fault) and not commits else fault
            return None

    def _draw_for(self, method: str, path: str, content: bytes) -> random.Random:
        request = hashlib.sha256(b"\0".join((method.encode(), path.encode(), content))).digest()
        self._asked[request] += 1
        return random.Random(f"{self._seed} {request.hex()} {self._asked[request]}")


def _is_torn(fault: Fault | None) -> bool:
    return fault is not None and fault.kind == "torn_commit"
