"""Unpacks an interpreter that a client has packed."""

from __future__ import annotations

import os
import tarfile
import zlib
from typing import TYPE_CHECKING

from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 2_000_000_000
"""The most bytes that an unpacked interpreter may have."""
_MAX_FILES = 100_000


def unpack(archive: Path, directory: Path) -> int:
    """Unpack an archive into a new directory, and return the bytes of its files. Blocks.

    It may hold files, and links to a file beside them.

    Raises
    ------
    LayerError
        If it is no such archive, for example if a file in it would lie elsewhere.
    """
    total = 0
    try:
        with tarfile.open(archive, "r:gz") as bundle:
            for number, entry in enumerate(bundle):
                total += entry.size
                place = _checked(entry, number, total)
                path = directory / place
                path.parent.mkdir(parents=True, exist_ok=True)
                if entry.issym():
                    path.symlink_to(entry.linkname)
                elif (content := bundle.extractfile(entry)) is not None:
                    with path.open("xb") as file:
                        while block := content.read(1 << 20):
                            file.write(block)
                    path.chmod(0o755 if entry.mode & 0o100 else 0o644)
    except (tarfile.TarError, zlib.error, EOFError, FileExistsError, UnicodeError) as error:
        raise _malformed(str(error) or type(error).__name__) from None
    return total


def _checked(entry: tarfile.TarInfo, number: int, total: int) -> str:
    """Return the place of an entry; raise `LayerError` if it is none that may be unpacked."""
    parts = entry.name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\\" in entry.name or os.path.isabs(entry.name):  # noqa: PTH117
        raise _malformed(f"the path {entry.name[:200]!a}")
    if not (
        entry.isreg()
        or (entry.issym() and entry.linkname and "/" not in entry.linkname and entry.linkname not in (".", ".."))
    ):
        raise _malformed(f"{entry.name[:200]!a} is neither a file nor a link to one beside it")
    if number > _MAX_FILES or total > MAX_BYTES:
        raise _malformed("it is too large")
    return entry.name


def _malformed(what: str) -> LayerError:
    return LayerError("receive", f"the interpreter from the client cannot be unpacked: {what}")
