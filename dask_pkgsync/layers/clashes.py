"""Finds distributions that have different files of one path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.clash import Clash
from dask_pkgsync.scanning.records import entries, module_name, top_level

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from pathlib import Path

    from dask_pkgsync.scanning.records import Entry


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


def _differ(one: Entry, other: Entry) -> bool:
    if one.digest.partition("=")[0] == other.digest.partition("=")[0]:
        return one.digest != other.digest
    return one.size != other.size
