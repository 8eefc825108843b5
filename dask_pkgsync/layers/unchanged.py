"""Whether a published layer is unchanged, for a command that has to start in milliseconds.

This module imports next to nothing. `layers.manifest` says what has changed.
"""

from __future__ import annotations

import os

from dask_pkgsync.cache.marker import MARKER

MANIFEST = "pkgsync-files"
"""The file of a layer that holds its manifest: size, time of change and path of each file and directory, with a NUL
character behind each, as no path holds one. In place of the size of a directory is ``-``."""
DIRECTORY = b"-"


def is_unchanged(root: str, built: str) -> bool:
    """Whether a layer is the one that was published under a name, and all its files are as they were then. Blocks.

    A file or directory that was added has changed the time of the directory in which it lies. Only bytecode is written
    into a layer in use, and the directories for it are there from the beginning.

    Parameters
    ----------
    root : str
        Its directory.
    built : str
        The name of its publication (`Layer.built`).
    """
    try:
        with open(f"{root}/{MARKER}", "rb") as file:
            if f'"built": "{built}"'.encode() not in file.read():
                return False
        with open(f"{root}/{MANIFEST}", "rb") as file:
            *lines, rest = file.read().split(b"\0")
        if rest or not lines:
            return False
        place, lstat = f"{root}/".encode(), os.lstat
        for line in lines:
            size, changed, path = line.split(b" ", 2)
            facts = lstat(place + path)
            if facts.st_mtime_ns != int(changed) or (size != DIRECTORY and facts.st_size != int(size)):
                return False
    except (OSError, ValueError):
        return False
    return True
