"""Changes the pure modules one small thing at a time and asks the tests whether they notice.

`mutmut` makes the changes, as `[tool.mutmut]` in pyproject.toml has it. It runs functions through a wrapper of its
own, which tests that step through bytecode do not bear: what survives it is written into the source and meets those
tests, and others that take long, in a second round. What survives both must stand in docs/mutants.md with its reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path.cwd()
SECOND_ROUND = {
    "booking_resilience.breaker.machine": ["tests/test_machine.py"],
    **{
        f"booking_resilience.load.{name}": [
            "tests/test_settings.py",
            "tests/test_batch_waits.py",
            "tests/test_load_races.py",
        ]
        for name in ("calls", "concurrency", "hedge", "limit", "places", "queue", "rate", "timeout")
    },
}


def mutmut(*arguments: str) -> str:
    """Run mutmut; return what it printed."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode and arguments[0] == "run":
        print(done.stdout[-4000:])
        sys.exit("mutmut did not run to its end")
    return done.stdout


def difference(text: str) -> tuple[str, ...]:
    """Return the changed lines of a diff, without indentation."""
    lines = [line for line in text.splitlines() if re.match(r"[-+](?![-+]{2})", line)]
    return tuple(f"{line[0]} {line[1:].strip()}" for line in lines)


def is_noticed(name: str) -> bool:
    """Tell whether the tests of the second round notice the change."""
    module = name.split(".x")[0]
    tests = SECOND_ROUND.get(module)
    if tests is None:
        return False
    source = HERE / "src" / f"{module.replace('.', '/')}.py"
    before = source.read_text(encoding="utf-8")
    try:
        mutmut("apply", name)
        if source.read_text(encoding="utf-8") == before:
            sys.exit(f"{name} could not be written into the source")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(HERE / "src")}
        return subprocess.run(command, capture_output=True, check=False, timeout=600, env=environment).returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        source.write_text(before, encoding="utf-8")


def main() -> int:
    """Return 0 if every survivor is listed, else 1."""
    listed = {
        difference(block)
        for block in re.findall(
            r"```diff\n(.*?)```", (HERE / "docs" / "mutants.md").read_text(encoding="utf-8"), re.DOTALL
        )
    }
    mutmut("run", *sys.argv[1:])
    results = re.findall(r"^\s*(\S+): (survived|no tests|suspicious)$", mutmut("results"), re.MULTILINE)
    unlisted = 0
    for name, status in results:
        change = difference(mutmut("show", name))
        if change in listed or is_noticed(name):
            continue
        unlisted += 1
        print(f"{name}: {status}", *change, sep="\n    ")
    print(
        f"{len(results)} survived the first round; {unlisted} of them are neither noticed later nor in docs/mutants.md"
    )
    return 1 if unlisted else 0


if __name__ == "__main__":
    sys.exit(main())
