"""Show what an adaptive limit does for a backend in trouble, alone and with a breaker and a budget, in virtual time.

Three questions: how soon is all well again after a stall, what is left of a backend that gets four times what it can
serve, and does a long incident become the new normal. The same seeds give the same answers.
"""

from __future__ import annotations

import quiet

if __name__ == "__main__":
    quiet.start("outage_limits.py")

from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import command
from outage_model import simulate
from outage_scenario import SLOW, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "outage_limits.py"
CONTENDERS = {
    "budget": ("budget", 30.0),
    "breaker, cooldown 5 s": ("breaker", 5.0),
    "breaker, cooldown 30 s": ("breaker", 30.0),
    "limit": ("limit", 30.0),
    "limit + breaker + budget, cooldown 5 s": ("full", 5.0),
    "limit + breaker + budget, cooldown 30 s": ("full", 30.0),
}
"""What is compared after a stall: strategy, and cooldown of its breakers."""
OVERLOAD, WARM = 4, 10
"""How many times its capacity the overloaded backend gets; seconds after which goodput counts."""
INCIDENT: dict[str, Any] = {"trigger": "slow", "trigger_at": 30, "trigger_for": 600, "seconds": 690}


class Recovery(NamedTuple):
    """Seconds from the end of a stall until 95 % of the best possible goodput: the median of the seeds, and bounds."""

    middle: float
    least: float
    most: float


def recovery(name: str, seeds: Sequence[int], **settings: Any) -> Recovery:
    """Return how soon a contender recovers from a stall of ten seconds; infinite if it doesn't."""
    strategy, cooldown = CONTENDERS[name]
    outcomes = [
        simulate(Scenario(strategy=strategy, cooldown=cooldown, seed=seed, **{"seconds": 80} | settings))
        for seed in seeds
    ]
    found = [float("inf") if outcome.near_recovery is None else outcome.near_recovery for outcome in outcomes]
    return Recovery(median(found), min(found), max(found))


def overloaded(strategy: str, **settings: Any) -> float:
    """Return the goodput of a backend that gets four times its capacity, as a share of that."""
    numbers = {"load": 1200.0, "capacity": 300.0, "seconds": 40} | settings
    return simulate(Scenario(strategy=strategy, trigger_for=0, **numbers)).goodput(WARM, int(numbers["seconds"]))


def incident(strategy: str, **settings: Any) -> tuple[float, float, float]:
    """Return the goodput before ten minutes at a third of the speed, in the last of them, and in 30 s from 5 s after.

    Each as a share of what the backend can serve at that time.
    """
    outcome = simulate(Scenario(strategy=strategy, **INCIDENT | settings))
    begin, lasts = outcome.scenario.trigger_at, outcome.scenario.trigger_for
    end = begin + lasts
    last = SLOW * sum(outcome.succeeded[end - 60 : end]) / (60 * outcome.scenario.capacity)
    return outcome.goodput(5, begin), last, outcome.goodput(end + 5, end + 35)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return its exit code, 0."""
    parser = command.Parser(prog=NAME, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, from 1, the stall is simulated with")
    options = parser.parse_args(arguments)
    if not 1 <= options.seeds <= 1000:
        parser.error(f"--seeds must be from 1 to 1,000, not {options.seeds}")
    seeds = range(1, options.seeds + 1)
    command.say(f"A stall of 10 s, 280 operations a second of 300: seconds until 95 % ({len(seeds)} seeds)")
    for name in CONTENDERS:
        command.say(stall_line(name, recovery(name, seeds)))
    command.say("Four times the capacity: goodput, of the capacity")
    for strategy in ("none", "jitter", "limit", "full"):
        command.say(f"  {strategy:<40}{overloaded(strategy):6.1%}")
    command.say(
        "Ten minutes at a third of the speed: goodput before, in the last minute, 5 s after; of what is possible"
    )
    for strategy in ("limit", "full"):
        command.say(f"  {strategy:<40}" + "".join(f"{share:6.1%}  " for share in incident(strategy)).rstrip())
    return 0


def stall_line(name: str, found: Recovery) -> str:
    """Return the line of a contender."""
    return f"  {name:<40}{found.middle:6.1f}  ({found.least:g} to {found.most:g})"


if __name__ == "__main__":
    command.run(NAME, lambda: main())
