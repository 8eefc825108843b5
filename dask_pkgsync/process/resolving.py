"""Resolves a target for the platform of this node, once for all nodes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.resolutions.foreseen import UV_NAMES, interpreter_for
from dask_pkgsync.model.resolutions.question import question, wanting
from dask_pkgsync.model.resolutions.reading import resolution
from dask_pkgsync.model.resolutions.resolution import Resolution, refusal
from dask_pkgsync.process.tools import indexes_for, installer, resolve_extra
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings


def lacking(target: Target) -> Interpreter | None:
    """Return this interpreter if a target has to be resolved for its platform before this node can have it. Blocks."""
    interpreter = this_interpreter()
    return interpreter if target.needs_resolution(interpreter) else None


def part_here(target: Target) -> Target:
    """Return the part of a target for this node's platform. Blocks."""
    return target.at(this_interpreter())


def resolve(target: Target, settings: NodeSettings) -> Resolution:
    """Return what the nodes of this platform get of a target. Blocks: call it in a thread.

    Raises
    ------
    LayerError
        If no resolver can be run, or if the policy does not allow what it has found. Then it has a table of all that is
        not as the client has it.
    """
    interpreter = this_interpreter()
    if target.environment.interpreter.same_platform(interpreter):
        environment = target.with_extra(resolve_extra(target, settings)).environment
        return Resolution(replace(environment, interpreter=interpreter))
    if target.transport == "client":
        found = resolution(target.environment, target.policy, interpreter, {})
    else:
        uv = installer(open_cache(settings.cache_directory), target, settings)
        found = resolve_with(uv, target, timeout=target.install_timeout, indexes=indexes_for(target, settings))
    if problem := refusal(found, target.policy):
        raise LayerError(
            "resolve",
            problem,
            advice="Install versions on the client that exist for this platform, or name these packages in ignore; "
            "without strict, and with other levels, nodes get the versions that there are.",
        )
    return found


def foresee(target: Target, platform: str, settings: NodeSettings) -> Resolution:
    """Return what nodes of a platform (`model.resolutions.foreseen`) would get of a target, without one. Blocks.

    Raises
    ------
    PolicyError
        If the platform is not known.
    LayerError
        If there is no uv here, or it fails.
    """
    interpreter = interpreter_for(platform, target.environment.interpreter)
    uv = installer(open_cache(settings.cache_directory), target, settings)
    timeout, indexes = target.install_timeout, indexes_for(target, settings)
    return resolve_with(uv, target, timeout=timeout, indexes=indexes, aim=interpreter)


def resolve_with(
    resolver: Installer, target: Target, *, timeout: float, indexes: Indexes, aim: Interpreter | None = None
) -> Resolution:
    """Ask a resolver for the packages of a target on this platform; again, if ``levels`` allow later ones.

    Parameters
    ----------
    resolver : Installer
    target : Target
    timeout : float
        Seconds that one run of the resolver may take.
    indexes : Indexes
    aim : Interpreter, optional
        Another interpreter to resolve for, on one of the platforms of `model.resolutions.foreseen`.
    """
    environment, policy = target.environment, target.policy
    asked = question(environment, policy)
    if aim is not None:
        asked = replace(asked, platform=UV_NAMES[aim.platform], python=aim.feature_version)
    answer = resolver.answer(asked, timeout=timeout, indexes=indexes)
    if widened := wanting(environment, policy, answer):
        again = replace(asked, bounds=question(environment, policy, widened=widened).bounds)
        answer = resolver.answer(again, timeout=timeout, indexes=indexes)
    return resolution(environment, policy, aim or this_interpreter(), answer)
