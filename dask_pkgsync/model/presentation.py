"""What a client with the preload presents in Dask's handshake: its environment, its user and its dask-pkgsync."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire
from dask_pkgsync.model.text import printable
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import PRESENTED, SCHEMA
from dask_pkgsync.model.wire.releases import THIS, UNTOLD, Release, agree, release_from_wire, release_to_wire

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment


@dataclass(frozen=True)
class Presentation:
    """What a client presents in its handshake."""

    environment: Environment
    person: str
    """User and host of the client, as the client names them, for example ``ann@laptop``; only a text for people."""
    release: Release = THIS
    """The release of dask-pkgsync on the client."""


def presentation_to_wire(presentation: Presentation) -> dict[str, Any]:
    """Return a presentation as plain data, for the key `PRESENTED` in the versions of a handshake."""
    return {
        "schema": SCHEMA,
        "release": release_to_wire(presentation.release),
        "person": presentation.person,
        "environment": environment_to_wire(presentation.environment),
    }


def presented(message: dict[str, Any]) -> Environment | None:
    """Check and return the environment that a client presents in its handshake; None if it presents none.

    Raises
    ------
    MessageError
        If the presentation is not what the protocol allows.
    ReleaseMismatchError
        If the client's release and this one have no schema in common.
    """
    versions = Field(message, "handshake").key("versions")
    if not isinstance(versions.value, dict) or PRESENTED not in versions.value:
        return None
    presentation = versions.key(PRESENTED)
    release = presentation.optional("release", None)
    if release.value is not None or presentation.key("schema").value == UNTOLD.newest:
        agree(release_from_wire(release), here="the cluster's scheduler", there="the client")
    presentation.schema()
    return environment_from_wire(presentation.key("environment").value, f"{presentation.place}.environment")


def presented_person(versions: object) -> str:
    """Return the user that a client names in the versions of its handshake; empty if it names none."""
    presentation = versions.get(PRESENTED) if isinstance(versions, dict) else None
    person = presentation.get("person") if isinstance(presentation, dict) else None
    return printable(person[:200]) if isinstance(person, str) else ""
