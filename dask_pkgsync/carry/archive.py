"""The source of this package as a zip archive."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from functools import cache
from pathlib import Path

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


@cache
def archive() -> bytes:
    """Return a zip of this package's source, whose bytes depend on the source alone.

    So its files are stored without compression, in the order of their names, and with one fixed date. The copy that a
    process has unpacked from an archive (`carry.bootstrap`) gives the same archive again.
    """
    return _zipped(Path(__file__).parents[1])


@cache
def compressed() -> bytes:
    """Return `archive` in the form in which it travels."""
    return zlib.compress(archive())


def _zipped(package: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package).as_posix()
            if path.suffix in (".py", ".yaml") and not name.startswith(CLIENT_ONLY):
                entry = zipfile.ZipInfo(f"{package.name}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
                bundle.writestr(entry, path.read_bytes())
    return buffer.getvalue()


@cache
def source_digest() -> str:
    """Return the SHA-256 of `archive`, 64 hexadecimal digits."""
    return hashlib.sha256(archive()).hexdigest()
