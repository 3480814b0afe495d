"""The lines of docs/how-to/dashboard.md that mount it or tell of readiness, in each framework that is installed."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `dashboard` is not installed")

from asking import ask, ask_wsgi
from booking_resilience import CircuitBreaker, ErrorMonitor
from dashboardhost import fail_all

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "dashboard.md"
STRANGER = "203.0.113.9"


def lines_for(framework: str) -> str:
    """Return the block of the page for a framework."""
    page = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(rf"<!-- not run: tested with {framework} in .*? -->\n```python\n(.*?)```", page, re.DOTALL)
    return str(block)


def mounted(framework: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the page's lines for a framework as a module; return what they define."""
    library = framework.removesuffix("-health")
    pytest.importorskip(library, reason=f"{library} is not installed")
    monitor = ErrorMonitor()
    fail_all(monitor)
    module: Any = types.ModuleType("mounted")
    monkeypatch.setitem(sys.modules, "mounted", module)  # Litestar looks annotations up there
    module.monitor, module.breaker = monitor, CircuitBreaker("appwrite")
    exec(compile(lines_for(framework), str(PAGE), "exec"), vars(module))
    return vars(module)


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "litestar"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_asgi_frameworks_mount_it(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page, files and state come below the prefix, for the loopback only."""
    app = mounted(framework, monkeypatch)["app"]
    assert "Errors" in ask(app, "/errors/").text
    assert ask(app, "/errors/static/page.js").status == 200
    assert ask(app, "/errors/api/state").json()["kept"] == 7
    assert ask(app, "/errors/nowhere").status == 404
    assert ask(app, "/errors/", client=(STRANGER, 1)).status == 403
    bare = ask(app, "/errors")
    assert bare.status == 200 or bare.headers["location"].endswith("errors/")


def test_flask_mounts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same under Flask."""
    check_wsgi(mounted("flask", monkeypatch)["app"])


def test_django_mounts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same under Django, whose other pages are served as before."""
    set_up_django()
    check_wsgi(mounted("django", monkeypatch)["application"])


def set_up_django() -> None:
    """Configure Django, once; skip the test where it isn't installed."""
    django = pytest.importorskip("django", reason="django is not installed")
    from django.conf import settings

    if not settings.configured:
        settings.configure(ROOT_URLCONF=(), ALLOWED_HOSTS=["*"], SECRET_KEY="k", MIDDLEWARE=[])
    django.setup()


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "litestar", "flask", "django"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_readiness_is_a_route(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The route answers 200 while the process can work, and 503 when an essential breaker is isolated."""
    if framework == "django":
        set_up_django()
    module = mounted(f"{framework}-health", monkeypatch)

    def asked() -> tuple[int, Any]:
        if framework == "django":
            from django.test import RequestFactory

            answer: Any = module["ready"](RequestFactory().get("/ready"))
            return answer.status_code, json.loads(answer.content)
        found = (ask_wsgi if framework == "flask" else ask)(module["app"], "/ready")
        return found.status, found.json()

    assert asked() == (200, {"status": "ok"})
    module["breaker"].isolate("maintenance")
    assert asked() == (503, {"status": "down"})


def check_wsgi(app: Any) -> None:
    """Ask a WSGI application for the dashboard and for something else."""
    assert "Errors" in ask_wsgi(app, "/errors/").text
    assert ask_wsgi(app, "/errors").headers["location"] == "./errors/"
    assert ask_wsgi(app, "/errors/static/page.js").status == 200
    assert ask_wsgi(app, "/errors/api/state").json()["kept"] == 7
    assert ask_wsgi(app, "/errors/", peer=STRANGER).status == 403
    assert ask_wsgi(app, "/elsewhere").status == 404
