"""What crosses the wire, as plain lists and dictionaries, checked in full before anything looks at it.

Each ``…_to_wire`` has a ``…_from_wire`` that raises `MessageError` for whatever it does not know: an unknown schema,
an unknown or missing key, a name that is no name (PEP 503), a version that is no version (PEP 440), a text that is too
long or holds control characters. So nothing that an installer could read as an option or a path gets past here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.indexes import OWN, indexes_from_wire, indexes_to_wire
from dask_pkgsync.model.policy import policy_from_wire, policy_to_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from typing import Any

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.policy import Policy


TRANSPORTS = ("auto", "index", "client")
"""Where nodes get packages from."""


@dataclass(frozen=True)
class Target:
    """The environment that the cluster is to have, and how closely."""

    environment: Environment
    policy: Policy
    scheduler: str = "warn"
    """What to do when the scheduler has already imported another version: ``warn`` or ``refuse``."""
    install_timeout: float = 600.0
    """Seconds that one installer may take on a node."""
    client_process: str = ""
    """Token of the process that made the target, where nothing is ever changed."""
    transport: str = "auto"
    """``index``, ``client`` or ``auto``: where nodes get packages from (`layers.fill.Sources`)."""
    indexes: Indexes = OWN
    """The client's indexes, without credentials, for nodes that have none configured."""
    store: str = ""
    """URL where the client's wheels are (`wheels.fsspec_store`); empty: on the scheduler's disk."""
    on_conflict: str = "refuse"
    """What happens where another client has set another environment: ``refuse``, ``wait`` or ``replace``."""
    restart: str = "drained"
    """What happens to workers that hold what no peer can take: ``drained``: they wait, ``now``: they are restarted."""
    keep: bool = False
    """Whether the cluster keeps this when its last client has gone."""
    owner: str = ""
    """Who made the target, for people, for example ``ann@laptop``."""

    @property
    def id(self) -> str:
        """Name of the target: equal targets have equal names, whoever made them."""
        import hashlib
        import json

        rest = [policy_to_wire(self.policy), self.scheduler]
        return hashlib.sha256(json.dumps([self.environment.fingerprint, rest]).encode()).hexdigest()

    def with_environment(self, environment: Environment) -> Target:
        """Return the same with more, or other, distributions."""
        return replace(self, environment=environment)


def target_to_wire(target: Target) -> dict[str, Any]:
    """Return a target as plain data."""
    return {
        "schema": SCHEMA,
        "environment": environment_to_wire(target.environment),
        "policy": policy_to_wire(target.policy),
        "scheduler": target.scheduler,
        "install-timeout": target.install_timeout,
        "transport": target.transport,
        "indexes": indexes_to_wire(target.indexes),
        "restart": target.restart,
        **own_to_wire(target),
    }


ON_CONFLICT = ("refuse", "wait", "replace")
RESTARTS = ("drained", "now")


def target_from_wire(data: object, place: str = "target") -> Target:
    """Check and read what `target_to_wire` wrote."""
    field = Field(data, place)
    field.schema()
    return Target(
        environment_from_wire(field.key("environment").value, f"{place}.environment"),
        policy_from_wire(field.key("policy").value, f"{place}.policy"),
        _one_of(field.key("scheduler"), ("warn", "refuse")),
        field.key("install-timeout").number(),
        transport=_one_of(field.key("transport"), TRANSPORTS),
        indexes=indexes_from_wire(field.key("indexes").value, f"{place}.indexes"),
        restart=_one_of(field.key("restart"), RESTARTS),
        **own_from_wire(data, place),
    )


def own_to_wire(target: Target) -> dict[str, Any]:
    """Return what is a client's own in a target that others have as well."""
    return {
        "client-process": target.client_process,
        "store": target.store,
        "on-conflict": target.on_conflict,
        "keep": target.keep,
        "owner": target.owner,
    }


def own_from_wire(data: object, place: str = "own") -> dict[str, Any]:
    """Check and read what `own_to_wire` wrote; return fields of a `Target`."""
    field = Field(data, place)
    return {
        "client_process": field.key("client-process").text(200),
        "store": field.key("store").text(),
        "on_conflict": _one_of(field.key("on-conflict"), ON_CONFLICT),
        "keep": field.key("keep").flag(),
        "owner": field.key("owner").text(200),
    }


def _one_of(field: Field, choices: tuple[str, ...]) -> str:
    found = field.text(20)
    if found not in choices:
        raise MessageError(field.place, " or ".join(choices), found)
    return found
