"""Deadlines across processes."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")
import chain

REQUESTS = int(os.environ.get("HTTP_REQUESTS", "150"))


def test_no_process_begins_a_call_after_the_deadline_that_it_was_given():
    """Through three processes in a row every request brings its deadline, and no attempt begins after it."""
    outcomes, processes = chain.run(REQUESTS)
    assert sum(outcomes.values()) == REQUESTS
    assert outcomes.get(200, 0) > 0
    assert all(attempts > 0 for attempts, _, _ in processes[:3])
    assert [wrong for _, wrong, _ in processes] == [0] * 4
    # A few: those that the system has put aside between the look and the attempt.
    assert sum(late for _, _, late in processes) <= REQUESTS // 10
