"""The target: the environment that a cluster should have, with the options by which its nodes get it.

As everywhere in `model`, each ``…_to_wire`` has a ``…_from_wire`` that checks plain data completely. It raises
`MessageError` for an unknown schema, a missing key, a name that is not canonical (PEP 503), a version that is not valid
(PEP 440), and a text that is too long or holds control characters. So no text that an installer could read as an option
or a path gets past it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.indexes import OWN, indexes_from_wire, indexes_to_wire
from dask_pkgsync.model.policy import policy_from_wire, policy_to_wire
from dask_pkgsync.model.relaunch import RELAUNCHES
from dask_pkgsync.model.resolutions.resolution import Resolution, resolution_from_wire, resolution_to_wire, with_extra
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.names import SHA256
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.policy import Policy


TRANSPORTS = ("auto", "index", "client")
"""The values of ``transport``: where nodes get packages from."""


@dataclass(frozen=True)
class Target:
    """The environment that a cluster should have (its desired state), and the options by which its nodes get it."""

    environment: Environment
    policy: Policy
    """How closely each package has to match."""
    scheduler: str = "warn"
    """What happens if the scheduler has already imported another version of a package: ``warn`` or ``refuse``."""
    install_timeout: float = 600.0
    """Seconds that one run of an installer may take on a node."""
    client_process: str = ""
    """Token of the client's process. A node that runs in this process (a `LocalCluster`'s) is left as it is."""
    transport: str = "auto"
    """Where nodes get packages from: ``index``, ``client`` or ``auto`` (`layers.fill.Sources`)."""
    indexes: Indexes = OWN
    """The client's indexes, without credentials. A node uses them if it has no indexes configured."""
    store: str = ""
    """URL of the store of the client's wheels (`wheels.fsspec_store`); empty for the scheduler's disk."""
    on_conflict: str = "refuse"
    """What happens if another client's environment conflicts with this one: ``refuse``, ``wait`` or ``replace``."""
    restart: str = "drained"
    """What happens to a worker with results that no other worker can take: ``drained``: it is restarted when they are
    no longer needed; ``now``: it is restarted at once."""
    keep: bool = False
    """Whether the cluster keeps the target when its last client has disconnected."""
    owner: str = ""
    """User and host of the client that made the target, for example ``ann@laptop``; only a text for people."""
    has_extra: bool = False
    """Whether the extra requirements are resolved, and the environment has what they need."""
    resolutions: tuple[Resolution, ...] = ()
    """What the nodes of other platforms than the client's get, resolved once for each platform."""
    name: str = ""
    """The id of the target of which this is the part for one platform; empty for the whole target."""
    relaunch: str = "never"
    """Whether the processes of the cluster may be executed anew in another interpreter: one of `RELAUNCHES`."""

    @property
    def id(self) -> str:
        """SHA-256, 64 hexadecimal digits, of environment, policy and ``scheduler``.

        Clients that ask for the same environment in the same way have targets of the same id. What was resolved for
        other platforms is not in it: a scheduler resolves a target once for each platform, and keeps that.
        """
        if self.name:
            return self.name
        import hashlib
        import json

        rest = [policy_to_wire(self.policy), self.scheduler]
        return hashlib.sha256(json.dumps([self.environment.fingerprint, rest]).encode()).hexdigest()

    def with_environment(self, environment: Environment) -> Target:
        """Return a copy of the target with another environment."""
        return replace(self, environment=environment)

    def with_extra(self, pins: Iterable[str]) -> Target:
        """Return a copy of the target with what the extra requirements need, given as ``name==version``."""
        return replace(self, environment=with_extra(self.environment, pins), has_extra=True)

    def needs_resolution(self, interpreter: Interpreter) -> bool:
        """Whether it has to be resolved before a node with this interpreter can have it, and was not yet.

        That is so on another platform than the client's. On the client's own, only the extra requirements have to be
        resolved. A node with another X.Y of Python cannot have it at all.
        """
        own = self.environment.interpreter
        if (own.implementation, own.feature_version) != (interpreter.implementation, interpreter.feature_version):
            return False
        if self.name or any(one.fits(interpreter) for one in self.resolutions):
            return False
        is_complete = self.has_extra or not self.policy.extra_requirements
        return not (is_complete and own.same_platform(interpreter))

    def at(self, interpreter: Interpreter) -> Target:
        """Return the part of the target for a node with this interpreter: what was resolved for its platform."""
        found = next((one for one in self.resolutions if one.fits(interpreter)), None)
        if found is None:
            return self
        return replace(self, environment=found.environment, resolutions=(), name=self.id)


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
        "relaunch": target.relaunch,
        **own_to_wire(target),
        **({"has-extra": True} if target.has_extra else {}),
        **({"resolutions": [resolution_to_wire(one) for one in target.resolutions]} if target.resolutions else {}),
        **({"name": target.name} if target.name else {}),
    }


MAX_PLATFORMS = 50
"""The most platforms for which a target is resolved."""
ON_CONFLICT = ("refuse", "wait", "replace")
"""The values of ``on_conflict``."""
RESTARTS = ("drained", "now")
"""The values of ``restart``."""


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
        relaunch=_one_of(field.optional("relaunch", "never"), RELAUNCHES),
        **own_from_wire(data, place),
        has_extra=field.optional("has-extra", default=False).flag(),
        resolutions=tuple(
            resolution_from_wire(entry.value, entry.place)
            for entry in field.optional("resolutions", []).items(MAX_PLATFORMS)
        ),
        name=_name(field.optional("name", "")),
    )


def _name(field: Field) -> str:
    name = field.text(64)
    if name and not SHA256.fullmatch(name):
        raise MessageError(field.place, "the id of a target", name)
    return name


def own_to_wire(target: Target) -> dict[str, Any]:
    """Return, as plain data, the fields of a target in which clients that share the target may differ."""
    return {
        "client-process": target.client_process,
        "store": target.store,
        "on-conflict": target.on_conflict,
        "keep": target.keep,
        "owner": target.owner,
    }


def own_from_wire(data: object, place: str = "own") -> dict[str, Any]:
    """Check and read what `own_to_wire` wrote; return keyword arguments of `Target`."""
    field = Field(data, place)
    return {
        "client_process": field.key("client-process").text(200),
        "store": field.key("store").text(),
        "on_conflict": _one_of(field.key("on-conflict"), ON_CONFLICT),
        "keep": field.key("keep").flag(),
        "owner": field.key("owner").text(200),
    }


def _one_of(field: Field, choices: tuple[str, ...]) -> str:
    value = field.text(20)
    if value not in choices:
        raise MessageError(field.place, " or ".join(choices), value)
    return value
