"""Notify a monitor's listeners of records and its owner of alerts, without holding a lock."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from booking_resilience.callbacks import check_callback
from booking_resilience.events import AlertEvent, Listener, Subscription, notify
from booking_resilience.locks import new_lock, run_if_free
from booking_resilience.monitor.record import ErrorRecord

E = TypeVar("E")
_CANCELLATIONS = frozenset({"CancelledError", "Cancelled"})  # asyncio's and trio's
logger: logging.Logger = logging.getLogger("booking_resilience.monitor")


class Teller:
    """Notifies listeners. What they record themselves reaches no listener, so that nothing goes round in circles.

    Args:
        on_alert: Called with each event of the alert, or None.

    Attributes:
        listeners: Called with each record; by a key, since one may listen twice.
        raised: How often one of them has raised.
    """

    def __init__(self, on_alert: Listener[AlertEvent] | None) -> None:
        self._on_alert = on_alert
        self._lock = new_lock()
        self._alerting = new_lock()  # never waited for: one thread at a time tells of alerts, in order
        self._here = threading.local()
        self.listeners: dict[object, Listener[ErrorRecord]] = {}
        self.raised: int = 0

    def subscribe(self, listener: Listener[ErrorRecord]) -> Subscription:
        """Call the listener with each record, until the subscription is closed."""
        check_callback("listener", listener, "a function of the record")
        key = object()
        self.listeners[key] = listener
        return Subscription(functools.partial(self.listeners.pop, key, None))

    def tell(self, alerts: deque[AlertEvent], record: ErrorRecord | None) -> None:
        """Tell of the alerts, oldest first, and then of the record, if there is one."""
        if getattr(self._here, "telling", False):
            return
        self._here.telling = True
        try:
            self._tell_alerts(alerts)
            if record is not None and self.listeners:
                self.tell_listeners(list(self.listeners.values()), record)
                self._tell_alerts(alerts)  # those that the listeners have set off
        finally:
            self._here.telling = False

    def _tell_alerts(self, alerts: deque[AlertEvent]) -> None:
        def tell() -> None:
            if alerts:
                self.tell_alert(alerts.popleft())

        while alerts and run_if_free(self._alerting, tell):
            pass

    def tell_alert(self, event: AlertEvent) -> None:
        """Log a transition of the alert, and tell its owner."""
        level = logging.INFO if event.state == "resolved" else logging.WARNING
        facts = {"state": event.state, "rate": event.rate, "peak": event.peak}
        with contextlib.suppress(Exception):  # a logging handler that raises
            logger.log(level, "error alert %s: %.1f errors per minute, peak %.1f", *facts.values(), extra=facts)
        if self._on_alert is not None:
            self.tell_listeners((self._on_alert,), event)

    def tell_listeners(self, listeners: Iterable[Listener[E]], event: E) -> None:
        """Call listeners with an event; what they raise is logged and counted."""
        for listener in listeners:
            try:
                raised = notify((listener,), event, logger)
            except BaseException as error:
                if type(error).__name__ not in _CANCELLATIONS:
                    raise
                raised = 1  # the listener's own: whoever records is not cancelled by it
                logger.error("a listener was cancelled on %s", type(event).__name__)
            if raised:
                with self._lock:
                    self.raised += raised
