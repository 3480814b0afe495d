"""The retry budget: a bound on how many retries many calls together may make."""

from __future__ import annotations

from typing import NoReturn

from booking_resilience.checks import check, check_number
from booking_resilience.locks import fork_safe_lock

_INITIAL = 5.0
_NANO = 1_000_000_000  # tokens are counted in whole billionths: ten deposits of 0.1 make exactly one token
_LOCK = fork_safe_lock()  # one for all buckets: it is held for an addition


class RetryBudget:
    """A token bucket that retries are paid from and successes fill.

    In a long outage the bucket runs dry and calls stop adding load to a backend in trouble: they fail at their first
    error. There is no guaranteed minimum of retries, since a floor keeps an overload alive. The scheme is gRPC's
    retry throttling (gRFC A6) and that of the AWS SDKs. Safe to share between threads and tasks.

    Args:
        capacity: Tokens the bucket holds at most; above 0.
        initial: Tokens in it at first; 0 to `capacity`. The default is `capacity` where that is less.
        deposit: Tokens that each success adds; 0 or more.
        cost: Tokens that each retry takes; above 0.

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.

    >>> budget = RetryBudget(initial=0.0)
    >>> for _ in range(10):
    ...     budget.deposit()
    >>> budget.tokens, budget.try_spend(), budget.tokens
    (1.0, True, 0.0)
    """

    __slots__ = ("_capacity", "_cost", "_deposit", "_tokens")

    def __init__(
        self, capacity: float = 10.0, initial: float = _INITIAL, deposit: float = 0.1, cost: float = 1.0
    ) -> None:
        check_number("capacity", capacity, above=True)
        check_number("cost", cost, above=True)
        check_number("initial", initial)
        if initial == _INITIAL:
            initial = min(initial, capacity)
        check("initial", initial, initial <= capacity, f"a number from 0 to capacity ({capacity!r})")
        check_number("deposit", deposit)
        self._capacity, self._tokens, self._deposit = _nano(capacity), _nano(initial), _nano(deposit)
        self._cost = max(1, _nano(cost))  # the smallest cost is one, too

    @property
    def tokens(self) -> float:
        """The tokens in the bucket, 0 to `capacity`."""
        return self._tokens / _NANO

    def deposit(self) -> None:
        """Add what a success adds."""
        with _LOCK:
            self._tokens = min(self._tokens + self._deposit, self._capacity)

    def try_spend(self) -> bool:
        """Take the cost of a retry and return True; if there aren't enough tokens, take none and return False."""
        with _LOCK:
            if self._tokens < self._cost:
                return False
            self._tokens -= self._cost
            return True

    def refund(self) -> None:
        """Give back the cost of a retry that was not made after all."""
        with _LOCK:
            self._tokens = min(self._tokens + self._cost, self._capacity)

    def _take_settings(self, other: RetryBudget) -> None:
        """Go on with the settings of another one, and with the tokens that are here, as far as they fit."""
        with _LOCK:
            self._capacity, self._deposit, self._cost = other._capacity, other._deposit, other._cost
            self._tokens = min(self._tokens, self._capacity)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a RetryBudget can't be pickled or copied: the copy would not be shared; make one in each process"
        )

    def __repr__(self) -> str:
        return f"RetryBudget(tokens={self.tokens:g}, capacity={self._capacity / _NANO:g})"


def _nano(tokens: float) -> int:
    return int(tokens) * _NANO + round(tokens % 1 * _NANO)  # the product of a large float would overflow
