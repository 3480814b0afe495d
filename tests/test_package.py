"""The package as a whole: what an import costs, what is public, which way imports point, and how the README reads."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import booking_resilience

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("appwrite", "pydantic", "requests", "urllib3", "redis", "asyncio", "trio", "opentelemetry")
PACKAGES = ("booking_resilience", "booking_resilience.appwrite", "booking_resilience.testing")


def beside_the_tests(name: str) -> Path:
    """Return a file of the source tree; skip the test where the package is tested without it."""
    if not (ROOT / name).exists():
        pytest.skip(f"{name} is not beside the tests")
    return ROOT / name


def test_an_import_of_the_package_brings_nothing_heavy() -> None:
    """No public name of the package needs an event loop, an HTTP library or an optional dependency."""
    look = f"print([name for name in {HEAVY!r} if name in sys.modules])"
    code = f"import sys, booking_resilience; {look}; from booking_resilience import *; {look}"
    # Coverage, where it is measured, imports things of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert done.stdout.split() == ["[]", "[]"]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_exists(name: str) -> None:
    """`__all__` names nothing twice and nothing that is not there."""
    package = importlib.import_module(name)
    assert len(package.__all__) == len(set(package.__all__))
    for public in package.__all__:
        assert getattr(package, public) is not None


def test_every_public_class_and_function_says_what_it_is_for() -> None:
    """Each public class and function has a docstring that begins with a sentence."""
    for name in booking_resilience.__all__:
        thing = getattr(booking_resilience, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            first = (thing.__doc__ or "").strip().partition("\n\n")[0]
            assert first.rstrip().endswith((".", ":")), f"{name}: {first!r}"


def test_imports_point_down_only() -> None:
    """The layers of the architecture hold."""
    beside_the_tests("pyproject.toml")
    command = shutil.which("lint-imports", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_keeps_its_order_and_its_length() -> None:
    """The README has its parts in their order, and at most 120 lines."""
    text = beside_the_tests("README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    assert headings == [
        "booking_resilience",
        "Two commands",
        "In an application that uses httpx",
        "In an application that uses Appwrite",
        "What it does",
        "Defaults",
        "Documentation",
        "Licence",
    ]
    assert len(text.splitlines()) <= 110
    assert text.count("<!-- command: ") == 2
    assert "What it does not do:" in text


def test_the_version_stands_in_one_place() -> None:
    """The installed version is `__version__`, and the changelog has it."""
    version = importlib.import_module("importlib.metadata").version("booking-resilience")
    assert version == booking_resilience.__version__
    assert f"## {version.partition('.dev')[0]}" in beside_the_tests("CHANGELOG.md").read_text(encoding="utf-8")


def test_the_typing_file_uses_every_public_name() -> None:
    """Whatever is public is looked at by the type checkers, beyond its import."""
    text = beside_the_tests("tests/typing/api.py").read_text()
    used = text[text.index("\n)\n") :]
    assert [name for name in booking_resilience.__all__ if not re.search(rf"\b{name}\b", used)] == []
