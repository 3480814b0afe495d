"""A page that shows operators the errors and breakers of an application, and a health check for readiness endpoints.

`dashboard` and `dashboard_wsgi` need the extra `dashboard`; `health` needs nothing.
"""

from booking_resilience.dashboard.mount import dashboard, dashboard_wsgi
from booking_resilience.dashboard.readiness import Health, HealthCheck, health

__all__ = ["Health", "HealthCheck", "dashboard", "dashboard_wsgi", "health"]


def __dir__() -> list[str]:
    return sorted(__all__)
