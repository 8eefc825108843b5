"""What a scheduler says of itself in Dask's metadata, so that a client knows what to expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.releases import THIS, Release, release_from_wire, release_to_wire


@dataclass(frozen=True)
class Announcement:
    """No more than a hint: anybody on a cluster can write metadata."""

    mode: str
    """``sync``, ``enforce`` or ``warn``."""
    target: str
    """Name of what the clients have asked for, empty where nobody has."""
    is_guarded: bool = False
    """Whether the gate is the operator's: then the scheduler keeps its own dask-pkgsync, and clients send messages."""
    release: Release = THIS
    """The scheduler's dask-pkgsync."""


def announcement_to_wire(announcement: Announcement) -> dict[str, Any]:
    """Return it as plain data."""
    return {
        "mode": announcement.mode,
        "target": announcement.target,
        "guarded": announcement.is_guarded,
        "release": release_to_wire(announcement.release),
    }


def announcement_from_wire(data: object) -> Announcement | None:
    """Read what `announcement_to_wire` wrote; None for what nobody of ours has written."""
    if not data:
        return None
    field = Field(data, "metadata")
    try:
        return Announcement(
            field.key("mode").text(20),
            field.key("target").text(100),
            field.optional("guarded", default=False).flag(),
            release_from_wire(field.optional("release", None)),
        )
    except MessageError:
        return None
