"""Seconds, or bytes, as a table: medians, and how ours compares with each peer's."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Table:
    """What was measured of one thing, and of its peers or limits."""

    title: str
    seconds: Mapping[str, Sequence[float]]
    """Of each row; or bytes, see ``unit``."""
    ours: str
    """The row that is compared with each other one."""
    goals: Mapping[str, str] = field(default_factory=dict)
    """What the ratio to a row is to be, for people, for example ``<= 1.5``."""
    note: str = ""
    """What else there is to say."""
    unit: str = "s"
    """``s`` for seconds, or ``B`` for bytes."""

    def ratio(self, name: str) -> float:
        """Return our median as a multiple of a row's."""
        ours, other = median(self.seconds[self.ours]), median(self.seconds[name])
        return ours / other if other else inf if ours else 1.0  # what was too short to be noticed

    def __str__(self) -> str:
        """Lay it out."""
        lines = [self.title, f"{'':50} {'median':>9} {'min':>9} {'max':>9} {'runs':>5} {'ours / it':>10}  goal"]
        for name, values in self.seconds.items():
            show = duration if self.unit == "s" else size
            shown = " ".join(f"{show(value):>9}" for value in (median(values), min(values), max(values)))
            lines.append(f"{name:50} {shown} {len(values):>5} {self.ratio(name):>10.3f}  {self.goals.get(name, '')}")
        return "\n".join([*(line.rstrip() for line in lines), *filter(None, [self.note])])


def duration(seconds: float) -> str:
    """Return seconds in three or more digits, with a unit."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3f} {unit}"
    return f"{seconds * 1e6:.1f} µs"


def size(count: float) -> str:
    """Return bytes as megabytes."""
    return f"{count / 1e6:.2f} MB"
