"""Gives a built wheel the version of the installed distribution."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

from packaging.version import Version

from dask_pkgsync.model.record import recorded

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = re.compile(rb"^version:.*$", re.MULTILINE | re.IGNORECASE)
_DATE = (1980, 1, 1, 0, 0, 0)


def with_version(wheel: Path, version: str) -> Path:
    """Write a wheel like another one, but of another version, in its place. Blocks.

    The version stands in the name of the wheel, in the names of its directories for metadata and data, in METADATA and
    in RECORD (PEP 427).

    Parameters
    ----------
    wheel : Path
        The wheel, which is removed.
    version : str
        The version that the new wheel gets.

    Returns
    -------
    Path
        The new wheel, beside the place of the old one.
    """
    name, _, tags = wheel.name.split("-", 2)
    stem = f"{name}-{Version(version)}"
    result = wheel.with_name(f"{stem}-{tags}")
    aside = wheel.with_suffix(".part")
    lines = []
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(aside, "w") as target:
        for entry in source.infolist():
            place, content = _renamed(entry.filename, stem), source.read(entry)
            if place == f"{stem}.dist-info/RECORD":
                continue
            if place == f"{stem}.dist-info/METADATA":
                content = _VERSION.sub(f"Version: {version}".encode(), content, count=1)
            target.writestr(_entry(place, entry.external_attr, entry.compress_type), content)
            lines += [] if entry.is_dir() else [recorded(place, content)]
        lines.append(f"{stem}.dist-info/RECORD,,\n")
        target.writestr(_entry(f"{stem}.dist-info/RECORD", 0o100644 << 16, zipfile.ZIP_STORED), "\n".join(lines))
    wheel.unlink()
    return aside.rename(result)


def _renamed(place: str, stem: str) -> str:
    """Return the place of a file in the new wheel."""
    top, slash, rest = place.partition("/")
    kind = top[top.rfind(".") :]
    return f"{stem}{kind}{slash}{rest}" if slash and kind in (".dist-info", ".data") else place


def _entry(place: str, attributes: int, compression: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(place, _DATE)
    entry.external_attr = attributes
    entry.compress_type = compression
    return entry
