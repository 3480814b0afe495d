"""How the examples' command lines end: on Ctrl-C at any time, and when nobody reads what they print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fresh import unwatched

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
IMPORTED = {"create_booking": "appwrite", "demo_server": "uvicorn", "outage_simulation": "rich"}
"""What each example imports on its way."""
FIGURES = ["--strategy", "none,naive", "--seconds", "30", "--load", "5"]


def start(example: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start an example."""
    command = [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments]
    usual: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": unwatched()}
    return subprocess.Popen(command, **{**usual, **options})


@pytest.mark.parametrize("example", IMPORTED)
def test_ctrl_c_ends_the_start_with_one_line(example: str, tmp_path: Path) -> None:
    """Ctrl-C while an example is still being imported ends it with code 130 and one line."""
    # In short sleeps: a signal that arrives just before a long one is only looked at after it.
    waits = "import time\nprint('importing', flush=True)\nfor _ in range(6000):\n    time.sleep(0.01)\n"
    (tmp_path / f"{IMPORTED[example]}.py").write_text(waits)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = start(example, env={**unwatched(), "PYTHONPATH": path})
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, err.splitlines()) == (130, [f"{example}.py: interrupted"])


@pytest.mark.parametrize("example", IMPORTED)
def test_an_example_in_the_background_ignores_ctrl_c(example: str) -> None:
    """Where Ctrl-C was to be ignored from the start, it is."""
    ignore = "import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    code = f"{ignore}sys.exit(subprocess.call([sys.executable, sys.argv[1], '--help']))"
    path = str(EXAMPLES / f"{example}.py")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("example", IMPORTED)
def test_ctrl_c_after_the_end_changes_nothing_but_the_code(example: str) -> None:
    """While an example runs Ctrl-C is an exception, so that all is tidied up; before and after it ends the process."""
    code = (
        "import signal, sys; sys.path.insert(0, sys.argv[1]); import command\n"
        "def main():\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    finally: print('tidy')\n"
        "try: command.run(sys.argv[2], main)\n"
        "finally: signal.raise_signal(signal.SIGINT)\n"
    )
    arguments = [sys.executable, "-c", code, str(EXAMPLES), example]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (130, "tidy\n")
    assert done.stderr.splitlines() == [f"{example}: interrupted"] * 2


@pytest.mark.parametrize(
    ("example", "arguments"),
    [
        ("create_booking", ["--bookings", "2"]),
        ("create_booking", ["--bookings", "2", "--json", "-"]),
        ("create_booking", ["--kinds"]),
        ("create_booking", ["--help"]),
        ("demo_server", ["--help"]),
        ("outage_simulation", FIGURES),
        ("outage_simulation", [*FIGURES, "--json", "-"]),
        ("outage_simulation", ["--help"]),
    ],
)
def test_a_reader_that_goes_away_is_no_failure(example: str, arguments: list[str]) -> None:
    """When the reader of standard output has gone (`| head -1`), an example ends as usual, without complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = start(example, *arguments, stdout=writer)
    finally:
        os.close(writer)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Error" not in err
    assert "Traceback" not in err


def test_results_on_standard_output_are_nothing_but_json() -> None:
    """With `--json -` standard output holds the result alone; the table goes to standard error."""
    out, err = start("outage_simulation", *FIGURES, "--json", "-").communicate(timeout=120)
    assert [result["strategy"] for result in json.loads(out)["results"]] == ["none", "naive"] * 3
    assert "recovery" in err
