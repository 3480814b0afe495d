"""How the items of a batch ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, cast

from typing_extensions import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")
Failure = TypeVar("Failure", bound="Exception | None", default="Exception | None", covariant=True)


@dataclass(frozen=True, slots=True)
class BatchOutcome(Generic[Item, Value, Failure]):
    """How one item of a batch ended; the third type says whether it is known to have failed.

    Attributes:
        index: Its place in the input, from 0.
        item: The item.
        value: What the function returned for it; None if it failed.
        error: What came out if it failed; None if it succeeded.
        attempts: How many attempts were made; 0 if the time was over before the first, or the first was refused.
    """

    index: int
    item: Item
    value: Value | None
    error: Failure
    attempts: int


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[Item, Value]):
    """How a whole batch ended; `outcomes` are in the order of the input."""

    outcomes: tuple[BatchOutcome[Item, Value], ...]

    @property
    def succeeded(self) -> tuple[BatchOutcome[Item, Value, None], ...]:
        """The outcomes of the items that succeeded, in order."""
        return tuple(cast("Any", outcome) for outcome in self.outcomes if outcome.error is None)

    @property
    def failed(self) -> tuple[BatchOutcome[Item, Value, Exception], ...]:
        """The outcomes of the items that failed, in order."""
        return tuple(cast("Any", outcome) for outcome in self.outcomes if outcome.error is not None)

    def values(self) -> list[Value]:
        """Return what the function returned for the items that succeeded, in order."""
        return [outcome.value for outcome in self.succeeded]  # type: ignore[misc] # a success has its value

    def raise_if_failed(self) -> None:
        """Raise an `ExceptionGroup` of the errors, in order, if there are any."""
        errors = [outcome.error for outcome in self.failed]
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(self.outcomes)} items failed", errors)
