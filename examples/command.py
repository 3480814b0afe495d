"""What the command lines of the examples share: how they end, what they print, errors in one line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


class Parser(argparse.ArgumentParser):
    """Ends with one line instead of the usage when an argument is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def run(program: str, main: Callable[[], int]) -> NoReturn:
    """Run `main` and exit with its code; on Ctrl-C, once everything is tidied up, with one line and code 130."""
    code = quiet.INTERRUPTED
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main()
    except KeyboardInterrupt:
        quiet.start(program)
        print(f"{program}: interrupted", file=sys.stderr, flush=True)
    finally:
        quiet.start(program)
        say("", end="")  # leaves nothing for the interpreter to write
    sys.exit(code)


def say(text: str, *, end: str = "\n") -> None:
    """Print on standard output; when its reader has gone (`| head -1`), go on and print nothing more."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(console: Console, *things: object) -> None:
    """Print things on a console as `say` does: tables, and texts that are wrapped at its width."""
    with console.capture() as captured:
        console.print(*things, sep="\n", highlight=False)
    if console.stderr:
        print(captured.get(), end="", file=sys.stderr)
    else:
        say(captured.get(), end="")


def one_line(error: Exception) -> str:
    """Return the error's text as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def percent(part: int, whole: int) -> str:
    """Return a share in per cent, rounded to a tenth; only nothing is 0.0% and only the whole is 100.0%."""
    tenths = round(1000 * part / whole) if whole else 0
    if 0 < part < whole:
        tenths = min(max(tenths, 1), 999)
    return f"{tenths / 10:.1f}%"
