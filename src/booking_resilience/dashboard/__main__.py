"""Serve the dashboard of a journal, without any application: `python -m booking_resilience.dashboard --journal …`."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

PROGRAM = "python -m booking_resilience.dashboard"
_URLS = ("redis://", "rediss://", "unix://")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; exits with code 2 if one is wrong."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Serve the dashboard of a journal.", allow_abbrev=False)
    parser.add_argument("--journal", required=True, metavar="PATH|URL", help="a SQLite file, or redis://…")
    parser.add_argument("--host", default="127.0.0.1", help="the address (default 127.0.0.1, the loopback)")
    parser.add_argument("--port", type=int, default=5174, help="the port (default 5174); 0 for any free one")
    parser.add_argument("--title", default="Errors", help="the page's title (default Errors)")
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535:
        parser.error(f"--port must be from 0 to 65535, not {options.port}")
    for name in ("journal", "host", "title"):
        if not getattr(options, name).strip():
            parser.error(f"--{name} must not be empty")
    if not options.journal.startswith(_URLS) and not Path(options.journal).is_file():
        parser.error(f"--journal must be a journal's file or a Redis URL, not {options.journal!r}: no such file")
    return options


def _say(stream: TextIO, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        stream.write(f"{line}\n")
        stream.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; return the exit code: 1 if it can't start, else 0."""
    options = parse(arguments)
    try:
        import uvicorn

        from booking_resilience.dashboard import dashboard
        from booking_resilience.journal import FleetMonitor, RedisJournal, SQLiteJournal

        kind: Any = RedisJournal if options.journal.startswith(_URLS) else SQLiteJournal
        with contextlib.closing(kind(options.journal)) as journal, FleetMonitor(journal) as monitor:
            app = dashboard(monitor, title=options.title)
            config = uvicorn.Config(
                app, host=options.host, port=options.port, lifespan="off", proxy_headers=False, server_header=False,
                log_level="warning", access_log=False, ws="none",
            )  # fmt: skip
            family = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0][0]
            with socket.create_server((options.host, options.port), family=family) as listening:
                shown = f"[{options.host}]" if ":" in options.host else options.host
                _say(sys.stdout, f"Dashboard: http://{shown}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
                uvicorn.Server(config).run(sockets=[listening])
    except (ImportError, OSError, ValueError) as error:
        _say(sys.stderr, f"{PROGRAM}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
