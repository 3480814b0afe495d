"""The `*_once` functions take a place and a turn of their pipeline for each attempt. Both colours."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from appwrite.exception import AppwriteException

from backends import make_database
from booking_resilience import LimitExceededError, Pipeline
from booking_resilience.appwrite import appwrite_retry, outcome_unknown
from booking_resilience.load import ConcurrencyLimit, Fallback, Hedge, RateLimit, ThreadTimeout
from booking_resilience.testing import Fault
from halves import LOOPS, QUICK, Half

WRITES = {
    "create_row_once": lambda half: half.call("create_row_once", **half.place("new"), data={"slot": "new"}),
    "create_rows_once": lambda half: half.create("new", "other"),
    "update_row_once": lambda half: half.update("old", {"slot": "old"}, doctor="B"),
    "delete_row_once": lambda half: half.delete("old"),
}


@pytest.fixture
def embedded(appwrite_server):
    """The embedded server, with a database."""
    return make_database(appwrite_server.client(), appwrite_server)


@pytest.fixture(params=LOOPS[:2])
def half(request, embedded):
    """A table with a row, and one of the colours."""
    made = Half(embedded, request.param)
    made.insert("old")
    return made


def through(half, **parts):
    """Have the writes go through a pipeline with these parts."""
    half.pipeline = Pipeline(retry=appwrite_retry(**QUICK), **parts)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("part", ["limit", "rate"])
def test_a_write_is_rejected_where_a_call_would_be(half, write, part):
    """Without a free place or turn nothing is sent, nothing is stored, and the outcome is known."""
    with ExitStack() as held:
        if part == "limit":
            limit = ConcurrencyLimit("places", limit=1)
            held.enter_context(limit.guard())
        else:
            limit = RateLimit("turns", rate=1.0, per=3600.0)
            assert limit.try_acquire()
        through(half, **{part: limit})
        before = half.rows()
        with pytest.raises(LimitExceededError) as caught:
            WRITES[write](half)
    assert not outcome_unknown(caught.value)
    assert half.rows() == before
    assert limit.snapshot().refused == 1


@pytest.mark.parametrize("write", WRITES)
def test_each_attempt_takes_a_turn_and_gives_its_place_back(half, write):
    """A write that is tried twice takes two turns, and no place stays taken."""
    rate, limit = RateLimit("turns", rate=3.0, per=3600.0), ConcurrencyLimit("places", limit=1)
    through(half, rate=rate, limit=limit)
    half.server.faults.script([Fault.status(503)], path="rows" if write == "create_row_once" else None)
    WRITES[write](half)
    assert [rate.try_acquire(), rate.try_acquire()] == [True, False]
    assert limit.snapshot().in_flight == 0


@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_neither_hedged_nor_left_to_a_thread_nor_replaced(half, write):
    """A hedge, a thread's timeout and a fallback in the pipeline leave the writes alone."""
    hedge, timeout, fallback = Hedge(idempotent=True, delay=0.0), ThreadTimeout(1.0), Fallback("instead", on=Exception)
    through(half, hedge=hedge, timeout=timeout, fallback=fallback)
    half.server.faults.script([Fault.status(400)] * 3)
    with pytest.raises(AppwriteException) as caught:
        WRITES[write](half)
    assert caught.value.code == 400
