"""What an error may say, and how a class of errors is judged: the words in which the table is written."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

Sent: TypeAlias = Literal["no", "maybe", "yes"]
Text: TypeAlias = Literal["network", "service", ""]


class Meaning(NamedTuple):
    """What an error says.

    Attributes:
        rank: Of an error and the one that it wraps, the meaning of the higher rank counts; with equal ranks its own.
        transient: Whether the same call may succeed later.
        sent: Whether the request reached the server.
        failure: Whether the backend is in trouble.
        evidence: Whether it says anything of the backend.
        text: Which text people are told: the network's, the service's, or none of the two.
        about: What it means, in words.
    """

    rank: int
    transient: bool
    sent: Sent
    failure: bool
    evidence: bool
    text: Text
    about: str


class Rule(NamedTuple):
    """How an error of a class is judged.

    Attributes:
        meaning: A key of `MEANINGS`, for an error of which nothing below tells more.
        reads: The facts that such an error carries, which tell more: a key of `facts.READERS`, or none.
        where: The attribute that holds them, with dots; of Redis, the first word of the answer, where redis-py makes a
            class of it.
        wraps: The attributes that hold what it wraps; of a tuple, each item.
        words: Expressions found in its text, and the meaning that each tells; the first that is found counts.
        repeats: What tells that the client made several attempts, so that a last one that never left proves nothing:
            a key of `find.REPEATS`, or none.
    """

    meaning: str
    reads: str = ""
    where: str = ""
    wraps: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    repeats: str = ""


MEANINGS: Final[dict[str, Meaning]] = {
    "unknown": Meaning(0, False, "maybe", True, True, "", "nothing is known about it"),
    "unanswered": Meaning(1, True, "maybe", True, True, "network", "no answer came"),
    "answered": Meaning(1, False, "yes", False, True, "", "another answer: refused, not found, in conflict"),
    "broken": Meaning(1, False, "yes", True, True, "service", "the server failed at it, and would again"),
    "trouble": Meaning(1, True, "yes", True, True, "service", "the server is in trouble"),
    "again": Meaning(1, True, "yes", False, True, "", "the server asks for a repeat"),
    "busy": Meaning(1, True, "yes", False, False, "service", "the server is healthy, and asks for fewer calls"),
    "cut": Meaning(2, True, "yes", True, True, "network", "an answer broke off, or could not be read"),
    "unsent": Meaning(3, True, "no", True, True, "network", "no connection was made"),
    "untrusted": Meaning(4, False, "no", True, True, "network", "the server's certificate or version of TLS"),
    "barred": Meaning(4, False, "no", False, True, "", "the login failed, or a proxy forbade it"),
    "mistake": Meaning(4, False, "no", False, False, "", "the program's mistake, found before anything was sent"),
    "misuse": Meaning(1, False, "maybe", False, False, "", "the program's mistake"),
    "expired": Meaning(1, True, "maybe", False, False, "network", "an enclosing deadline ended"),
    "refusal": Meaning(1, False, "no", False, False, "service", "a breaker or limit of this library rejected it"),
    "nothing": Meaning(1, False, "maybe", False, False, "", "an interrupt, an exit or a cancellation"),
}  # fmt: skip
