"""What an error of a call to Appwrite means: is it transient, did the request arrive, how long to wait.

The verdicts know most of it. Here an error is one of a call to Appwrite: any answer is taken for Appwrite's, and what
isn't known is the calling program's mistake.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from booking_resilience.verdicts import Verdict, judge, leaves
from booking_resilience.verdicts.appwrite import by_response, by_status
from booking_resilience.verdicts.facts import Found
from booking_resilience.verdicts.find import find
from booking_resilience.verdicts.meanings import MEANINGS

_LOCAL: Final = frozenset({"mistake", "misuse", "nothing", "unknown"})
_MISTAKE: Final = Found("mistake", of_appwrite=True)


def classify(error: BaseException) -> Verdict:
    """Return what an error means: one of `AppwriteClient`, of the plain SDK client, or of an HTTP library.

    Anything else, and what the SDK raises before it sends (a missing parameter, say), is the calling program's
    mistake: not transient, not sent.

    Raises:
        TypeError: If `error` isn't an exception.

    >>> verdict = classify(ConnectionRefusedError())
    >>> verdict.transient, verdict.sent, verdict.category.value
    (True, 'no', 'network')
    """
    verdict = judge(error, _find)
    return verdict if verdict.transient else dataclasses.replace(verdict, retry_after=None)


def is_transient(error: BaseException) -> bool:
    """Tell whether an error is transient; what `appwrite_retry` retries on."""
    return classify(error).transient


def is_backend_failure(error: BaseException) -> bool:
    """Tell whether an error says that the backend is in trouble: no answer, no readable one, a timeout, a 5xx."""
    return any(MEANINGS[_find(leaf).meaning].failure for leaf in leaves(error))


def is_no_evidence(error: BaseException) -> bool:
    """Tell whether an error says nothing of the backend's health: it was told to slow down, or was never asked."""
    return not any(MEANINGS[_find(leaf).meaning].evidence for leaf in leaves(error))


def _find(error: BaseException) -> Found:
    found = find(error)
    if found.meaning in _LOCAL:
        return _MISTAKE
    if found.of_appwrite or found.status is None or found.status < 300:
        return found
    return by_response(error) or by_status(found.status, None, found.headers)
