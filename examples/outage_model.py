"""A backend in trouble and its clients, as a discrete-event simulation in virtual time.

Clients start operations at random moments. The library's own objects decide about each attempt: a `RetryPolicy` asked
through `decide`, a `RetryBudget`, a `CircuitBreaker` whose permits are taken and settled, and an `AdaptiveLimit`. The
backend serves requests from a queue, one at a time or a few; as on a real server, a client that gives up leaves its
request in the queue. Everything follows from the settings and the seed.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from booking_resilience import (
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
    LimitExceededError,
    RetryBudget,
    RetryPolicy,
)
from booking_resilience.load import AdaptiveLimit
from booking_resilience.retry.policy import decide
from booking_resilience.testing import virtual_time
from outage_scenario import SLOW, SPIKE, Outcome, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from booking_resilience.breaker.permits import Permit
    from booking_resilience.load.places import LimitGuard
    from booking_resilience.testing import VirtualClock


@dataclass(slots=True, eq=False)
class Client:
    """One process, with what its operations use."""

    policy: RetryPolicy
    breaker: CircuitBreaker | None
    limit: AdaptiveLimit | None
    is_fed_by_requests: bool


@dataclass(slots=True, eq=False)
class Operation:
    """One operation in flight."""

    client: Client
    begun: float
    attempt: int = 0
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class Request:
    """One attempt at the backend; `is_awaited` until it is answered, rejected or given up."""

    operation: Operation
    permit: Permit | None
    guard: LimitGuard | None
    is_awaited: bool = True


def client_of(scenario: Scenario) -> Client:
    """Return a client with the scenario's strategy; everything else is the library's default."""
    strategy = scenario.strategy
    budgeted, guarded = strategy in ("requests", "budget", "all", "full"), strategy in ("breaker", "all", "full")
    policy = RetryPolicy(
        max_attempts=1 if strategy == "none" else 3,
        jitter=0.0 if strategy == "naive" else "full",
        attempt_timeout=scenario.timeout,
        budget=RetryBudget() if budgeted else None,
    )
    breaker = CircuitBreaker("backend", cooldown=scenario.cooldown) if guarded else None
    limit = AdaptiveLimit("backend") if strategy in ("limit", "full") else None
    return Client(policy, breaker, limit, strategy == "requests")


def simulate(scenario: Scenario) -> Outcome:
    """Run the scenario in virtual time; return the outcome."""
    with virtual_time() as clock:
        return Simulation(scenario, clock).run()


class Simulation:
    """The clients, the backend, and the events to come."""

    def __init__(self, scenario: Scenario, clock: VirtualClock) -> None:
        self.scenario, self.clock, self.now = scenario, clock, 0.0
        # Two sources, so that the operations begin at the same moments whatever the strategy.
        self.arrivals, self.draws = random.Random(f"{scenario.seed} arrivals"), random.Random(f"{scenario.seed} jitter")
        self.clients = [client_of(scenario) for _ in range(scenario.clients)]
        self.queue: deque[Request] = deque()
        self.serving = 0
        self.events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self.scheduled = 0
        seconds = scenario.seconds
        self.outcome = Outcome(scenario, [0] * seconds, [0] * seconds, [0] * seconds)

    def run(self) -> Outcome:
        """Process all events, in order."""
        self.at(self.arrivals.expovariate(self.rate()), self.begin, None)
        if self.scenario.trigger == "stall":
            self.at(self.scenario.trigger_at + self.scenario.trigger_for, self.serve, None)
        while self.events:
            when, _, happen, what = heapq.heappop(self.events)
            self.clock.advance(when - self.now)
            self.now = when
            happen(what)
        return self.outcome

    def at(self, when: float, happen: Callable[[Any], None], what: Any) -> None:
        """Schedule an event; of several at the same moment, the first scheduled comes first."""
        self.scheduled += 1
        heapq.heappush(self.events, (when, self.scheduled, happen, what))

    def is_triggered(self, trigger: str) -> bool:
        """Tell whether the trigger is at work now."""
        scenario = self.scenario
        return scenario.trigger == trigger and 0 <= self.now - scenario.trigger_at < scenario.trigger_for

    def rate(self) -> float:
        """Return how many operations begin per second now."""
        return self.scenario.load * (SPIKE if self.is_triggered("spike") else 1.0)

    # -- the clients

    def begin(self, _: None) -> None:
        """An operation begins; the next one is a random time away."""
        if self.now >= self.scenario.seconds:
            return
        self.at(self.now + self.arrivals.expovariate(self.rate()), self.begin, None)
        operation = Operation(self.arrivals.choice(self.clients), self.now)
        self.outcome.begun[int(self.now)] += 1
        if operation.client.is_fed_by_requests and operation.client.policy.budget is not None:
            operation.client.policy.budget.deposit()
        self.attempt(operation)

    def attempt(self, operation: Operation) -> None:
        """The next attempt of an operation sets out, if breaker and limit let it."""
        client, permit, guard = operation.client, None, None
        operation.attempt += 1
        try:
            if client.breaker is not None:
                permit = client.breaker.acquire()
            if client.limit is not None:
                guard = client.limit.guard()
                guard.__enter__()
        except CircuitOpenError as error:
            self.outcome.refused_by_breaker += 1
            self.failed(operation, error)
        except LimitExceededError as error:
            self.outcome.refused_by_limit += 1
            if permit is not None:
                permit.release()
            self.failed(operation, error)
        else:
            request = Request(operation, permit, guard)
            self.receive(request)
            if request.is_awaited:
                self.at(min(self.now + self.scenario.timeout, self.end_of(operation)), self.give_up, request)

    def give_up(self, request: Request) -> None:
        """The client stops waiting for an answer, if it still waits; the request stays where it is."""
        if request.is_awaited:
            self.fail(request, TimeoutError("no answer"))

    def fail(self, request: Request, error: Exception) -> None:
        """An attempt failed at the backend."""
        request.is_awaited = False
        if request.permit is not None:
            request.permit.failure(error)
        if request.guard is not None:
            request.guard.__exit__(type(error), error, None)
        self.failed(request.operation, error)

    def failed(self, operation: Operation, error: Exception) -> None:
        """The library's policy says what follows a failed attempt."""
        policy, breaker, end = operation.client.policy, operation.client.breaker, self.end_of(operation)
        step = decide(
            policy,
            error,
            attempt=operation.attempt,
            now=self.now,
            end=end,
            draw=self.draws.random(),
            circuit_open=breaker is not None and breaker.state is BreakerState.OPEN,
            time_is_up=self.now >= end,
        )
        if not isinstance(step, str) and policy.budget is not None and not policy.budget.try_spend():
            step = "budget"
        if isinstance(step, str):
            self.outcome.failed[step] += 1
        else:
            self.at(self.now + step, self.attempt, operation)

    def succeed(self, request: Request) -> None:
        """An attempt was answered in time, and with it the operation."""
        request.is_awaited = False
        client = request.operation.client
        if request.permit is not None:
            request.permit.success()
        if request.guard is not None:
            request.guard.__exit__(None, None, None)
        if client.policy.budget is not None and not client.is_fed_by_requests:
            client.policy.budget.deposit()
        self.outcome.succeeded[int(request.operation.begun)] += 1

    def end_of(self, operation: Operation) -> float:
        """Return when the operation must have ended."""
        deadline = operation.client.policy.deadline
        return float("inf") if deadline is None else operation.begun + deadline

    # -- the backend

    def receive(self, request: Request) -> None:
        """A request reaches the backend: it is served, waits, or is rejected."""
        attempts, second = self.outcome.attempts, int(self.now)
        attempts.extend([0] * (second + 1 - len(attempts)))
        attempts[second] += 1
        if self.is_triggered("refusal") or len(self.queue) >= self.scenario.queue:
            self.outcome.requests["refused"] += 1
            self.fail(request, ConnectionError("refused"))
            return
        self.queue.append(request)
        self.serve(None)

    def serve(self, _: None) -> None:
        """The backend takes requests as long as it can; it doesn't know whether anybody still waits for them."""
        scenario = self.scenario
        while self.queue and self.serving < scenario.workers and not self.is_triggered("stall"):
            self.serving += 1
            seconds = scenario.workers / scenario.capacity * (SLOW if self.is_triggered("slow") else 1.0)
            self.at(self.now + seconds, self.served, self.queue.popleft())

    def served(self, request: Request) -> None:
        """The backend has an answer."""
        self.serving -= 1
        self.outcome.requests["answered" if request.is_awaited else "abandoned"] += 1
        if request.is_awaited:
            self.succeed(request)
        self.serve(None)
