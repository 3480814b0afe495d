"""The example `outage_simulation`: what it claims of strategies, that nothing gets lost in it, and its command line."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fresh import run_fresh

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))
try:
    kinds: Any = importlib.import_module("outage_scenario")
    model: Any = importlib.import_module("outage_model")
    example: Any = importlib.import_module("outage_simulation")
    percent = importlib.import_module("command").percent
finally:
    sys.path.remove(str(EXAMPLES))


_shared: list[Path] = []


@pytest.fixture(scope="session", autouse=True)
def _share_outcomes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have the processes that share the tests out among them simulate each scenario once, not each."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        _shared.append(tmp_path_factory.getbasetemp().parent)


@cache
def outcome_of(**settings: Any) -> Any:
    """Run a scenario, each only once."""
    scenario = kinds.Scenario(**settings)
    if not _shared:
        return model.simulate(scenario)
    file = _shared[0] / f"outage-{hashlib.sha256(repr(scenario).encode()).hexdigest()}"
    if not file.exists():
        mine = file.with_name(f"{file.name}-{os.getpid()}")
        mine.write_bytes(pickle.dumps(model.simulate(scenario)))
        mine.replace(file)
    return pickle.loads(file.read_bytes())


def run(*arguments: str, expect: int = 0, **environment: str) -> tuple[str, str]:
    """Run the example to its end; return what it printed and what it complained about."""
    unwatched = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "outage_simulation.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**unwatched, "COLUMNS": "100", **environment},
    )
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


@pytest.mark.parametrize("strategy", ["naive", "jitter", "requests"])
@pytest.mark.parametrize("trigger", ["stall", "spike"])
def test_retries_without_a_bound_that_shrinks_never_recover(trigger: str, strategy: str) -> None:
    """Retries, with jitter or not, and a budget fed by every operation keep an overload alive for ever."""
    outcome = outcome_of(trigger=trigger, strategy=strategy)
    assert outcome.recovery is None
    assert sum(outcome.succeeded[20:]) == 0


@pytest.mark.parametrize("strategy", ["none", "budget", "breaker", "all", "limit", "full"])
@pytest.mark.parametrize("trigger", ["stall", "refusal", "spike"])
def test_budget_breaker_and_limit_recover(trigger: str, strategy: str) -> None:
    """With a budget fed by successes, a breaker, a limit, or all of them, all is well again, and stays so."""
    outcome = outcome_of(trigger=trigger, strategy=strategy)
    assert outcome.recovery is not None
    after = 20 + int(outcome.recovery)
    assert sum(outcome.succeeded[after:]) >= 0.999 * sum(outcome.begun[after:])


def test_the_claims_do_not_hang_on_the_seed() -> None:
    """Whatever the seed, naive retries do not recover from the stall; budget and breaker do, the breaker first."""
    run_fresh(simulate_with_other_seeds)  # a quarter of the time that it takes while coverage watches


def simulate_with_other_seeds() -> None:
    """Check the claims with some more seeds."""
    for seed in range(2, 5):
        strategies = ("naive", "budget", "breaker")
        recovery = {name: outcome_of(strategy=name, seed=seed, seconds=90).recovery for name in strategies}
        assert recovery["naive"] is None
        assert recovery["breaker"] < recovery["budget"] < 60


def test_a_budget_fed_by_successes_adds_hardly_any_load() -> None:
    """Through a stall the budget pays for what was in it, 5 tokens for each client, and the odd retry besides."""
    outcome = outcome_of(strategy="budget")
    extra = sum(outcome.attempts) - sum(outcome.begun)
    assert extra <= 10 * 10 + 0.1 * sum(outcome.succeeded)
    assert outcome.amplification < 1.01


def test_a_breaker_takes_the_load_off_the_backend() -> None:
    """While it is in trouble, a backend behind breakers is asked for a trial now and then only."""
    outcome = outcome_of(strategy="breaker")
    assert sum(outcome.attempts[13:20]) == 0
    assert outcome.refused_by_breaker > 0


def test_naive_retries_multiply_the_load() -> None:
    """Three attempts for each operation are three times the load while nothing succeeds."""
    outcome = outcome_of(strategy="naive")
    later = slice(60, 110)
    assert sum(outcome.attempts[later]) == pytest.approx(3 * sum(outcome.begun[later]), rel=0.02)


def test_a_refusal_that_costs_nothing_ends_with_its_cause() -> None:
    """A backend that refuses at once has no work to catch up with: without a breaker all is well the second after."""
    assert {outcome_of(trigger="refusal", strategy=name).recovery for name in ("none", "naive", "budget")} == {0.0}


def test_a_queue_that_holds_no_more_than_clients_wait_for_cannot_stay_overloaded() -> None:
    """With a queue shorter than the clients' patience even naive retries recover at once."""
    assert outcome_of(strategy="naive", queue=200).recovery <= 3


