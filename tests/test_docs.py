"""The documentation: what it shows runs, what it says of defaults and names is so, its links lead somewhere.

A `python` block runs, in the order of the page and in one namespace. A `text` block right after it is what it prints
(`...` stands for anything). A block whose first line is `# NAME.py` is a file of that name, to be imported by what
follows; a test file is run with pytest, and a file with a `text` block after it is a program, which is run by itself.
A `toml` block that begins so is a file, too.
`<!-- not run: REASON -->` before a block keeps it from being run, `<!-- needs: MODULE -->` does so where that module
isn't installed. A page that reads `APPWRITE_ENDPOINT` has an Appwrite server with the table `bookings`. A table after
`<!-- defaults: NAME -->` is held against the signature of that name.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import importlib.util
import inspect
import io
import os
import pkgutil
import re
import runpy
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

import booking_resilience
from booking_resilience.testing import AppwriteServer, virtual_time

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"

_FENCE = re.compile(r"^(`{3,}|:{3,})[ ]*(\S*)[^\n]*\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: .+? -->\s*\Z", re.DOTALL)
_NEEDS = re.compile(r"<!-- needs: ([\w.]+) -->\s*\Z")
_FILE = re.compile(r"\A# (\w+\.(?:py|toml))\n")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_TABLE = re.compile(r"<!-- defaults: (\S+) -->\s*\n((?:\|.*\n)+)")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language, its text, its line in the page, and what it should print (None: not said)."""

    language: str
    text: str
    line: int
    is_run: bool
    prints: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it is one."""
        match = _FILE.match(self.text)
        return match[1] if match else None


def pages() -> list[Path]:
    """Return all pages: the README, if the tests have it beside them, and those in docs."""
    built = DOCS / "_build"
    found = sorted(page for page in DOCS.rglob("*.md") if built not in page.parents)
    return [README, *found] if README.exists() else found


def name_of(page: Path) -> str:
    """Return the page's path as tests are named by it."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    source = page.read_text(encoding="utf-8")
    matches = list(_FENCE.finditer(source))
    blocks = []
    for place, match in enumerate(matches):
        following = matches[place + 1] if place + 1 < len(matches) else None
        prints = None
        if following is not None and following[2] == "text" and not source[match.end() : following.start()].strip():
            prints = following[3]
        needs = _NEEDS.search(source, 0, match.start())
        is_there = needs is None or importlib.util.find_spec(needs[1]) is not None
        is_run = is_there and _NOT_RUN.search(source, 0, match.start()) is None
        blocks.append(Block(match[2], match[3], source.count("\n", 0, match.start()) + 1, is_run, prints))
    return blocks


def prose_of(page: Path) -> str:
    """Return the page without its blocks of code and its inline code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))


def links_of(page: Path) -> list[str]:
    """Return the targets of a page's links that stay inside the project."""
    targets = _LINK.findall(prose_of(page))
    return [target for target in targets if not target.startswith(("http://", "https://", "mailto:"))]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables_of_defaults(page: Path) -> list[tuple[str, dict[str, str]]]:
    """Return, for each table marked `<!-- defaults: NAME -->`, the name and the texts of its first two columns."""
    tables = []
    for name, text in _TABLE.findall(page.read_text(encoding="utf-8")):
        rows = [[cell.strip().strip("`") for cell in line.strip("|\n ").split("|")] for line in text.splitlines()[2:]]
        tables.append((name, {row[0]: row[1] for row in rows}))
    return tables


PAGES = pages()
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(booking_resilience.__path__, prefix="booking_resilience.")
)
EXPLAINED = (
    "booking_resilience",
    "booking_resilience.appwrite",
    "booking_resilience.breaker.shared",
    "booking_resilience.dashboard",
    "booking_resilience.http",
    "booking_resilience.journal",
    "booking_resilience.sentry",
    "booking_resilience.telemetry.logs",
    "booking_resilience.telemetry.otel",
    "booking_resilience.testing",
    "booking_resilience.web",
)
HAS_README = pytest.mark.skipif(not README.exists(), reason="the README is not beside the tests")


