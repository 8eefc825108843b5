"""Installed distributions that are written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.record import recorded

if TYPE_CHECKING:
    from pathlib import Path


def write_package(site: Path, name: str, **files: str) -> None:
    """Write an installed distribution of version 1.0 by hand."""
    info = f"{name}-1.0.dist-info"
    contents = dict(files)
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    contents[f"{info}/INSTALLER"] = "hand\n"
    lines = [*(recorded(path, text.encode()) for path, text in contents.items()), f"{info}/RECORD,,"]
    contents[f"{info}/RECORD"] = "\n".join(lines) + "\n"
    for path, text in contents.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
