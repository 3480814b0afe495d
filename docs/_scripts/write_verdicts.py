"""Writes the tables of `docs/reference/verdicts.md`: `python docs/_scripts/write_verdicts.py`."""

from __future__ import annotations

from pathlib import Path

from booking_resilience.verdicts import table
from booking_resilience.verdicts.meanings import MEANINGS, Rule

PAGE = Path(__file__).parents[1] / "reference" / "verdicts.md"
MARK = "<!-- below: written by docs/_scripts/write_verdicts.py -->"
_READS = {
    "appwrite": "code and type", "aws": "AWS error code, then status", "counted": "the status in its text",
    "errno": "its number", "grpc": "its code", "invalidated": "`connection_invalidated`", "redis": "Redis' first word",
    "sqlstate": "its SQLSTATE", "ssl": "its reason", "status": "its status",
}  # fmt: skip


def tables() -> str:
    """Return the tables of meanings, facts and classes, as Markdown."""
    lines = [
        "## Meanings",
        "",
        "| meaning | transient | sent | failure | evidence | said of |",
        "|---|---|---|---|---|---|",
    ]
    for name, meaning in MEANINGS.items():
        marks = ["yes" if each else "no" for each in (meaning.transient, meaning.failure, meaning.evidence)]
        lines.append(f"| `{name}` | {marks[0]} | {meaning.sent} | {marks[1]} | {marks[2]} | {meaning.about} |")
    lines += ["", "## Facts", "", "| fact | meaning |", "|---|---|"]
    lines += [f"| status {status} | `{meaning}` |" for status, meaning in table.STATUSES.items()]
    lines += ["| any other status, 400 to 499 | `answered` |", "| any other status, 500 to 599 | `broken` |"]
    lines += [f"| gRPC `{code}` | `{meaning}`, sent {sent} |" for code, (meaning, sent) in table.GRPC_CODES.items()]
    lines += [
        f"| SQLSTATE `{state}`{'…' * (len(state) < 5)} | `{meaning}` |" for state, meaning in table.SQLSTATES.items()
    ]
    lines += [f"| Redis `{word}` | `{meaning}` |" for word, meaning in table.REDIS_WORDS.items()]
    lines += [f"| `OSError` number `{name}` | `{meaning}` |" for name, meaning in table.ERRNOS.items()]
    lines += ["| an AWS throttling code | `busy` |", "| any other code, SQLSTATE or word | `answered` |"]
    lines += ["", "## Classes", "", "| package | classes | meaning | told by |", "|---|---|---|---|"]
    for package, rows in table.KNOWN.items():
        for names, rule in rows:
            classes = ", ".join(f"`{name}`" for name in names.split())
            lines.append(f"| `{package}` | {classes} | `{rule.meaning}` | {_told_by(rule)} |")
    return "\n".join(lines) + "\n"


def _told_by(rule: Rule) -> str:
    parts = [_READS[rule.reads]] if rule.reads else []
    parts += ["what it wraps"] if rule.wraps else []
    parts += ["its words"] if rule.words else []
    parts += ["never sent `no` after attempts of the client's own"] if rule.repeats else []
    return "; ".join(parts)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page[: page.index(MARK)] + MARK + "\n\n" + tables(), encoding="utf-8")
