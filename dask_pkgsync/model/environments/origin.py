"""Where a distribution was installed from (PEP 610)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import MessageError

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from dask_pkgsync.model.wire.fields import Field


@dataclass(frozen=True, slots=True)
class FromIndex:
    """Installed from an index or a directory of wheels: name and version identify the distribution."""


@dataclass(frozen=True, slots=True)
class FromArchive:
    """Installed from an archive at a URL (PEP 610 ``archive_info``)."""

    url: str
    """URL of the archive, without credentials."""
    digest: str = ""
    """``sha256=…`` of the archive if it was recorded; else ``content=…`` of its installed files. Releases before 0.3
    wrote ``record=…``, a digest of the list of its installed files."""


@dataclass(frozen=True, slots=True)
class FromVcs:
    """Installed from version control (PEP 610 ``vcs_info``)."""

    url: str
    """URL of the repository, without credentials."""
    commit: str
    """The exact commit, for example 40 hexadecimal digits of git."""
    vcs: str = "git"
    """The version control system, as PEP 610 names it."""
    subdirectory: str = ""
    """Directory of the project in the repository; empty for its root."""


@dataclass(frozen=True, slots=True)
class FromDirectory:
    """Installed from a directory on the same machine (PEP 610 ``dir_info``)."""

    url: str
    """A ``file:`` URL of the directory."""
    editable: bool = False
    """Whether the installation is editable (PEP 660): it imports the code in the directory itself."""
    digest: str = ""
    """``source=…`` of the directory's content (editable), or ``content=…`` of the installed files (see
    `FromArchive.digest`)."""


@dataclass(frozen=True, slots=True)
class FromModules:
    """A loose module: importable code that belongs to no distribution, for example beside a script."""

    url: str
    """A ``file:`` URL of the directory of the module."""
    digest: str = ""
    """``source=…`` of the module's code and data."""


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Nothing records where it was installed from (a bare egg-info, a package of the operating system)."""

    modules: tuple[str, ...] = ()
    """Its modules and packages that were found beside its metadata, for example ``("six.py",)``: the client can provide
    these if no index has the distribution."""


@dataclass(frozen=True, slots=True)
class FromConda:
    """Part of a conda package (`model.environments.conda`)."""

    package: str
    """The name of the conda package."""


Origin: TypeAlias = FromIndex | FromConda | FromArchive | FromVcs | FromDirectory | FromModules | Unrecorded


def identity(origin: Origin) -> str:
    """Return the commit or digest that tells distributions of one name and version apart; empty if from an index."""
    match origin:
        case FromVcs(commit=commit):
            return commit
        case FromArchive(digest=digest) | FromDirectory(digest=digest) | FromModules(digest=digest):
            return digest
        case _:
            return ""


def content_identity(content: str) -> str:
    """Return a content digest in the form of an identity, for example ``content=3f2a…``."""
    return f"content={content}"


def origin_to_wire(origin: Origin) -> dict[str, Any]:  # noqa: PLR0911  # one for each kind
    """Return an origin as plain data."""
    match origin:
        case FromIndex():
            return {"kind": "index"}
        case FromConda(package):
            return {"kind": "conda", "package": package}
        case FromArchive(url, digest):
            return {"kind": "archive", "url": url, "digest": digest}
        case FromVcs(url, commit, vcs, subdirectory):
            return {"kind": "vcs", "url": url, "commit": commit, "vcs": vcs, "subdirectory": subdirectory}
        case FromDirectory(url, editable, digest):
            return {"kind": "directory", "url": url, "editable": editable, "digest": digest}
        case FromModules(url, digest):
            return {"kind": "modules", "url": url, "digest": digest}
        case Unrecorded(modules):
            return {"kind": "unrecorded", **({"modules": list(modules)} if modules else {})}


def origin_from_wire(field: Field) -> Origin:  # noqa: PLR0911  # one for each kind
    """Check and read what `origin_to_wire` wrote."""
    kind = field.key("kind")
    match kind.text(20):
        case "index":
            return FromIndex()
        case "conda":
            return FromConda(field.key("package").text(200))
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
            return Unrecorded(tuple(entry.text(200) for entry in field.optional("modules", []).items(1000)))
    raise MessageError(kind.place, "the kind of an origin", kind.value)
