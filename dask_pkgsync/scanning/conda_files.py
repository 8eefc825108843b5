"""The files of an installed conda package, as its record in ``conda-meta`` lists them.

The format is that of conda's ``PrefixRecord``. conda, mamba, pixi and rattler write it alike; where they do not, a
comment says so.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dask_pkgsync.model.environments.conda import CondaPackage

_MAX_RECORD = 200_000_000
"""Bytes of a record, which is JSON: more than those of the largest packages."""


class Kind(Enum):
    """What a path of a package is."""

    FILE = "file"
    LINK = "link"
    """A symbolic link."""
    DIRECTORY = "directory"
    """An empty directory."""
    GENERATED = "generated"
    """Made by the installer: bytecode, and the script of an entry point. It is no part of the archive."""


_KINDS = {"hardlink": Kind.FILE, "softlink": Kind.LINK, "directory": Kind.DIRECTORY}


class CondaFile(NamedTuple):
    """One path of a conda package."""

    path: str
    """Relative to the prefix, with ``/``."""
    kind: Kind
    sha256: str = ""
    """SHA-256 of the file in the archive, 64 hexadecimal digits; empty if it is not recorded."""
    sha256_in_prefix: str = ""
    """SHA-256 of the file with the prefix written into it. rattler records here the digest of a link's target."""
    size: int = -1
    """Bytes of the file in the archive; -1 if they are not recorded."""
    placeholder: str = ""
    """The text in the archive's file in whose place the prefix is written; empty if the file has none."""
    is_binary: bool = False
    """Whether the prefix is padded with NUL bytes, so that the file keeps its size."""
    no_link: bool = False
    """Whether the file must be copied from the package cache, and not linked."""
    original_path: str = ""
    """The path that it should have, if rattler has moved it as another package has a file of that path; else empty."""

    @property
    def own_path(self) -> str:
        """The path that it has where no other package has a file of that path."""
        return self.original_path or self.path

    @property
    def is_bytecode(self) -> bool:
        """Whether Python may write the file anew at any time, so that it is no content."""
        return self.path.endswith((".pyc", ".pyo")) and "__pycache__/" in self.path

    @property
    def size_in_prefix(self) -> int:
        """Bytes of the file as it was installed; -1 if they are not known."""
        return -1 if self.kind is not Kind.FILE or (self.placeholder and not self.is_binary) else self.size


@dataclass(frozen=True)
class CondaRecord:
    """The record of an installed conda package."""

    facts: Mapping[str, Any]
    """All that it says, unchecked. URLs in it may have credentials."""
    root: Path
    """The prefix in which it is."""
    files: tuple[CondaFile, ...]
    """Its paths; empty if only names are recorded, as by conda before 4.3."""


def record_path(prefix: Path, package: CondaPackage) -> Path:
    """Return the path of the record of a package that is installed in a prefix."""
    return prefix / "conda-meta" / f"{package.name}-{package.version}-{package.build}.json"


def read_record(path: Path) -> CondaRecord:
    """Read a record. Blocks.

    Raises
    ------
    OSError
        If there is none, or it cannot be read.
    ValueError
        If it is no record of a conda package.
    """
    with path.open("rb") as file:
        text = file.read(_MAX_RECORD + 1)
    if len(text) > _MAX_RECORD:
        raise ValueError(f"{path.name} is larger than {_MAX_RECORD} bytes")
    try:
        facts = json.loads(text)
        paths = (facts.get("paths_data") or {}).get("paths") or []
        return CondaRecord(facts, path.parent.parent, tuple(map(_file, paths)))
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path.name} is no record of a conda package: {error!r}") from None


def _file(entry: Mapping[str, Any]) -> CondaFile:
    path, original = str(entry["_path"]), str(entry.get("original_path") or "")
    for one in (path, *([original] if original else [])):
        _check(one)
    kind = _KINDS.get(str(entry.get("path_type", "hardlink")), Kind.GENERATED)
    size = entry.get("size_in_bytes")
    return CondaFile(
        path,
        kind,
        str(entry.get("sha256") or ""),
        str(entry.get("sha256_in_prefix") or ""),
        size if isinstance(size, int) else -1,
        str(entry.get("prefix_placeholder") or ""),
        entry.get("file_mode") == "binary",
        bool(entry.get("no_link")),
        original,
    )


def _check(path: str) -> None:
    """Raise `ValueError` for what is no path below the prefix."""
    if path.startswith(("/", "../")) or posixpath.normpath(path) != path or path in (".", ".."):
        raise ValueError(f"it names {path!r}, which is no path below the prefix")
