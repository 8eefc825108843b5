"""Where a distribution came from (PEP 610), and what tells two of one name and version apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import MessageError

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from dask_pkgsync.model.wire.fields import Field


@dataclass(frozen=True, slots=True)
class FromIndex:
    """Installed from an index or a directory of wheels; name and version say which."""


@dataclass(frozen=True, slots=True)
class FromArchive:
    """Installed from an archive at a URL (PEP 610 ``archive_info``)."""

    url: str
    """Without credentials."""
    digest: str = ""
    """``sha256=…`` of the archive where it was recorded; else ``record=…``, of the list of its installed files."""


@dataclass(frozen=True, slots=True)
class FromVcs:
    """Installed from version control (PEP 610 ``vcs_info``)."""

    url: str
    """Without credentials."""
    commit: str
    """The exact commit."""
    vcs: str = "git"
    subdirectory: str = ""


@dataclass(frozen=True, slots=True)
class FromDirectory:
    """Installed from a directory on that machine (PEP 610 ``dir_info``)."""

    url: str
    """A ``file:`` URL."""
    editable: bool = False
    digest: str = ""
    """``source=…``, of what the directory holds (editable), or ``record=…``, of the list of the installed files."""


@dataclass(frozen=True, slots=True)
class FromModules:
    """Loose modules: importable code of one directory that belongs to no distribution."""

    url: str
    """A ``file:`` URL of the directory."""
    digest: str = ""
    """``source=…``, of the modules and their data."""


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Nothing recorded where it came from (a bare egg-info, a system package)."""


Origin: TypeAlias = FromIndex | FromArchive | FromVcs | FromDirectory | FromModules | Unrecorded


def identity(origin: Origin) -> str:
    """Return what tells two packages of one name and version apart: a commit or a digest; empty for an index's."""
    match origin:
        case FromVcs(commit=commit):
            return commit
        case FromArchive(digest=digest) | FromDirectory(digest=digest) | FromModules(digest=digest):
            return digest
        case _:
            return ""


def origin_to_wire(origin: Origin) -> list[Any]:
    """Return an origin as plain data."""
    match origin:
        case FromIndex():
            return ["index"]
        case FromArchive(url, digest):
            return ["archive", url, digest]
        case FromVcs(url, commit, vcs, subdirectory):
            return ["vcs", url, commit, vcs, subdirectory]
        case FromDirectory(url, editable, digest):
            return ["directory", url, editable, digest]
        case FromModules(url, digest):
            return ["modules", url, digest]
        case Unrecorded():
            return ["unrecorded"]


def origin_from_wire(field: Field) -> Origin:
    """Check and read what `origin_to_wire` wrote."""
    parts = list(field.items())
    match [parts[0].text(20) if parts else "", len(parts)]:
        case ["index", 1]:
            return FromIndex()
        case ["archive", 3]:
            return FromArchive(*(part.text() for part in parts[1:]))
        case ["vcs", 5]:
            return FromVcs(*(part.text() for part in parts[1:]))
        case ["directory", 4]:
            return FromDirectory(parts[1].text(), parts[2].flag(), parts[3].text(200))
        case ["modules", 3]:
            return FromModules(parts[1].text(), parts[2].text(200))
        case ["unrecorded", 1]:
            return Unrecorded()
    raise MessageError(field.place, "an origin", field.value)
