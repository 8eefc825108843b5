"""Verifies every file of a prefix against the records of its packages in ``conda-meta``.

A record has the SHA-256 of each file in the archive, and of each file into which the path of the prefix was written.
The second is that of what the installer has written: so what it was made from is verified as well, in its cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from dask_pkgsync.conda.records import label
from dask_pkgsync.model.record import encoded
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.content import digest_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dask_pkgsync.cache.trees import Tree
    from dask_pkgsync.cache.verified import VerifiedFiles
    from dask_pkgsync.conda.records import Installed

_SHOWN = 8
_THREADS = min(4, os.cpu_count() or 1)
"""Files that are read at once; more would only compete with the tasks of the node."""
_PART = 64
"""Files that one thread reads in a row."""
_PROBLEM = "the installed files are not those that the records of the packages list"
_ADVICE = (
    "Run the sync again. If it fails again, remove the directory conda in dask-pkgsync's cache directory on that node."
)


@dataclass(frozen=True)
class _File:
    """A file that has to be read."""

    owner: str
    name: str
    path: str
    sha256: str
    facts: os.stat_result


def verify(tree: Tree, installed: Iterable[Installed], verified: VerifiedFiles) -> int:
    """Verify that every recorded file exists, and has the recorded size and digest. Blocks.

    Parameters
    ----------
    tree : Tree
        The files of the prefix.
    installed : iterable of Installed
        The packages in it.
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
    look = _Look(tree, verified)
    total = sum(map(look.check, installed))
    look.read()
    if look.problems:
        shown = [f"{owner}: {', '.join(what[:_SHOWN])}" for owner, what in list(look.problems.items())[:_SHOWN]]
        raise LayerError("verify", f"{_PROBLEM}: {'; '.join(shown)}", advice=_ADVICE, packages=tuple(look.problems))
    return total


class _Look:
    """Looks at the files of a prefix, by their paths in the records."""

    def __init__(self, tree: Tree, verified: VerifiedFiles) -> None:
        self.root, self.files, self.verified = tree.root, tree.files, verified
        self.problems: dict[str, list[str]] = {}
        self.unread: list[_File] = []

    def check(self, one: Installed) -> int:
        """Check the files of a package without reading them; return the bytes of those that are there."""
        owner, total = label(one.package), 0
        for entry in one.paths:
            name = entry["_path"]
            facts = self.files.get(name) or _facts(f"{self.root}/{name}")
            if facts is None:
                self.wrong(owner, f"{name} is missing")
            elif entry.get("path_type") == "directory":
                continue
            else:
                total += facts.st_size
                self.check_file(owner, entry, facts, one)
        return total

    def check_file(self, owner: str, entry: dict[str, Any], facts: os.stat_result, one: Installed) -> None:
        """Check one file, and note that it has to be read if its digest is not known."""
        name, path = entry["_path"], f"{self.root}/{entry['_path']}"
        in_prefix = entry.get("sha256_in_prefix")
        if stat.S_ISLNK(facts.st_mode):
            target = hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()  # noqa: PTH115
            if entry.get("path_type") != "softlink" or in_prefix not in (None, target):
                self.wrong(owner, f"{name} is a link to another file")
            return
        digest, size = in_prefix or entry.get("sha256"), entry.get("size_in_bytes")
        if in_prefix is None and size not in (None, facts.st_size):
            self.wrong(owner, f"{name} has {facts.st_size} bytes instead of {size}")
        elif digest and not self.verified.has(facts, f"sha256={digest}"):
            self.unread.append(_File(owner, name, path, digest, facts))
        if in_prefix and entry.get("sha256") and one.source is not None:
            self.check_source(owner, entry, one.source)

    def check_source(self, owner: str, entry: dict[str, Any], source: Path) -> None:
        """Note that the file has to be read into which the installer wrote the prefix."""
        name = entry["_path"]
        places = [name] if entry.get("original_path") is None else [entry["original_path"]]
        if "/site-packages/" in name:  # of a package for every Python
            places.append(f"site-packages/{name.partition('/site-packages/')[2]}")
        places.append(f"python-scripts/{name.removeprefix('bin/')}")
        for place in places:
            if (facts := _facts(f"{source}/{place}")) is not None:
                self.unread.append(_File(owner, name, f"{source}/{place}", entry["sha256"], facts))
                return
        self.wrong(owner, f"what {name} was made from is missing in the package cache")

    def read(self) -> None:
        """Read what has to be read, in threads."""
        parts = [self.unread[start : start + _PART] for start in range(0, len(self.unread), _PART)]
        if not parts:
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            for file in chain.from_iterable(pool.map(self.differing, parts)):
                self.wrong(file.owner, f"{file.name} does not have the recorded digest")

    def differing(self, part: Sequence[_File]) -> list[_File]:
        """Return the files that do not have their digest."""
        return [file for file in part if not self.holds(file)]

    def holds(self, file: _File) -> bool:
        """Whether a file has its digest; reads it."""
        try:
            digest, after = digest_of_file(file.path, "sha256"), os.stat(file.path)  # noqa: PTH116
        except OSError:
            return False
        if digest != f"sha256={encoded(bytes.fromhex(file.sha256))}":
            return False
        if _state(after) == _state(file.facts):
            self.verified.add(file.facts, f"sha256={file.sha256}")
        return True

    def wrong(self, owner: str, what: str) -> None:
        """Note that a file is not as it should be."""
        self.problems.setdefault(owner, []).append(what)


def _facts(path: str) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return os.lstat(path)
    return None


def _state(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
