"""What the reference lists by hand, beside the defaults and the names: exports, errors, logs, extras, command lines."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

import booking_resilience
from booking_resilience import ErrorMonitor, errors, message_for
from booking_resilience.events import BreakerState

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    """Return the text of a page of the reference."""
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def script_of(name: str) -> Any:
    """Return a script of the documentation, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def section(text: str, heading: str) -> str:
    """Return the part of a page below a heading, as far as the next one of the same kind."""
    return re.split(r"^## ", text.split(f"## {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """Return the code in the first cells of the rows of tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def tree_of(docstring: str | None) -> list[str]:
    """Return the lines of the tree that a module's docstring draws."""
    drawn = (docstring or "").split("::\n\n", 1)[1].split("\n\n", 1)[0]
    return textwrap.dedent(drawn).strip().splitlines()


@pytest.fixture
def monitor() -> ErrorMonitor:
    """A monitor with one record."""
    monitor = ErrorMonitor()
    monitor.log_booking_error("createBooking", ValueError("no slot"), user_id="u1")
    return monitor


def test_the_json_export_has_the_keys_that_the_reference_lists(monitor: ErrorMonitor) -> None:
    """The tables of JSON list every key of the document and of a record, and no other."""
    listed = first_cells(section(page("exports"), "JSON"))
    document = json.loads(monitor.to_json())
    assert listed[: len(document)] == list(document)
    assert set(listed[len(document) :]) == set(document["errors"][0])
    assert len(listed) == len(document) + len(document["errors"][0])
    assert document["schema"] in page("exports")


def test_the_json_lines_header_is_the_document_without_errors(monitor: ErrorMonitor) -> None:
    """The first of the JSON lines has the keys of the JSON document, but for the records."""
    header = json.loads(monitor.to_jsonl().splitlines()[0])
    assert list(header) == [key for key in json.loads(monitor.to_json()) if key != "errors"]


def test_the_csv_export_has_the_columns_that_the_reference_lists(monitor: ErrorMonitor) -> None:
    """The columns stand in the reference in their order."""
    header = [column.strip('"') for column in monitor.to_csv().splitlines()[0].split(",")]
    assert first_cells(section(page("exports"), "CSV")) == header


def test_the_verdicts_are_those_of_the_table() -> None:
    """The tables of verdicts are what the script makes of the library's own table."""
    script = script_of("write_verdicts")
    assert page("verdicts").partition(script.MARK)[2].strip() == script.tables().strip()


def test_a_circle_of_imports_is_found() -> None:
    """Files that import one another are named in a circle; without one there are none."""
    script = script_of("draw_modules")
    assert set(script.circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
    assert script.circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_the_drawing_of_the_modules_is_that_of_the_imports() -> None:
    """The drawing is what the script draws, every part stands above what it imports, and no file is in a circle."""
    script = script_of("draw_modules")
    imports = script.imports_of(script.files_of(Path(booking_resilience.__file__).parent))
    assert len(imports) > 100
    assert script.circle(imports) == []
    parts = script.by_part(imports)
    level = {part: at for at, row in enumerate(script.rows_of(parts)) for part in row}
    assert all(level[part] < level[other] for part, others in parts.items() for other in others)
    drawn = (ROOT / "docs" / "_static" / "modules.svg").read_text(encoding="utf-8")
    assert drawn == script.draw(parts), "run docs/_scripts/draw_modules.py"
    listed = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = {name.removeprefix("booking_resilience.").replace(".", "/") for name in imports}
    assert [name for name in re.findall(r"`(\w+/\w+)\.py`", listed) if name not in files] == []
    assert [part for part in parts if f"`{part}`" not in listed] == []


def test_the_tree_of_errors_is_the_one_in_the_module() -> None:
    """The reference draws the tree as the module does, and the tree is as drawn."""
    drawn = tree_of(errors.__doc__)
    assert "\n".join(drawn) in page("errors")
    classes = [thing for thing in vars(errors).values() if isinstance(thing, type)]
    assert {name for line in drawn for name in re.findall(r"\w+Error\b", line.split("   ")[0])} == {
        kind.__name__ for kind in classes
    }


def test_the_tree_of_the_appwrite_errors_is_the_one_in_the_module() -> None:
    """The reference draws the adapter's errors as their module does."""
    failures = importlib.import_module("booking_resilience.appwrite.failures")
    assert "\n".join(tree_of(failures.__doc__)) in page("errors")


def test_the_messages_for_people_are_those_of_the_code() -> None:
    """The four texts stand in the reference."""
    causes = [
        type("Refused", (Exception,), {"code": 400})(),
        TimeoutError(),
        type("Down", (Exception,), {"code": 503})(),
    ]
    for error in (*causes, KeyError("slot")):
        assert f"`{message_for(error)}`" in page("errors")


def test_the_states_of_the_breaker_are_listed() -> None:
    """The table of transitions knows every state."""
    listed = section(page("events"), "BreakerEvent")
    assert all(f"`{state.value}`" in listed for state in BreakerState)


def test_the_loggers_are_listed() -> None:
    """Every logger of the package stands in the reference, and no other."""
    package = Path(booking_resilience.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py")))
    loggers = set(re.findall(r'getLogger\("(booking_resilience\.\w+)"\)', source))
    assert set(re.findall(r"`(booking_resilience\.\w+)`", section(page("events"), "Logs"))) == loggers


def test_the_extras_are_listed() -> None:
    """Every extra of the package stands in the reference."""
    project = ROOT / "pyproject.toml"
    if not project.exists():
        pytest.skip("pyproject.toml is not beside the tests")
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    table = section(page("extras"), "Extras").partition("| extra |")[2].partition("\n\n")[0]
    assert set(first_cells(table)) == set(extras)


@pytest.mark.parametrize("example", re.findall(r"^## examples/(\w+)\.py$", page("extras"), re.MULTILINE))
def test_the_options_of_an_example_are_listed(
    example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table of an example's options has those that its help shows, and no other."""
    if example == "durable_booking":
        pytest.importorskip("dbos", reason="the extra `durable` is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    with pytest.raises(SystemExit, match=r"^0$"):
        importlib.import_module(example).parse(["--help"])
    told = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", capsys.readouterr().out)) - {"--help"}
    listed = set(re.findall(r"--[a-z][\w-]*", section(page("extras"), f"examples/{example}.py")))
    assert listed == told
