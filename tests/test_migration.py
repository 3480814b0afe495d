"""The migration pages: the programs before and after print what the pages say, with the other libraries installed."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
import types

import pytest

from booking_resilience.testing import virtual_time
from test_docs import DOCS, Block, blocks_of

PEERS = {
    "backoff": "backoff",
    "hyx": "hyx",
    "interlock": "interlock",
    "nopanic": "nopanic",
    "pybreaker": "pybreaker",
    "stamina": "stamina",
    "tenacity": "tenacity",
}
"""The page's name, and the module."""


def program(page: str, *, after: bool) -> Block:
    """Return the first program of the page's section."""
    path = DOCS / "how-to" / f"migrate-{page}.md"
    lines = path.read_text(encoding="utf-8").splitlines()
    start = lines.index("## After" if after else "## Before")
    return next(block for block in blocks_of(path) if block.language == "python" and block.line > start)


def printed(block: Block) -> str:
    """Run a program; return what it prints."""
    module = types.ModuleType("program")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block.text, "<page>", "exec", dont_inherit=True), module.__dict__)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the other libraries, on newer Pythons
@pytest.mark.parametrize("page", PEERS)
def test_the_program_before_prints_what_the_page_says(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other library does is what the page says that it does; its pauses take no time."""
    pytest.importorskip(PEERS[page])
    pause = asyncio.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(asyncio, "sleep", lambda seconds, result=None: pause(0, result))
    block = program(page, after=False)
    assert not block.is_run
    assert printed(block) == block.prints


@pytest.mark.parametrize("page", PEERS)
def test_the_program_after_stands_alone(page: str) -> None:
    """The program with this library prints what the page says, without anything of the page before it."""
    block = program(page, after=True)
    with virtual_time():
        assert printed(block) == block.prints
