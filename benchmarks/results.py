"""Results as files, and two of them side by side."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.table import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from benchmarks.table import Table


def write(path: Path, about: Mapping[str, str], tables: Iterable[Table]) -> None:
    """Write every row, with all its seconds."""
    rows = [
        {
            "table": table.title,
            "row": name,
            "seconds": list(values),
            "ours / it": table.ratio(name),
            "goal": table.goals.get(name, ""),
        }
        for table in tables
        for name, values in table.seconds.items()
    ]
    path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read what `write` wrote."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def beside(tables: Iterable[Table], earlier: Mapping[str, Any]) -> str:
    """Lay out how every row compares with the same one of an earlier run; the two runs are no more alike than that."""
    before = {(row["table"], row["row"]): row["seconds"] for row in earlier["rows"]}
    lines = [f"now, and earlier: {earlier['commit']}"]
    lines += [f"{'':60} {'min now':>10} {'earlier':>10} {'ratio':>7} {'of medians':>11}"]
    for table in tables:
        lines.append(table.title)
        for name, now in table.seconds.items():
            then = before.get((table.title, name))
            if not then:
                lines.append(f"  {name:58} {duration(min(now)):>10}  was not measured then")
                continue
            shown = f"{duration(min(now)):>10} {duration(min(then)):>10} {min(now) / min(then):>7.3f}"
            lines.append(f"  {name:58} {shown} {median(now) / median(then):>11.3f}")
    return "\n".join(lines)
