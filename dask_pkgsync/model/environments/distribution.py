"""One installed package (`Distribution`), and a defect of an environment (`Fault`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromDirectory,
    FromIndex,
    FromVcs,
    content_identity,
    identity,
    origin_from_wire,
    origin_to_wire,
)
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.text import counted
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.names import CANONICAL, NORMAL, SHA256, canonical_version
from dask_pkgsync.model.wire.texts import one_line

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.origin import Origin


_FROM_INDEX = FromIndex()
MAX_HASHES = 2_000
"""The most files of one release that a lock file lists."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed package."""

    name: str
    """Canonical name (PEP 503), for example ``scikit-learn``."""
    version: str
    """Version as in its metadata (PEP 440), for example ``1.5.2``."""
    origin: Origin = _FROM_INDEX
    """Where it was installed from."""
    installer: str = ""
    """Name of the tool that installed it (its file INSTALLER, PEP 376), for example ``uv`` or ``conda``."""
    content: str = ""
    """Its content digest (`scanning.content`): SHA-256, 64 hexadecimal digits, of the paths and digests of its own
    files. Two distributions of one name and version with different content are different builds. Empty if it is not
    known: nothing lists the files, or an editable project or loose module has a digest of its source instead."""
    is_pure: bool = False
    """Whether it is known to be from a wheel for every platform, so that its content is the same on all of them."""
    modified: int = 0
    """Number of its files that are not as they were installed: missing, or with other bytes. Then ``content`` is the
    digest of the files as they are, and only the client can provide it. 0 if its files were not looked at."""
    hashes: tuple[str, ...] = ()
    """SHA-256 digests, 64 hexadecimal digits each, of the files that a lock file allows it to be installed from; empty
    if none are recorded."""

    @property
    def identity(self) -> str:
        """The commit or digest that tells it from others of its name and version; empty if an index can provide it."""
        return content_identity(self.content) if self.modified else identity(self.origin)

    @property
    def build(self) -> str:
        """The commit, or the digest of its content or source; empty if none is known. Equal builds have equal code."""
        is_commit = isinstance(self.origin, FromVcs) and not self.modified
        return content_identity(self.content) if self.content and not is_commit else self.identity

    @property
    def label(self) -> str:
        """Its version, with the start of its commit or digest, for tables, for example ``1.2 (git 3f2a9c1d)``."""
        match self.origin:
            case FromVcs(vcs=vcs, commit=commit):
                return f"{self.version} ({vcs} {commit[:8]})"
            case FromDirectory(editable=True, digest=digest):
                return f"{self.version} (editable {_short(digest)})"
            case FromDirectory(digest=digest) | FromArchive(digest=digest):
                return f"{self.version} (file {_short(digest)})"
            case _:
                return self.version

    @property
    def build_label(self) -> str:
        """Its version with the start of its content digest, to tell two builds apart: ``1.2 (build 3f2a9c1d)``."""
        modified = f", {counted(self.modified, 'file')} modified" if self.modified else ""
        return f"{self.version} (build {self.content[:8] or 'unknown'}{modified})"

    def same_version(self, version: str) -> bool:
        """Whether its version equals another one by PEP 440: ``1.0`` equals ``1.0.0``."""
        return self.version == version or canonical_version(self.version) == canonical_version(version)


@dataclass(frozen=True, slots=True)
class Fault:
    """A defect of an environment. A distribution with a fault matches no other distribution."""

    kind: str
    """``duplicate``, ``broken``, ``stray``, ``unreadable``, or ``stale``: a record of conda for a package that pip has
    replaced."""
    place: str
    """Path of the faulty metadata or directory."""
    detail: str
    """One sentence about the fault, for people."""
    name: str = ""
    """Canonical name of the distribution, empty if it is not known."""


def _short(digest: str) -> str:
    return digest.partition("=")[2][:8] or "?"


def distribution_to_wire(distribution: Distribution) -> dict[str, Any]:
    """Return a distribution as plain data, without its name: the name is the key of the entry."""
    entry: dict[str, Any] = {"version": distribution.version, "installer": distribution.installer}
    if distribution.content:
        entry["content"] = distribution.content
    if distribution.is_pure:
        entry["pure"] = True
    if distribution.modified:
        entry["modified"] = distribution.modified
    if distribution.hashes:
        entry["hashes"] = list(distribution.hashes)
    if not isinstance(distribution.origin, FromIndex):
        entry["origin"] = origin_to_wire(distribution.origin)
    return entry


def distribution_from_wire(name: object, entry: Field) -> Distribution:
    """Check and read what `distribution_to_wire` wrote; a distribution without an origin came from an index."""
    match entry.value:
        case {"version": str(version), "installer": str(installer), "content": str(content), **rest} if (
            isinstance(name, str) and rest in ({}, {"pure": True}) and _is_plain(name, version, installer, content)
        ):
            # A short cut for almost all distributions: to check 5,000 field by field blocks a scheduler for too long.
            return Distribution(name, version, _FROM_INDEX, installer, content, bool(rest))
    return Distribution(
        Field(name, f"{entry.place} (a name)").name(),
        entry.key("version").version(),
        origin_from_wire(entry.optional("origin", {"kind": "index"})),
        entry.optional("installer", "").text(200),
        _content(entry.optional("content", "")),
        entry.optional("pure", default=False).flag(),
        entry.optional("modified", 0).count(),
        tuple(_digest(one) for one in entry.optional("hashes", []).items(MAX_HASHES)),
    )


def _content(field: Field) -> str:
    return _digest(field) if field.value else field.text(64)


def _digest(field: Field) -> str:
    digest = field.text(64)
    if not SHA256.fullmatch(digest):
        raise MessageError(field.place, "a SHA-256 digest of 64 hexadecimal digits", digest)
    return digest


def _is_plain(name: str, version: str, installer: str, content: str) -> bool:
    if max(len(name), len(version), len(installer)) > 200 or not installer.isprintable():  # noqa: PLR2004  # the limit of the fields above
        return False
    return bool(CANONICAL.fullmatch(name) and NORMAL.fullmatch(version) and SHA256.fullmatch(content))


def fault_to_wire(fault: Fault) -> dict[str, str]:
    """Return a fault as plain data."""
    texts = {"kind": fault.kind, "place": fault.place, "detail": fault.detail, "name": fault.name}
    return {name: one_line(text) for name, text in texts.items()}


def fault_from_wire(field: Field) -> Fault:
    """Check and read what `fault_to_wire` wrote."""
    return Fault(*(field.key(name).text() for name in ("kind", "place", "detail", "name")))
