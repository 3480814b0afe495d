"""Show what a retry policy, a budget and a breaker do to a backend in trouble, in virtual time.

The backend handles the clients' load easily until ten seconds of trouble. The table shows how many operations
succeeded, what load reached the backend, and how long recovery took. The same seed gives the same table.
"""

from __future__ import annotations

import quiet

if __name__ == "__main__":
    quiet.start("outage_simulation.py")

import hashlib
import importlib.util
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import command
from outage_model import simulate
from outage_scenario import STRATEGIES, TRIGGERS, Outcome, Scenario

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from matplotlib.axes import Axes

NAME = "outage_simulation.py"
LEAST_SECONDS = 30
NUMBERS = {
    "seed": (int, -math.inf, math.inf, "seed of all that is random"),
    "load": (float, 1, 10_000, "operations started per second"),
    "capacity": (float, 1, 10_000, "requests that the backend serves per second"),
    "queue": (int, 1, 1_000_000, "most requests that wait; more are rejected"),
    "clients": (int, 1, 10_000, "processes, each with its own budget and breaker"),
    "timeout": (float, 0.01, 60, "seconds after which a client gives up an attempt"),
    "cooldown": (float, 0, 3600, "seconds that a breaker stays open"),
    "seconds": (int, LEAST_SECONDS, 3600, "seconds to simulate, with the trouble from 10 to 20"),
}
"""Options that are numbers: type, least, most, help. The defaults are those of `Scenario`."""


def table_of(outcomes: Sequence[Outcome]) -> Table:
    """Return the table for people."""
    table = Table(title="What a strategy does to a backend in trouble")
    for column in ("trouble", "strategy"):
        table.add_column(column)
    for column in ("success", "load", "peak load", "recovery"):
        table.add_column(column, justify="right")
    before = None
    for outcome in outcomes:
        trigger = outcome.scenario.trigger
        if before not in (None, trigger):
            table.add_section()
        table.add_row("" if trigger == before else trigger, outcome.scenario.strategy, *cells(outcome))
        before = trigger
    return table


def cells(outcome: Outcome) -> tuple[str, str, str, str]:
    """Return the figures of one run as the table shows them."""
    recovery = "never" if outcome.recovery is None else f"{outcome.recovery:.0f} s"
    succeeded = command.percent(sum(outcome.succeeded), sum(outcome.begun))
    return succeeded, f"{outcome.amplification:.2f}", f"{outcome.peak:.1f}", recovery


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return a run as JSON has it."""
    return {
        "trigger": outcome.scenario.trigger,
        "strategy": outcome.scenario.strategy,
        "operations": sum(outcome.begun),
        "succeeded": sum(outcome.succeeded),
        "failed": dict(sorted(outcome.failed.items())),
        "requests": dict(sorted(outcome.requests.items())),
        "refused_by_breaker": outcome.refused_by_breaker,
        "success_rate": outcome.success_rate,
        "amplification": outcome.amplification,
        "peak": outcome.peak,
        "recovery_s": outcome.recovery,
        "per_second": {"begun": outcome.begun, "succeeded": outcome.succeeded, "attempts": outcome.attempts},
    }


def digest_of(outcomes: Sequence[Outcome]) -> str:
    """Return a digest of everything that a figure shows, to tell whether a figure is of these runs."""
    shown = [(asdict(o.scenario), o.succeeded, o.attempts, cells(o)) for o in outcomes]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def draw(outcomes: Sequence[Outcome], file: Path) -> None:
    """Draw one panel for each run: the load that reached the backend and what succeeded, by the second."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(3, len(outcomes) + 1)
    rows = math.ceil((len(outcomes) + 1) / columns)  # one place is for the legend
    with rc_context({"svg.hashsalt": NAME, "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(2.8 * columns, 1.9 * rows), layout="constrained")
        panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axes, outcome in zip(panels, outcomes, strict=False):
            draw_panel(axes, outcome)
        labelled = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels)
        legend = {label: handle for pairs in labelled for handle, label in pairs}
        panels[len(outcomes)].legend(legend.values(), legend, loc="center left", frameon=False)
        for axes in panels[len(outcomes) :]:
            axes.axis("off")
            above = panels[panels.index(axes) - columns] if rows > 1 else axes
            above.tick_params(labelbottom=True)
        figure.supxlabel("seconds")
        figure.supylabel("per second")
        figure.savefig(file, metadata={"Date": None, "Creator": None, "Description": f"sha256 {digest_of(outcomes)}"})


def draw_panel(axes: Axes, outcome: Outcome) -> None:
    """Draw one run."""
    scenario, seconds = outcome.scenario, range(outcome.scenario.seconds)
    end, attempts = scenario.trigger_at + scenario.trigger_for, outcome.attempts[: scenario.seconds]
    good, load = "operations that succeed", "requests at the backend"
    axes.axvspan(scenario.trigger_at, end, color="#d0d7de", linewidth=0, label="trouble")
    axes.axhline(scenario.capacity, color="#57606a", linestyle="--", linewidth=0.8, label="capacity of the backend")
    axes.fill_between(seconds, outcome.succeeded, step="post", color="#57b36b", linewidth=0, label=good)
    axes.step(seconds, attempts, where="post", color="#cf222e", linewidth=1.1, label=load)
    if outcome.recovery is not None:
        axes.axvline(end + outcome.recovery, color="#1f2328", linewidth=1, linestyle=":", label="recovered from here")
    ends = "never recovers" if outcome.recovery is None else f"recovers in {outcome.recovery:.0f} s"
    axes.set_title(f"{scenario.trigger}, {scenario.strategy}: {ends}", fontsize=9)
    axes.set_ylim(0, 3.6 * scenario.load)
    axes.set_xlim(0, scenario.seconds)
    axes.spines[["top", "right"]].set_visible(False)


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[Scenario]]:
    """Return the options and the scenarios to run; exits with code 2 if an option is wrong."""
    parser = command.Parser(prog=NAME, description=(__doc__ or "").splitlines()[0])
    for name, known in (("trigger", TRIGGERS), ("strategy", STRATEGIES)):
        meaning = "; ".join(f"{key}: {text}" for key, text in known.items())
        parser.add_argument(f"--{name}", metavar="NAMES", help=f"comma-separated, by default each. {meaning}")
    for name, (kind, _, _, text) in NUMBERS.items():
        default = getattr(DEFAULTS, name)
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default {default:g})")
    parser.add_argument(
        "--json", metavar="FILE", help="write the results, second by second, to this file; - is standard output"
    )
    parser.add_argument("--figure", type=Path, metavar="FILE.svg", help="draw them to this file; needs matplotlib")
    options = parser.parse_args(arguments)
    for name, (_, least, most, _) in NUMBERS.items():
        if not least <= (value := getattr(options, name)) <= most:
            parser.error(f"--{name} must be from {least:,} to {most:,}, not {value}")
    for name, file in (("json", options.json), ("figure", options.figure)):
        if file not in (None, "-") and not Path(file).absolute().parent.is_dir():
            parser.error(f"--{name}: there is no folder {str(Path(file).parent)!r}")
    if options.figure is not None and options.figure.suffix != ".svg":
        parser.error(f"--figure must end in .svg, not {str(options.figure)!r}")
    numbers = {name: getattr(options, name) for name in NUMBERS}
    triggers = chosen(parser, "--trigger", options.trigger, TRIGGERS)
    strategies = chosen(parser, "--strategy", options.strategy, STRATEGIES)
    return options, [Scenario(trigger=one, strategy=other, **numbers) for one in triggers for other in strategies]


