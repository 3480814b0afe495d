"""Every public object: its annotations resolve, and `dir()` shows it without the helpers beside it."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from test_docs import EXPLAINED


def own_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods of a class of ours, and the getters of its properties."""
    for base in kind.__mro__:
        if not base.__module__.startswith("booking_resilience"):
            continue
        for name, member in vars(base).items():
            if name.startswith("_") and not name.endswith("__"):
                continue
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(function):
                yield f"{base.__qualname__}.{name}", function


def public_objects(module: str) -> Iterator[tuple[str, Any]]:
    """Yield each public class and function of a module, and what belongs to the classes."""
    for name in importlib.import_module(module).__all__:
        thing = getattr(importlib.import_module(module), name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield name, thing
        if inspect.isclass(thing):
            yield from own_members(thing)


@pytest.mark.parametrize("module", EXPLAINED)
def test_annotations_of_public_objects_resolve(module: str) -> None:
    """`typing.get_type_hints`, which FastAPI, pydantic and Sphinx call, works on every public object."""
    broken = {}
    for name, thing in public_objects(module):
        try:
            typing.get_type_hints(thing)
        except Exception as error:
            broken[name] = f"{type(error).__name__}: {error}"
    assert broken == {}


@pytest.mark.parametrize("module", EXPLAINED)
def test_dir_shows_public_names_only(module: str) -> None:
    """`dir()` of a public module shows its public names, and no helpers."""
    package = importlib.import_module(module)
    assert set(dir(package)) - {"__version__"} == set(package.__all__)
