"""What is simulated of an outage, and what came of it: the scenario, its triggers and strategies, the outcome."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

TRIGGERS = {
    "stall": "the backend serves nothing, requests wait",
    "refusal": "the backend refuses every request at once",
    "spike": "three times as many operations begin",
}
STRATEGIES = {
    "none": "one attempt",
    "naive": "three attempts, no jitter",
    "jitter": "three attempts, full jitter",
    "requests": "jitter, and a budget wrongly fed by every operation",
    "budget": "jitter, and a budget fed by successes",
    "breaker": "jitter, and a breaker",
    "all": "jitter, budget and breaker",
}
SPIKE = 3.0
WELL, WELL_FOR = 0.99, 5
"""Recovered: from the first of so many seconds in a row in each of which this share of the operations succeeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated. Durations are seconds.

    Attributes:
        trigger: A key of `TRIGGERS`.
        strategy: A key of `STRATEGIES`.
        seed: Of all that is random.
        load: Operations begun per second by all clients together.
        capacity: Requests that the backend serves per second.
        queue: Requests that wait at most; further ones are refused at once.
        clients: Processes that share the load evenly, each with a budget and a breaker of its own.
        timeout: After so long a client gives up an attempt.
        cooldown: Of the breakers.
        seconds: Operations begin for so long; what is under way then comes to its end.
        trigger_at: When the trigger comes.
        trigger_for: How long it lasts.
    """

    trigger: str = "stall"
    strategy: str = "all"
    seed: int = 1
    load: float = 280.0
    capacity: float = 300.0
    queue: int = 1000
    clients: int = 10
    timeout: float = 1.0
    cooldown: float = 30.0
    seconds: int = 120
    trigger_at: int = 10
    trigger_for: int = 10


@dataclass(slots=True)
class Outcome:
    """What came of it. The lists count by the second.

    Attributes:
        scenario: What was simulated.
        begun: Operations, by the second in which they began.
        succeeded: Those that succeeded, by the second in which they began.
        attempts: Requests that reached the backend, by the second in which they did.
        failed: Operations that failed, by the reason why there was no further attempt.
        requests: What became of the requests: `answered`, `abandoned` (served though nobody waited), `refused`.
        refused_by_breaker: Attempts that a breaker refused, which never reached the backend.
    """

    scenario: Scenario
    begun: list[int]
    succeeded: list[int]
    attempts: list[int]
    failed: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    refused_by_breaker: int = 0

    @property
    def success_rate(self) -> float:
        """The share of the operations that succeeded."""
        return sum(self.succeeded) / max(1, sum(self.begun))

    @property
    def amplification(self) -> float:
        """The requests that reached the backend, for each operation."""
        return sum(self.attempts) / max(1, sum(self.begun))

    @property
    def peak(self) -> float:
        """The highest load of a second, as a multiple of the load that was set."""
        return max(self.attempts, default=0) / self.scenario.load

    @property
    def recovery(self) -> float | None:
        """The seconds from the end of the trigger to the time from which all is well; None if that never comes."""
        end = self.scenario.trigger_at + self.scenario.trigger_for
        well = [good >= WELL * all_ for good, all_ in zip(self.succeeded, self.begun, strict=True)]
        for second in range(end, len(well) - WELL_FOR + 1):
            if all(well[second : second + WELL_FOR]):
                return float(second - end)
        return None
