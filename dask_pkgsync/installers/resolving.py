"""Writes the two files that a resolver reads."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def resolving(cache: Path, requirements: Sequence[str], constraints: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Write requirements and constraints into two files beside an installer's cache; remove them afterwards."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as directory:
        inputs, bounds = Path(directory) / "requirements.in", Path(directory) / "constraints.txt"
        inputs.write_text("\n".join(requirements))
        bounds.write_text("\n".join(constraints))
        yield inputs, bounds
