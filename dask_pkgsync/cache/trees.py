"""Trees of read-only directories: a published layer is one, so that nothing is installed into it by mistake."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


BYTECODE = "__pycache__"
"""The directories in which Python keeps bytecode (PEP 3147)."""
_WRITE = 0o222


def make_read_only(root: Path) -> None:
    """Make the directories of a tree read-only, except those in which Python keeps bytecode, which it also creates.

    Without a place for bytecode, every process would compile every module that it imports. Files keep their mode: they
    may be hard links into the cache of an installer.
    """
    for directory, directories, files in os.walk(root, topdown=False):
        if os.path.basename(directory) == BYTECODE:  # noqa: PTH119
            continue
        with contextlib.suppress(OSError):  # some file systems have no modes
            if BYTECODE not in directories and any(name.endswith(".py") for name in files):
                os.mkdir(f"{directory}{os.sep}{BYTECODE}")  # noqa: PTH102
            os.chmod(directory, os.stat(directory).st_mode & ~_WRITE)  # noqa: PTH101, PTH116


def move(root: Path, to: Path) -> None:
    """Rename a tree whose directories may be read-only; only a directory that can be written gets another parent."""
    with contextlib.suppress(OSError):
        _make_writable(root)
    root.rename(to)


def remove(root: Path) -> None:
    """Remove a tree whose directories may be read-only, as far as that is possible."""
    for directory in _directories(root):
        with contextlib.suppress(OSError):
            _make_writable(directory)
    shutil.rmtree(root, ignore_errors=True)


def _directories(root: Path | str) -> Iterator[Path | str]:
    """Yield the directories of a tree, each before those in it are listed."""
    yield root
    with contextlib.suppress(OSError), os.scandir(root) as listing:
        for entry in listing:
            if entry.is_dir(follow_symlinks=False):
                yield from _directories(entry.path)


def _make_writable(directory: Path | str) -> None:
    os.chmod(directory, os.stat(directory).st_mode | 0o700)  # noqa: PTH101, PTH116
