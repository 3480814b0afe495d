"""Names that do not exist, which type checkers must reject: an ignore that hides nothing is an error to both."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from booking_resilience import RetryPolicies  # type: ignore[attr-defined] # a typo, for `RetryPolicy`
from booking_resilience.appwrite import AppwriteClients  # type: ignore[attr-defined] # a typo
from booking_resilience.testing import AppwriteServers  # type: ignore[attr-defined] # a typo

TYPOS = (RetryPolicies, AppwriteClients, AppwriteServers)
