"""The source of this package as a zip archive."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
import zlib
from functools import cached_property
from pathlib import Path

from dask_pkgsync.carry.bootstrap import zipped

CLIENT_ONLY = (
    "__main__.py",
    "cli/",
    "demo/",
    "options/__main__.py",
    "options/configured.py",
    "options/documents.py",
    "scanning/imported_modules.py",
    "scanning/memory.py",
    "scanning/other_interpreter.py",
    "wheels/build.py",
    "wheels/checkout.py",
    "wheels/pack.py",
    "wheels/reversion.py",
)
"""Folders and files that only a client runs, and that are left out of the archive.

The preload is not among them: workers may have a client's configuration, which names it.
"""


class Copy:
    """The source of this package as it travels.

    Parameters
    ----------
    archive : bytes
        A zip of the source.
    compressed : bytes, optional
        The zip, compressed once more as a whole, if it has travelled already.
    """

    def __init__(self, archive: bytes, compressed: bytes | None = None) -> None:
        self.archive = archive
        if compressed is not None:
            vars(self)["compressed"] = compressed

    @cached_property
    def compressed(self) -> bytes:
        """The zip, compressed once more as a whole."""
        return zlib.compress(self.archive)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the zip, 64 hexadecimal digits."""
        return hashlib.sha256(self.archive).hexdigest()

    @cached_property
    def bootstrap(self) -> str:
        """The text of `carry.bootstrap`."""
        return self._text("bootstrap")

    @cached_property
    def stand_in(self) -> str:
        """The text of `carry.stand_in`."""
        return self._text("stand_in")

    def _text(self, name: str) -> str:
        with zipfile.ZipFile(io.BytesIO(self.archive)) as bundle:
            return bundle.read(f"dask_pkgsync/carry/{name}.py").decode()


_guard = threading.Lock()
_copies: list[Copy] = []
"""The copy, once it was made, or was received."""


def copy() -> Copy:
    """Return this package's source as it travels. Reads all of it when it is called first. Blocks."""
    with _guard:
        if not _copies:
            _copies.append(Copy(zipped(Path(__file__).parents[1], CLIENT_ONLY)))
        return _copies[0]


def receive(archive: bytes, compressed: bytes) -> None:
    """Keep the copy with which this package has come to this process, so that it travels on as it is."""
    with _guard:
        _copies[:] = [Copy(archive, compressed)]


def source_digest() -> str:
    """Return the digest of `copy`: the name of this package's source. Blocks."""
    return copy().digest
