"""The examples that are projects: their own tests pass in a copy of the folder, as a newcomer makes one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NEEDED = {"fastapi_booking": ("dbos", "fastapi", "httpx"), "celery_booking": ("celery",)}
KEPT_OUT = ("COV", "PYTEST")


def test_every_project_is_known() -> None:
    """Each folder with a pyproject.toml of its own is tried here."""
    assert {path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")} == set(NEEDED)


@pytest.mark.parametrize("name", NEEDED)
def test_a_copy_of_the_project_passes_its_own_tests(name: str, tmp_path: Path) -> None:
    """The folder, copied elsewhere, passes its tests with warnings as errors, and leaves nothing behind in its own."""
    for module in NEEDED[name]:
        pytest.importorskip(module)
    copy = tmp_path / name
    shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("__pycache__", ".*", "queue", "*.db*"))
    before = {path.relative_to(copy) for path in copy.rglob("*")}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(KEPT_OUT)}
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        command,
        cwd=copy,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.relative_to(copy) for path in copy.rglob("*")} == before


@pytest.mark.parametrize("name", NEEDED)
def test_a_project_packs_all_its_modules_and_its_settings(name: str) -> None:
    """What the wheel of the project names is there, and nothing beside it was forgotten."""
    project = tomllib.loads((EXAMPLES / name / "pyproject.toml").read_text(encoding="utf-8"))
    packed = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    assert packed == {path.name for path in (EXAMPLES / name).iterdir() if path.suffix == ".py"} | {"bookings.toml"}
