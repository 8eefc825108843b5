"""The environment that the nodes of one platform get, which was resolved once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import environment_from_wire, environment_to_wire
from dask_pkgsync.model.resolutions.substitution import substitution_from_wire, substitution_to_wire, table
from dask_pkgsync.model.wire.fields import MAX_ITEMS, Field

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.resolutions.substitution import Substitution


@dataclass(frozen=True)
class Resolution:
    """The environment that the nodes of one platform get."""

    environment: Environment
    """Its interpreter is that of the node that has resolved it; its versions are exact."""
    substitutions: tuple[Substitution, ...] = ()
    """What is not as the client has it, in the order of the names."""

    def fits(self, interpreter: Interpreter) -> bool:
        """Whether it was made for the platform of an interpreter: also the level of its C library counts."""
        return platform_of(self.environment.interpreter) == platform_of(interpreter)


def platform_of(interpreter: Interpreter) -> tuple[str, str, str, str]:
    """Return what decides which wheels an interpreter can take."""
    return interpreter.implementation, interpreter.feature_version, interpreter.platform, interpreter.tag


def refusal(one: Resolution, policy: Policy) -> str:
    """Return why the nodes of a platform must not get what was resolved for them, with the table; empty if they may."""
    refused = [row for row in one.substitutions if row.kind == "refused"]
    rows = [row for row in one.substitutions if row.differs] if policy.strict else refused
    if not rows:
        return ""
    reason = "packages that have to be exact are not there" if refused else "strict allows no other versions"
    return f"for {one.environment.interpreter.platform} {reason}:\n{table(rows)}"


def with_extra(environment: Environment, pins: Iterable[str]) -> Environment:
    """Return an environment with further distributions, given as ``name==version``; those that it has stay."""
    pairs = (pin.split("==", 1) for pin in pins)
    extra = [Distribution(name, version) for name, version in pairs if name not in environment.distributions]
    return environment.with_distributions([*environment.distributions.values(), *extra])


def resolution_to_wire(one: Resolution) -> dict[str, Any]:
    """Return a resolution as plain data."""
    return {
        "environment": environment_to_wire(one.environment),
        "substitutions": [substitution_to_wire(row) for row in one.substitutions],
    }


def resolution_from_wire(data: object, place: str = "resolution") -> Resolution:
    """Check and read what `resolution_to_wire` wrote."""
    field = Field(data, place)
    environment = environment_from_wire(field.key("environment").value, f"{place}.environment")
    rows = tuple(substitution_from_wire(entry) for entry in field.key("substitutions").items(MAX_ITEMS))
    return Resolution(environment, rows)
