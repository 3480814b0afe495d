"""How a shared breaker looks to type checkers: checked by mypy and pyright, never run."""

from __future__ import annotations

import datetime
from typing import assert_type

import redis

from booking_resilience import BreakerState, CircuitBreaker, SharedSnapshot
from booking_resilience.breaker.shared import RedisBreaker

shared = RedisBreaker("redis://localhost", prefix="mine", min_reporters=1)
given = RedisBreaker("main", machine="pod 1", client=redis.Redis())
breaker = CircuitBreaker("backend", shared=shared)
assert_type(breaker, CircuitBreaker)
assert_type(breaker.isolate("maintenance", fleet=True), None)
assert_type(breaker.reset(fleet=True), None)
assert_type(breaker.reset("why", fleet=False), None)
assert_type(shared.close(), None)

known = breaker.snapshot().shared
assert_type(known, SharedSnapshot | None)
if known is not None:
    assert_type(known.connected, bool)
    assert_type(known.state, BreakerState)
    assert_type(known.reporters, int)
    assert_type(known.since, datetime.datetime | None)
