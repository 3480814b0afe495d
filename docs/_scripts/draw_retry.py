"""Draws when the attempts of a retried operation begin, with the band of their jitter, into docs/_static/retry.svg.

Run it after a change of the defaults: `python docs/_scripts/draw_retry.py`. A test compares the file with what this
draws.
"""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from booking_resilience import RetryPolicy

TARGET = Path(__file__).parent.parent / "_static" / "retry.svg"
WIDTH, LEFT, SECOND, TOP, LANE = 760, 40, 160, 66, 104
"""In pixels: the picture's width, where second 0 stands, how long a second is, the first lane, a lane's height."""
STYLE = (
    "text{font:13px sans-serif;fill:#24292f}"
    ".small{font-size:11px;fill:#57606a}"
    ".middle{text-anchor:middle}"
    ".number{font-size:11px;text-anchor:middle;fill:#fff}"
    ".axis{stroke:#8c959f;stroke-width:1}"
    ".end{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:5 4}"
    ".band{fill:#54aeff;fill-opacity:.45}"
    ".hang{fill:#d0d7de}"
    ".attempt{fill:#0969da}"
)


class Start(NamedTuple):
    """When an attempt begins, in seconds from the operation's beginning: as planned, at the earliest, at the latest."""

    planned: float
    earliest: float
    latest: float


def starts(policy: RetryPolicy, lasts: float = 0.0) -> list[Start]:
    """Return when the attempts begin if each lasts so many seconds and fails."""
    planned = earliest = latest = 0.0
    found = [Start(planned, earliest, latest)]
    for delay in policy.delays():
        planned += lasts + delay
        earliest += lasts + policy.jittered(delay, 0.0)
        latest += lasts + policy.jittered(delay, 1.0)
        found.append(Start(planned, earliest, latest))
    return found


def draw() -> str:
    """Return the picture, as SVG."""
    policy = RetryPolicy()
    deadline = policy.deadline or 0.0
    patient = replace(policy, attempt_timeout=1.0)
    lanes = [
        lane(0, "each attempt fails at once: RetryPolicy()", policy),
        lane(1, 'the same, drawn from the whole delay: RetryPolicy(jitter="full")', replace(policy, jitter="full")),
        lane(2, "each attempt hangs and is cut off: RetryPolicy(attempt_timeout=1.0)", patient, 1.0),
    ]
    bottom = TOP + len(lanes) * LANE
    end = x_of(deadline)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" role="img">',
            "<title>When the attempts of a retried operation begin</title>",
            f"<style>{STYLE}</style>",
            f'<rect x="0" y="0" width="{WIDTH}" height="{bottom + 40}" fill="#fff"/>',
            *legend(),
            *(line for lines in lanes for line in lines),
            f'<path class="end" d="M{end} {TOP - 14}V{bottom - 20}"/>',
            f'<text class="small middle" x="{end}" y="{TOP - 20}">deadline</text>',
            *(
                f'<text class="small middle" x="{x_of(second)}" y="{bottom}">{second} s</text>'
                for second in range(int(deadline) + 1)
            ),
            f'<text class="small middle" x="{WIDTH // 2}" y="{bottom + 22}">since the operation began</text>',
            "</svg>",
            "",
        ]
    )


def legend() -> list[str]:
    """Return what the marks mean."""
    return [
        f'<circle class="attempt" cx="{LEFT}" cy="20" r="8"/><text class="number" x="{LEFT}" y="24">n</text>',
        f'<text class="small" x="{LEFT + 16}" y="24">attempt n begins, without jitter</text>',
        f'<rect class="band" x="{LEFT + 220}" y="11" width="36" height="18"/>',
        f'<text class="small" x="{LEFT + 264}" y="24">where jitter may put it</text>',
        f'<rect class="hang" x="{LEFT + 420}" y="16" width="36" height="8"/>',
        f'<text class="small" x="{LEFT + 464}" y="24">attempt under way</text>',
    ]


def lane(row: int, title: str, policy: RetryPolicy, lasts: float = 0.0) -> list[str]:
    """Return the timeline of one policy."""
    y = TOP + row * LANE + 46
    found = starts(policy, lasts)
    lines = [
        f'<text x="{LEFT}" y="{y - 28}">{html.escape(title)}</text>',
        f'<path class="axis" d="M{LEFT} {y}H{x_of(4.2)}"/>',
        *(f'<path class="axis" d="M{x_of(second)} {y - 4}V{y + 4}"/>' for second in range(5)),
    ]
    if lasts:
        lines += [f'<rect class="hang" x="{x_of(s.planned)}" y="{y - 4}" width="{x_of(lasts) - LEFT}" height="8"/>'
                  for s in found]  # fmt: skip
    for start in found[1:]:
        left, right = x_of(start.earliest), x_of(start.latest)
        lines.append(f'<rect class="band" x="{left:g}" y="{y - 14}" width="{right - left:g}" height="28"/>')
    for number, start in enumerate(found, 1):
        lines.append(f'<circle class="attempt" cx="{x_of(start.planned):g}" cy="{y}" r="8"/>')
        lines.append(f'<text class="number" x="{x_of(start.planned):g}" y="{y + 4}">{number}</text>')
    said = (f"attempt {number} after {s.earliest:.4g} to {s.latest:.4g} s" for number, s in enumerate(found[1:], 2))
    lines.append(f'<text class="small" x="{LEFT}" y="{y + 30}">{", ".join(said)}</text>')
    return lines


def x_of(seconds: float) -> float:
    """Return where so many seconds stand."""
    return round(LEFT + seconds * SECOND, 1)


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
