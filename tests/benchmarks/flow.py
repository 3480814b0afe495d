"""One booking in one transaction against the same booking step by step, on a backend that answers in 20 ms.

Run it by `python tests/benchmarks/flow.py [BOOKINGS]`. The two are interleaved, so that whatever else the
machine does meets both alike.
"""

from __future__ import annotations

import datetime
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from booking_flow import BookingFlow, BookingRequest, bootstrap
from booking_resilience import ErrorMonitor
from booking_resilience.appwrite import AppwriteClient
from booking_resilience.testing import AppwriteServer

ANSWER = 0.02  # seconds
FIRST = datetime.datetime(2027, 1, 4, 9, tzinfo=datetime.UTC)


class SlowClient(AppwriteClient):
    """A client whose backend takes its time; it counts the requests."""

    requests = 0

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Make the call."""
        self.requests += 1
        time.sleep(ANSWER)
        return super().call(*args, **kwargs)


def main(bookings: int = 100) -> None:
    """Make the bookings in both forms, alternating, and print what each took."""
    with AppwriteServer() as server:
        bootstrap(server.client())
        taken: dict[str, list[float]] = {"in one transaction": [], "step by step": []}
        clients = {name: SlowClient() for name in taken}
        flows = {}
        for name, client in clients.items():
            client.set_endpoint(server.endpoint).set_project("demo").set_key("demo-key")
            flows[name] = BookingFlow(client, monitor=ErrorMonitor(), steps=name == "step by step")
        for number in range(bookings):
            for name, flow in flows.items():
                request = BookingRequest(
                    therapist_id=f"{name} {number}", therapist_name="Ada", user_id=f"user-{number}", start=FIRST
                )
                started = time.perf_counter()
                flow.create_booking(request)
                taken[name].append((time.perf_counter() - started) * 1000)
    for name, values in taken.items():
        requests = clients[name].requests / bookings
        print(f"{name}: {requests:.0f} requests a booking, p50 {statistics.median(values):.0f} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
