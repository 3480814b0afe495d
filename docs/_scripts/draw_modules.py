"""Draws the library's modules and what they import, into `docs/_static/modules.svg`.

Run it when a test says that the drawing is old: `python docs/_scripts/draw_modules.py`.

The imports are read from the source, those inside of functions and for type checkers included. A module stands above
everything that it imports. An import that follows from others isn't drawn, so that the drawing stays readable. A test
compares the file with what this draws, and holds that there is no circle.
"""

from __future__ import annotations

import ast
import graphlib
import html
from pathlib import Path
from typing import TypeAlias

Graph: TypeAlias = dict[str, set[str]]

PACKAGE = "booking_resilience"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE
TARGET = Path(__file__).parents[1] / "_static" / "modules.svg"
IN_A_ROW, BOX_WIDTH, BOX_HEIGHT, ACROSS, DOWN, ROW_GAP = 4, 82, 24, 90, 32, 34
STYLE = (
    "text{font:12px sans-serif;text-anchor:middle;fill:#24292f}"
    "rect{fill:#f6f8fa;stroke:#57606a}"
    "path{fill:none;stroke:#57606a;stroke-width:.8;opacity:.6}"
)


def files_of(source: Path) -> dict[str, Path]:
    """Return the package's files by the names of their modules."""
    files = {}
    for path in sorted(source.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(source).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports_of(files: dict[str, Path]) -> Graph:
    """Return for each file which others it imports."""
    graph: Graph = {}
    for module, path in files.items():
        wanted = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    wanted.add(inner if inner in files else node.module)
        graph[module] = {name for name in wanted if name in files and name != module}
    return graph


def circle(graph: Graph) -> list[str]:
    """Return modules that import one another, in their order; none, as it should be, if there is no circle."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def reach(graph: Graph, start: str) -> set[str]:
    """Return all that is imported by one, directly or through others."""
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def by_part(graph: Graph) -> Graph:
    """Return the same for the parts of the package: its folders and the files beside them."""
    parts: Graph = {}
    for module, others in graph.items():
        if module == PACKAGE:  # it only loads what others define
            continue
        part = module.split(".")[1]
        parts.setdefault(part, set()).update(other.split(".")[1] for other in others if other != PACKAGE)
    return {part: others - {part} for part, others in parts.items()}


def rows_of(parts: Graph) -> list[list[str]]:
    """Return the parts in rows, each below all rows that import from it."""
    depths: dict[str, int] = {}

    def depth(part: str) -> int:
        if part not in depths:
            depths[part] = 1 + max((depth(other) for other in parts[part]), default=-1)
        return depths[part]

    rows: list[list[str]] = [[] for _ in range(1 + max(map(depth, parts)))]
    for part in sorted(parts):
        rows[depths[part]].append(part)
    return rows[::-1]


def needed(parts: Graph) -> list[tuple[str, str]]:
    """Return the imports that don't follow from others."""
    return [
        (part, other)
        for part, others in sorted(parts.items())
        for other in sorted(others)
        if not any(other in reach(parts, via) for via in others - {other})
    ]


def draw(parts: Graph) -> str:
    """Return the drawing, as SVG."""
    width, y = IN_A_ROW * ACROSS + 8, 8
    places: dict[str, tuple[float, float]] = {}
    for row in rows_of(parts):
        lines = -(-len(row) // IN_A_ROW)
        for line in range(lines):
            names = row[line * len(row) // lines : (line + 1) * len(row) // lines]
            left = (width - ACROSS * len(names)) / 2 + (ACROSS - BOX_WIDTH) / 2
            places.update({name: (left + ACROSS * at, y) for at, name in enumerate(names)})
            y += DOWN
        y += ROW_GAP
    height = y - ROW_GAP
    drawing = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        "<title>The modules of booking_resilience and what they import</title>",
        f"<style>{STYLE}</style>",
        f'<rect x="0" y="0" width="{width}" height="{height}" style="fill:#fff;stroke:none"/>',
    ]
    for part, other in needed(parts):
        (x1, y1), (x2, y2) = places[part], places[other]
        x1, x2, y1 = x1 + BOX_WIDTH / 2, x2 + BOX_WIDTH / 2, y1 + BOX_HEIGHT
        bend = (y2 - y1) / 2
        drawing.append(
            f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"/>'
        )
    for part, (x, top) in places.items():
        drawing.append(f'<rect x="{x:.0f}" y="{top:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>')
        drawing.append(f'<text x="{x + BOX_WIDTH / 2:.0f}" y="{top + 16:.0f}">{html.escape(part)}</text>')
    return "\n".join([*drawing, "</svg>", ""])


if __name__ == "__main__":
    TARGET.write_text(draw(by_part(imports_of(files_of(SOURCE)))), encoding="utf-8")
