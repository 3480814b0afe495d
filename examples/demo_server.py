"""Serve a booking form, and the dashboard of its errors, on the loopback.

Without `--endpoint` it starts the embedded Appwrite server and uses that. Ctrl-C ends it, even while pages are open.
"""

from __future__ import annotations

import quiet

if __name__ == "__main__":
    quiet.start("demo_server.py")

import asyncio
import contextlib
import errno
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn
from appwrite.exception import AppwriteException

import command
from booking_flow import bootstrap
from booking_resilience import ResilienceError
from booking_resilience.appwrite import AppwriteClient, AsyncAppwriteClient
from booking_resilience.testing import AppwriteServer
from demo_app import create_app
from demo_guard import LOOPBACK
from demo_parts import Demo
from demo_stream import Hub

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from starlette.applications import Starlette

GRACE = 2.0
"""Seconds that open connections have to end by themselves when the server stops."""
DEAF_AFTER_MS = 30_000
"""A viewer that has read nothing for so long is disconnected, by the kernel where it supports that."""
PROGRAM = "demo_server.py"


class DemoServer(uvicorn.Server):
    """A server that ends its streams when it stops; it would otherwise wait for them for ever."""

    def __init__(self, app: Starlette, hub: Hub) -> None:
        config = uvicorn.Config(
            app, loop="asyncio", http="h11", ws="none", lifespan="on", log_config=None, access_log=False,
            server_header=False, proxy_headers=False,
        )  # fmt: skip
        super().__init__(config)
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first signal; another changes nothing, since everything ends within `GRACE` seconds."""
        if not self.should_exit:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else; after `GRACE` seconds abort the connections that are left."""
        self._hub.close()
        cut = asyncio.get_running_loop().call_later(GRACE, self._cut_off)
        await super().shutdown(sockets)
        cut.cancel()

    def _cut_off(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; exits with code 2 if one is wrong."""
    parser = command.Parser(prog=PROGRAM, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=5173, help="the port (default 5173); 0 for any free one")
    parser.add_argument("--host", default="127.0.0.1", help="the address (default 127.0.0.1, the loopback)")
    parser.add_argument("--endpoint", help="use this Appwrite server, with --project and --key, not the embedded one")
    parser.add_argument("--project")
    parser.add_argument("--key")
    parser.add_argument("--durable", metavar="FILE", help="keep bookings in this SQLite file until they are stored")
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535:
        parser.error(f"--port must be from 0 to 65535, not {options.port}")
    if not options.host.strip():
        parser.error("--host must not be empty")
    if options.durable is not None and options.host not in LOOPBACK:
        parser.error(f"--durable is served on the loopback only, not on {options.host}")
    if options.endpoint is not None:
        if not options.project or not options.key:
            parser.error("--endpoint needs --project and --key")
    elif options.project or options.key:
        parser.error("--project and --key need --endpoint")
    return options


@contextlib.contextmanager
def backend(options: argparse.Namespace) -> Iterator[tuple[AppwriteClient, AsyncAppwriteClient]]:
    """Give clients of the Appwrite that was asked for, its tables made."""
    with contextlib.ExitStack() as stack:
        endpoint, project, key = options.endpoint, options.project, options.key
        if endpoint is None:
            endpoint, project, key = stack.enter_context(AppwriteServer()).endpoint, "demo", "demo-key"
        client = AppwriteClient().set_endpoint(endpoint).set_project(project).set_key(key)
        bootstrap(client)
        yield client, AsyncAppwriteClient().set_endpoint(endpoint).set_project(project).set_key(key)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: If there is no such address, or the port is in use.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.create_server((host, port), family=family, backlog=512)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted connections have it from the listening one
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAF_AFTER_MS)
    return listening


def serve(listening: socket.socket, demo: Demo, host: str) -> None:
    """Serve until a signal comes.

    Raises:
        KeyboardInterrupt: On Ctrl-C, once everything has ended.
    """
    hub = Hub(demo)
    server = DemoServer(create_app(demo, hub, host=host), hub)
    shown = f"[{host}]" if ":" in host else host
    command.say(f"Dashboard: http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
    if host not in LOOPBACK:
        print(f"{PROGRAM}: {host} is not the loopback; whoever reaches it can use the demo", file=sys.stderr)
    server.run(sockets=[listening])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; return its exit code: 1 if it can't start, else 0."""
    options = parse(arguments)
    try:
        with listen(options.host, options.port) as listening:
            return run(options, listening)
    except OSError as error:
        text = f"{options.host} port {options.port}: {error.strerror or command.one_line(error)}"
        if error.errno == errno.EADDRINUSE:
            text = f"port {options.port} on {options.host} is in use; choose another one with --port"
        print(f"{PROGRAM}: {text}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace, listening: socket.socket) -> int:
    """Serve with the backend asked for; return the exit code."""
    try:
        with backend(options) as (client, async_client), contextlib.ExitStack() as stack:
            demo = Demo(async_client)
            if options.durable is not None:
                stack.enter_context(demo.keep_bookings(options.durable, client).durable)
            serve(listening, demo, options.host)
    except ResilienceError as error:
        print(f"{PROGRAM}: --durable: {command.one_line(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"{PROGRAM}: --durable needs the extra `durable`: {error}", file=sys.stderr)
        return 1
    except (AppwriteException, OSError) as error:
        print(f"{PROGRAM}: {options.endpoint or 'the embedded server'}: {command.one_line(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    command.run(PROGRAM, main)
