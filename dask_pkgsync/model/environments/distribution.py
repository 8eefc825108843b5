"""One installed package (`Distribution`), and a defect of an environment (`Fault`)."""

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
    """Canonical name (PEP 503), for example ``scikit-learn``."""
    version: str
    """Version as in its metadata (PEP 440), for example ``1.5.2``."""
    origin: Origin = _FROM_INDEX
    """Where it was installed from."""
    installer: str = ""
    """Name of the tool that installed it (its file INSTALLER, PEP 376), for example ``uv`` or ``conda``."""

    @property
    def identity(self) -> str:
        """The commit or digest that tells it from others of its name and version; empty if it came from an index."""
        return identity(self.origin)

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

    def same_version(self, version: str) -> bool:
        """Whether its version equals another one by PEP 440: ``1.0`` equals ``1.0.0``."""
        return self.version == version or Version(self.version) == Version(version)


@dataclass(frozen=True, slots=True)
class Fault:
    """A defect of an environment. A distribution with a fault matches no other distribution."""

    kind: str
    """``duplicate``, ``broken``, ``stray`` or ``unreadable``."""
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
    if not isinstance(distribution.origin, FromIndex):
        entry["origin"] = origin_to_wire(distribution.origin)
    return entry


def distribution_from_wire(name: object, entry: Field) -> Distribution:
    """Check and read what `distribution_to_wire` wrote; a distribution without an origin came from an index."""
    match entry.value:
        case {"version": str(version), "installer": str(installer)} if (
            isinstance(name, str) and "origin" not in entry.value and _is_plain(name, version, installer)
        ):
            # A short cut for almost all distributions: to check 5,000 field by field blocks a scheduler for too long.
            return Distribution(name, version, _FROM_INDEX, installer)
    installer = entry.optional("installer", "").text(200)
    origin = origin_from_wire(entry.optional("origin", {"kind": "index"}))
    return Distribution(
        Field(name, f"{entry.place} (a name)").name(), entry.key("version").version(), origin, installer
    )


def _is_plain(name: str, version: str, installer: str) -> bool:
    if max(len(name), len(version), len(installer)) > 200 or not installer.isprintable():  # noqa: PLR2004  # the limit of the fields above
        return False
    return bool(CANONICAL.fullmatch(name) and NORMAL.fullmatch(version))


def fault_to_wire(fault: Fault) -> dict[str, str]:
    """Return a fault as plain data."""
    return {"kind": fault.kind, "place": fault.place, "detail": fault.detail, "name": fault.name}


def fault_from_wire(field: Field) -> Fault:
    """Check and read what `fault_to_wire` wrote."""
    return Fault(*(field.key(name).text() for name in ("kind", "place", "detail", "name")))
