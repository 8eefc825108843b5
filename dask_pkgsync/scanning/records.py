"""Reads RECORD, the list of the files of an installed distribution (PEP 376, PEP 427)."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from dask_pkgsync.scanning.content import owner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


EXTENSIONS = (".so", ".pyd", ".dylib")
FIRST = "_dask_pkgsync_first"
"""The directory, beside the dist-info, of loose modules that hide those of other distributions. A .pth file puts it
before the directory in which it lies."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of RECORD."""

    path: str
    """Path relative to the directory that holds the dist-info, with ``/``."""
    size: int | None
    """Size in bytes; None if it is not recorded."""
    digest: str = ""
    """For example ``sha256=…``; empty if it is not recorded."""


def entries(dist_info: Path) -> Iterator[Entry]:
    """Yield the lines of a distribution's RECORD; none if it has no RECORD."""
    try:
        text = (dist_info / "RECORD").read_text(encoding="utf-8")
    except OSError:
        return
    for row in csv.reader(text.splitlines()):
        if row and row[0]:
            path, digest, size, *_ = *row, "", ""
            yield Entry(path, int(size) if size.isdigit() else None, digest)


def recorded(path: str, content: bytes) -> str:
    """Return the line of RECORD for a file with this path and content."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    quoted = '"' + path.replace('"', '""') + '"' if "," in path or '"' in path else path
    return f"{quoted},sha256={digest},{len(content)}"


def module_names(dist_info: Path) -> frozenset[str]:
    """Return the dotted names of the modules and packages in a distribution."""
    return frozenset(filter(None, (module_name(entry.path) for entry in entries(dist_info))))


def module_name(path: str) -> str | None:
    """Return the dotted name of the module in a file, or None if the file is no module."""
    parts = path.removeprefix(f"{FIRST}/").split("/")
    stem, dot, suffix = parts[-1].partition(".")
    is_module = suffix == "py" or (dot and path.endswith(EXTENSIONS))
    if not is_module or ".." in parts or any("." in part or "-" in part for part in parts[:-1]):
        return None
    return ".".join(parts[:-1] if stem == "__init__" else [*parts[:-1], stem])


def dist_infos(directory: Path | str) -> dict[str, Path]:
    """Return the dist-info directories of one directory, by canonical name; of two with one name the one in use."""
    directories: dict[str, Path] = {}
    try:
        with os.scandir(directory) as listing:
            found = sorted(item.path for item in listing if item.name.endswith(".dist-info"))
    except OSError:  # missing, not readable, or a zip
        return {}
    for path in found:
        name = str(canonicalize_name(os.path.basename(path).removesuffix(".dist-info").rpartition("-")[0]))  # noqa: PTH119
        if name not in directories or owner(str(directories[name]), path) == path:
            directories[name] = Path(path)
    return directories


def unrecorded(directory: Path | str) -> frozenset[str]:
    """Return the canonical names of the distributions of one directory that have an egg-info or egg-link."""
    try:
        names = [item for item in os.listdir(directory) if item.endswith((".egg-info", ".egg-link"))]  # noqa: PTH208
    except OSError:  # missing, not readable, or a zip
        return frozenset()
    return frozenset(str(canonicalize_name(name.rpartition(".")[0].partition("-")[0])) for name in names)


def installed(places: Sequence[str | Path]) -> dict[str, Path]:
    """Return the dist-info directories on a search path, by canonical name; of several with one name the first."""
    directories: dict[str, Path] = {}
    for place in places:
        directories = {**dist_infos(place), **directories}
    return directories


def top_level(path: str) -> str | None:
    """Return the top-level module or package to which a file of a distribution belongs, or None if to none."""
    top, slash, _ = path.partition("/")
    if slash:
        return top if top.isidentifier() and top != "__pycache__" else None
    return module_name(path)