def test_the_same_seed_gives_the_same_run() -> None:
    """A run repeats to the last count by its seed; another seed gives another."""
    first, again, other = (model.simulate(kinds.Scenario(strategy="all", seconds=40, seed=seed)) for seed in (7, 7, 8))
    assert first == again
    assert first.begun != other.begun


def test_operations_begin_at_the_same_moments_under_every_strategy() -> None:
    """Strategies are compared on the same operations."""
    assert len({tuple(outcome_of(strategy=name).begun) for name in kinds.STRATEGIES}) == 1


@settings(max_examples=40)
@given(
    scenario=st.builds(
        kinds.Scenario,
        trigger=st.sampled_from(["slow", *sorted(kinds.TRIGGERS)]),
        strategy=st.sampled_from(sorted(kinds.STRATEGIES)),
        seed=st.integers(),
        load=st.floats(1, 40),
        capacity=st.floats(1, 40),
        workers=st.integers(1, 5),
        queue=st.integers(1, 50),
        clients=st.integers(1, 5),
        timeout=st.floats(0.01, 10),
        cooldown=st.floats(0, 10),
        seconds=st.integers(1, 20),
        trigger_at=st.integers(0, 10),
        trigger_for=st.integers(0, 10),
    )
)
def test_nothing_gets_lost(scenario: Any) -> None:
    """Each operation succeeds or fails once, each attempt is served or refused once, and none is too many."""
    outcome = model.simulate(scenario)
    begun, succeeded, attempts = sum(outcome.begun), sum(outcome.succeeded), sum(outcome.attempts)
    assert begun == succeeded + sum(outcome.failed.values())
    assert all(good <= all_ for good, all_ in zip(outcome.succeeded, outcome.begun, strict=True))
    assert attempts == sum(outcome.requests.values())
    assert outcome.requests["answered"] == succeeded
    assert begun <= attempts + outcome.refused_by_breaker + outcome.refused_by_limit
    assert attempts <= begun * (1 if scenario.strategy == "none" else 3)
    budgets = {"budget": succeeded, "all": succeeded, "full": succeeded, "requests": begun}
    refused = outcome.refused_by_breaker + outcome.refused_by_limit
    if scenario.strategy in budgets:
        assert attempts + refused <= begun + 5 * scenario.clients + 0.1 * budgets[scenario.strategy]
    if scenario.strategy not in ("limit", "full"):
        assert outcome.refused_by_limit == 0
    if scenario.strategy not in ("breaker", "all", "full"):
        assert outcome.refused_by_breaker == outcome.failed["circuit_open"] == 0


def test_recovery_needs_five_good_seconds_in_a_row() -> None:
    """A single good second after the trouble is no recovery; the first of five in a row is."""
    scenario = kinds.Scenario(seconds=30)
    begun = [100] * 30
    good = [100] * 10 + [0] * 10 + [100, 98] + [99] * 8
    assert kinds.Outcome(scenario, begun, good, begun).recovery == 2
    assert kinds.Outcome(scenario, begun, [*good[:24], 0, 99, 99, 99, 99, 98], begun).recovery is None