def has_python(page: Path) -> bool:
    """Tell whether the page has code to run."""
    return any(block.language == "python" and block.is_run for block in blocks_of(page))


@pytest.mark.parametrize("page", [page for page in PAGES if has_python(page)], ids=name_of)
def test_every_snippet_of_a_page_runs_and_prints_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The python blocks of a page run from top to bottom, in virtual time, and print the text that follows them."""
    if any("APPWRITE_ENDPOINT" in block.text for block in blocks_of(page)):
        request.getfixturevalue("appwrite_with_bookings")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = types.ModuleType("docs_page")
    del module.__spec__, module.__loader__  # linecache would ask them for the page's source
    monkeypatch.setitem(sys.modules, "docs_page", module)
    before = set(sys.modules)
    checker = doctest.OutputChecker()
    tests: list[str] = []
    try:
        with virtual_time():
            for block in blocks_of(page):
                if block.language == "toml" and block.file is not None:
                    Path(block.file).write_text(block.text, encoding="utf-8")
                if block.language != "python" or not block.is_run:
                    continue
                if block.file is not None:
                    Path(block.file).write_text(block.text, encoding="utf-8")
                    importlib.invalidate_caches()
                    if block.file.startswith("test_"):
                        tests.append(block.file)
                    elif block.prints is None:
                        importlib.import_module(block.file.removesuffix(".py"))
                    if block.prints is None:
                        continue
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    if block.file is not None:
                        runpy.run_path(block.file, run_name="__main__")
                    else:
                        exec(compile("\n" * block.line + block.text, name_of(page), "exec"), module.__dict__)
                if block.prints is not None:
                    same = checker.check_output(block.prints, printed.getvalue(), doctest.ELLIPSIS)
                    assert same, f"{name_of(page)}:{block.line} says\n{block.prints}\nbut prints\n{printed.getvalue()}"
        if tests:
            run_pytest(tests)
    finally:
        for name in set(sys.modules) - before:  # files of the page; the next one may have some of the same name
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]


@pytest.fixture
def appwrite_with_bookings(appwrite_server: AppwriteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Appwrite server in the environment, with the table that the pages store bookings in."""
    tables = importlib.import_module("appwrite.services.tables_db").TablesDB(appwrite_server.client())
    tables.create("clinic", "Clinic")
    tables.create_table("clinic", "bookings", "Bookings")
    tables.create_varchar_column("clinic", "bookings", "slot", 32, True)
    monkeypatch.setenv("APPWRITE_ENDPOINT", appwrite_server.endpoint)
    monkeypatch.setenv("APPWRITE_PROJECT", "demo")
    monkeypatch.setenv("APPWRITE_KEY", "demo-key")


