"""The recipe of a node: scan its base, plan, and build or reuse the layer that closes the gap."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache.collection import collect
from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.installers.find import find_installer
from dask_pkgsync.layers.build import build
from dask_pkgsync.layers.fill import Sources
from dask_pkgsync.layers.layer import base_at
from dask_pkgsync.model.blobs import request_for
from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.process.imports import base_path, imported, left_over, remaining, stays_whole
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.configured_indexes import configured_indexes
from dask_pkgsync.scanning.installed import scan_installed, this_interpreter
from dask_pkgsync.scanning.snapshot import with_digests
from dask_pkgsync.wheels.inspection import inspect

if TYPE_CHECKING:
    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.installers import Installer
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.indexes import Indexes
    from dask_pkgsync.model.plan import Plan
    from dask_pkgsync.model.target import Target


TOO_LATE = "this process has imported another version already; start it with this one"
"""Why a running process skips a package."""


@dataclass(frozen=True)
class NodeSettings:
    """What the operator of a node decides, not the client."""

    cache_directory: str | None = None
    """Where layers are kept; None for the user's cache directory."""
    max_age: float = 24 * 3600.0
    """Seconds after which a layer that nobody uses is removed."""
    max_bytes: int = 50_000_000_000
    """Size of all layers above which the longest unused ones are removed."""
    store_bytes: int = 20_000_000_000
    """Size of all wheels that came from clients."""
    indexes: Indexes = OWN
    """Where packages come from; before whatever uv, pip or the client are configured with."""


@dataclass(frozen=True)
class Prepared:
    """A node that is ready to take the target."""

    plan: Plan
    layer: Layer | None
    """None where the base matches already."""
    site_packages: tuple[Path, ...] = ()
    """The base's directories of distributions, which a complete layer leaves behind."""


def prepare(target: Target, settings: NodeSettings, fetch: Fetch) -> Prepared:
    """Plan, and build or reuse the layer. Changes nothing that runs. Blocks: call it in a thread.

    Parameters
    ----------
    target : Target
    settings : NodeSettings
    fetch : callable
        Returns wheels of the client.

    Raises
    ------
    LayerError
        With the step, the installer's last words, and what to do.
    """
    base = scan_base(target)
    refuse_critical(target, base)
    return _build(make_plan(base, target.environment, target.policy), base, target, settings, fetch)


def scan_base(target: Target) -> Environment:
    """Return what this node has without us, with digests of the editable projects that the client has as well."""
    return with_digests(scan_installed(base_path()), target.environment.distributions)


def prepare_running(target: Target, settings: NodeSettings, fetch: Fetch) -> Prepared:
    """Do the same for a process that cannot be restarted: what it has imported already is left out, with the reason.

    Where it can, it shares the layer of its host's other nodes, which costs no build of its own: a package that is
    wholly imported finds its further modules through its own ``__path__``, in the base, whatever the layer holds.
    """
    base = scan_base(target)
    refuse_critical(target, base)
    late = {*imported(remaining(target)), *left_over(target)}
    plan = make_plan(base, target.environment, target.policy)
    taken = plan.without(late, TOO_LATE)
    if taken.empty or not all(stays_whole(name) for name in late):
        return _build(taken, base, target, settings, fetch)
    return replace(_build(plan, base, target, settings, fetch), plan=taken)


def _build(plan: Plan, base: Environment, target: Target, settings: NodeSettings, fetch: Fetch) -> Prepared:
    if plan.empty:
        return Prepared(plan, None)
    cache = open_cache(settings.cache_directory)
    own = base_at(Path(this_process().python), base_path(), base)
    sources = Sources(target.transport, fetch, indexes_for(target, settings), target.environment.distributions)
    layer = build(
        plan, own, cache, lambda: installer(cache, target, fetch), timeout=target.install_timeout, sources=sources
    )
    if not layer.reused:
        collect(cache, max_age=settings.max_age, max_bytes=settings.max_bytes)
    return Prepared(plan, layer, own.site_packages)


def installer(cache: Cache, target: Target, fetch: Fetch | None = None) -> Installer:
    """Return the best installer that this node has or can get, from an index or from the client."""

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
        cache, python, timeout=timeout, may_fetch=may_fetch, wheel=None if target.transport == "index" else wheel
    )


def indexes_for(target: Target, settings: NodeSettings) -> Indexes:
    """Return where this node gets packages: from its operator's indexes if there are any, else from the client's."""
    candidates = (settings.indexes, configured_indexes(), target.indexes)
    return next((indexes for indexes in candidates if indexes.configured), OWN)


def resolve_extra(target: Target, settings: NodeSettings) -> tuple[str, ...]:
    """Resolve the extra requirements to exact pins that agree with the target. Blocks: call it in a thread."""
    cache = open_cache(settings.cache_directory)
    constraints = [f"{d.name}=={d.version}" for d in target.environment.distributions.values()]
    return installer(cache, target).resolve(
        target.policy.extra, constraints, timeout=target.install_timeout, indexes=indexes_for(target, settings)
    )


def refuse_critical(target: Target, base: Environment) -> None:
    """Raise if this node differs in a package that no layer may replace."""
    found = compare_critical(
        critical_versions(target.environment),
        critical_versions(base),
        expected_label="client",
        found_label="node",
    )
    if found:
        raise LayerError(
            "compare",
            "the node's own packages differ from the client's in what Dask needs to be the same everywhere\n"
            + str(found),
            advice=f"Install the client's versions of these in {sys.prefix} and start the node again.",
        )
