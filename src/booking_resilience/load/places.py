"""What callers of a limit hold: places, the guard of a block, and a snapshot. Limits are `Any` to it: see limit.py."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSnapshot:
    """A limit's numbers, as of one moment.

    Attributes:
        name: The limit's name.
        limit: Calls that may run at once; for a rate limit, turns that may be taken at once.
        in_flight: Calls that run now; always 0 for a rate limit.
        queued: Callers that wait.
        refused: Calls rejected since the limit was made.
    """

    name: str
    limit: int
    in_flight: int
    queued: int
    refused: int


def nobody() -> None:
    """Stand for the owner of a place that is none any more."""


class Place:
    """What a running call holds. One that is dropped unreturned (an interrupt struck) comes back by its finaliser."""

    __slots__ = ("cuts", "owner", "sharers", "started")

    def __init__(self, owner: Callable[[], Any]) -> None:
        self.owner: Callable[[], Any] = owner  # a weak reference to what takes it back; `nobody` once it counts no more
        self.sharers: int = 0  # how many besides its taker run on it: threads, which may be abandoned
        self.started: float = 0.0  # when the call was admitted, on the library's clock
        self.cuts: int = 0  # how often an adaptive limit had been cut by then

    def __del__(self) -> None:
        owner = getattr(self, "owner", nobody)  # one that was struck at its beginning has none
        give_back = owner()
        # The collector of garbage ends a generator and finalises its place, in either order: it counts once.
        if give_back is not None and not any(free is self for free in give_back.__self__._free):
            self.owner = nobody
            give_back(Place(owner))


class LimitGuard:
    """One block that passes through a limit; it may end in another thread or task than it began in.

    Args:
        limit: The limit.

    Attributes:
        place: The `Place` that the block holds; None outside of it.
    """

    __slots__ = ("_is_used", "_limit", "place")

    def __init__(self, limit: Any) -> None:
        self._limit = limit
        self.place: Any = None
        self._is_used = False

    def __enter__(self) -> None:
        self._use()
        self.place = self._limit._take() or self._limit._enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        place, self.place = self.place, None
        if place is not None:
            self._limit._end(place, error)

    async def __aenter__(self) -> None:
        self._use()
        self.place = self._limit._take() or await self._limit._enter_async()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a limit's guard can't be copied or pickled: the copy would give its place back once more")

    def _use(self) -> None:
        if self._is_used:
            raise RuntimeError("a limit's guard is good for one block; call guard() again")
        self._is_used = True


Held: TypeAlias = tuple[tuple[Any, Place], ...]
"""Places that a call holds, each with its limit."""

held: ContextVar[Held] = ContextVar("booking_resilience_places", default=())
"""What the running call of a pipeline holds: a hedged call takes as much, an abandoned thread keeps it."""


def around_and_own(places: Held) -> tuple[Held, Held]:
    """Divide what a call holds: what pipelines around it do, and what the innermost one with a limit does."""
    at = max((index for index, (limit, _) in enumerate(places) if limit.role == "limit"), default=0)
    return places[:at], places[at:]


def give_back_all(places: Held) -> None:
    """Give the places back; what the call's end says of the backend is told elsewhere."""
    for limit, place in places:
        limit._give_back(place)
