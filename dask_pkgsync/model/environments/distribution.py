"""One installed package, and what is wrong with those that cannot be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromDirectory,
    FromIndex,
    FromVcs,
    identity,
    origin_from_wire,
)
from dask_pkgsync.model.wire.names import CANONICAL, NORMAL

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.origin import Origin
    from dask_pkgsync.model.wire.fields import Field


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed package."""

    name: str
    """Canonical (PEP 503), for example ``scikit-learn``."""
    version: str
    """As its metadata says it (PEP 440), for example ``1.5.2``."""
    origin: Origin = FromIndex()
    installer: str = ""
    """INSTALLER (PEP 376), for example ``uv`` or ``conda``."""

    @property
    def identity(self) -> str:
        """What tells it apart from others of its name and version; empty for what an index has."""
        return identity(self.origin)

    @property
    def label(self) -> str:
        """Its version for tables, with what tells it apart, for example ``1.2 (git 3f2a9c1d)``."""
        match self.origin:
            case FromVcs(vcs=vcs, commit=commit):
                return f"{self.version} ({vcs} {commit[:8]})"
            case FromDirectory(editable=True, digest=digest):
                return f"{self.version} (editable {_short(digest)})"
            case FromDirectory(digest=digest) | FromArchive(digest=digest):
                return f"{self.version} (file {_short(digest)})"
            case _:
                return self.version

    def same_version(self, version: str) -> bool:
        """Compare as PEP 440 does: ``1.0`` is ``1.0.0``."""
        return self.version == version or Version(self.version) == Version(version)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in an environment that cannot be trusted, and is never counted as a match."""

    kind: str
    """``duplicate``, ``broken``, ``stray`` or ``unreadable``."""
    place: str
    """Path of the metadata or directory."""
    detail: str
    """One sentence for people."""
    name: str = ""
    """Canonical name of the distribution, as far as it is known."""


def _short(digest: str) -> str:
    return digest.partition("=")[2][:8] or "?"


def distribution_from_wire(entry: Field) -> Distribution:
    """Check and read one distribution."""
    match entry.value:
        case [str(name), str(version), ["index"], str(installer)] if _is_plain(name, version, installer):
            # What almost all are, at once: piece by piece, 5,000 of them hold a scheduler up for too long.
            return Distribution(name, version, _FROM_INDEX, installer)
        case _:
            fields = entry.row(4)
            origin, installer = origin_from_wire(fields[2]), fields[3].text(200)
            return Distribution(fields[0].name(), fields[1].version(), origin, installer)


_FROM_INDEX = FromIndex()


def _is_plain(name: str, version: str, installer: str) -> bool:
    if max(len(name), len(version), len(installer)) > 200 or not installer.isprintable():  # noqa: PLR2004  # as below
        return False
    return bool(CANONICAL.fullmatch(name) and NORMAL.fullmatch(version))
