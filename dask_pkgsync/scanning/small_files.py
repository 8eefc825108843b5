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
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return ""
    try:
        if watch is not None:
            watch.note(path, os.fstat(descriptor))
        content = chunk = os.read(descriptor, _CHUNK)
        while len(chunk) == _CHUNK:
            content += (chunk := os.read(descriptor, _CHUNK))
    finally:
        os.close(descriptor)
    return content.decode("utf-8", "replace")
