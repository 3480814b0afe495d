"""The web application: `uvicorn app:create_app --factory`.

It takes a booking as soon as it is kept in a file of its own (202), and stores it in Appwrite in the background, once.
APPWRITE_ENDPOINT, APPWRITE_PROJECT and APPWRITE_KEY in the environment say where Appwrite is. Without them it starts an
embedded server, which forgets everything: for trying it out.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pydantic
from appwrite.exception import AppwriteException
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from booking_resilience import Settings, message_for
from booking_resilience.appwrite import AppwriteClient, RowConflictError, SlotTakenError
from booking_resilience.dashboard import dashboard, health
from booking_resilience.durable import CallError, DurableStoreError, GaveUpError
from booking_resilience.web import IdempotencyKey, Resilience, idempotent_id
from tables import DATABASE, make_tables
from workflow import durable_bookings

HERE = Path(__file__).parent
log = logging.getLogger("app")
REFUSED = (CallError, GaveUpError, RowConflictError)


class Booking(pydantic.BaseModel):
    """What a customer asks for."""

    therapist: str = pydantic.Field(min_length=1, max_length=36)
    start: pydantic.AwareDatetime
    customer: str = pydantic.Field(min_length=1, max_length=64)


def create_app(environ: Mapping[str, str] = os.environ, settings_file: Path = HERE / "bookings.toml") -> FastAPI:
    """Make the application.

    Args:
        environ: Where Appwrite is; and BOOKINGS_FILE, the file in which bookings are kept until they are stored.
        settings_file: Retries, breaker and monitor.
    """
    settings = Settings.load(settings_file)
    pipeline, monitor = settings.pipeline("appwrite"), settings.monitor("errors")
    breakers = {"appwrite": settings.breaker("appwrite")}
    client: Any = AppwriteClient()
    rows: Any = TablesDB(client)
    file = environ.get("BOOKINGS_FILE", "bookings.db")
    durable, book = durable_bookings(f"sqlite:///{file}", client, pipeline)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with contextlib.ExitStack() as stack:
            stack.callback(client.close)
            connect(client, environ, stack)
            stack.enter_context(durable)
            yield

    app = FastAPI(title="Bookings", lifespan=lifespan)
    app.add_middleware(IdempotencyKey, required=True)
    app.add_middleware(Resilience, monitor=monitor, deadline=5.0)
    app.mount("/errors", dashboard(monitor, breakers=breakers, title="Bookings"))

    @app.exception_handler(AppwriteException)
    @app.exception_handler(DurableStoreError)
    def unavailable(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": message_for(error)}, status_code=503)

    @app.post("/bookings", status_code=202)
    def take(booking: Booking) -> dict[str, str]:
        booking_id = str(idempotent_id("booking", booking.customer))  # the same request again: the same booking
        start = booking.start.astimezone(datetime.UTC).isoformat()
        try:
            durable.submit(book, booking_id, booking.therapist, start, booking.customer, id=booking_id)
        except ValueError as error:
            raise HTTPException(422, "this Idempotency-Key was used for another booking") from error
        return {"id": booking_id, "state": "received"}

    @app.get("/bookings/{booking_id}")
    def state_of(booking_id: str) -> dict[str, str]:
        try:
            durable.result(booking_id, timeout=0)
        except KeyError as error:
            raise HTTPException(404, "there is no such booking") from error
        except TimeoutError:
            return {"id": booking_id, "state": "received"}
        except SlotTakenError:
            return {"id": booking_id, "state": "refused", "message": "This time is taken."}
        except REFUSED as error:  # for good
            return {"id": booking_id, "state": "refused", "message": message_for(error)}
        return {"id": booking_id, "state": "booked"}

    @app.get("/bookings")
    def bookings_of(therapist: str) -> list[dict[str, Any]]:
        query: Any = Query
        found = pipeline.call(
            "listBookings", rows.list_rows, DATABASE, "bookings", [query.equal("therapist", [therapist])]
        )
        return [{"id": row.id, "start": row.data["start"]} for row in found.rows]

    @app.get("/health")
    def ready() -> JSONResponse:
        found = health(breakers=breakers, monitor=monitor)
        return JSONResponse(
            {"status": found.status, "checks": {check.name: check.status for check in found.checks}},
            status_code=found.http_status,
        )

    return app


def connect(client: Any, environ: Mapping[str, str], stack: contextlib.ExitStack) -> None:
    """Tell the client where Appwrite is; start an embedded one, with the tables, if the environment doesn't say."""
    if "APPWRITE_ENDPOINT" in environ:
        client.set_endpoint(environ["APPWRITE_ENDPOINT"]).set_project(environ["APPWRITE_PROJECT"])
        client.set_key(environ["APPWRITE_KEY"])
        return
    from booking_resilience.testing import AppwriteServer

    server = stack.enter_context(AppwriteServer())
    log.warning("APPWRITE_ENDPOINT isn't set: an embedded server at %s, which forgets everything", server.endpoint)
    client.set_endpoint(server.endpoint).set_project("demo").set_key("demo-key")
    make_tables(client)
