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


def origin_to_wire(origin: Origin) -> dict[str, Any]:
    """Return an origin as plain data."""
    match origin:
        case FromIndex():
            return {"kind": "index"}
        case FromArchive(url, digest):
            return {"kind": "archive", "url": url, "digest": digest}
        case FromVcs(url, commit, vcs, subdirectory):
            return {"kind": "vcs", "url": url, "commit": commit, "vcs": vcs, "subdirectory": subdirectory}
        case FromDirectory(url, editable, digest):
            return {"kind": "directory", "url": url, "editable": editable, "digest": digest}
        case FromModules(url, digest):
            return {"kind": "modules", "url": url, "digest": digest}
        case Unrecorded():
            return {"kind": "unrecorded"}


def origin_from_wire(field: Field) -> Origin:
    """Check and read what `origin_to_wire` wrote."""
    kind = field.key("kind")
    match kind.text(20):
        case "index":
            return FromIndex()
        case "archive":
            return FromArchive(field.key("url").text(), field.optional("digest", "").text(200))
        case "vcs":
            url, commit, vcs = (field.key(name).text() for name in ("url", "commit", "vcs"))
            return FromVcs(url, commit, vcs, field.optional("subdirectory", "").text())
        case "directory":
            editable, digest = field.optional("editable", default=False).flag(), field.optional("digest", "").text(200)
            return FromDirectory(field.key("url").text(), editable, digest)
        case "modules":
            return FromModules(field.key("url").text(), field.optional("digest", "").text(200))
        case "unrecorded":
            return Unrecorded()
    raise MessageError(kind.place, "the kind of an origin", kind.value)
