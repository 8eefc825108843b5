"""One picture of all rows (SVG): each ratio of ours to a peer or limit, on a logarithmic scale, beside its goal."""

from __future__ import annotations

import re
from html import escape
from math import log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.table import Table

LEFT, WIDTH, LINE = 620, 560, 18
"""Pixels: of the names, of the scale, and of one line."""
LOWEST, HIGHEST = 0.01, 100.0
"""The ratios at the two ends of the scale; others stand at its ends."""
_NUMBER = re.compile(r"<=?\s*([\d.]+)")
_STYLE = """
text { font: 12px sans-serif; fill: #222 } .title { font-weight: bold } .met { fill: #2a7f4f } .missed { fill: #c0392b }
.no-goal { fill: #7f8c8d } .goal { stroke: #222; stroke-width: 2 } .scale { stroke: #ccc } .value { font-size: 11px }
"""


def goal_of(text: str) -> float | None:
    """Return the number of a goal such as ``<= 1.5``; None if there is none."""
    found = _NUMBER.search(text)
    return float(found[1]) if found else None


def _x(ratio: float) -> float:
    inside = min(max(ratio, LOWEST), HIGHEST)
    return LEFT + WIDTH * log10(inside / LOWEST) / log10(HIGHEST / LOWEST)


def _text(x: float, y: float, content: str, kind: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{escape(content)}</text>'


def _rows(table: Table, y: float) -> Iterator[str]:
    yield _text(8, y + 13, table.title[:110], "title")
    for number, name in enumerate((name for name in table.seconds if name != table.ours), 1):
        top, ratio, goal = y + number * LINE, table.ratio(name), goal_of(table.goals.get(name, ""))
        kind = "no-goal" if goal is None else "met" if ratio <= goal else "missed"
        begin, end = sorted((_x(1.0), _x(ratio)))
        yield _text(24, top + 13, f"{table.ours} / {name}"[:95])
        yield f'<rect x="{begin:.1f}" y="{top + 4:.0f}" width="{max(end - begin, 1):.1f}" height="10" class="{kind}"/>'
        yield _text(LEFT + WIDTH + 8, top + 13, f"{ratio:.2f}" + (f", goal {goal:g}" if goal else ""), "value")
        if goal is not None:
            yield f'<path d="M{_x(goal):.1f} {top + 1:.0f}v16" class="goal"/>'


def drawn(tables: Iterable[Table], about: str) -> str:
    """Return the picture of tables as SVG; green rows meet their goal, red ones do not, grey ones have none.

    Parameters
    ----------
    tables : iterable of Table
    about : str
        What was measured, for the first line.
    """
    body, y = [], 3 * LINE
    for table in tables:
        if len(table.seconds) > 1:
            body += _rows(table, y)
            y += LINE * len(table.seconds) + LINE // 2
    scale = []
    for ratio in (0.01, 0.1, 1, 10, 100):
        scale += [f'<path d="M{_x(ratio):.1f} {2 * LINE}V{y}" class="scale"/>', _text(_x(ratio) - 8, 32, f"{ratio:g}")]
    size = f'width="{LEFT + WIDTH + 140}" height="{y + LINE}"'
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{_STYLE}</style>"]
    ground = ['<rect width="100%" height="100%" fill="white"/>', _text(8, 14, about)]
    return "\n".join([*head, *ground, *scale, *body, "</svg>"]) + "\n"
