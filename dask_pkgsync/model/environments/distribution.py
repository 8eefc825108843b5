"""One installed package, and what is wrong with those that cannot be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromDirectory,
    FromIndex,
    FromVcs,
    identity,
    origin_from_wire,
    origin_to_wire,
)
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.names import CANONICAL, NORMAL

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.origin import Origin


_FROM_INDEX = FromIndex()


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed package."""

    name: str
    """Canonical (PEP 503), for example ``scikit-learn``."""
    version: str
    """As its metadata says it (PEP 440), for example ``1.5.2``."""
    origin: Origin = _FROM_INDEX
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


def distribution_to_wire(distribution: Distribution) -> dict[str, Any]:
    """Return a distribution as plain data, without its name, under which it stands."""
    found: dict[str, Any] = {"version": distribution.version, "installer": distribution.installer}
    if not isinstance(distribution.origin, FromIndex):
        found["origin"] = origin_to_wire(distribution.origin)
    return found


def distribution_from_wire(name: object, entry: Field) -> Distribution:
    """Check and read what `distribution_to_wire` wrote; without an origin it is from an index."""
    match entry.value:
        case {"version": str(version), "installer": str(installer)} if (
            isinstance(name, str) and "origin" not in entry.value and _is_plain(name, version, installer)
        ):
            # What almost all are, at once: piece by piece, 5,000 of them hold a scheduler up for too long.
            return Distribution(name, version, _FROM_INDEX, installer)
    installer = entry.optional("installer", "").text(200)
    origin = origin_from_wire(entry.optional("origin", {"kind": "index"}))
    return Distribution(
        Field(name, f"{entry.place} (a name)").name(), entry.key("version").version(), origin, installer
    )


def _is_plain(name: str, version: str, installer: str) -> bool:
    if max(len(name), len(version), len(installer)) > 200 or not installer.isprintable():  # noqa: PLR2004  # as above
        return False
    return bool(CANONICAL.fullmatch(name) and NORMAL.fullmatch(version))


def fault_to_wire(fault: Fault) -> dict[str, str]:
    """Return a fault as plain data."""
    return {"kind": fault.kind, "place": fault.place, "detail": fault.detail, "name": fault.name}


def fault_from_wire(field: Field) -> Fault:
    """Check and read what `fault_to_wire` wrote."""
    return Fault(*(field.key(name).text() for name in ("kind", "place", "detail", "name")))
