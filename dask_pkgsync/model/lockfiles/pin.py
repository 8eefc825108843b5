"""`Pin`: what a lock file says about one package; `Choice`: which of its packages were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from dask_pkgsync.model.environments.origin import FromIndex
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.wire.names import SHA256

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from packaging.tags import Tag

    from dask_pkgsync.model.environments.origin import Origin


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the packages in a lock file were chosen."""

    groups: tuple[str, ...] = ()
    """Names of dependency groups (PEP 735). If any are named, others are left out, except the main one."""
    extras: tuple[str, ...] = ()
    """Names of extras of the locked project."""


EVERYTHING = Choice()
_FROM_INDEX = FromIndex()
_SHOWN = 20
"""The most packages that one error names."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What a lock file says about one package."""

    name: str
    """Canonical name."""
    version: str
    hashes: tuple[str, ...] = ()
    """SHA-256 digests of its files, 64 hexadecimal digits each; empty if the lock file has none."""
    wheels: tuple[str, ...] = ()
    """File names of its wheels, if the lock file lists them."""
    has_source: bool = False
    """Whether the lock file lists a source distribution."""
    origin: Origin = _FROM_INDEX
    """Where it comes from: an index, or a commit or archive that the lock file names."""


def digests(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the SHA-256 digests among hashes such as ``sha256:3f2a…``, sorted, each once."""
    pairs = (text.partition(":") for text in texts)
    return tuple(sorted({digest for kind, _, digest in pairs if kind == "sha256" and SHA256.fullmatch(digest)}))


def refuse_uncovered(name: str, pins: Iterable[Pin], tags: Collection[Tag]) -> None:
    """Raise `PolicyError` if a lock file lists wheels of some packages, and none of them is for a platform.

    Parameters
    ----------
    name : str
        Path of the file, for messages.
    pins : iterable of Pin
    tags : collection of Tag
        The tags (PEP 425) of the platform; empty: every platform will do.
    """
    lacking = [pin for pin in pins if tags and pin.wheels and not pin.has_source and not _any_fits(pin.wheels, tags)]
    if lacking:
        listed = ", ".join(f"{pin.name} {pin.version} (only for {_systems(pin.wheels)})" for pin in lacking[:_SHOWN])
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise PolicyError(f"{name} does not cover this platform: it has no wheel for it of {listed}{more}")


def _any_fits(wheels: Iterable[str], tags: Collection[Tag]) -> bool:
    return any(not _tags(wheel).isdisjoint(tags) for wheel in wheels)


def _tags(wheel: str) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(wheel)[3]
    except InvalidWheelFilename:
        return frozenset()


def _systems(wheels: Iterable[str]) -> str:
    """Return the platforms of wheels, for people."""
    return ", ".join(sorted({tag.platform for wheel in wheels for tag in _tags(wheel)})[:3]) or "none"
