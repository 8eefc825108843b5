"""Verifies every byte of installed files against the RECORD of their distributions (PEP 376, PEP 427)."""

from __future__ import annotations

import contextlib
import os
import posixpath
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.content import ALGORITHMS, digest_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dask_pkgsync.cache.trees import Tree
    from dask_pkgsync.cache.verified import VerifiedFiles
    from dask_pkgsync.model.record import Entry
    from dask_pkgsync.scanning.records import Listed


_SHOWN = 8
_THREADS = min(4, os.cpu_count() or 1)
"""Files that are read at once; more would only compete with the tasks of the node."""
_PART = 64
"""Files that one thread reads in a row."""


def verify(
    tree: Tree, site_packages: str, installed: Mapping[str, Listed], pins: Sequence[str], verified: VerifiedFiles
) -> int:
    """Verify that every file in RECORD exists, and has the recorded size and digest. Blocks.

    If two distributions have different files of the same path, the file of either counts (see `clashes`).

    An installer that was killed leaves a dist-info directory without INSTALLER, or without some files, and its next run
    does not repair that (uv 0.13). The installer itself verifies archives, but not what lies unpacked in its cache.

    Parameters
    ----------
    tree : Tree
        The files of the environment.
    site_packages : str
        The directory of the installed distributions, relative to the environment.
    installed : mapping of str to Listed
        The distributions there, by canonical name.
    pins : sequence of str
        The distributions to verify, each as ``name==version``.
    verified : VerifiedFiles
        The files that need not be read again. Those that are read here are added.

    Returns
    -------
    int
        Bytes of all files.

    Raises
    ------
    LayerError
        If a file is missing or is not the recorded one, with the names of files and packages.
    """
    look = _Look(tree, f"{site_packages}/", verified)
    problems: dict[str, list[str]] = {}
    wrong: list[tuple[str, Entry]] = []
    unread: list[tuple[str, Entry]] = []
    total = 0
    for pin in pins:
        one = installed.get(pin.partition("==")[0])
        if one is None or look.at(f"{one.dist_info.name}/INSTALLER") is None:
            problems[pin] = ["not installed" if one is None else "not completely installed"]
            continue
        if not one.entries:
            problems[pin] = ["no RECORD"]
        for entry in one.entries:
            facts = look.at(entry.path)
            if facts is None:
                problems.setdefault(pin, []).append(f"{entry.path} is missing")
                continue
            total += facts.st_size
            if entry.size.isdecimal() and int(entry.size) != facts.st_size:
                wrong.append((pin, entry))
            elif entry.digest and not verified.has(facts, entry.digest):
                unread.append((pin, entry))
    wrong += look.differing(unread)
    for pin, entry in _of_no_distribution(wrong, installed, look):
        problems.setdefault(pin, []).append(look.problem(entry))
    if problems:
        shown = [f"{pin}: {', '.join(what[:_SHOWN])}" for pin, what in list(problems.items())[:_SHOWN]]
        raise LayerError("verify", f"{_PROBLEM}: {'; '.join(shown)}", advice=_ADVICE, packages=tuple(problems))
    return total


_PROBLEM = "the installed files are not those that the packages' RECORD lists"
_ADVICE = (
    "Run the sync again. If it fails again, remove the directory uv in dask-pkgsync's cache directory; a package that "
    "was published with a wrong RECORD can be named in ignore."
)


class _Look:
    """Looks at the files of an environment, by their paths in RECORD."""

    def __init__(self, tree: Tree, site_packages: str, verified: VerifiedFiles) -> None:
        self.root, self.site_packages = f"{tree.root}/", site_packages
        self.files, self.verified = tree.files, verified

    def at(self, path: str) -> os.stat_result | None:
        """Return the facts about a file; None if it does not exist."""
        place = self.site_packages + path
        facts = self.files.get(place) or self.files.get(posixpath.normpath(place))
        if facts is None:  # below a symbolic link, or a place for bytecode
            with contextlib.suppress(OSError):
                return os.stat(self.root + place)  # noqa: PTH116
        return facts

    def holds(self, entry: Entry) -> bool:
        """Whether a file is what RECORD lists; reads it, if it is not known to be verified."""
        facts = self.at(entry.path)
        if facts is None or (entry.bytes is not None and entry.bytes != facts.st_size):
            return False
        if not entry.digest or self.verified.has(facts, entry.digest):
            return True
        algorithm, place = entry.digest.partition("=")[0], self.root + self.site_packages + entry.path
        if algorithm not in ALGORITHMS:
            return False
        digest, after = digest_of_file(place, algorithm), os.stat(place)  # noqa: PTH116
        if _state(after) == _state(facts):
            self.verified.add(facts, digest)
        return digest == entry.digest.rstrip("=")

    def differing(self, entries: Sequence[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
        """Return those of some pins and entries of which the file is not what RECORD lists. Reads them in threads."""
        if not entries:
            return []
        parts = [entries[start : start + _PART] for start in range(0, len(entries), _PART)]
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(lambda part: [(pin, entry) for pin, entry in part if not self.holds(entry)], parts)
            return list(chain.from_iterable(found))

    def problem(self, entry: Entry) -> str:
        """Say how a file differs from what RECORD lists."""
        facts = self.at(entry.path)
        size = None if facts is None else facts.st_size
        if entry.bytes is not None and entry.bytes != size:
            return f"{entry.path} has {size} bytes instead of {entry.size}"
        return f"{entry.path} does not have the recorded digest"


def _state(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _of_no_distribution(
    wrong: Sequence[tuple[str, Entry]], installed: Mapping[str, Listed], look: _Look
) -> Iterator[tuple[str, Entry]]:
    """Yield those of some pins and entries of which the file is not that of another distribution with this path."""
    paths = {entry.path for _, entry in wrong}
    others: dict[str, list[Entry]] = {path: [] for path in paths}
    if paths:
        for entry in chain.from_iterable(one.entries for one in installed.values()):
            if entry.path in paths:
                others[entry.path].append(entry)
    for pin, entry in wrong:
        if not any(other != entry and look.holds(other) for other in others[entry.path]):
            yield pin, entry
