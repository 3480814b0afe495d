"""`Fault` and `Faults`: what may go wrong, in which order, and how often."""

from __future__ import annotations

import math
import pickle
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.testing import Fault
from booking_resilience.testing.faults import KINDS, Faults

MADE = [
    Fault.status(503), Fault.status(404, type="x", html=True, content_type=None), Fault.reset(), Fault.close(),
    Fault.hang(1.5), Fault.cut_body(), Fault.slow_body(0.5), Fault.invalid_json(), Fault.rate_limited(3),
]  # fmt: skip


def test_a_fault_has_its_facts():
    """Each way to make one sets what belongs to it; it is a value."""
    assert Fault.status(503) == Fault.status(503)
    assert (Fault.status(404, type="x").code, Fault.status(404, type="x").type) == (404, "x")
    assert Fault.hang(1.5).seconds == 1.5
    assert Fault.rate_limited(3).reset_in == 3.0
    assert len({fault.kind for fault in MADE}) == 8
    for fault in MADE:
        assert pickle.loads(pickle.dumps(fault)) == fault
        assert hash(fault) == hash(pickle.loads(pickle.dumps(fault)))


def test_a_fault_comes_before_the_write_unless_it_is_said_to_come_after():
    """Only a body that drips is an answer to what was carried out; all others have the choice."""
    assert [fault.after_commit for fault in MADE] == [fault.kind == "slow_body" for fault in MADE]
    after = [
        Fault.status(503, after_commit=True), Fault.reset(after_commit=True), Fault.close(after_commit=True),
        Fault.hang(1, after_commit=True), Fault.cut_body(after_commit=True), Fault.slow_body(1, after_commit=True),
        Fault.invalid_json(after_commit=True), Fault.rate_limited(1, after_commit=True),
    ]  # fmt: skip
    assert all(fault.after_commit for fault in after)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Fault.status(200), "code must be a status from 400 to 599, not 200"),
        (lambda: Fault.status(600), "not 600"),
        (lambda: Fault.hang(-1), "seconds must be a finite number, 0 or more, not -1"),
        (lambda: Fault.hang(math.inf), "not inf"),
        (lambda: Fault.slow_body(math.nan), "not nan"),
        (lambda: Fault.rate_limited(-0.1), "reset_in must be"),
        (lambda: Fault.torn_commit(kept=-1), "kept must be a whole number, 0 or more, not -1"),
        (lambda: Fault.torn_commit(told="maybe"), "told must be 'committed' or 'conflict', not 'maybe'"),
        (lambda: Faults().rate(1.1), "rate must be a number from 0 to 1, not 1.1"),
        (lambda: Faults().rate(math.nan), "rate must be"),
        (lambda: Faults().rate(0.1, kinds=["quake"]), "not 'quake'"),
        (lambda: Faults().rate(0.1, kinds=[]), "kinds must be"),
    ],
)
def test_a_wrong_value_is_rejected(make, says):
    """The error names the setting, its value and what is allowed."""
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Fault.status("503"), "code must be a status from 400 to 599, not '503'"),
        (lambda: Fault.status(True), "code must be"),
        (lambda: Fault.hang("1"), "seconds must be"),
        (lambda: Fault.torn_commit(kept="1"), "kept must be a whole number"),
        (lambda: Fault.torn_commit(told=None), "told must be a string"),
        (lambda: Faults().script([Fault.reset(), "reset"]), "faults must be a Fault or None, not 'reset'"),
        (lambda: Faults().script(Fault.reset()), "faults must be a list of faults, not Fault"),
        (lambda: Faults().script([None], method=5), "method must be a string, not 5"),
        (lambda: Faults().script([None], path=5), "path must be a string, not 5"),
        (lambda: Faults().rate("0.1"), "rate must be a number from 0 to 1, not '0.1'"),
        (lambda: Faults().rate(0.1, kinds="status"), "kinds must be"),
        (lambda: Faults().rate(0.1, kinds=5), "kinds must be"),
    ],
)
def test_a_wrong_type_is_rejected_as_such(make, says):
    """A wrong type is a `TypeError` that names the setting."""
    with pytest.raises(TypeError, match=says):
        make()


def test_a_torn_commit_waits_for_a_commit():
    """In a script, and by the rate, requests that commit nothing pass it by."""
    faults = Faults()
    torn = Fault.torn_commit(told="conflict", kept=2)
    faults.script([torn, Fault.close()])
    assert (torn.after_commit, torn.told, torn.kept) == (True, "conflict", 2)
    assert faults.next_for("POST", "/rows") is None
    assert faults.next_for("PATCH", "/transactions/x", commits=True) == torn
    assert faults.next_for("POST", "/rows") == Fault.close()
    faults.rate(1.0, kinds=[torn])
    assert faults.next_for("POST", "/rows") is None
    assert faults.next_for("PATCH", "/transactions/x", commits=True) == torn


