"""Finds the installed distributions of directories, and what their RECORDs list (`model.record`)."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from dask_pkgsync.model.record import parse
from dask_pkgsync.scanning.content import content_digest, owner
from dask_pkgsync.scanning.small_files import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.model.record import Entry


EXTENSIONS = (".so", ".pyd", ".dylib")
FIRST = "_dask_pkgsync_first"
"""The directory, beside the dist-info, of loose modules that hide those of other distributions. A .pth file puts it
before the directory in which it lies."""


class Listed:
    """An installed distribution, and what its RECORD lists, which is read once.

    Parameters
    ----------
    dist_info : Path
        Its dist-info directory.
    known_entries, known_content : optional
        `entries` and `content`, if they are known already.
    """

    def __init__(
        self, dist_info: Path, known_entries: list[Entry] | None = None, known_content: str | None = None
    ) -> None:
        self.dist_info = dist_info
        self._entries, self._content = known_entries, known_content

    @cached_property
    def entries(self) -> list[Entry]:
        """The lines of RECORD; none if there is no RECORD."""
        return entries(self.dist_info) if self._entries is None else self._entries

    @cached_property
    def content(self) -> str:
        """Its content digest; empty if it is not known (see `content.Content`)."""
        return content_digest(str(self.dist_info), self.entries) if self._content is None else self._content

    @cached_property
    def top_levels(self) -> dict[str, bool]:
        """Its top-level names; true for a module or a regular package, false for (its part of) a namespace package."""
        regular = {top for top, is_regular in self._tops.values() if is_regular}
        return {top: top in regular for top, _ in self._tops.values() if top is not None}

    def below(self, tops: frozenset[str]) -> list[tuple[str, Entry]]:
        """Return top-level name and entry of each file below one of some top-level names."""
        if tops.isdisjoint(self.top_levels):
            return []
        known = {first: top for first, (top, _) in self._tops.items() if top in tops}
        firsts = ((entry.path.partition("/")[0], entry) for entry in self.entries)
        return [(known[first], entry) for first, entry in firsts if first in known]

    @cached_property
    def _tops(self) -> dict[str, tuple[str | None, bool]]:
        """By the first part of paths, the top-level name, and whether it is a module or a regular package."""
        tops: dict[str, tuple[str | None, bool]] = {}
        for path, _, _ in self.entries:
            first, slash, rest = path.partition("/")
            if first not in tops:
                tops[first] = top_level(path), not slash
            if rest == "__init__.py":
                tops[first] = tops[first][0], True
        return tops


def listed(directory: Path | str) -> dict[str, Listed]:
    """Return the distributions of one directory, by canonical name."""
    return {name: Listed(dist_info) for name, dist_info in dist_infos(directory).items()}


def entries(dist_info: Path) -> list[Entry]:
    """Return the lines of a distribution's RECORD; none if it has no RECORD."""
    try:
        return parse(text_of(f"{dist_info}{os.sep}RECORD"))
    except OSError:
        return []


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
