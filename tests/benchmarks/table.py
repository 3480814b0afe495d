"""The table that people read, from what was measured."""

from __future__ import annotations

from typing import Any

COLUMNS = ("what", "limit", "ours", "best peer", "the others")
COMPARED = ("tenacity", "stamina", "backoff", "pybreaker", "nopanic", "interlock", "hyx")
"""The columns of the table in the comparison; of ours, the decorated function with the default settings."""
COMPARED_ROWS = ("retry_sync", "retry_async", "retry_failures", "both_sync", "both_async", "breaker_decorated",
                 "breaker_async", "breaker_refusal", "limit_sync", "everything")  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a table in Markdown, with a line for what was measured where."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *(_line(row) for row in report["rows"])]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    about = f"{report['python']}, {report['rounds']} rounds; medians, quartiles in brackets. Versions: {versions}."
    return "\n".join([about, "", *lines, *_monitor(report), *_comparison(report), *_missing(report)])


def _comparison(report: dict[str, Any]) -> list[str]:
    """Return the table of the page that compares libraries: one figure for each."""
    rows = [row for row in report["rows"] if row["key"] in COMPARED_ROWS]
    lines = ["", f"| × bare | this library | {' | '.join(COMPARED)} |", "|---" * (len(COMPARED) + 2) + "|"]
    for row in rows:
        values = row["values"]
        mine = [name for name in values if name.startswith("ours")]
        best = next((name for name in mine if name.endswith(("default policy", "decorated"))), mine[0])
        others = [next((name for name in values if name.split(",")[0] == peer), None) for peer in COMPARED]
        figures = [_number(values[name]) if name else "" for name in others]
        lines.append(f"| {row['what']} | {_number(values[best])} | {' | '.join(figures)} |")
    return lines if rows else []


def _monitor(report: dict[str, Any]) -> list[str]:
    """Return the table of what recording an error costs."""
    lines = [
        f"| {row['what']} | {row['ratio']:.1f} × {row['to']} | {row.get('target') or ''} |" for row in report["monitor"]
    ]
    return ["", "| recording an error | figure | target |", "|---|---|---|", *lines] if lines else []


def _missing(report: dict[str, Any]) -> list[str]:
    """Return who is not in the table, and why; a package that is not there is named once for all rows."""
    missing: dict[tuple[str, str], list[str]] = {}
    for row in report["rows"]:
        for name, reason in row["broken"].items():
            missing.setdefault((name, reason), []).append(row["what"])
    lines = [f"- {name}: {reason} ({', '.join(rows)})" for (name, reason), rows in missing.items()]
    return ["", "Not measured:", "", *lines] if lines else []


def _line(row: dict[str, Any]) -> str:
    values = row["values"]
    mine = {name: value for name, value in values.items() if name.startswith("ours")}
    peers = sorted(
        (name for name in values if name not in mine and name != "limit"), key=lambda name: values[name]["median"]
    )
    cells = [
        f"{row['what']}, {row['unit']}",
        _number(values["limit"]) if "limit" in values else "",
        " · ".join(f"**{_number(value)}**{_spread(value)}{name[4:]}" for name, value in mine.items()),
        f"{_number(values[peers[0]])} {peers[0]}" if peers else "",
        " · ".join(f"{name} {_number(values[name])}" for name in peers[1:]),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: dict[str, float]) -> str:
    median = value["median"]
    return f"{median:.0f}" if abs(median) >= 100 or median == int(median) else f"{median:.1f}"


def _spread(value: dict[str, float]) -> str:
    if value["low"] == value["high"]:
        return ""
    digits = 0 if value["median"] >= 100 else 1
    return f" ({value['low']:.{digits}f} to {value['high']:.{digits}f})"
