"""The tools that a node builds with: its own, the client's, or fetched from an index, once per host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.conda.tool import find_rattler
from dask_pkgsync.installers.find import find_installer
from dask_pkgsync.model.blobs import request_for
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.configured_indexes import configured_indexes, pip_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.wheels.inspection import inspect

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings


def installer(cache: Cache, target: Target, settings: NodeSettings, fetch: Fetch | None = None) -> Installer:
    """Return the best installer for this node: its own, or uv from the client or from an index."""
    return find_installer(
        cache,
        Path(this_process().python),
        timeout=target.install_timeout,
        may_fetch=target.transport != "client",
        wheel=_from_client("uv", target, fetch),
        indexes=_indexes_for_tools(target, settings),
        trust=configured_trust(),
    )


def conda_tool(cache: Cache, target: Target, settings: NodeSettings, fetch: Fetch | None = None) -> Path:
    """Return the directory that holds py-rattler: this node's own, or one from the client or from an index."""
    return find_rattler(
        cache,
        lambda: installer(cache, target, settings, fetch),
        python=Path(this_process().python),
        timeout=target.install_timeout,
        may_fetch=target.transport != "client",
        wheel=_from_client("py-rattler", target, fetch),
        indexes=_indexes_for_tools(target, settings),
    )


def _from_client(name: str, target: Target, fetch: Fetch | None) -> Callable[[], Path | None] | None:
    """Return what gets the client's wheel of a tool, or None where the client has none for this platform.

    None in place of that where nothing may come from the client.
    """
    if target.transport == "index" or fetch is None:
        return None

    def wheel() -> Path | None:
        tool = target.environment.distributions.get(name)
        if tool is None or not target.environment.interpreter.same_platform(this_interpreter()):
            return None
        request = request_for(tool)
        path, _ = fetch([request])[request]
        inspect(path, name=tool.name, version=tool.version)
        return path

    return wheel


def _indexes_for_tools(target: Target, settings: NodeSettings) -> tuple[Indexes, ...]:
    """Return where tools may be fetched from: this node's indexes, which may lack them, and those that pip here has."""
    first = indexes_for(target, settings)
    return (first,) if settings.indexes.configured else tuple(dict.fromkeys((first, pip_indexes())))


def indexes_for(target: Target, settings: NodeSettings) -> Indexes:
    """Return the indexes that this node uses: the operator's, else those of uv and pip here, else the client's."""
    candidates = (settings.indexes, configured_indexes(), target.indexes)
    return next((indexes for indexes in candidates if indexes.configured), OWN)


def resolve_extra_conda(target: Target, settings: NodeSettings) -> tuple[CondaPackage, ...]:
    """Find the conda packages that ``extra`` adds to the client's. Blocks: call it in a thread."""
    from dask_pkgsync.conda.solving import solve_extra  # imported here because few targets need it

    cache = open_cache(settings.cache_directory)
    return solve_extra(
        target.policy.extra_conda,
        tuple(target.environment.conda.values()),
        cache,
        lambda: conda_tool(cache, target, settings),
        timeout=target.install_timeout,
    )


def resolve_extra(target: Target, settings: NodeSettings) -> tuple[str, ...]:
    """Resolve the extra requirements to exact pins that agree with the target. Blocks: call it in a thread."""
    cache = open_cache(settings.cache_directory)
    constraints = [f"{d.name}=={d.version}" for d in target.environment.distributions.values()]
    return installer(cache, target, settings).resolve(
        target.policy.extra_requirements,
        constraints,
        timeout=target.install_timeout,
        indexes=indexes_for(target, settings),
    )
