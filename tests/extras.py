"""What each extra brings: `python tests/extras.py EXTRA` where that extra alone is installed; "" for none, or `all`.

Imports every module of the package. Those that the extra is for, and those that need no extra, must import; others may
miss what belongs to another extra, and nothing else. Then the extra is used, since much is imported late.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import booking_resilience

PACKAGE = "booking_resilience"
MODULES = {
    "appwrite": ("appwrite",),
    "appwrite-async": ("appwrite",),
    "testing": ("appwrite", "testing"),
    "otel": ("telemetry",),
    "dashboard": ("dashboard",),
    "sentry": ("sentry",),
    "durable": ("durable",),
    "redis": ("journal", "breaker"),
    "httpx": ("http.httpx",),
    "httpx2": ("http.httpx2",),
    "requests": ("http.requests",),
    "aiohttp": ("http.aiohttp",),
    "celery": ("celery",),
}
"""The modules that an extra is for, without the package's name: all below them must import."""
NEEDS = ("appwrite", "celery", "dashboard.app", "http.", "sentry", "telemetry.", "testing.appwrite_server")
"""The modules that need one extra or other to be imported at all."""
IN_PYTEST = ("testing.plugin",)
"""Imported by pytest alone."""
USES = {
    "": "from booking_resilience import *\nwith_retry(int, policy=RetryPolicy())",
    "appwrite": "from booking_resilience.appwrite import AppwriteClient\nAppwriteClient().close()",
    "appwrite-async": """
import asyncio
from booking_resilience.appwrite import AsyncAppwriteClient
async def main():
    async with AsyncAppwriteClient():
        pass
asyncio.run(main())
""",
    "testing": """
from appwrite.services.tables_db import TablesDB
from booking_resilience.testing import AppwriteServer
with AppwriteServer() as server:
    TablesDB(server.client()).create("d", "D")
""",
    "otel": """
from booking_resilience import CircuitBreaker
from booking_resilience.telemetry.logs import LogRecords
from booking_resilience.telemetry.otel import Telemetry
Telemetry().watch_breaker(CircuitBreaker("backend"))
LogRecords()
""",
    "dashboard": """
import asyncio
from booking_resilience import ErrorMonitor
from booking_resilience.dashboard import dashboard, dashboard_wsgi
import uvicorn
dashboard(ErrorMonitor())
dashboard_wsgi(ErrorMonitor())
""",
    "sentry": "from booking_resilience.sentry import SentrySink\nSentrySink()",
    "durable": """
from booking_resilience import Pipeline
from booking_resilience.durable import Durable
with Durable("sqlite:///bookings.db", version="1", pipeline=Pipeline()) as durable:
    assert durable.waiting() == []
""",
    "redis": """
from booking_resilience import CircuitBreaker
from booking_resilience.breaker.shared import RedisBreaker
from booking_resilience.journal import RedisJournal
RedisJournal("redis://127.0.0.1:1")
CircuitBreaker("backend", shared=RedisBreaker("redis://127.0.0.1:1")).call(int)
""",
    "httpx": """
import httpx
from booking_resilience.http.httpx import ResilientTransport
httpx.Client(transport=ResilientTransport()).close()
""",
    "httpx2": """
import httpx2
from booking_resilience.http.httpx2 import ResilientTransport
httpx2.Client(transport=ResilientTransport()).close()
""",
    "requests": """
import requests
from booking_resilience.http.requests import ResilientAdapter
requests.Session().mount("https://", ResilientAdapter())
""",
    "aiohttp": """
import asyncio
import aiohttp
from booking_resilience.http.aiohttp import resilient
async def main():
    async with aiohttp.ClientSession(middlewares=[resilient()]):
        pass
asyncio.run(main())
""",
    "celery": """
import celery
from booking_resilience.celery import resilient_task
def one():
    return 1
assert resilient_task(celery.Celery("a", broker="memory://"))(one)() == 1
""",
}
"""A use of each extra that imports what it imports late."""


def modules() -> Iterator[str]:
    """Give the names of all modules of the package, without the package's own name."""
    root = Path(booking_resilience.__path__[0])
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if name not in {"__init__", *IN_PYTEST} and not name.endswith("__main__"):
            yield name


def is_below(name: str, prefixes: tuple[str, ...]) -> bool:
    """Tell whether a module is one of these or lies below one."""
    return any(name == prefix or name.startswith(prefix if prefix[-1] == "." else f"{prefix}.") for prefix in prefixes)


def failures(extra: str) -> list[str]:
    """Import every module; say what is missing that should be there."""
    wanted = MODULES.get(extra, ())
    found = []
    for name in modules():
        try:
            importlib.import_module(f"{PACKAGE}.{name}")
        except ModuleNotFoundError as error:
            if name == "appwrite.async_transport" and extra not in {"appwrite-async", "all"}:
                continue
            if (
                extra == "all"
                or is_below(name, wanted)
                or not is_below(name, NEEDS)
                or (error.name or "").startswith(PACKAGE)
            ):
                found.append(f"{name}: {error}")
    return found


def main(extra: str) -> int:
    """Import all, use the extra, and say what is wrong."""
    found = failures(extra)
    print(*found, sep="\n")
    if not found:
        os.chdir(tempfile.mkdtemp())
        exec(USES.get(extra, ""), {"__name__": "use"})
        print(f"{extra or 'no extra'}: {len(list(modules()))} modules were looked at")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
