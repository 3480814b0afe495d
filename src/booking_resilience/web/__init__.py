"""The edge of a web application, for ASGI and WSGI: deadlines in, errors out, context of records, idempotency keys.

No framework is needed or imported. The middlewares are classes to wrap an application in; `problem_for` is for a
framework's own error handlers.
"""

from booking_resilience.web.django import ResilienceDjango
from booking_resilience.web.idempotency import (
    IdempotencyKey,
    IdempotencyKeyWSGI,
    idempotent_id,
    request_fingerprint,
)
from booking_resilience.web.problems import Problem, problem_for
from booking_resilience.web.resilience import Resilience, ResilienceWSGI

__all__ = [
    "IdempotencyKey",
    "IdempotencyKeyWSGI",
    "Problem",
    "Resilience",
    "ResilienceDjango",
    "ResilienceWSGI",
    "idempotent_id",
    "problem_for",
    "request_fingerprint",
]


def __dir__() -> list[str]:
    return sorted(__all__)
