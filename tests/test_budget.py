"""The retry budget: a token bucket that many calls share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import RetryBudget, RetryEvent, RetryPolicy, with_retry
from booking_resilience.testing import VirtualClock
from drivers import Script
from racing import taking_turns

TENTHS = st.integers(1, 50).map(lambda tenths: tenths / 10)


@given(
    capacity=TENTHS, share=st.integers(0, 10), deposit=st.integers(0, 50).map(lambda tenths: tenths / 10), cost=TENTHS,
    steps=st.lists(st.sampled_from(["deposit", "try_spend", "refund"]), max_size=200),
)  # fmt: skip
def test_it_counts_exactly(capacity: float, share: int, deposit: float, cost: float, steps: list[str]) -> None:
    """Whatever happens, the bucket holds what exact fractions say: never above capacity, never below nothing."""
    initial = round(capacity * share / 10, 2)
    budget = RetryBudget(capacity, initial, deposit, cost)
    exact = {name: Fraction(str(value)) for name, value in (("capacity", capacity), ("in", deposit), ("out", cost))}
    model = Fraction(str(initial))
    for step in steps:
        got = getattr(budget, step)()
        if step == "try_spend":
            assert got is (model >= exact["out"])
            model -= exact["out"] if got else 0
        else:
            model = min(model + exact["in" if step == "deposit" else "out"], exact["capacity"])
        assert budget.tokens == float(model)
        assert 0 <= budget.tokens <= capacity


def test_the_figures_are_the_defaults() -> None:
    """Ten tokens at most, five at first; ten deposits of 0.1 make exactly one token, the cost of a retry."""
    budget = RetryBudget()
    assert budget.tokens == 5.0
    assert [budget.try_spend() for _ in range(6)] == [True] * 5 + [False]
    for _ in range(9):
        budget.deposit()
    assert not budget.try_spend()
    budget.deposit()
    assert (budget.tokens, budget.try_spend(), budget.tokens) == (1.0, True, 0.0)
    for _ in range(200):
        budget.deposit()
    assert budget.tokens == 10.0


def test_there_is_no_guaranteed_minimum(virtual_clock: VirtualClock) -> None:
    """An empty bucket without deposits allows no retry at all, ever."""
    policy = RetryPolicy(budget=RetryBudget(initial=0, deposit=0))
    script = Script(ConnectionError())
    events: list[RetryEvent] = []
    for _ in range(50):
        with pytest.raises(ConnectionError):
            with_retry(script, policy=policy, on_event=events.append)
    assert script.calls == 50
    assert {(event.outcome, event.reason) for event in events} == {("gave_up", "budget")}


def test_attempts_and_deadline_are_asked_before_the_budget(virtual_clock: VirtualClock) -> None:
    """What ends by its attempts or its deadline costs no token for the retry that is not made."""
    budget = RetryBudget()
    for policy in (RetryPolicy(max_attempts=1, budget=budget), RetryPolicy(deadline=0.1, budget=budget)):
        with pytest.raises(ConnectionError):
            with_retry(Script(ConnectionError()), policy=policy)
    with pytest.raises(ValueError, match="bad"):
        with_retry(Script(ValueError("bad")), policy=RetryPolicy(budget=budget))
    assert budget.tokens == 5.0


def test_a_success_deposits_once(virtual_clock: VirtualClock) -> None:
    """Each operation that succeeds deposits, however many attempts it took; one that fails does not."""
    budget = RetryBudget(initial=3.0)
    policy = RetryPolicy(budget=budget)
    with_retry(Script(1), policy=policy)
    assert budget.tokens == 3.1
    with_retry(Script(ConnectionError(), ConnectionError(), 1), policy=policy)
    assert budget.tokens == 1.2
    with pytest.raises(ConnectionError):
        with_retry(Script(ConnectionError()), policy=policy)
    assert budget.tokens == 0.2


def test_an_interrupt_in_a_listener_gives_the_token_back(virtual_clock: VirtualClock) -> None:
    """Ctrl-C between the charge and the sleep passes, and the retry that was not made is not paid for."""

    def interrupted(_: RetryEvent) -> None:
        raise KeyboardInterrupt

    budget = RetryBudget()
    with pytest.raises(KeyboardInterrupt):
        with_retry(Script(ConnectionError()), policy=RetryPolicy(budget=budget), on_event=interrupted)
    assert budget.tokens == 5.0


@pytest.fixture
def racing() -> Iterator[None]:
    """Have the interpreter switch threads all the time."""
    with taking_turns():
        yield


@pytest.mark.usefixtures("racing")
def test_threads_lose_no_token() -> None:
    """However many threads deposit, spend and give back at once, the sum is right at the end."""
    budget = RetryBudget(capacity=10_000, initial=1_000)
    barrier, spent = threading.Barrier(6), []

    def work() -> None:
        barrier.wait()
        count = 0
        for number in range(2_000):
            budget.deposit()
            count += budget.try_spend()
            if number % 4 == 0 and count:
                budget.refund()
                count -= 1
        spent.append(count)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.tokens == pytest.approx(1_000 + 0.1 * 12_000 - sum(spent), abs=1e-9)


ABSURD: list[dict[str, Any]] = [
    {"capacity": 0}, {"capacity": -1}, {"capacity": float("inf")}, {"capacity": "10"}, {"capacity": True},
    {"initial": 10.5}, {"initial": -0.1}, {"initial": float("nan")}, {"deposit": -0.1}, {"deposit": float("inf")},
    {"cost": 0}, {"cost": float("nan")}, {"cost": 10**400}, {"capacity": 10**400},
]  # fmt: skip


@pytest.mark.parametrize("setting", ABSURD, ids=str)
def test_absurd_settings_are_refused(setting: dict[str, Any]) -> None:
    """A setting out of its range is refused by name, with what is allowed."""
    ((name, value),) = setting.items()
    kind = ValueError if isinstance(value, (int, float)) and value is not True else TypeError
    with pytest.raises(kind, match=f"^{name} must be "):
        RetryBudget(**setting)


def test_extremes_are_counted_too() -> None:
    """The smallest cost is a cost, and the largest capacity a capacity."""
    tiny = RetryBudget(capacity=1.0, initial=0.0, deposit=0.0, cost=1e-300)
    assert not tiny.try_spend()
    huge = RetryBudget(capacity=1e300, initial=1e300)
    assert huge.tokens == pytest.approx(1e300)
    assert huge.try_spend()
    assert repr(RetryBudget()) == "RetryBudget(tokens=5, capacity=10)"


def test_a_small_budget_begins_full() -> None:
    """Where the default of `initial` does not fit into `capacity`, the bucket is full at first."""
    assert RetryBudget(capacity=2).tokens == 2
    assert RetryBudget(capacity=5).tokens == RetryBudget(capacity=50).tokens == 5
