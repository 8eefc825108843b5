"""Wheels that are made by hand, and uv on every node, so that no network takes part in what is measured."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from uv import find_uv_bin

from dask_pkgsync.model.indexes import Indexes
from dask_pkgsync.model.record import recorded

if TYPE_CHECKING:
    from collections.abc import Iterable

HAS_UV = {"PATH": os.pathsep.join([str(Path(find_uv_bin()).parent), os.environ.get("PATH", os.defpath)])}
"""For the environment of nodes, which otherwise fetch uv before their first layer."""
MODULE = "def answer():\n    return 42\n\n\n" * 100
"""About 3 kB, as modules often have."""


def directory_of(directory: Path, pins: Iterable[tuple[str, str]], files: int = 1) -> Path:
    """Make a wheel with so many modules for each name and version, and return their directory."""
    directory.mkdir()
    for name, version in pins:
        _make(directory, name, version, files)
    return directory


def _make(directory: Path, name: str, version: str, files: int) -> None:
    package = name.replace("-", "_")
    info = f"{package}-{version}.dist-info"
    texts = {f"{package}/module{number}.py": MODULE for number in range(1, files)}
    texts |= {
        f"{package}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: benchmarks\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [recorded(path, text.encode()) for path, text in texts.items()]
    texts[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(directory / f"{package}-{version}-py3-none-any.whl", "w") as bundle:
        for path, text in texts.items():
            bundle.writestr(path, text)


def only(directory: Path) -> Indexes:
    """Return what lets an installer look there and nowhere else."""
    return Indexes(find_links=(str(directory),), no_index=True)
