"""`Breakers`: a breaker for each key."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import BreakerState, CircuitBreaker
from booking_resilience.breakers import Breakers


def opened(name: str = "open") -> CircuitBreaker:
    """Return a breaker that is isolated, so not closed."""
    breaker = CircuitBreaker(name)
    breaker.isolate("for a test")
    return breaker


def test_each_key_has_one_breaker() -> None:
    """A key always gives the same breaker, named after it, and another key another one."""
    breakers = Breakers()
    assert breakers.get("a") is breakers.get("a")
    assert breakers.get("a").name == "a"
    assert breakers.get("b") is not breakers.get("a")
    assert len(breakers) == 2
    assert [breaker.name for breaker in breakers] == ["b", "a"]


def test_many_threads_make_it_once() -> None:
    """Threads that ask for a key at once get one breaker, made once; other keys don't wait for it."""
    made: list[str] = []
    gate, other_is_made = threading.Barrier(8), threading.Event()

    def make(key: str) -> CircuitBreaker:
        made.append(key)
        if key == "slow":
            assert other_is_made.wait(60)
        return CircuitBreaker(key)

    breakers, got = Breakers(make), []

    def ask() -> None:
        gate.wait(60)
        got.append(breakers.get("slow"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    breakers.get("quick")
    other_is_made.set()
    for thread in threads:
        thread.join(60)
    assert sorted(made) == ["quick", "slow"]
    assert len({id(breaker) for breaker in got}) == 1
    assert len(got) == 8


def test_make_may_ask_for_another_key() -> None:
    """`make` may use other breakers of the same object."""
    breakers: Breakers

    def make(key: str) -> CircuitBreaker:
        return breakers.get(key[:-1]) if len(key) > 1 else CircuitBreaker(key)

    breakers = Breakers(make)
    assert breakers.get("abc") is breakers.get("a")


def test_what_make_raises_comes_out() -> None:
    """An error of `make` comes out, and the next call asks it again."""
    answers: list[Any] = [KeyError("x"), 5, CircuitBreaker("fine")]

    def make(key: str) -> CircuitBreaker:
        answer: Any = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return] # the 5 is what is tested

    breakers = Breakers(make)
    with pytest.raises(KeyError):
        breakers.get("k")
    with pytest.raises(TypeError, match="CircuitBreaker, not 5"):
        breakers.get("k")
    assert breakers.get("k").name == "fine"


def test_a_key_that_cannot_be_made_leaves_nothing_behind() -> None:
    """However many threads ask for it, each gets the error, and no memory is kept of the key."""
    gate, errors = threading.Barrier(4), list[str]()

    def make(key: str) -> CircuitBreaker:
        raise ValueError(key)

    breakers = Breakers(make)

    def ask() -> None:
        gate.wait(60)
        try:
            breakers.get("bad")
        except ValueError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == ["bad"] * 4
    assert (len(breakers), len(breakers._making)) == (0, 0)


def test_the_least_recently_asked_is_dropped() -> None:
    """Beyond `max_size` the closed one asked for least recently goes; asking keeps a breaker."""
    breakers = Breakers(max_size=2)
    first = id(breakers.get("a"))
    breakers.get("b")
    breakers.get("a")
    breakers.get("c")
    assert {breaker.name for breaker in breakers} == {"a", "c"}
    assert id(breakers.get("a")) == first


def test_a_dropped_one_in_use_comes_back() -> None:
    """A dropped breaker that somebody still holds is the one that comes back; one that nobody holds is made anew."""
    made: list[str] = []

    def make(key: str) -> CircuitBreaker:
        made.append(key)
        return CircuitBreaker(key)

    breakers = Breakers(make, max_size=1)
    held = breakers.get("a")
    breakers.get("b")
    assert breakers.get("a") is held
    del held
    breakers.get("b")
    gc.collect()
    breakers.get("a")
    assert made == ["a", "b", "b", "a"]


def test_open_ones_are_never_dropped() -> None:
    """Breakers that aren't closed stay, though that exceeds the size."""
    breakers = Breakers(lambda key: opened(key), max_size=1)
    kept = [breakers.get(key) for key in "abc"]
    assert len(breakers) == 3
    assert [breakers.get(key) for key in "abc"] == kept
    kept[0].reset()
    breakers.get("d")
    assert "a" not in {breaker.name for breaker in breakers}


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=40), st.integers(1, 4))
def test_the_size_is_kept(steps: list[tuple[str, bool]], size: int) -> None:
    """However it is used, no more than `max_size` are kept, but for those that aren't closed and the newest."""
    breakers = Breakers(max_size=size)
    for key, isolate in steps:
        is_new = key not in {other.name for other in breakers}
        breaker = breakers.get(key)
        assert breakers.get(key) is breaker
        closed = [other for other in breakers if other.state is BreakerState.CLOSED and other is not breaker]
        assert len(breakers) <= size or not closed or not is_new
        if isolate:
            breaker.isolate("for a test")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"make": 5}, TypeError),
        ({"max_size": 0}, ValueError),
        ({"max_size": "5"}, TypeError),
    ],
)
def test_absurd_settings_are_refused(settings: dict[str, Any], error: type[Exception]) -> None:
    """Absurd settings are refused when the object is made, and an unhashable key when it is asked for."""
    with pytest.raises(error, match=next(iter(settings))):
        Breakers(**settings)
    with pytest.raises(TypeError):
        Breakers().get([])  # type: ignore[arg-type] # that is what is tested