def test_a_script_is_followed_in_order_and_then_all_is_well():
    """One step for each request that it is meant for; None is one that goes well."""
    faults = Faults()
    faults.script([Fault.reset(), None, Fault.close()], method="post", path="/rows")
    assert faults.next_for("GET", "/v1/rows") is None
    assert faults.next_for("POST", "/v1/tables") is None
    assert [faults.next_for("POST", "/v1/rows/x") for _ in range(5)] == [Fault.reset(), None, Fault.close(), None, None]


def test_every_path_contains_the_empty_one():
    """A script for the path "" is one for all requests."""
    faults, fault = Faults(), Fault.reset()
    faults.script([fault], path="")
    assert faults.next_for("POST", "/v1/tablesdb") is fault


def test_scripts_stand_side_by_side_and_before_the_rate():
    """The first script that a request fits has its turn; the rate counts where no script is left."""
    faults = Faults()
    faults.script([Fault.reset()], method="POST")
    faults.script([Fault.close(), Fault.close()])
    faults.rate(1.0, kinds=[Fault.invalid_json()])
    assert faults.next_for("GET", "/") == Fault.close()
    assert [faults.next_for("POST", "/") for _ in range(3)] == [Fault.reset(), Fault.close(), Fault.invalid_json()]


def test_clear_makes_all_well():
    """Neither scripts nor a rate are left."""
    faults = Faults()
    faults.script([Fault.reset()] * 3)
    faults.rate(1.0)
    faults.clear()
    assert [faults.next_for("POST", "/") for _ in range(5)] == [None] * 5


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_the_same_seed_draws_the_same_faults(seed, rate):
    """Two servers with the same seed, rate and kinds fail alike, request by request."""
    drawn = []
    for _ in range(2):
        faults = Faults()
        faults.rate(rate, seed=seed, kinds=KINDS)
        drawn.append([faults.next_for("POST", "/rows") for _ in range(40)])
    assert drawn[0] == drawn[1]


def test_draws_by_request_do_not_depend_on_the_order():
    """With `by_request` each request meets the same faults, whichever come between, and a repeat meets its own."""
    requests = [("POST", "/rows", b"%d" % number) for number in range(50)] * 3
    met = []
    for order in (requests, requests[::-1], random.Random(1).sample(requests, len(requests))):
        faults = Faults()
        faults.rate(0.3, seed=7, kinds=KINDS, by_request=True)
        drawn = {}
        for request in order:
            drawn.setdefault(request, []).append(faults.next_for(*request))
        met.append(drawn)
    assert met[0] == met[1] == met[2]
    failed = sum(fault is not None for drawn in met[0].values() for fault in drawn)
    assert 15 <= failed <= 85
    assert len({tuple(fault is None for fault in drawn) for drawn in met[0].values()}) > 2


def test_the_rate_is_the_share_of_requests_that_fail():
    """About one in twenty at 0.05, none at 0, all at 1."""
    for rate, least, most in ((0.05, 400, 600), (0.0, 0, 0), (1.0, 10_000, 10_000)):
        faults = Faults()
        faults.rate(rate, seed=1)
        failed = sum(faults.next_for("POST", "/") is not None for _ in range(10_000))
        assert least <= failed <= most


def test_every_kind_of_the_rate_is_a_fault_of_that_name():
    """The names draw what they say; `lost` is a write whose answer is lost."""
    for name in KINDS:
        faults = Faults()
        faults.rate(1.0, kinds=[name])
        drawn = [faults.next_for("POST", "/") for _ in range(50)]
        if name == "lost":
            assert {fault.kind for fault in drawn} == {"reset", "close"}
            assert all(fault.after_commit for fault in drawn)
        else:
            assert {fault.kind for fault in drawn} == {name}


def test_threads_share_a_script_without_losing_a_step():
    """However many threads ask, each step is given once."""
    faults = Faults()
    faults.script([Fault.status(400 + number) for number in range(200)])
    with ThreadPoolExecutor(8) as pool:
        given_out = Counter(pool.map(lambda _: faults.next_for("POST", "/"), range(300)))
    assert given_out.pop(None) == 100
    assert set(given_out.values()) == {1}
    assert len(given_out) == 200
