"""What is simulated, and the result: the scenario, its triggers and strategies, the outcome."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

TRIGGERS = {
    "stall": "the backend serves nothing, requests wait",
    "refusal": "the backend rejects every request at once",
    "spike": "three times as many operations start",
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
"""Recovered: from the first of so many consecutive seconds in each of which this share of the operations succeeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated. Durations are seconds.

    Attributes:
        trigger: A key of `TRIGGERS`.
        strategy: A key of `STRATEGIES`.
        seed: Of everything that is random.
        load: Operations that all clients together start per second.
        capacity: Requests that the backend serves per second.
        queue: The most requests that wait; more are rejected at once.
        clients: Processes that share the load evenly, each with its own budget and breaker.
        timeout: After so long a client gives up an attempt.
        cooldown: Of the breakers.
        seconds: For how long operations start; those still in flight then end normally.
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
    """The result. The lists count second by second.

    Attributes:
        scenario: What was simulated.
        begun: Operations, by the second in which they started.
        succeeded: Those that succeeded, by the second in which they started.
        attempts: Requests that reached the backend, by the second.
        failed: Operations that failed, by the reason why there was no further attempt.
        requests: What happened to the requests: `answered`, `abandoned` (served though nobody waited), `refused`.
        refused_by_breaker: Attempts that a breaker rejected, which never reached the backend.
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
        """The number of requests per operation that reached the backend."""
        return sum(self.attempts) / max(1, sum(self.begun))

    @property
    def peak(self) -> float:
        """The highest load of a second, as a multiple of the load that was set."""
        return max(self.attempts, default=0) / self.scenario.load

    @property
    def recovery(self) -> float | None:
        """The seconds from the end of the trigger until recovery; None if there is none."""
        end = self.scenario.trigger_at + self.scenario.trigger_for
        well = [good >= WELL * all_ for good, all_ in zip(self.succeeded, self.begun, strict=True)]
        for second in range(end, len(well) - WELL_FOR + 1):
            if all(well[second : second + WELL_FOR]):
                return float(second - end)
        return None
