"""The source of this package as a zip: the same bytes for the same source."""

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
    "wheels/pack.py",
)
"""Folders and files that only the person's side runs. Not the preload: workers may be configured as clients are."""


@cache
def archive() -> bytes:
    """Return a zip of this package's source: the same bytes for the same source.

    Stored and not deflated, without dates, so that the bytes depend on the source alone.
    """
    here = _archive_of(Path(__file__).parents[1])
    return here if here is not None else _zipped(Path(__file__).parents[1])


def _archive_of(package: Path) -> bytes | None:
    """Return the archive that this package was itself imported from, if it was."""
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
    """SHA-256 of `archive`, 64 hexadecimal digits."""
    return hashlib.sha256(archive()).hexdigest()
