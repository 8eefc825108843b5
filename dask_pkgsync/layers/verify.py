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
    total = 0
    for pin in pins:
        one = installed.get(pin.partition("==")[0])
        if one is None:
            problems[pin] = ["not installed"]
        elif look.at(f"{one.dist_info.name}/INSTALLER") is None:
            problems[pin] = ["not completely installed"]
        elif not one.entries:
            problems[pin] = ["no RECORD"]
        else:
            total += look.check(pin, one.entries)
    look.read()
    for pin, entry in _of_no_distribution(look, installed):
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
        self.wrong: list[tuple[str, Entry]] = []
        """Pin and entry of each file that is not what RECORD lists, as far as is known."""
        self.unread: list[tuple[str, Entry]] = []
        """Pin and entry of each file that has to be read to know that."""

    def at(self, path: str) -> os.stat_result | None:
        """Return the facts about a file; None if it does not exist."""
        place = self.site_packages + path
        facts = self.files.get(place) or self.files.get(posixpath.normpath(place))
        if facts is None:  # below a symbolic link, or a place for bytecode
            with contextlib.suppress(OSError):
                return os.stat(self.root + place)  # noqa: PTH116
        return facts

    def check(self, pin: str, entries: Sequence[Entry]) -> int:
        """Check the files of a distribution without reading them; return the bytes of those that are there."""
        files, site_packages, is_verified = self.files, self.site_packages, self.verified.has
        total = 0
        for entry in entries:
            path, digest, size = entry
            facts = files.get(site_packages + path) or self.at(path)
            if facts is not None:
                total += facts.st_size
                if digest and is_verified(facts, digest):
                    continue
            if facts is None or (size.isdecimal() and int(size) != facts.st_size):
                self.wrong.append((pin, entry))
            elif digest:
                self.unread.append((pin, entry))
        return total

    def read(self) -> None:
        """Read what has to be read, in threads."""
        if self.unread:
            parts = [self.unread[start : start + _PART] for start in range(0, len(self.unread), _PART)]
            with ThreadPoolExecutor(_THREADS) as pool:
                self.wrong += chain.from_iterable(pool.map(self._differing, parts))
            self.unread = []

    def _differing(self, part: Sequence[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
        return [(pin, entry) for pin, entry in part if not self.holds(entry)]

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

    def problem(self, entry: Entry) -> str:
        """Say how a file differs from what RECORD lists."""
        facts = self.at(entry.path)
        if facts is None:
            return f"{entry.path} is missing"
        if entry.bytes is not None and entry.bytes != facts.st_size:
            return f"{entry.path} has {facts.st_size} bytes instead of {entry.size}"
        return f"{entry.path} does not have the recorded digest"


def _state(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _of_no_distribution(look: _Look, installed: Mapping[str, Listed]) -> Iterator[tuple[str, Entry]]:
    """Yield pin and entry of each wrong file that is not that of another distribution with this path either."""
    others: dict[str, list[Entry]] = {entry.path: [] for _, entry in look.wrong}
    if others:
        for entry in chain.from_iterable(one.entries for one in installed.values()):
            if entry.path in others:
                others[entry.path].append(entry)
    for pin, entry in look.wrong:
        if not any(other != entry and look.holds(other) for other in others[entry.path]):
            yield pin, entry
