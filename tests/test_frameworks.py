"""The lines of the how-to pages in their frameworks: each with its own test client and a real server."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import types
import urllib.error
import urllib.request
import wsgiref.simple_server

import pytest

from booking_resilience import BreakerState, remaining_time
from booking_resilience.testing import virtual_time
from rawserver import RawServer, answer
from test_docs import DOCS, blocks_of

PAGE = DOCS / "how-to" / "web-frameworks.md"
FRAMEWORKS = ["Starlette", "FastAPI", "Litestar", "Flask", "Django"]


def blocks(page: str, needed: str | None = None) -> list[str]:
    """Return the python blocks of a page that are run there, or those that need a library."""
    source = (DOCS / "how-to" / page).read_text()
    texts = []
    for block in blocks_of(DOCS / "how-to" / page):
        if block.language == "python" and block.is_run == (needed is None):
            before = source.split("\n")[block.line - 2]
            if needed is None or f"needs {needed};" in before:
                texts.append(block.text)
    return texts


def execute(text: str, names: dict) -> None:
    """Run the documentation's own code."""
    exec(compile(text, "<page>", "exec", dont_inherit=True), names)


def namespace(framework: str) -> dict:
    """Run the common lines of the page and a framework's."""
    module = types.ModuleType("bookings")
    names = module.__dict__
    sys.modules["bookings"] = module  # where frameworks look for the names of annotations
    execute(next(text for text in blocks(PAGE.name) if "def readiness" in text), names)

    def look_up(slot):
        return f"{slot}: {remaining_time():.3f}"

    async def look_up_async(slot):
        return look_up(slot)

    names |= {"look_up": look_up, "look_up_async": look_up_async}
    execute(blocks(PAGE.name, framework)[0], names)
    return names


@contextlib.contextmanager
def uvicorn_server(app):
    """Serve an ASGI application; yields its address."""
    uvicorn = pytest.importorskip("uvicorn")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        limit = time.monotonic() + 30
        while not server.started and time.monotonic() < limit:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    """Writes no log."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def wsgi_server(app):
    """Serve a WSGI application; yields its address."""
    with wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def fetch(url, headers):
    """Return status, headers and body of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def django_app(names, *, is_async):
    """Return a Django application of the page's lines."""
    import django
    from django.conf import settings
    from django.urls import path

    module = types.ModuleType("booking_urls")
    module.urlpatterns = [path("slots/<str:slot>", names["slot"]), path("ready", names["ready"])]
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], MIDDLEWARE=[], SECRET_KEY="test", USE_TZ=True, LOGGING_CONFIG=None)
        django.setup()
    sys.modules["booking_urls"] = module
    names["resilience"].__module__ = "booking_urls"
    module.resilience = names["resilience"]
    return {"ROOT_URLCONF": "booking_urls", "MIDDLEWARE": ["booking_urls.resilience"], "DEBUG": False}, is_async


@contextlib.contextmanager
def served(framework, names, how):
    """Yield a function that asks the application for a path, by its test client or a real server."""
    app = names.get("app")
    with contextlib.ExitStack() as stack:
        if framework == "Django":
            from django.core.handlers.asgi import ASGIHandler
            from django.core.handlers.wsgi import WSGIHandler
            from django.test import Client
            from django.test.utils import override_settings
            from django.urls import clear_url_caches

            settings, is_async = django_app(names, is_async=how == "asgi server")
            stack.enter_context(override_settings(**settings))
            clear_url_caches()
            if how == "test client":
                client = Client(raise_request_exception=False)

                def ask(path, headers):
                    reply = client.get(path, headers=headers)
                    return reply.status_code, dict(reply.headers), reply.content

                yield ask
                return
            app = ASGIHandler() if is_async else WSGIHandler()
            server = uvicorn_server(app) if is_async else wsgi_server(app)
        elif how != "test client":
            server = wsgi_server(app) if framework == "Flask" else uvicorn_server(app)
        elif framework == "Flask":
            client = app.test_client()

            def ask(path, headers):
                reply = client.get(path, headers=headers)
                return reply.status_code, dict(reply.headers), reply.data

            yield ask
            return
        else:
            if framework == "Litestar":
                from litestar.testing import TestClient
            else:
                from starlette.testclient import TestClient
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))

            def ask(path, headers):
                reply = client.get(path, headers=headers)
                return reply.status_code, dict(reply.headers), reply.content

            yield ask
            return
        address = stack.enter_context(server)
        yield lambda path, headers: fetch(address + path, headers)


CASES = [
    (framework, how)
    for framework in FRAMEWORKS
    for how in ("test client", "server", "asgi server")
    if framework == "Django" or how != "asgi server"
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("framework", "how"), CASES)
def test_the_lines_of_a_framework_do_what_the_page_says(framework, how):
    """The deadline comes in, rejections become problem details, records have the request's context, health is told."""
    pytest.importorskip(framework.lower())
    names = namespace(framework)
    breaker, monitor = names["backend"].breaker, names["monitor"]
    with served(framework, names, how) as ask:
        status, _, body = ask("/slots/1030", {})
        assert status == 200
        assert 0 < float(body.decode().strip('"').split(": ")[1]) <= 4  # the pipeline's own deadline
        status, _, body = ask("/slots/1030", {"X-Request-Timeout-Ms": "2000"})
        assert 0 < float(body.decode().strip('"').split(": ")[1]) <= 2
        assert ask("/ready", {})[::2] == (200, b"ok")
        for _ in range(5):
            with pytest.raises(ConnectionError), breaker.guard():
                raise ConnectionError
        assert breaker.state is BreakerState.OPEN
        status, headers, body = ask("/slots/1030?secret=1", {"X-Request-ID": "r-1"})
        found = {name.lower(): value for name, value in headers.items()}
        assert status == 503
        assert found["content-type"].split(";")[0] == "application/problem+json"
        assert 1 <= int(found["retry-after"]) <= 30
        assert json.loads(body)["status"] == 503
        assert ask("/ready", {})[::2] == (503, b"down")
    (record,) = monitor.recent()
    assert record.context == {"request_id": "r-1", "method": "GET", "path": "/slots/1030"}


def test_the_lines_of_the_http_clients_run():
    """Each client of the page makes its request, and sends it again after a 503."""
    names: dict = {}
    clients = ["httpx2", "requests", "aiohttp"]
    for client in clients:
        pytest.importorskip(client)
    import asyncio

    busy, fine = answer(503, b"", Connection="close"), answer(200, b"ok", Connection="close")
    with RawServer(*[busy, fine] * 4, keep_alive=False) as server, virtual_time():
        url = f"http://127.0.0.1:{server.port}/"
        for client in clients:
            (text,) = blocks("http-clients.md", client)
            execute(text, names)
        with names["client"] as client:
            assert client.get(url).text == "ok"

        async def ask():
            async with names["client_async"] as client:
                return (await client.get(url)).text

        assert asyncio.run(ask()) == "ok"
        with names["session"] as session:
            assert session.get(url).text == "ok"
        assert asyncio.run(names["main"](url)) == 200
        assert len(server.requests) == 8


def test_the_lines_of_celery_run():
    """The task of the page does its work."""
    pytest.importorskip("celery")
    names: dict = {"__name__": "bookings"}
    (text,) = blocks("celery.md", "Celery")
    execute(text, names)
    assert names["confirm"]("b1") == "b1 is confirmed"
    assert names["confirm"].apply(args=["b2"]).get() == "b2 is confirmed"
