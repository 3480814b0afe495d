"""Extras: what needs none imports without one, and each is known to the session that installs it alone."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import extras

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
OF_THE_PROJECT = {"bench", "docs", "examples", "frameworks", "migration", "test"}


def test_every_module_imports_or_belongs_to_an_extra() -> None:
    """Nothing in the core needs what isn't installed; `.ci/run` has all extras and imports every module."""
    assert extras.failures("") == []


def test_every_extra_for_users_is_imported_and_used_alone() -> None:
    """The sessions `extras` and `minimum` leave none out."""
    if not PROJECT.exists():
        pytest.skip("pyproject.toml is not beside the tests")
    found = set(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"])
    assert found - OF_THE_PROJECT == set(extras.MODULES) == set(extras.USES) - {""}
