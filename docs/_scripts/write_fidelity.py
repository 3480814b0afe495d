"""Writes the table of routes into docs/reference/fidelity.md, from the table that the embedded server itself uses.

Run it after a change of the routes: `python docs/_scripts/write_fidelity.py`. A test compares the page with this.
"""

from __future__ import annotations

from pathlib import Path

from booking_resilience.testing.appwrite_server import bulk, fields, rows, tables, transactions
from booking_resilience.testing.appwrite_server.routes import MISSING, ROUTES

PAGE = Path(__file__).parent.parent / "reference" / "fidelity.md"
BEGIN, END = "<!-- routes -->\n", "<!-- end of routes -->\n"
GROUPS = {
    "tables": tables.TableRoutes,
    "fields": fields.FieldRoutes,
    "rows": rows.RowRoutes,
    "bulk": bulk.BulkRoutes,
    "transactions": transactions.TransactionRoutes,
}


def table() -> str:
    """Return the table of routes."""
    lines = [
        "| method | path behind `/v1/tablesdb` | what it does | scope | guests, in a minute |",
        "|---|---|---|---|---|",
    ]
    for route in ROUTES:
        method = getattr(GROUPS[route.group], route.action)
        done = (method.__doc__ or "").strip().splitlines()[0].rstrip(".")
        path, limit = route.path or "/", route.limit or ""
        lines.append(f"| {route.method} | `{path}` | {done} | {route.scope} | {limit} |")
    missing = ", ".join(f"`{path}`" for path in MISSING)
    return (
        "\n".join(lines)
        + f"\n\nNot emulated, and answered with 501, are {missing} where the table has no such route.\n"
    )


def render(page: str) -> str:
    """Return a page with the table as it is now."""
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
