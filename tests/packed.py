"""What a wheel and a source distribution must hold: `python tests/packed.py WHEEL SDIST`."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"


def packed(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel: all files of the package, its licence, its metadata, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        facts = message_from_string(archive.read(metadata).decode())
    files = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    info = metadata.removesuffix("METADATA")
    named = {f"{info}{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    wrong = [f"is missing: {name}" for name in sorted((files | named) - names)]
    wrong += [f"does not belong there: {name}" for name in sorted(names - files - named)]
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(facts.get_all("Classifier", [])))
    if versions != ["3.11", "3.12", "3.13", "3.14", "3.15"] or "Typing :: Typed" not in facts.get_all("Classifier", []):
        wrong.append(f"classifiers: {facts.get_all('Classifier')}")
    if (facts["License-Expression"], facts["License-File"]) != ("MIT", "LICENSE"):
        wrong.append("the licence isn't named")
    return wrong


def unpacked(sdist: Path) -> list[str]:
    """Return what is missing in a source distribution: what is needed to build it and to test it."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "src/booking_resilience/py.typed",
              "tests/conftest.py", "docs/conf.py", "examples/create_booking.py")  # fmt: skip
    return [f"is missing in the sdist: {name}" for name in wanted if name not in names]


def main(wheel: str, sdist: str) -> int:
    """Say what is wrong."""
    wrong = packed(Path(wheel)) + unpacked(Path(sdist))
    print(*(wrong or ["the wheel and the source distribution hold what they must"]), sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
