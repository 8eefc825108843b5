"""Small files in the cache directory that save later processes some work: hints, without which everything works.

They are found, read and checked without the rest of this room, in less than a millisecond, as a scan reads them. A file
that is missing, damaged, of another release, or that another user may have written, is as none.
"""

from __future__ import annotations

import os
import stat
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache.place import planted, shared

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 2_000_000
"""The most bytes of a file: of 5,000 distributions it has about 1 MB."""
KEPT = 100
"""The most files of one kind, the newest, that are kept."""
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def read(kind: str, name: str, header: str) -> list[str]:
    """Return the lines of a file of hints; none if there is no such file that can be trusted.

    Parameters
    ----------
    kind : str
        The directory of such files, in the cache directory.
    name : str
        The name of the file.
    header : str
        What the lines mean, and in which release; the file must have been written with the same.
    """
    with suppress(OSError, ValueError):
        root, is_chosen = _root()
        directory = Path(root, kind)
        if planted(directory) is None and shared(Path(root), chosen=is_chosen) is None:
            content = _content(f"{directory}{os.sep}{name}")
            first, _, text = content.decode("utf-8").partition("\n")
            if first == _first(header, text):
                return text.split("\n")[:-1]
    return []


def write(kind: str, name: str, header: str, lines: Iterable[str]) -> None:
    """Write a file of hints, in one step for whoever reads it; a failure changes nothing. Blocks.

    Parameters
    ----------
    kind, name, header : str
        See `read`.
    lines : iterable of str
        Texts without line breaks.
    """
    text = "".join(f"{line}\n" for line in lines)
    content = f"{_first(header, text)}\n{text}".encode()
    if len(content) > MAX_BYTES:
        return
    with suppress(OSError, ValueError):
        root, is_chosen = _root()
        directory = Path(root, kind)
        if planted(directory) is not None or shared(Path(root), chosen=is_chosen) is not None:
            return
        for missing in (os.path.dirname(root), root, str(directory)):  # noqa: PTH120
            with suppress(FileExistsError):
                os.mkdir(missing, 0o755 if is_chosen else 0o700)  # noqa: PTH102  # as `open_cache`; none above these
        _write(f"{directory}{os.sep}{name}", content)
        _remove_old(directory)


def _root() -> tuple[str, bool]:
    """Return the cache directory as far as it is known without a configuration file, and whether somebody chose it.

    Raises
    ------
    ValueError
        If it is not known: the user has no home directory.
    """
    chosen = os.environ.get("DASK_PKGSYNC__CACHE_DIRECTORY")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")  # noqa: PTH111, PTH118
    root = os.path.expanduser(chosen) if chosen else os.path.join(base, "dask-pkgsync")  # noqa: PTH111, PTH118
    if not os.path.isabs(root):  # noqa: PTH117
        raise ValueError(root)
    return root, bool(chosen)


def _first(header: str, text: str) -> str:
    """Return the first line of a file: its header, and a checksum of the rest."""
    return f"{header} {zlib.crc32(text.encode()):08x}"


def _content(path: str) -> bytes:
    """Return what a file holds; nothing if it is too large, or another user may have written it."""
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        facts = os.fstat(descriptor)
        is_ours = not hasattr(os, "getuid") or (facts.st_uid == os.getuid() and not facts.st_mode & _WRITE_BY_OTHERS)
        if not is_ours or not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_BYTES:
            return b""
        return os.read(descriptor, facts.st_size)
    finally:
        os.close(descriptor)


_WRITE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def _write(path: str, content: bytes) -> None:
    aside = f"{path}.{os.getpid()}-{threading.get_ident():x}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        os.replace(aside, path)  # noqa: PTH105
    except OSError:
        os.unlink(aside)  # noqa: PTH108
        raise


def _remove_old(directory: Path) -> None:
    """Remove all but the newest files, also those that a process left behind that was killed."""
    with os.scandir(directory) as listing:
        found = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in listing)
    for _, path in found[:-KEPT]:
        os.unlink(path)  # noqa: PTH108
