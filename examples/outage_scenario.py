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
    "limit": "jitter, and an adaptive limit",
    "full": "jitter, budget, breaker and an adaptive limit",
}
SPIKE = SLOW = 3.0
"""How many times as many operations start in a `spike`, and how many times as long the backend takes when `slow`."""
WELL, NEARLY, WELL_FOR = 0.99, 0.95, 5
"""Recovered: from the first of so many consecutive seconds in each of which this share of the operations succeeds.

Nearly: this share of what the backend can serve at best.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated. Durations are seconds.

    Attributes:
        trigger: A key of `TRIGGERS`, or `slow`: the backend takes `SLOW` times as long for each request.
        strategy: A key of `STRATEGIES`.
        seed: Of everything that is random.
        load: Operations that all clients together start per second.
        capacity: Requests that the backend serves per second.
        workers: Requests that it serves at a time, so that each takes `workers / capacity` seconds.
        queue: The most requests that wait; more are rejected at once.
        clients: Processes that share the load evenly, each with its own budget, breaker and limit.
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
    workers: int = 1
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
        refused_by_limit: Attempts that a limit rejected.
    """

    scenario: Scenario
    begun: list[int]
    succeeded: list[int]
    attempts: list[int]
    failed: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    refused_by_breaker: int = 0
    refused_by_limit: int = 0

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
        return self._well([good >= WELL * all_ for good, all_ in zip(self.succeeded, self.begun, strict=True)])

    @property
    def near_recovery(self) -> float | None:
        """The seconds until nearly as many operations succeed as the backend can serve at best; None for never."""
        capacity = self.scenario.capacity
        pairs = zip(self.succeeded, self.begun, strict=True)
        return self._well([good >= NEARLY * min(all_, capacity) for good, all_ in pairs])

    def goodput(self, since: int, until: int) -> float:
        """Return the successes among the operations of these seconds, for each that the backend can serve."""
        best = sum(min(all_, self.scenario.capacity) for all_ in self.begun[since:until])
        return sum(self.succeeded[since:until]) / max(1.0, best)

    def _well(self, well: list[bool]) -> float | None:
        end = self.scenario.trigger_at + self.scenario.trigger_for
        for second in range(end, len(well) - WELL_FOR + 1):
            if all(well[second : second + WELL_FOR]):
                return float(second - end)
        return None
