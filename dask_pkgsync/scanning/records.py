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

from dask_pkgsync.model.clash import Clash
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

EXTENSIONS = (".so", ".pyd", ".dylib")
_SHOWN = 8


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


def verify(site_packages: Path, pins: Sequence[str]) -> int:
    """Hold what was installed against RECORD: every file there, and of the recorded size.

    Where two distributions have different files of one path, it may be either's (see `clashes`).

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
    wrong: dict[str, list[Entry]] = {}
    total = 0
    for pin in pins:
        name = pin.partition("==")[0]
        dist_info = there.get(name)
        if dist_info is None or not (dist_info / "INSTALLER").exists():
            problems[pin] = ["not installed" if dist_info is None else "not completely installed"]
            continue
        size, missing, wrong[pin] = _check(site_packages, dist_info)
        total += size
        if missing:
            problems[pin] = missing
    for pin, entry, size in _not_of_another(site_packages, wrong):
        problems.setdefault(pin, []).append(f"{entry.path} has {size} bytes instead of {entry.size}")
    if problems:
        shown = [f"{pin}: {', '.join(what[:_SHOWN])}" for pin, what in list(problems.items())[:_SHOWN]]
        raise LayerError(
            "verify",
            "what the installer left is not what the packages record: " + "; ".join(shown),
            advice="Run the sync again; if it stays so, remove the directory uv in the cache of dask-pkgsync.",
            packages=tuple(problems),
        )
    return total


def _check(site_packages: Path, dist_info: Path) -> tuple[int, list[str], list[Entry]]:
    """Return the bytes, what is missing, and what has another size than was recorded."""
    root = str(site_packages)
    total, missing, wrong = 0, [], []
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
            wrong.append(entry)
    return total, missing if lines else ["no RECORD"], wrong


def _not_of_another(site_packages: Path, wrong: Mapping[str, Sequence[Entry]]) -> Iterator[tuple[str, Entry, int]]:
    """Yield the files, with their sizes, that are not those of another distribution which has the same path."""
    paths = {entry.path for found in wrong.values() for entry in found}
    if not paths:
        return
    everything = (entry for dist_info in dist_infos(site_packages).values() for entry in entries(dist_info))
    known = {(entry.path, entry.size) for entry in everything if entry.path in paths}
    for pin, found in wrong.items():
        for entry in found:
            size = (site_packages / entry.path).stat().st_size
            if (entry.path, size) not in known:
                yield pin, entry, size


def clashes(distributions: Mapping[str, Path], loose: Container[str] = ()) -> tuple[Clash, ...]:
    """Return which distributions differ in something importable that both have.

    What nobody imports does not count: metadata, scripts, and what many leave at the top by accident. To Python
    ``a/b.py``, ``a/b.cpython-311.so`` and ``a/b/`` are one module, of which it takes one.

    Parameters
    ----------
    distributions : mapping of str to Path
        Their dist-info directories.
    loose : container of str
        Those that are loose modules, of which nothing is there by accident.
    """
    contents: dict[str, dict[str, Entry]] = {}
    modules: dict[str, set[str]] = {}
    packages: dict[str, set[str]] = {}
    found: dict[tuple[str, str], set[str]] = {}
    for name, top, entry in _shared(distributions):
        module, parts = module_name(entry.path), entry.path.split("/")
        above = [".".join(parts[:depth]) for depth in range(1, len(parts))]
        same = contents.setdefault(module or entry.path, {})
        others = {other for other, theirs in same.items() if _differ(entry, theirs)}
        same.setdefault(name, entry)
        if module and parts[-1] != "__init__.py":
            others |= packages.get(module, set())
            modules.setdefault(module, set()).add(name)
        for package in above:
            others |= modules.get(package, set())
            packages.setdefault(package, set()).add(name)
        for other in others - {name}:
            if top not in _BY_ACCIDENT or name in loose or other in loose:
                found.setdefault((other, name), set()).add(entry.path)
    return tuple(Clash(*names, min(paths), len(paths) - 1) for names, paths in sorted(found.items()))


def _shared(distributions: Mapping[str, Path]) -> Iterator[tuple[str, str, Entry]]:
    """Yield the files below those top-level names that more than one distribution has: few of thousands."""
    listed: list[tuple[str, str, Entry]] = []
    owners: dict[str, set[str]] = {}
    for name, dist_info in sorted(distributions.items()):
        known: dict[str, str | None] = {}
        for entry in entries(dist_info):
            first, slash, _ = entry.path.partition("/")
            if first not in known or not slash:
                known[first] = top_level(entry.path)
            if (top := known[first]) is not None:
                owners.setdefault(top, set()).add(name)
                listed.append((name, top, entry))
    return (one for one in listed if len(owners[one[1]]) > 1)


_BY_ACCIDENT = frozenset({"benchmarks", "doc", "docs", "examples", "scripts", "test", "tests"})


def top_level(path: str) -> str | None:
    """Return the top-level module or package that a file of a distribution belongs to, or None."""
    top, slash, _ = path.partition("/")
    if slash:
        return top if top.isidentifier() and top != "__pycache__" else None
    return module_name(path)


def _differ(one: Entry, other: Entry) -> bool:
    if one.digest.partition("=")[0] == other.digest.partition("=")[0]:
        return one.digest != other.digest
    return one.size != other.size
