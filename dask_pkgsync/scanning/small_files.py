"""Reads small files of metadata quickly: file objects would take twice the time of file descriptors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_pkgsync.scanning.file_states import Watch

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_CHUNK = 65_536


def size_of(path: str) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116  # faster than pathlib for thousands of files
    except OSError:
        return 0


def text_of(path: str, watch: Watch | None = None) -> str:
    """Return the text of a small file, empty if there is none.

    Parameters
    ----------
    path : str
    watch : Watch, optional
        The state of the file is noted in it, if there is one.
    """
    try:
        return bytes_of(path, watch).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def bytes_of(path: str, watch: Watch | None = None) -> bytes:
    """Return the content of a file.

    Parameters
    ----------
    path : str
    watch : Watch, optional
        The state of the file is noted in it.
    """
    descriptor = os.open(path, _READ)
    try:
        facts = os.fstat(descriptor)
        if watch is not None:
            watch.note(path, facts)
        size = max(facts.st_size + 1, _CHUNK)
        content = chunk = os.read(descriptor, size)
        while len(chunk) == size:
            content += (chunk := os.read(descriptor, size))
    finally:
        os.close(descriptor)
    return content
