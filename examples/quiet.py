"""A quiet Ctrl-C. Import it first and call `start` at once: importing the rest of an example takes a while."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 plus the signal's number, as in a shell."""


def start(program: str) -> None:
    """Make Ctrl-C print one line and end the process at once.

    For the time before and after `command.run`. It raises no exception: a module that is half imported may turn it into
    another one.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background
        return

    def leave(*_: object) -> None:
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