def test_prints_a_table_and_writes_the_results(tmp_path: Path) -> None:
    """The table has a line for each run, and the file the same figures by the second."""
    out, err = run("--seconds", "30", "--load", "28", "--capacity", "30", "--json", str(tmp_path / "out.json"))
    assert err == ""
    results = json.loads((tmp_path / "out.json").read_text())
    assert [(r["trigger"], r["strategy"]) for r in results["results"]] == [
        (trigger, strategy) for trigger in kinds.TRIGGERS for strategy in kinds.STRATEGIES
    ]
    lines = [line for line in out.splitlines() if re.search(r"\d s │|never │", line)]
    assert len(lines) == len(results["results"])
    for line, result in zip(lines, results["results"], strict=True):
        assert result["strategy"] in line
        assert percent(result["succeeded"], result["operations"]) in line
        assert ("never" in line) == (result["recovery_s"] is None)
        assert sum(result["per_second"]["begun"]) == result["operations"]
        assert sum(result["per_second"]["succeeded"]) == result["succeeded"]
        assert sum(result["failed"].values()) == result["operations"] - result["succeeded"]
    assert results["settings"]["seed"] == 1


def test_choice_and_settings_are_those_asked_for(tmp_path: Path) -> None:
    """Strategies and triggers are picked by name, numbers are taken over, and a second run prints the same."""
    arguments = ["--trigger", "spike,stall", "--strategy", "all, naive", "--seconds", "30", "--load", "20", "--seed",
                 "-3", "--capacity", "30", "--clients", "2", "--queue", "50", "--timeout", "0.5", "--cooldown", "5",
                 "--json", str(tmp_path / "out.json")]  # fmt: skip
    out, _ = run(*arguments)
    results = json.loads((tmp_path / "out.json").read_text())
    assert [(r["trigger"], r["strategy"]) for r in results["results"]] == [
        ("stall", "naive"), ("stall", "all"), ("spike", "naive"), ("spike", "all"),
    ]  # fmt: skip
    assert results["settings"] == dataclasses.asdict(
        kinds.Scenario(trigger="stall", strategy="naive", seed=-3, load=20.0, capacity=30.0, queue=50, clients=2,
                       timeout=0.5, cooldown=5.0, seconds=30)
    )  # fmt: skip
    assert run(*arguments)[0] == out


def test_draws_the_same_figure_twice(tmp_path: Path) -> None:
    """The figure is SVG without a date, the same from run to run, with the panels and the digest of its runs."""
    pytest.importorskip("matplotlib", reason="needs the extra docs")
    for name in ("first.svg", "second.svg"):
        run("--trigger", "all", "--strategy", "naive", "--seconds", "30", "--figure", str(tmp_path / name))
    text = (tmp_path / "first.svg").read_text()
    assert text == (tmp_path / "second.svg").read_text()
    assert ET.fromstring(text).tag.endswith("svg")
    for trigger in kinds.TRIGGERS:
        assert f"{trigger}, naive: never recovers" in text or f"{trigger}, naive: recovers in" in text
    assert "<dc:date>" not in text


def test_the_figure_in_the_docs_is_of_these_runs() -> None:
    """`docs/_static/outage.svg` shows what the simulation gives today."""
    outcomes = [outcome_of(strategy=name) for name in kinds.STRATEGIES]
    assert f"sha256 {example.digest_of(outcomes)}" in (ROOT / "docs" / "_static" / "outage.svg").read_text()


