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

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


EXTENSIONS = (".so", ".pyd", ".dylib")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of RECORD."""

    path: str
    """Relative to the directory that holds the dist-info, with ``/``."""
    size: int | None
    """Bytes, where it was recorded."""
    digest: str = ""
    """For example ``sha256=…``, where it was recorded."""


def entries(dist_info: Path) -> Iterator[Entry]:
    """Return the lines of a distribution's RECORD; nothing where it has none."""
    try:
        text = (dist_info / "RECORD").read_text(encoding="utf-8")
    except OSError:
        return
    for row in csv.reader(text.splitlines()):
        if row and row[0]:
            path, digest, size, *_ = *row, "", ""
            yield Entry(path, int(size) if size.isdigit() else None, digest)


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


def top_level(path: str) -> str | None:
    """Return the top-level module or package that a file of a distribution belongs to, or None."""
    top, slash, _ = path.partition("/")
    if slash:
        return top if top.isidentifier() and top != "__pycache__" else None
    return module_name(path)
