"""Processes that record into one journal and watch the fleet: forked from one that has imported everything already."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
QUIET = {"threshold": 1e12, "clear_threshold": 1e11}


class Crew:
    """The processes, from the side of the test.

    Args:
        kind: `sqlite` or `redis`.
        places: The journal's paths or URLs, one for each process.
        folder: Where they note what they were told.
        rule: The rule of the alert of each; None for processes that watch nothing.
        deadly: Whether the first process that is to tell of an alert kills itself instead.
    """

    def __init__(self, kind: str, places: list[str], folder: Path, *, rule: Any = None, deadly: bool = False) -> None:
        self._told, self.deadly = folder / "told", folder / "deadly"
        pairs = [socket.socketpair() for _ in places]
        settings = {
            "kind": kind, "places": places, "told": str(self._told), "rule": rule,
            "deadly": str(self.deadly) if deadly else None, "files": [far.fileno() for _, far in pairs],
        }  # fmt: skip
        self._nursery = subprocess.Popen(
            [sys.executable, str(HERE / "crew.py"), json.dumps(settings)], pass_fds=settings["files"]
        )
        self._files = []
        for near, far in pairs:
            far.close()
            self._files.append(near.makefile("rw", buffering=1, encoding="utf-8"))
            near.close()
        self.pids = [int(file.readline()) for file in self._files]

    def record(self, number: int, places: Any = None) -> None:
        """Have processes record so many errors each, all at once, and wait until they are in the journal."""
        chosen = self._files if places is None else [self._files[place] for place in places]
        for file in chosen:
            file.write(f"{number}\n")
        assert [file.readline() for file in chosen] == ["True\n"] * len(chosen)

    def told(self) -> list[str]:
        """Return the states that were told, in their order."""
        return [line.split()[0] for line in self._told.read_text().splitlines()] if self._told.exists() else []

    def kill(self, place: int) -> None:
        """Kill a process."""
        os.kill(self.pids[place], signal.SIGKILL)

    def end(self) -> None:
        """End all."""
        for file in self._files:
            file.close()
        self._nursery.wait(60)


def _journal(kind: str, where: str) -> Any:
    from booking_resilience.journal import RedisJournal, SQLiteJournal

    return SQLiteJournal(where) if kind == "sqlite" else RedisJournal(where)


def _work(settings: dict[str, Any], where: str, number: int) -> None:
    from booking_resilience import AlertRule, ErrorMonitor
    from booking_resilience.journal import FleetMonitor
    from journaling import record

    def on_alert(event: Any) -> None:
        if settings["deadly"]:
            try:
                os.close(os.open(settings["deadly"], os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        with Path(settings["told"]).open("a") as out:
            out.write(f"{event.state} {os.getpid()} {time.monotonic()}\n")

    journal = _journal(settings["kind"], where)
    monitor = ErrorMonitor(journal=journal, alert=AlertRule(**QUIET))
    if settings["rule"] is not None:
        watching = FleetMonitor(journal, window=2.0, alert=AlertRule(**settings["rule"]), on_alert=on_alert)
    with socket.socket(fileno=number).makefile("rw", buffering=1, encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
        for line in file:
            record(monitor, int(line))
            file.write(f"{monitor.flush(30)}\n")
    if settings["rule"] is not None:
        watching.close()


def main(settings: dict[str, Any]) -> None:
    """Fork the processes, and wait for their ends."""
    import booking_resilience.journal  # noqa: F401 - so that the children need not

    if settings["kind"] == "redis":
        import redis  # noqa: F401 - as above
    files = settings["files"]
    for where, mine in zip(settings["places"], files, strict=True):
        if os.fork() == 0:
            for other in files:
                if other != mine:
                    os.close(other)
            _work(settings, where, mine)
            os._exit(0)
    for file in files:
        os.close(file)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