def test_the_tables_in_the_docs_are_of_these_runs() -> None:
    """The page that explains why retries hurt shows the figures that the simulation gives today."""
    page = (ROOT / "docs" / "explanation" / "why-retries-hurt.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    shown = {(row[0], row[1]): tuple(row[2:]) for row in rows if len(row) == 6}
    assert shown == {
        (trigger, strategy): example.cells(outcome_of(trigger=trigger, strategy=strategy))
        for trigger in kinds.TRIGGERS
        for strategy in kinds.STRATEGIES
    }


def test_the_figures_in_the_text_are_of_these_runs() -> None:
    """What that page says in its sentences is what the simulation gives today."""
    run_fresh(compare_the_figures_in_the_text)


def compare_the_figures_in_the_text() -> None:
    """Run what the page's sentences are about, and look for the results in them."""
    page = " ".join((ROOT / "docs" / "explanation" / "why-retries-hurt.md").read_text(encoding="utf-8").split())

    def after(strategy: str, **settings: Any) -> str:
        recovery = outcome_of(strategy=strategy, **settings).recovery
        return "never" if recovery is None else f"{recovery:.0f} s"

    cooldowns = [after("breaker", cooldown=seconds, seconds=80) for seconds in (5.0, 10.0, 15.0, 20.0, 30.0, 60.0)]
    assert f"| recovery from the stall | {' | '.join(cooldowns)} |" in page
    assert f"at 95 operations a second, after {after('naive', load=95.0)}; at 100 they do not" in page
    assert after("naive", load=100.0) == after("naive", queue=300, seconds=80) == "never"
    assert after("naive", queue=200, seconds=40) == "1 s"
    assert "even naive retries recover after a second. With 300 they never do" in page
    queues = [after("budget", queue=length, seconds=100) for length in (500, 2000)]
    assert f"{queues[0]} with a queue of 500, {queues[1]} with one of 2000" in page
    assert f"With 20 s it is {cooldowns[3]}, with 15 s it is {cooldowns[2]}" in page
    seeds = [outcome_of(strategy="budget", seed=seed, seconds=75).recovery for seed in range(1, 21)]
    assert f"Over the seeds 1 to 20 it is {min(seeds):.0f} to {max(seeds):.0f} s" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nonsense"], "--nonsense"),
        (["stall"], "stall"),
        (["--trigger", "quake"], "quake"),
        (["--strategy", "hope,all"], "hope"),
        (["--strategy", ""], "--strategy"),
        (["--seed", "one"], "one"),
        (["--load", "0"], "--load"),
        (["--load", "nan"], "--load"),
        (["--load", "inf"], "--load"),
        (["--capacity", "-1"], "--capacity"),
        (["--queue", "0"], "--queue"),
        (["--clients", "0"], "--clients"),
        (["--timeout", "0"], "--timeout"),
        (["--cooldown", "-1"], "--cooldown"),
        (["--seconds", "29"], "--seconds"),
        (["--seconds", "1e3"], "1e3"),
        (["--figure", "figure.gif"], ".svg"),
        (["--figure", "/nowhere/at/all.svg"], "/nowhere/at"),
        (["--json", "/nowhere/at/all.json"], "/nowhere/at"),
    ],
)
def test_bad_arguments_end_with_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad argument ends with exit code 2 and one line that names it."""
    with pytest.raises(SystemExit) as left:
        example.main(arguments)
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert says in err


def test_a_file_that_cannot_be_written_ends_with_one_line(tmp_path: Path) -> None:
    """Where a directory stands in the way of a result, the exit code is 1 and one line says so."""
    _, err = run("--strategy", "none", "--seconds", "30", "--load", "5", "--json", str(tmp_path), expect=1)
    assert len(err.splitlines()) == 1
    assert str(tmp_path) in err


def test_a_figure_without_matplotlib_ends_with_one_line(tmp_path: Path) -> None:
    """Where matplotlib is missing, --figure ends with exit code 1 and a line that says what to install."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'matplotlib' else find(name, *rest)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    _, err = run("--figure", str(tmp_path / "f.svg"), expect=1, PYTHONPATH=path)
    assert err.splitlines() == ["outage_simulation.py: --figure needs matplotlib: pip install '.[docs]' in a clone"]


def test_ctrl_c_ends_with_one_line() -> None:
    """Ctrl-C ends with exit code 130 and one line."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "outage_simulation.py"), "--load", "10000", "--seconds", "3600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "clients" in process.stdout.readline()  # it is under way
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines() == ["outage_simulation.py: interrupted"]
