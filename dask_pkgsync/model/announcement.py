"""What a scheduler publishes about itself in Dask's metadata, so that a client knows how to send its sync."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.releases import THIS, Release, release_from_wire, release_to_wire


@dataclass(frozen=True)
class Announcement:
    """A scheduler's mode, target and release. It is only a hint: any client of a cluster can write metadata."""

    mode: str
    """``sync``, ``enforce`` or ``warn``."""
    target: str
    """Name of the target (`Target.id`), empty while no client has synced."""
    is_guarded: bool = False
    """Whether the operator installed the gate (by the preload). Such a scheduler keeps its own dask-pkgsync: a client
    syncs by the message ``pkgsync_sync``, and brings no scheduler plugin."""
    release: Release = THIS
    """The release of dask-pkgsync on the scheduler."""
    recognises: bool = True
    """Whether the scheduler recognises clients by the fingerprint of their environment (`presentation.Recognition`)."""


def announcement_to_wire(announcement: Announcement) -> dict[str, Any]:
    """Return an announcement as plain data."""
    return {
        "mode": announcement.mode,
        "target": announcement.target,
        "guarded": announcement.is_guarded,
        "release": release_to_wire(announcement.release),
        "recognises": announcement.recognises,
    }


def announcement_from_wire(data: object) -> Announcement | None:
    """Read what `announcement_to_wire` wrote; return None for any other data."""
    if not isinstance(data, dict):
        return None
    field = Field(data, "metadata")
    try:
        return Announcement(
            field.key("mode").text(20),
            field.key("target").text(100),
            field.optional("guarded", default=False).flag(),
            release_from_wire(field.optional("release", None)),
            recognises=field.optional("recognises", default=False).flag(),
        )
    except MessageError:
        return None
