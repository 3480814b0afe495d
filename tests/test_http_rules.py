"""When a request may be sent again, and how an origin is written: the rules of every client, without any."""

from __future__ import annotations

import pytest

from booking_resilience import Breakers, ErrorMonitor, RetryPolicy
from booking_resilience.http import HTTP_RETRY
from booking_resilience.http.rules import DEADLINE_HEADER, Rules, origin_of

ASKED = RetryPolicy(max_attempts=3, base_delay=0.0, deadline=None, retry_on=OSError)
KEY = {"Idempotency-Key": "k"}


def rules(**settings) -> Rules:
    """Return rules with these settings."""
    return Rules(**{"retry": ASKED, "breakers": None, "monitor": None, "deadline_header": DEADLINE_HEADER, **settings})


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_method_is_sent_again_after_all_that_the_policy_accepts(method):
    """The policy alone decides."""
    assert rules().policy_for(method, {}, can_repeat=True) is ASKED


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "get", ""])
def test_any_other_method_is_sent_again_if_it_never_left_or_carries_a_key(method):
    """Without a key only what never left is tried again; the rest of the policy stays."""
    made = rules()
    assert made.policy_for(method, KEY, can_repeat=True) is ASKED
    assert not made.policy_for(method, {"Idempotency-Key": " \t"}, can_repeat=True).passes(ConnectionResetError())
    policy = made.policy_for(method, {"Idempotency-Key": ""}, can_repeat=True)
    assert policy.passes(ConnectionRefusedError())
    assert not policy.passes(ConnectionResetError())
    assert not policy.passes(ValueError())
    assert (policy.max_attempts, policy.base_delay, policy.deadline) == (3, 0.0, None)
    picky = rules(retry=RetryPolicy(retry_on=KeyError)).policy_for(method, {}, can_repeat=True)
    assert not picky.passes(ConnectionRefusedError())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_body_that_can_be_read_once_is_sent_once(method):
    """Nothing is sent again, whatever went wrong."""
    policy = rules().policy_for(method, KEY, can_repeat=False)
    assert not policy.passes(ConnectionRefusedError())
    assert policy.max_attempts == 3


def test_the_settings_are_kept():
    """Breakers are made where none are given; header and monitor are those that were given."""
    monitor, breakers = ErrorMonitor(), Breakers()
    made = rules(monitor=monitor, breakers=breakers, deadline_header=None)
    assert (made.monitor, made.breakers, made.header) == (monitor, breakers, None)
    assert len(rules().breakers) == 0
    assert rules(retry=HTTP_RETRY).header == "X-Request-Timeout-Ms"


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"breakers": {}}, TypeError, "breakers must be Breakers or None, not {}"),
        ({"retry": None}, TypeError, "retry must be a RetryPolicy, not None"),
        ({"monitor": 3}, TypeError, "monitor must be an ErrorMonitor or None, not 3"),
        ({"deadline_header": ""}, ValueError, "deadline_header must be "),
        ({"retry": RetryPolicy(retry_on_result=bool)}, ValueError,
         "retry must be a policy without retry_on_result: responses are judged by their status"),
    ],
)  # fmt: skip
def test_wrong_settings_are_rejected_by_name(settings, error, text):
    """The text says which setting, and what is allowed."""
    with pytest.raises(error) as caught:
        rules(**settings)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("parts", "origin"),
    [
        (("HTTP", "Example.COM", None), "http://example.com:80"),
        (("https", b"Example.com", None), "https://example.com:443"),
        (("https", "::1", 8443), "https://[::1]:8443"),
        (("http", "[::1]", 80), "http://[::1]:80"),
        (("ws", "example.com", None), "ws://example.com"),
        (("http", None, 0), "http://:0"),
    ],
)
def test_an_origin_is_lower_case_with_its_port(parts, origin):
    """One origin is written in one way."""
    assert origin_of(*parts) == origin
