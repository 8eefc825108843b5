"""What installed distributions say of their files: RECORD, as the wheel format (PEP 376, PEP 427) has it."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from dask_pkgsync.core.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXTENSIONS = (".so", ".pyd", ".dylib")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of RECORD."""

    path: str
    """Relative to the directory that holds the dist-info, with ``/``."""
    size: int | None
    """Bytes, where it was recorded."""


def entries(dist_info: Path) -> Iterator[Entry]:
    """Return the lines of a distribution's RECORD; nothing where it has none."""
    try:
        text = (dist_info / "RECORD").read_text(encoding="utf-8")
    except OSError:
        return
    for row in csv.reader(text.splitlines()):
        if row and row[0]:
            size = row[2] if len(row) > 2 else ""  # noqa: PLR2004  # path, hash, size
            yield Entry(row[0], int(size) if size.isdigit() else None)


def recorded(path: str, content: bytes) -> str:
    """Return the line of RECORD for a file."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    quoted = f'"{path}"' if "," in path else path
    return f"{quoted},sha256={digest},{len(content)}"


def module_names(dist_info: Path) -> frozenset[str]:
    """Return the modules that a distribution provides, as dotted names; a package by its own name."""
    return frozenset(filter(None, (module_name(entry.path) for entry in entries(dist_info))))


def module_name(path: str) -> str | None:
    """Return the dotted name of the module that a file holds, or None if it holds none."""
    parts = path.split("/")
    stem, dot, suffix = parts[-1].partition(".")
    is_module = suffix == "py" or (dot and path.endswith(EXTENSIONS))
    if not is_module or ".." in parts or any("." in part or "-" in part for part in parts[:-1]):
        return None
    return ".".join(parts[:-1] if stem == "__init__" else [*parts[:-1], stem])


def dist_infos(directory: Path | str) -> dict[str, Path]:
    """Return the dist-info directories of one directory, by canonical name."""
    found: dict[str, Path] = {}
    try:
        with os.scandir(directory) as listing:
            for item in listing:
                if item.name.endswith(".dist-info"):
                    name = str(canonicalize_name(item.name.removesuffix(".dist-info").rpartition("-")[0]))
                    found.setdefault(name, Path(item.path))
    except OSError:  # not there, not readable, or a zip: holds nothing for us
        pass
    return found


def installed(places: Sequence[str | Path]) -> dict[str, Path]:
    """Return the dist-info directories on a search path, by canonical name; the first of a name wins."""
    found: dict[str, Path] = {}
    for place in places:
        found = {**dist_infos(place), **found}
    return found


def verify(site_packages: Path, pins: Sequence[str]) -> int:
    """Hold what was installed against RECORD: every file there, and of the recorded size.

    An installer that was killed leaves a dist-info without INSTALLER, or files missing, and the next run does not
    repair it (uv 0.13). Contents were checked by the installer when it unpacked the wheel.

    Returns
    -------
    int
        Bytes of all files.

    Raises
    ------
    LayerError
        Naming what is missing, and in which packages.
    """
    there = dist_infos(site_packages)
    problems: dict[str, list[str]] = {}
    total = 0
    for pin in pins:
        name = pin.partition("==")[0]
        dist_info = there.get(name)
        if dist_info is None or not (dist_info / "INSTALLER").exists():
            problems[pin] = ["not installed" if dist_info is None else "not completely installed"]
            continue
        size, missing = _check(site_packages, dist_info)
        total += size
        if missing:
            problems[pin] = missing
    if problems:
        shown = [f"{pin}: {', '.join(what[:_SHOWN])}" for pin, what in list(problems.items())[:_SHOWN]]
        raise LayerError(
            "verify",
            "what the installer left is not what the packages record: " + "; ".join(shown),
            advice="Run the sync again; if it stays so, remove the directory uv in the cache of dask-pkgsync.",
            packages=tuple(problems),
        )
    return total


def _check(site_packages: Path, dist_info: Path) -> tuple[int, list[str]]:
    root = str(site_packages)
    total, missing = 0, []
    lines = 0
    for entry in entries(dist_info):
        lines += 1
        try:
            size = os.stat(f"{root}/{entry.path}").st_size  # noqa: PTH116  # fifteen thousand files: three times faster
        except OSError:
            missing.append(f"{entry.path} is missing")
            continue
        total += size
        if entry.size is not None and size != entry.size:
            missing.append(f"{entry.path} has {size} bytes instead of {entry.size}")
    return total, missing if lines else ["no RECORD"]
