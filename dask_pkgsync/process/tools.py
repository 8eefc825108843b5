"""The tools that a node builds with: its own, the client's, or fetched from an index, once per host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.find import find_installer
from dask_pkgsync.model.blobs import request_for
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.configured_indexes import configured_indexes, pip_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.wheels.inspection import inspect

if TYPE_CHECKING:
    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings


def installer(cache: Cache, target: Target, settings: NodeSettings, fetch: Fetch | None = None) -> Installer:
    """Return the best installer for this node: its own, or uv from the client or from an index."""

    def wheel() -> Path | None:
        uv = target.environment.distributions.get("uv")
        if uv is None or fetch is None or not target.environment.interpreter.same_platform(this_interpreter()):
            return None
        request = request_for(uv)
        path, _ = fetch([request])[request]
        inspect(path, name=uv.name, version=uv.version)
        return path

    timeout, python = target.install_timeout, Path(this_process().python)
    may_fetch = target.transport != "client"
    return find_installer(
        cache,
        python,
        timeout=timeout,
        may_fetch=may_fetch,
        wheel=None if target.transport == "index" else wheel,
        indexes=_indexes_for_uv(target, settings),
        trust=configured_trust(),
    )


def _indexes_for_uv(target: Target, settings: NodeSettings) -> tuple[Indexes, ...]:
    """Return where uv may be fetched from: this node's indexes, which may lack it, and those that pip here has."""
    first = indexes_for(target, settings)
    return (first,) if settings.indexes.configured else tuple(dict.fromkeys((first, pip_indexes())))


def indexes_for(target: Target, settings: NodeSettings) -> Indexes:
    """Return the indexes that this node uses: the operator's, else those of uv and pip here, else the client's."""
    candidates = (settings.indexes, configured_indexes(), target.indexes)
    return next((indexes for indexes in candidates if indexes.configured), OWN)


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
