"""Three processes in a row, each calling the next within the deadline that it was given: `python tests/chain.py 10000`.

Every process has `Resilience` in front and a resilient client behind. It counts the attempts that say nothing of a
deadline or more than is left, and those that it finds the deadline over for when they begin: a process that the system
puts aside between its look at the clock and the attempt can't know.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import json
import random
import subprocess
import sys
import threading
import time

import httpx2
import uvicorn

from booking_resilience import Breakers, CircuitBreaker, RetryPolicy, deadline, remaining_time
from booking_resilience.http.httpx2 import AsyncResilientTransport
from booking_resilience.web import Resilience

RETRY = RetryPolicy(max_attempts=4, base_delay=0.005, deadline=None)


given: contextvars.ContextVar[float] = contextvars.ContextVar("given", default=0.0)
"""The milliseconds that the request came with."""


class Watched(httpx2.AsyncHTTPTransport):
    """Counts the attempts, those that tell the next process of more time than is left, and those that begin late."""

    def __init__(self):
        super().__init__()
        self.attempts = self.wrong = self.late = 0

    async def handle_async_request(self, request):
        told, left = int(request.headers.get("X-Request-Timeout-Ms", 0)), remaining_time()
        self.attempts += 1
        self.late += left is None or left <= 0.0
        self.wrong += not 1 <= told <= given.get()
        return await super().handle_async_request(request)


def client(watched):
    """Return a resilient client whose breakers never open."""
    breakers = Breakers(lambda origin: CircuitBreaker(origin, failure_threshold=10**9))
    return httpx2.AsyncClient(transport=AsyncResilientTransport(watched, retry=RETRY, breakers=breakers), timeout=30)


def serve(following):
    """Serve one link of the chain; prints its port."""
    watched = Watched()
    asking = client(watched)

    async def link(scope, receive, send):
        status, body = 200, b"ok"
        if scope["path"] == "/seen":
            body = json.dumps([watched.attempts, watched.wrong, watched.late]).encode()
        elif random.random() < 0.2:
            status = 503
        else:
            await asyncio.sleep(random.random() * 0.02)
            given.set(float(dict(scope["headers"])[b"x-request-timeout-ms"]))
            if following:
                status = (await asking.get(following)).status_code
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]}
        )
        await send({"type": "http.response.body", "body": body})

    server = uvicorn.Server(uvicorn.Config(Resilience(link), port=0, log_level="critical", lifespan="off", ws="none"))

    def tell():
        while not server.started:
            time.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)

    threading.Thread(target=tell, daemon=True).start()
    server.run()


async def ask(first, requests):
    """Make requests with random deadlines; return what came out, and this process's counts."""
    outcomes, watched, places = collections.Counter(), Watched(), asyncio.Semaphore(16)

    async def one(asking):
        async with places:
            try:
                seconds = random.choice([0.005, 0.02, 0.05, 0.2, 60.0]) * random.random()
                given.set(seconds * 1000)
                with deadline(seconds):
                    outcomes[(await asking.get(first)).status_code] += 1
            except Exception as error:
                outcomes[type(error).__name__] += 1

    async with client(watched) as asking:
        await asyncio.gather(*(one(asking) for _ in range(requests)))
    return outcomes, [watched.attempts, watched.wrong, watched.late]


def run(requests):
    """Return the outcomes, and for each process, the caller first: attempts, wrong ones, and those begun late."""
    with contextlib.ExitStack() as stack:
        url, urls = "", []
        for _ in range(3):
            command = [sys.executable, __file__, "serve", url]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}/"
            urls.append(url)
        outcomes, mine = asyncio.run(ask(url, requests))
        seen = [httpx2.get(f"{link}seen", trust_env=False, timeout=30).json() for link in reversed(urls)]
        return dict(outcomes), [mine, *seen]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        for line in run(int(sys.argv[1])):
            print(line)
