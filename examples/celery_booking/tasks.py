"""Tasks that store bookings: `celery -A tasks worker`, and `store_booking.delay(...)` where you have the booking.

A task that fails for a moment is tried again by the policy; while the breaker is open it waits. A booking is stored
once, however often the task runs: its ID is the row's. The environment says where things are: APPWRITE_ENDPOINT,
APPWRITE_PROJECT, APPWRITE_KEY, and CELERY_BROKER. Without a broker messages are files in the folder `queue`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import celery
from appwrite.services.tables_db import TablesDB

from booking_resilience import Pipeline, RetryPolicy, Settings
from booking_resilience.appwrite import AppwriteClient, create_row_once
from booking_resilience.celery import resilient_task

settings = Settings.load(Path(__file__).with_name("bookings.toml"))
pipeline, monitor = settings.pipeline("appwrite"), settings.monitor("errors")
ONCE = Pipeline(retry=RetryPolicy(max_attempts=1))  # the task is what is tried again, and asks the breaker

app = celery.Celery("bookings", broker=os.environ.get("CELERY_BROKER", "filesystem://"))
app.conf.worker_hijack_root_logger = False
if app.conf.broker_url == "filesystem://":
    queue = Path("queue").absolute()
    queue.mkdir(exist_ok=True)
    folders = dict.fromkeys(("data_folder_in", "data_folder_out"), str(queue))
    app.conf.broker_transport_options = {**folders, "control_folder": str(queue / "control")}


def client_of(environ: Any = os.environ) -> AppwriteClient:
    """Return a client of the Appwrite that the environment names."""
    client: Any = AppwriteClient()
    made: AppwriteClient = client.set_endpoint(environ["APPWRITE_ENDPOINT"]).set_project(environ["APPWRITE_PROJECT"])
    return made.set_key(environ["APPWRITE_KEY"])


@resilient_task(app, retry=pipeline.retry, breaker=pipeline.breaker, monitor=monitor, name="store_booking")
def store_booking(booking_id: str, therapist: str, start: str) -> str:
    """Store a booking; the same ID and content again is the same booking."""
    with client_of() as client:
        row = create_row_once(
            TablesDB(client),
            database_id="clinic",
            table_id="bookings",
            row_id=booking_id,
            data={"therapist": therapist, "start": start},
            pipeline=ONCE,
            operation="storeBooking",
        )
    return row.id