def run_pytest(files: list[str]) -> None:
    """Run the test files that a page shows, all at once and, as in a reader's environment, without other plugins."""
    plugins = ["-p", "no:cacheprovider", "-p", "booking_resilience.testing.plugin"]
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", *plugins, *files]
    env = {**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_a_module_pass(name: str) -> None:
    """Every example in a docstring prints what it says."""
    if name.endswith("__main__"):
        pytest.skip("importing it would start it")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("booking_resilience"):
            raise
        pytest.skip(f"{error.name} is not installed")
    assert doctest.testmod(module).failed == 0


def signature_defaults(name: str) -> dict[str, object]:
    """Return the parameters of a public name with their defaults, in order; without those that have none."""
    thing: object = importlib.import_module(name.rpartition(":")[0]) if ":" in name else booking_resilience
    for part in name.rpartition(":")[2].split("."):
        thing = getattr(thing, part)
    parameters = inspect.signature(thing).parameters.values()  # type: ignore[arg-type] # a class or a function
    return {
        p.name: inspect.unwrap(p.default) if callable(p.default) else p.default
        for p in parameters
        if p.default is not p.empty
    }


TABLES = [
    pytest.param(page, name, said, id=f"{name_of(page)}-{name}")
    for page in PAGES
    for name, said in tables_of_defaults(page)
]


@pytest.mark.parametrize(("page", "name", "said"), TABLES)
def test_a_table_of_defaults_equals_the_signature(page: Path, name: str, said: dict[str, str]) -> None:
    """A table of defaults has every setting, in the order of the signature, with the default that it has."""
    real = signature_defaults(name)
    assert list(said) == list(real)
    known = {key: getattr(booking_resilience, key) for key in booking_resilience.__all__}
    told = {setting: plain(eval(text, {**known})) for setting, text in said.items()}
    assert told == {setting: plain(value) for setting, value in real.items()}


def plain(value: object) -> object:
    """Return the value in a form that can be compared; a pipeline has no equality of its own."""
    if isinstance(value, booking_resilience.Pipeline):
        return value.retry, value.breaker, value.monitor, value.category
    return value


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_table_of_defaults_is_compared(page: Path) -> None:
    """A table of settings and defaults says whose they are, so that it is held against the signature."""
    assert page.read_text(encoding="utf-8").count("| setting | default |") == len(tables_of_defaults(page))


def test_the_reference_has_the_defaults_of_all_that_is_set_up() -> None:
    """Whatever an application makes with settings has its table of defaults in the reference."""
    reference = {name for page in (DOCS / "reference").glob("*.md") for name, _ in tables_of_defaults(page)}
    made = {"RetryPolicy", "RetryBudget", "CircuitBreaker", "FailureRate", "Pipeline", "run_batch", "ErrorMonitor",
            "AlertRule", "booking_resilience.appwrite:AppwriteClient",
            "booking_resilience.breaker.shared:RedisBreaker"}  # fmt: skip
    assert made <= reference


@HAS_README
def test_the_defaults_in_the_readme_are_those_of_the_signatures() -> None:
    """The README's table of defaults says what the signatures say."""
    text = README.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE))
    retry, breaker = signature_defaults("RetryPolicy"), signature_defaults("CircuitBreaker")
    alert, monitor = signature_defaults("AlertRule"), signature_defaults("ErrorMonitor")
    first, second = booking_resilience.DEFAULT_RETRY.delays()
    attempt = importlib.import_module("booking_resilience.appwrite").appwrite_retry().attempt_timeout
    assert rows["attempts"] == (
        f"{retry['max_attempts']}: at once, after {first:g} s, after {second:g} s; at most {retry['max_delay']:g} s; "
        f"±{retry['jitter']:.0%} jitter".replace("%", " %")
    )
    assert rows["deadline of an operation"] == (
        f"{retry['deadline']:g} s; with `appwrite_retry()` {attempt:g} s for each attempt"
    )
    assert rows["breaker opens"] == (
        f"after {breaker['failure_threshold']} consecutive failures, for {breaker['cooldown']:g} s, then one trial call"
    )
    assert breaker["trial_calls"] == 1
    assert rows["alert"] == (
        f"above {alert['threshold']} errors per minute, until below "
        f"{booking_resilience.AlertRule().clear_threshold} for {alert['keep_firing']:g} s"
    )
    assert rows["monitor"] == f"{monitor['capacity']:,} records"
    assert rows["batch"] == f"{signature_defaults('run_batch')['max_concurrency']} at a time"


@pytest.mark.parametrize("module", EXPLAINED)
def test_every_public_name_stands_in_the_reference(module: str) -> None:
    """The reference describes each public name, and none that does not exist."""
    reference = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").rglob("*.md")))
    described = set(re.findall(rf"^\.\. \w+:: {re.escape(module)}\.(\w+)$", reference, re.MULTILINE))
    public = set(importlib.import_module(module).__all__)
    assert described == public


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    """Every link to a page or a heading leads to one that is there."""
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{name_of(page)} links to {link}"
