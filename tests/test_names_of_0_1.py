"""Every public name of 0.1 still works: it is there, takes the arguments that it took, and has the members that it had.

`data/names_0_1.txt` was made from the last commit of 0.1: a line for each name, with its module, its parameters in
brackets, and its public attributes and methods.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

LINES = (Path(__file__).parent / "data" / "names_0_1.txt").read_text(encoding="utf-8").splitlines()
MADE_HERE = {"ErrorStats", "Permit"}
"""Values that the library makes and a program only reads: they may get fields."""
NEEDED = {"appwrite": "appwrite", "testing": "h11", "telemetry": "opentelemetry", "breaker": "redis"}


@pytest.mark.parametrize("line", LINES, ids=lambda line: re.split(r"[( ]", line)[0].removeprefix("booking_resilience"))
def test_a_name_of_0_1_takes_and_has_what_it_did(line: str) -> None:
    """A program that was written for 0.1 finds what it uses."""
    match = re.fullmatch(r"([\w.]+):(\w+)(?:\((.*?)\))?((?: \w+)*)", line)
    assert match is not None
    module, name, parameters, members = match.groups()
    part = module.removeprefix("booking_resilience").strip(".").partition(".")[0]
    if part in NEEDED:
        pytest.importorskip(NEEDED[part])
    thing: Any = getattr(importlib.import_module(module), name)
    assert [member for member in members.split() if not hasattr(thing, member)] == []
    if parameters and name not in MADE_HERE:
        taken = inspect.signature(thing).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            assert [parameter for parameter in parameters.split(", ") if parameter not in taken] == []
        new = [taken[added] for added in taken if added not in parameters.split(", ")]
        assert [added.name for added in new if added.default is added.empty and "VAR" not in added.kind.name] == []
        order = [
            each for each in taken if each in parameters.split(", ") and taken[each].kind.name.startswith("POSITIONAL")
        ]
        assert order == [each for each in parameters.split(", ") if each in order]
