"""Remembers the digests of files that were read, so that links to them are not read again.

An installer links the files of its own cache into each layer, so that most files of a layer were verified when an
earlier one was built. A file is known by its inode, size, and time of change (mtime), on the file system of our cache.
The time of its last status change (ctime) is no part of that: each link that is made to a file changes it. So an edit
that is followed by a restoration of size and mtime goes unnoticed, as it does in `layers.manifest`.

Each host has its own list, and a new one when it was started again: what was read from memory before a crash need not
have reached the disk.

Whatever is damaged in a list can only make files be read again: a file counts as verified if the list has the digest
that RECORD has, for just this inode, size and time.
"""

from __future__ import annotations

import contextlib
from time import time_ns
from typing import TYPE_CHECKING

from dask_pkgsync.cache.machine import this_boot

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache

MAX_FILES = 200_000
"""The most files that the list has, of about 90 bytes each; above it, those that were read longest ago are dropped."""
_TICK = 100_000_000
"""Nanoseconds in which two changes of a file may get the same mtime, on usual file systems."""
_COARSE_TICK = 2_000_000_000
"""The same on file systems that only know seconds, or two of them."""
_SECOND = 1_000_000_000


class VerifiedFiles:
    """The files in a cache whose digests are known.

    Several processes may use the list at once: each writes it anew and renames it into place. What one of them adds
    meanwhile may be lost, and is then read again.

    Parameters
    ----------
    cache : Cache
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._path = cache.verified / this_boot()
        self._device = _device(cache.root)
        self._known = _read(self._path)
        self._new: dict[str, None] = {}

    def has(self, facts: os.stat_result, digest: str) -> bool:
        """Whether a file was read before, is unchanged since, and had this digest.

        Parameters
        ----------
        facts : os.stat_result
            What `os.lstat` says of the file now.
        digest : str
            As in RECORD, for example ``sha256=…``.
        """
        return (
            f"{facts.st_ino} {facts.st_mtime_ns} {facts.st_size} {digest}" in self._known  # thousands of times
            and facts.st_dev == self._device
        )

    def add(self, facts: os.stat_result, digest: str) -> None:
        """Note the digest of a file that was read, if another link to it can appear, and a later change be told.

        Parameters
        ----------
        facts : os.stat_result
            The same before and after the file was read.
        digest : str
            What was found in it, as in RECORD.
        """
        age = time_ns() - facts.st_mtime_ns
        is_settled = age > (_TICK if facts.st_mtime_ns % _SECOND else _COARSE_TICK)
        if facts.st_nlink > 1 and facts.st_dev == self._device and is_settled:
            self._new[_line(facts, digest)] = None

    def save(self) -> None:
        """Write the list, if anything was added. A failure changes nothing but that files are read again."""
        if not self._new:
            return
        with contextlib.suppress(OSError):
            present = _read(self._path)
            for line in self._new:  # what is added again was read last
                present.pop(line, None)
            lines = [*present, *self._new][-MAX_FILES:]
            aside = self._cache.aside("verified")
            aside.write_text("".join(f"{line}\n" for line in lines))
            self._path.parent.mkdir(exist_ok=True)
            aside.replace(self._path)
        self._known.update(self._new)
        self._new = {}


def _line(facts: os.stat_result, digest: str) -> str:
    return f"{facts.st_ino} {facts.st_mtime_ns} {facts.st_size} {digest}"


def _device(directory: Path) -> int:
    """Return the file system of a directory; -1, which no file has, if it cannot be told."""
    with contextlib.suppress(OSError):
        return directory.stat().st_dev
    return -1


def _read(path: Path) -> dict[str, None]:
    """Return the lines of a list, in their order; none if there is no list that can be read."""
    with contextlib.suppress(OSError, ValueError):
        return dict.fromkeys(path.read_text(encoding="ascii").split("\n")[:-1])
    return {}
