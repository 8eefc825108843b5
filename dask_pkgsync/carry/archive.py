"""The source of this package as a zip archive."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

CLIENT_ONLY = (
    "cli/",
    "demo/",
    "options/__main__.py",
    "options/documents.py",
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

    So its files are stored without compression, in the order of their names, and with one fixed date.
    """
    package = Path(__file__).parents[1]
    own = _archive_of(package)
    return own if own is not None else _zipped(package)


def _archive_of(package: Path) -> bytes | None:
    """Return the archive that this package was itself imported from; None if it was imported from files."""
    return package.parent.read_bytes() if package.parent.is_file() else None


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
