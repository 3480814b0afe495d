"""The matrix: `nox -f .ci/noxfile.py [-s SESSION]`. Pythons that are not installed are skipped.

The everyday checks are in `.ci/run`; these take longer and look further.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
nox.options.sessions = ["tests", "free_threaded", "extras", "minimum", "sdk", "wheel"]
nox.options.default_venv_backend = "venv"
NOT_FREE_THREADED = ("import-linter", "mypy", "pyright", "ruff")
"""Left out on free-threaded builds: import-linter's grimp has no build for 3.13t, the others need not run there."""
FREE_THREADED_PINS = ("pydantic<=2.12.3",)
"""The last versions with builds for 3.13t; the Appwrite SDK needs pydantic."""


SDK_TESTS = (
    "async_client",
    "chat",
    "conformance",
    "example_backends",
    "faults",
    "rows_once",
    "sdk_services",
    "update_once",
)
"""Tests that meet the SDK beside those named after the adapter."""

EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
MINIMUM = {
    "aiohttp": ("", "http"),
    "appwrite": (
        "anyio httpx2 trio",
        "appwrite_chat",
        "appwrite_classify",
        "appwrite_client",
        "appwrite_create",
        "faults",
    ),
    "appwrite-async": ("trio", "async_client", "colours"),
    "celery": ("", "celery"),
    "dashboard": ("requests httpx appwrite rich flask django", "dashboard", "dashboard_frameworks", "health"),
    "durable": ("trio redis psycopg[binary]", "durable"),
    "httpx": ("trio", "http", "http_chain"),
    "httpx2": ("trio", "http", "http_chain"),
    "otel": ("trio opentelemetry-sdk opentelemetry-exporter-prometheus", "otel", "otel_files"),
    "redis": ("trio", "shared_*", "journal", "fleet"),
    "requests": ("", "http"),
    "sentry": ("", "sentry"),
}
"""The extras that are adapters: what their tests need besides, and which these are."""
NEED_A_SERVER = ("appwrite", "appwrite-async", "durable")
MINIMUM_TOOLS = ("freezegun", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist")


def _install(session: nox.Session, *extra: str, what: str = ".[test]") -> None:
    session.chdir(ROOT)
    session.install("-q", what, *extra)


@nox.session(python=["3.11", "3.12", "3.13", "3.14", "3.15"])
def tests(session: nox.Session) -> None:
    """Run the tests with the newest dependencies."""
    _install(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=["3.13t", "3.14t"])
def free_threaded(session: nox.Session) -> None:
    """Run the tests on free-threaded builds, without the tools that have no build for them."""
    extras = PROJECT["optional-dependencies"]["test"]
    needs = [need for need in extras if not need.startswith((PROJECT["name"], *NOT_FREE_THREADED))]
    _install(session, *needs, *FREE_THREADED_PINS, what=".[examples,testing,otel,redis]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=["3.13t", "3.14t"])
def stress(session: nox.Session) -> None:
    """Count a million operations in each of eight threads, half an hour and more; `-- OPERATIONS PART …` for less."""
    _install(session, what=".")
    session.run("python", "tests/stress_free_threading.py", *session.posargs)


def floors(*extras: str) -> list[str]:
    """Return the oldest versions that pyproject.toml allows for the package with these extras, as requirements."""
    found: dict[str, str] = {}
    waiting = [*PROJECT["dependencies"], *(need for extra in extras for need in EXTRAS[extra])]
    while waiting:
        need = waiting.pop()
        own = re.fullmatch(rf"{PROJECT['name']}(?:\[(.*)\])?", need)
        if own is not None:
            waiting += [inner for extra in (own[1] or "").split(",") if extra for inner in EXTRAS[extra]]
            continue
        match = re.match(r"([\w.-]+)(?:\[.*?\])?>=([\w.]+)", need)
        if match is None:
            raise ValueError(f"{need} has no lower bound")
        name, version = match.groups()
        versions = (found.get(name, version), version)
        found[name] = max(versions, key=lambda text: [int(number) for number in re.findall(r"\d+", text)])
    return [f"{name}=={version}" for name, version in found.items()]


@nox.session(python="3.11")
@nox.parametrize("extra", ["", *MINIMUM, "testing"])
def extras(session: nox.Session, extra: str) -> None:
    """Install each extra alone in a fresh environment, import every module of the package there, and use the extra."""
    _install(session, what=f".[{extra}]" if extra else ".")
    session.run("python", "-W", "error", "tests/extras.py", extra)


@nox.session(python="3.11")
@nox.parametrize("extra", list(MINIMUM))
def minimum(session: nox.Session, extra: str) -> None:
    """Run the tests of each adapter with the oldest versions that pyproject.toml allows."""
    more, *tests = MINIMUM[extra]
    both = [extra, *(["testing"] if extra in NEED_A_SERVER else [])]
    pins = floors(*both)
    _install(session, *pins, what=f".[{','.join(both)}]")
    session.run("python", "-W", "ignore", "tests/extras.py", extra)  # before the tools bring more
    session.install("-q", *MINIMUM_TOOLS, *pins, *more.split())
    files = [str(path) for name in tests for path in sorted((ROOT / "tests").glob(f"test_{name}.py"))]
    session.run("python", "-m", "pytest", "-p", "no:anyio", *(session.posargs or files))


@nox.session(python="3.11")
@nox.parametrize("version", ["16.0.0", "22.2.0", "24.4.0", "27.0.0"])
def sdk(session: nox.Session, version: str) -> None:
    """Run the adapter's tests with older and newer Appwrite SDKs."""
    _install(session, f"appwrite=={version}")
    tests = sorted(str(path) for path in (ROOT / "tests").glob("test_appwrite_*.py"))
    more = [str(ROOT / "tests" / f"test_{name}.py") for name in SDK_TESTS]
    tests.append(str(ROOT / "tests" / "live"))
    session.run("python", "-m", "pytest", *(session.posargs or [*tests, *more]))


@nox.session(python="3.11")
def conformance(session: nox.Session) -> None:
    """Replay the recordings of a real Appwrite and print the differences: `-- --endpoint … --project … --key …`."""
    _install(session)
    session.run("python", "tests/live/conformance.py", *session.posargs)


@nox.session(python="3.11")
def wheel(session: nox.Session) -> None:
    """Build, check and test the wheel where the source tree is not to be found; build twice, the same must come out."""
    session.chdir(ROOT)
    session.install("-q", "build", "check-wheel-contents", "twine")
    tmp, digests = Path(session.create_tmp()).resolve(), []
    for name in ("first", "second"):
        out = tmp / name
        session.run("python", "-m", "build", "-q", "--outdir", str(out))
        digests.append({item.name: item.read_bytes() for item in sorted(out.iterdir())})
    if digests[0] != digests[1]:
        session.error("two builds of the same tree differ")
    session.run("python", "-m", "twine", "check", "--strict", *map(str, out.iterdir()))
    built = next(out.glob("*.whl"))
    session.run("check-wheel-contents", str(built))
    session.run("python", "tests/packed.py", str(built), str(next(out.glob("*.tar.gz"))))
    session.install("-q", f"booking-resilience[test] @ {built.as_uri()}")
    away = tmp / "away"
    session.run("rm", "-rf", str(away), external=True)
    away.mkdir()
    needed = ("tests", "examples", "docs", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml")
    session.run("cp", "-r", *(str(ROOT / name) for name in needed), str(away), external=True)
    session.chdir(away)
    session.run("python", "-m", "pytest", *session.posargs, env={"TMPDIR": tempfile.gettempdir()})  # not nox's, in ROOT


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """Build the documentation; warnings are errors."""
    _install(session, what=".[docs,durable,frameworks,test]")  # the reference imports every module
    session.run("python", "-m", "sphinx", "-W", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session(python="3.11")
def campaign(session: nox.Session) -> None:
    """Book under 1,000 scripts of faults in each colour; takes half an hour."""
    _install(session)
    files = [str(ROOT / "tests" / f"test_campaign{name}.py") for name in ("", "_async")]
    session.run("python", "-m", "pytest", "-s", *(session.posargs or files), env={"CAMPAIGN_SCRIPTS": "1000"})


@nox.session(python="3.11")
def durable(session: nox.Session) -> None:
    """Run the campaigns on durable bookings, about an hour; `-- NAME … --kills N --outage S` for some, `-- --help`."""
    _install(session)
    session.run("python", "tests/durable_campaign.py", *session.posargs)


@nox.session(python="3.11")
def benchmarks(session: nox.Session) -> None:
    """Measure this library beside its peers."""
    _install(session, what=".[test,bench]")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


@nox.session(python="3.11")
def mutants(session: nox.Session) -> None:
    """Change the pure modules bit by bit and see whether their tests notice; two hours. Takes mutmut's names."""
    _install(session, "mutmut>=3.8,<4", what=".[test,durable]")
    away = Path(session.create_tmp()) / "away"
    session.run("rm", "-rf", str(away), external=True)
    away.mkdir()
    needed = [str(ROOT / name) for name in ("src", "tests", "docs", "README.md", "LICENSE", "pyproject.toml")]
    session.run("cp", "-r", *needed, str(away), external=True)
    session.chdir(away)
    session.run("python", str(ROOT / ".ci" / "mutants.py"), *session.posargs, env={"HYPOTHESIS_PROFILE": "mutants"})


@nox.session(python="3.11")
def fuzz(session: nox.Session) -> None:
    """Give what takes input from outside random input for ten minutes, or `-- --minutes N`."""
    _install(session)
    session.run("python", "tests/fuzz/run.py", *session.posargs)


@nox.session(python="3.11")
def edge(session: nox.Session) -> None:
    """Make 10,000 requests with faults through each HTTP client, and through three processes; reload 1,000 times."""
    _install(session, what=".[test,frameworks]")
    tests = [
        "tests/test_http.py::test_nothing_is_left_over_after_many_requests_with_faults",
        "tests/test_http_chain.py",
    ]
    tests.append("tests/test_settings.py::test_reloads_under_load_lose_no_call")
    sizes = {"HTTP_REQUESTS": "10000", "BOOKING_RELOADS": "1000"}
    session.run("python", "-m", "pytest", "-s", "--timeout", "3600", *tests, *session.posargs, env=sizes)


@nox.session(python="3.11")
def once(session: nox.Session) -> None:
    """Try every exactly-once operation under 2,000 scripts of faults, and 100 rounds of each race."""
    _install(session)
    sizes = {"CAMPAIGN_SCRIPTS": os.environ.get("CAMPAIGN_SCRIPTS", "2000"), "RACE_ROUNDS": "100"}
    session.run("python", "-m", "pytest", "-s", "tests/test_once_campaign.py", *session.posargs, env=sizes)


@nox.session(python="3.11")
def soak(session: nox.Session) -> None:
    """Use every part under changing faults for half an hour, or `-- --minutes N`, and see that nothing grows."""
    _install(session, what=".[test,durable]")
    session.run("python", "tests/soak.py", *session.posargs)
