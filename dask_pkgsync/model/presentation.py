"""What a client with the preload presents in Dask's handshake: its environment, its user and its dask-pkgsync.

A scheduler that has let the same environment in before recognises it by its fingerprint, so that such a client presents
no list of packages.
"""

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
    """Check and return the environment that a client presents in its handshake; None if it presents none, or a name.

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
    if recognition_in(message) is not None:
        return None
    release = presentation.optional("release", None)
    if release.value is not None or presentation.key("schema").value == UNTOLD.newest:
        agree(release_from_wire(release), here="the cluster's scheduler", there="the client")
    presentation.schema()
    return environment_from_wire(presentation.key("environment").value, f"{presentation.place}.environment")


@dataclass(frozen=True)
class Recognition:
    """What a client presents that the scheduler has let in before: only the names of its environment and target."""

    fingerprint: str
    """`Environment.fingerprint` of the client's environment."""
    target: str
    """Name (`Target.id`) of the target that the client asks for."""


def short_presentation(presentation: Presentation, target: str) -> dict[str, Any]:
    """Return, as plain data, what a client presents to a scheduler that has let it in before (`Recognition`)."""
    return {
        "schema": SCHEMA,
        "release": release_to_wire(presentation.release),
        "person": presentation.person,
        "fingerprint": presentation.environment.fingerprint,
        "target": target,
    }


def recognition_in(message: dict[str, Any]) -> Recognition | None:
    """Check and return the names by which a client asks to be recognised; None if it presents its whole environment.

    Raises
    ------
    MessageError
        If they are not what the protocol allows.
    """
    versions = message.get("versions")
    presentation = versions.get(PRESENTED) if isinstance(versions, dict) else None
    if not isinstance(presentation, dict) or "fingerprint" not in presentation:
        return None
    field = Field(message, "handshake").key("versions").key(PRESENTED)
    return Recognition(field.key("fingerprint").text(100), field.key("target").text(100))


def presented_person(versions: object) -> str:
    """Return the user that a client names in the versions of its handshake; empty if it names none."""
    presentation = versions.get(PRESENTED) if isinstance(versions, dict) else None
    person = presentation.get("person") if isinstance(presentation, dict) else None
    return printable(person[:200]) if isinstance(person, str) else ""
