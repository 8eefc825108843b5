"""Finds clashes: distributions that have different files of the same path."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dask_pkgsync.model.clash import Clash
from dask_pkgsync.scanning.records import module_name

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from dask_pkgsync.model.record import Entry
    from dask_pkgsync.scanning.records import Listed


def clashes(distributions: Mapping[str, Listed], loose: Container[str] = ()) -> tuple[Clash, ...]:
    """Return the pairs of distributions that differ in the contents of one module, or of one file in a package.

    Python imports only one of ``a/b.py``, ``a/b.cpython-311.so`` and ``a/b/``, so these count as the same module.
    Metadata and scripts do not count, as nothing imports them, and neither do top-level directories that many
    distributions ship by accident, such as ``tests``.

    Parameters
    ----------
    distributions : mapping of str to Listed
        By canonical name.
    loose : container of str
        The names of loose modules among them. Their top-level directories always count.
    """
    contents: dict[str, dict[str, Entry]] = {}
    modules: dict[str, set[str]] = {}
    packages: dict[str, set[str]] = {}
    clashing: dict[tuple[str, str], set[str]] = {}
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
                clashing.setdefault((other, name), set()).add(entry.path)
    return tuple(Clash(*names, min(paths), len(paths) - 1) for names, paths in sorted(clashing.items()))


def _shared(distributions: Mapping[str, Listed]) -> Iterator[tuple[str, str, Entry]]:
    """Yield name, top level and entry of each file below a top-level name that several distributions have.

    These are few of many thousand files.
    """
    owners = Counter(top for one in distributions.values() for top in one.top_levels)
    shared = frozenset(top for top, count in owners.items() if count > 1)
    for name, one in sorted(distributions.items()):
        for top, entry in one.below(shared):
            yield name, top, entry


_BY_ACCIDENT = frozenset({"benchmarks", "doc", "docs", "examples", "scripts", "test", "tests"})
"""Top-level directories that distributions ship by accident."""


def _differ(entry: Entry, other: Entry) -> bool:
    if entry.digest.partition("=")[0] == other.digest.partition("=")[0]:
        return entry.digest != other.digest
    return entry.bytes != other.bytes
