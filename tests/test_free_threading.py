"""The numbers of a breaker under real parallelism, in small counts; the script makes large ones."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

import stress_free_threading
from racing import taking_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """Switch threads as often as the interpreter can, and log nothing."""
    logging.getLogger("booking_resilience.breaker").setLevel(logging.CRITICAL)
    with taking_turns():
        yield
    logging.getLogger("booking_resilience.breaker").setLevel(logging.NOTSET)


@pytest.mark.parametrize("part", stress_free_threading.PARTS, ids=lambda part: part.__name__)
def test_every_number_is_exact(part: Callable[[int], None]) -> None:
    """Eight threads at once lose no count, admit no second trial, and tell of every transition in order."""
    part(300)
