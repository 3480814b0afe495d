"""Draws the circuit breaker's states and moves, from the table of its state machine, into docs/_static/breaker.svg.

Run it after a change of the table: `python docs/_scripts/draw_breaker.py`. A test compares the file with what this
draws.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from booking_resilience.breaker.states import TRANSITIONS, Move
from booking_resilience.events import BreakerState

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGET = Path(__file__).parent.parent / "_static" / "breaker.svg"
WIDTH, HEIGHT, BOX_WIDTH, BOX_HEIGHT = 760, 560, 130, 46
PLACES = {
    BreakerState.CLOSED: (380, 60),
    BreakerState.OPEN: (130, 270),
    BreakerState.HALF_OPEN: (630, 270),
    BreakerState.ISOLATED: (380, 500),
}
STYLE = (
    "text{font:13px sans-serif;text-anchor:middle;fill:#24292f}"
    "rect{fill:#f6f8fa;stroke:#57606a;stroke-width:1.5}"
    ".move{fill:none;stroke:#57606a;stroke-width:1.3;marker-end:url(#tip)}"
    ".label{font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:4px}"
)
TIP = (
    '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L10 5L0 10z" fill="#57606a"/></marker></defs>'
)


def draw(transitions: Mapping[tuple[BreakerState, Move], BreakerState]) -> str:
    """Return the picture of the table, as SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>States and moves of the circuit breaker</title>",
        f"<style>{STYLE}</style>",
        TIP,
        f'<rect x="0" y="0" width="{WIDTH}" height="{HEIGHT}" style="fill:#fff;stroke:none"/>',
    ]
    labels = []  # drawn last: no line crosses a text
    for (old, move), new in transitions.items():
        same_way = [key for key, target in transitions.items() if key[0] is old and target is new]
        path, text = arrow(old, new, move, same_way.index((old, move)))
        lines.append(path)
        labels.append(text)
    for state, (x, y) in PLACES.items():
        corner = f'x="{x - BOX_WIDTH // 2}" y="{y - BOX_HEIGHT // 2}"'
        lines.append(f'<rect {corner} width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>')
        lines.append(f'<text x="{x}" y="{y + 5}">{state.name}</text>')
    return "\n".join([*lines, *labels, "</svg>", ""])


def arrow(old: BreakerState, new: BreakerState, move: Move, rank: int) -> tuple[str, str]:
    """Return the arrow of one move and its label; `rank` bends those apart that go the same way."""
    (x1, y1), (x2, y2) = PLACES[old], PLACES[new]
    if old is new:
        path = f"M{x1 - 20} {y1 - BOX_HEIGHT // 2}C{x1 - 40} {y1 - 62} {x1 + 40} {y1 - 62} {x1 + 20} {y1 - 23}"
        return f'<path class="move" d="{path}"/>', label(move, x1 + 90, y1 - 40)
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    aside_x, aside_y = (y2 - y1) / length, -(x2 - x1) / length
    crosses = x1 == x2  # from top to bottom or back, across the moves in the middle and their labels
    bend = 110 if crosses else 55 + 70 * rank
    middle_x, middle_y = (x1 + x2) / 2 + aside_x * bend, (y1 + y2) / 2 + aside_y * bend
    start, end = edge(x1, y1, middle_x, middle_y), edge(x2, y2, middle_x, middle_y)
    path = f"M{start}Q{middle_x:.0f} {middle_y:.0f} {end}"
    at_x, at_y = (x1 + x2) / 2 + aside_x * bend / 2, (y1 + y2) / 2 + aside_y * bend / 2
    lower = 55 if crosses else 3 + 15 * aside_y if y1 == y2 else 0  # a level line would run through its text
    return f'<path class="move" d="{path}"/>', label(move, at_x, at_y + lower)


def edge(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return the point where the line from the middle of a box at x, y to another point leaves the box."""
    across, down = to_x - x, to_y - y
    scale = min(
        BOX_WIDTH / 2 / abs(across) if across else float("inf"), BOX_HEIGHT / 2 / abs(down) if down else float("inf")
    )
    return f"{x + across * scale:.0f} {y + down * scale:.0f}"


def label(move: Move, x: float, y: float) -> str:
    """Return the text of a move."""
    return f'<text class="label" x="{x:.0f}" y="{y:.0f}">{html.escape(move.value)}</text>'


if __name__ == "__main__":
    TARGET.write_text(draw(TRANSITIONS), encoding="utf-8")
