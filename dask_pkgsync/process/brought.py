"""What the command of a node needs and a target lacks: it is brought along, in the version that the node has."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.policy import CRITICAL
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.wire.names import canonical_name
from dask_pkgsync.process.imports import base_path
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.records import installed, module_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.target import Target


def with_needs(target: Target, modules: Iterable[str]) -> tuple[Target, tuple[str, ...]]:
    """Return a target with the distributions of some modules, and with what these require. Blocks.

    Parameters
    ----------
    target : Target
    modules : iterable of str
        Modules that the command of this process imports, for example its preloads.

    Returns
    -------
    tuple
        The target, and a note for the user on each distribution that it lacked.

    Raises
    ------
    LayerError
        If one of them requires another version of a package than the target has; it names both.
    """
    tops = {module.partition(".")[0] for module in modules}
    names = [
        name
        for name, dist_info in installed(base_path()).items()
        if not tops.isdisjoint(module.partition(".")[0] for module in module_names(dist_info))
    ]
    return brought(target, names, scan_installed(base_path()))


def brought(target: Target, names: Iterable[str], base: Environment) -> tuple[Target, tuple[str, ...]]:
    """Return a target with some distributions of a base, as `with_needs` does.

    Parameters
    ----------
    target : Target
    names : iterable of str
        Canonical names.
    base : Environment
        This node's own environment, in which they are installed.
    """
    environment = target.environment
    missing: dict[str, Distribution] = {}
    to_add = sorted({*names} - {*environment.distributions, *CRITICAL})
    while to_add:
        name = to_add.pop()
        found = base.distributions.get(name)
        if found is None or name in missing:
            continue
        missing[name] = Distribution(name, found.version)  # not this build of it: it may be for another Python
        for requirement in _requirements(name, environment):
            needed = canonical_name(requirement.name)
            have = environment.distributions.get(needed)
            if have is None:
                to_add.append(needed)
            elif not _is_met(requirement, have.version):
                raise LayerError(
                    "prepare",
                    f"the command of this node needs {name} {found.version}, which requires {requirement}; the "
                    f"environment has {needed} {have.version}",
                    advice=f"Install {name} in the client's environment, or start the node without it.",
                    packages=(f"{name}=={found.version}", f"{needed}=={have.version}"),
                )
    if not missing:
        return target, ()
    more = tuple(missing.values())
    extended = _with(environment, more)
    told = "was brought along, as the command of this node needs it"
    parts = tuple(
        replace(
            part, environment=part.environment.with_distributions([*part.environment.distributions.values(), *more])
        )
        for part in target.resolutions
    )
    told_of = tuple(f"{name} {one.version} {told}" for name, one in missing.items())
    return replace(target, environment=extended, resolutions=parts), told_of


def _with(environment: Environment, more: Iterable[Distribution]) -> Environment:
    return environment.with_distributions([*environment.distributions.values(), *more])


def _is_met(requirement: Requirement, version: str) -> bool:
    try:
        return requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def _requirements(name: str, environment: Environment) -> Iterator[Requirement]:
    """Return what an installed distribution requires in the interpreter of an environment."""
    version = environment.interpreter.version
    surroundings = {
        "python_version": ".".join(version.split(".")[:2]),
        "python_full_version": version,
        "extra": "",
    }
    for line in metadata.distribution(name).requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # of a package from before PEP 508; the probe tells what is missing
            continue
        if requirement.marker is None or requirement.marker.evaluate(surroundings):
            yield requirement