DEFAULTS = Scenario()


def chosen(parser: command.Parser, option: str, text: str | None, known: dict[str, str]) -> list[str]:
    """Return the names that an option lists, once each and in their usual order; all of them if it isn't given."""
    names = {name.strip() for name in (text or "").split(",")}
    if text is None or (text == "all" and "all" not in known):
        return list(known)
    if unknown := sorted(names - set(known)):
        parser.error(f"{option}: unknown name {unknown[0]!r}; known are {', '.join(known)}")
    return [name for name in known if name in names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return its exit code: 0, or 1 if it couldn't write a file."""
    options, scenarios = parse(arguments)
    if options.figure is not None and importlib.util.find_spec("matplotlib") is None:
        print(f"{NAME}: --figure needs matplotlib: pip install '.[docs]' in a clone", file=sys.stderr)
        return 1
    first, console = scenarios[0], Console(stderr=options.json == "-")
    command.show(
        console,
        f"{first.clients} clients, {first.load:g} operations/s, a backend for {first.capacity:g}/s; trouble from "
        f"second {first.trigger_at} to {first.trigger_at + first.trigger_for}; seed {first.seed}.",
    )
    outcomes = simulate_all(scenarios, console)
    results = {"settings": asdict(first), "results": [summary(outcome) for outcome in outcomes]}
    text = json.dumps(results, indent=1)
    try:
        if options.json not in (None, "-"):
            Path(options.json).write_text(text + "\n", encoding="utf-8")
        if options.figure is not None:
            draw(outcomes, options.figure)
    except OSError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 1
    if options.json == "-":
        command.say(text)
    command.show(console, table_of(outcomes))
    return 0


def simulate_all(scenarios: Sequence[Scenario], console: Console) -> list[Outcome]:
    """Run the scenarios, with a progress bar."""
    outcomes = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for scenario in progress.track(scenarios, description="simulating"):
            outcomes.append(simulate(scenario))  # noqa: PERF401 - an interrupt must find the bar still there
    return outcomes


if __name__ == "__main__":
    command.run(NAME, main)
