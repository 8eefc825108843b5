"""What a client with our preload presents in Dask's own handshake: its environment, its person, its release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire
from dask_pkgsync.model.text import printable
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import PRESENTED, SCHEMA
from dask_pkgsync.model.wire.releases import THIS, Release, agree, release_from_wire, release_to_wire

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment


@dataclass(frozen=True)
class Presentation:
    """What a client presents."""

    environment: Environment
    person: str
    """Who says to be behind the client, for people, for example ``ann@laptop``."""
    release: Release = THIS
    """The client's dask-pkgsync."""


def presentation_to_wire(presentation: Presentation) -> dict[str, Any]:
    """Return it as plain data, for `PRESENTED` in the versions of a handshake."""
    return {
        "schema": SCHEMA,
        "release": release_to_wire(presentation.release),
        "person": presentation.person,
        "environment": environment_to_wire(presentation.environment),
    }


def presented(message: dict[str, Any]) -> Environment | None:
    """Check and return the environment that a client presents in its handshake; None if it presents nothing.

    Raises
    ------
    MessageError
        If it is not what the protocol allows.
    ReleaseMismatchError
        If the client's release and this one have no schema in common.
    """
    versions = Field(message, "handshake").key("versions")
    if not isinstance(versions.value, dict) or PRESENTED not in versions.value:
        return None
    shown = versions.key(PRESENTED)
    agree(release_from_wire(shown.optional("release", None)), here="the cluster's scheduler", there="the client")
    shown.schema()
    return environment_from_wire(shown.key("environment").value, f"{shown.place}.environment")


def presented_person(versions: object) -> str:
    """Return who says to be behind a client, in the versions of its handshake; empty where nobody does."""
    shown = versions.get(PRESENTED) if isinstance(versions, dict) else None
    person = shown.get("person") if isinstance(shown, dict) else None
    return printable(person[:200]) if isinstance(person, str) else ""
