"""Remembers what was read from files, so that a file is read again only if it may have changed.

A file, or a directory, counts as unchanged while its device, inode, size and both times are the same. File systems
store times in steps, so a file may change twice in one step. So nothing is remembered of a file that changed just now.
"""

from __future__ import annotations

import os
import threading
from operator import attrgetter
from time import time_ns
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Hashable

State: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, and the times of the last change of content and of the last change in nanoseconds."""

Value = TypeVar("Value")

SETTLED = 2_000_000_000
"""Nanoseconds after which a file counts as unchanged if its times are the same: FAT stores them in steps of 2 s."""
_facts: Callable[[os.stat_result], State] = attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


def state_of(path: str) -> State | None:
    """Return the state of a file or directory; None if there is none, or if it cannot be looked up."""
    try:
        return _facts(os.stat(path))  # noqa: PTH116  # faster than pathlib for thousands of files
    except (OSError, ValueError):  # ValueError: no valid path
        return None


Listed: TypeAlias = "tuple[str, array[int], int]"
"""A list of files: their paths, one a line; their sizes in bytes, -1 where none is recorded; and the list's own time of
change in nanoseconds since 1970. Of 40,000 files this takes 4 MB."""


def are_as_listed(listed: Listed, directory: str, look: Callable[[str], os.stat_result] = os.stat) -> bool:
    """Return whether each file has the listed size, and none was changed after the list was written. Blocks.

    Parameters
    ----------
    listed : Listed
    directory : str
        The directory that the paths are relative to.
    look : callable
        Looks a path up: `os.stat`, or `os.lstat`, which does not follow links.
    """
    paths, sizes, written = listed
    above = directory + os.sep
    try:
        for path, size in zip(paths.split("\n"), sizes, strict=True):
            facts = look(above + path)
            if facts.st_mtime_ns > written or (facts.st_size != size and size >= 0):
                return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


class Watch:
    """The states of the files that a value is read from. Each file is noted before it is read."""

    __slots__ = ("existing", "is_complete", "states")

    def __init__(self) -> None:
        self.states: dict[str, State | None] = {}
        self.existing: dict[str, bool] = {}
        """Paths of which only the existence matters."""
        self.is_complete = True
        """False if the value depends on more than on files that are noted, so that it must not be remembered."""

    def state(self, path: str) -> State | None:
        """Note a file or directory, and return its state; None if there is none."""
        if path not in self.states:
            self.states[path] = state_of(path)
        return self.states[path]

    def note(self, path: str, facts: os.stat_result) -> None:
        """Note a file that has been looked up, or opened."""
        self.states[path] = _facts(facts)

    def exists(self, path: str) -> bool:
        """Note whether there is a file or directory, and return it."""
        if path not in self.existing:
            self.existing[path] = os.path.exists(path)  # noqa: PTH110
        return self.existing[path]

    def is_unchanged(self) -> bool:
        """Whether all that was noted is as it was."""
        try:
            for path, state in self.states.items():
                if state != (_facts(os.stat(path)) if state is not None else state_of(path)):  # noqa: PTH116
                    return False
        except OSError:
            return False
        return all(os.path.exists(path) == was for path, was in self.existing.items())  # noqa: PTH110

    def is_settled(self, now: int) -> bool:
        """Whether no file changed so shortly before a time, in nanoseconds since 1970, that it may change unnoticed."""
        latest = max((max(state[3], state[4]) for state in self.states.values() if state is not None), default=0)
        return self.is_complete and now - latest > SETTLED


class Remembered(Generic[Value]):
    """Values that were read from files. Threads may share it.

    Parameters
    ----------
    limit : int
        The most values that are remembered; of more, the oldest are forgotten.
    now : callable
        Returns the time in nanoseconds since 1970.
    """

    def __init__(self, limit: int = 10_000, now: Callable[[], int] = time_ns) -> None:
        self._limit = limit
        self._now = now
        self._known: dict[Hashable, tuple[Watch, Value]] = {}
        self._lock = threading.Lock()

    def of(self, key: Hashable, read: Callable[[Watch], Value]) -> Value:
        """Return the value for a key; read it unless all that it was read from is as it was.

        Parameters
        ----------
        key : hashable
            All that the value depends on, except files.
        read : callable
            Reads the value. It notes each file in the `Watch` that it is given, before it reads the file.
        """
        known = self._known.get(key)
        if known is not None and known[0].is_unchanged():
            return known[1]
        watch, now = Watch(), self._now()
        value = read(watch)
        with self._lock:
            self._known.pop(key, None)
            if watch.is_settled(now):
                self._known[key] = watch, value
                if len(self._known) > self._limit:
                    del self._known[next(iter(self._known))]
        return value

    def forget(self) -> None:
        """Forget all values, for measurements."""
        with self._lock:
            self._known.clear()
