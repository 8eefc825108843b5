"""What stands beneath the layer of a node: its own base, or a conda prefix that was built for the target."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.layers.layer import Base, base_at
from dask_pkgsync.process.imports import base_path
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.installed import scan_installed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.prefix_plan import PrefixPlan, Step
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings


@dataclass(frozen=True)
class Foundation:
    """What stands beneath a layer."""

    base: Base
    """The interpreter and the distributions that a layer is put in front of."""
    prefix: Layer | None = None
    """The conda prefix that this is; None if it is the node's own base."""
    steps: tuple[Step, ...] = ()
    """How the prefix differs from the node's own base, for reports."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that a process on it has otherwise than this process."""


def prefix_foundation(
    plan: PrefixPlan, base: Environment, target: Target, cache: Cache, settings: NodeSettings, fetch: Fetch
) -> Foundation:
    """Build or find a conda prefix, as what a layer stands on. Blocks.

    Parameters
    ----------
    plan : PrefixPlan
    base : Environment
        The node's own base.
    target : Target
    cache : Cache
    settings : NodeSettings
    fetch : callable
        Returns what the client provides.

    Raises
    ------
    LayerError
        If it cannot be built.
    """
    # Imported here because only targets with conda packages need it.
    from dask_pkgsync.conda.activation import activated
    from dask_pkgsync.conda.prefix import CondaSources, build_prefix
    from dask_pkgsync.process.tools import conda_tool

    prefix = build_prefix(
        plan.packages,
        cache,
        lambda: conda_tool(cache, target, settings, fetch),
        CondaSources(target.transport, fetch),
        timeout=target.install_timeout,
    )
    return Foundation(_base_in(prefix, base), prefix, plan.steps, activated(prefix.root))


def own_foundation(base: Environment) -> Foundation:
    """Return the node's own base as a foundation."""
    return Foundation(base_at(Path(this_process().python), base_path(), base))


def _base_in(prefix: Layer, base: Environment) -> Base:
    """Return a conda prefix as the base of layers. Its interpreter has the X.Y, and so the tags, of the node's own."""
    found = scan_installed([str(prefix.site_packages)])
    python = found.conda.get("python")
    version = python.version if python is not None else base.interpreter.version
    environment = replace(found, interpreter=replace(base.interpreter, version=version))
    return Base(prefix.python, (prefix.site_packages,), environment, whole=str(prefix.root))
