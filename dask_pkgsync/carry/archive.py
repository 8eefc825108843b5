"""The source of this package as a zip archive."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from dask_pkgsync.carry.bootstrap import unpack, zipped

CLIENT_ONLY = (
    "__main__.py",
    "cli/",
    "client/cluster_target.py",
    "conda/archive_file.py",
    "conda/archives.py",
    "conda/package_caches.py",
    "conda/rebuilding.py",
    "demo/",
    "interpreters/packing.py",
    "options/__main__.py",
    "options/configured.py",
    "options/documents.py",
    "process/recalled.py",
    "scanning/imported_modules.py",
    "scanning/memory.py",
    "scanning/other_interpreter.py",
    "wheels/build.py",
    "wheels/checkout.py",
    "wheels/pack.py",
    "wheels/packed.py",
    "wheels/reversion.py",
)
"""Folders and files that only a client runs, and that are left out of the archive.

The preload is not among them: workers may have a client's configuration, which names it.
"""


@dataclass(frozen=True)
class Copy:
    """The source of this package as it travels."""

    compressed: bytes
    """A zip of the source, compressed once more as a whole."""
    digest: str
    """SHA-256 of the zip, 64 hexadecimal digits."""
    bootstrap: str
    """The text of `carry.bootstrap`."""
    stand_in: str
    """The text of `carry.stand_in`."""


_guard = threading.Lock()
_copies: list[Copy] = []
"""The copy, once it was made, or was received."""


def copy() -> Copy:
    """Return this package's source as it travels. Reads and compresses all of it when it is called first. Blocks."""
    with _guard:
        if not _copies:
            archive = zipped(Path(__file__).parents[1], CLIENT_ONLY)
            _copies.append(_copy(archive, zlib.compress(archive)))
        return _copies[0]


def receive(archive: bytes, compressed: bytes) -> None:
    """Keep the copy with which this package has come to this process, so that it travels on as it is."""
    with _guard:
        _copies[:] = [_copy(archive, compressed)]


def source_digest() -> str:
    """Return the digest of `copy`: the name of this package's source. Blocks."""
    return copy().digest


def unpacked() -> str:
    """Return a directory that holds this package, without packages of others; it is made if it is missing. Blocks."""
    source = copy()
    return unpack(zlib.decompress(source.compressed), source.digest)


def _copy(archive: bytes, compressed: bytes) -> Copy:
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        texts = [bundle.read(f"dask_pkgsync/carry/{name}.py").decode() for name in ("bootstrap", "stand_in")]
    return Copy(compressed, hashlib.sha256(archive).hexdigest(), *texts)
