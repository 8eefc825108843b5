"""Finds leaks: cases in which a delta would not behave like the target, because the base behind it shows through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.layers.clashes import clashes
from dask_pkgsync.model.environments.origin import FromDirectory, FromModules
from dask_pkgsync.model.plan import Keep, Replace
from dask_pkgsync.scanning.records import dist_infos, entries, top_level

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from dask_pkgsync.layers.layer import Base, Layer
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.plan import Plan


def find_leak(layer: Layer, plan: Plan, base: Base, target: Mapping[str, Distribution]) -> str | None:
    """Return why a delta would not behave like the target, or None if it would.

    There are three kinds of leaks. A regular package in the base hides a namespace package (PEP 420) of the same name
    in the layer. A regular package in the layer hides what another distribution in the base adds to it. An editable
    project in the base may have a finder in `sys.meta_path`, which comes before every directory.

    A loose module of the client that hides a package which only the base has is no leak: the client imports the loose
    module under that name, too.
    """
    for step in plan.changes:
        if isinstance(step, Replace):
            origin = base.environment.distributions[step.name].origin
            if isinstance(origin, FromDirectory) and origin.editable:
                return f"{step.name} is installed in the base in editable mode"
    kept = {step.name for step in plan.steps if isinstance(step, Keep)}
    shared, modules, in_layer = kept & target.keys(), loose_names(target), dist_infos(layer.site_packages)
    of_layer = _top_levels(layer.site_packages, in_layer)
    loose = {name for name, regular in _top_levels(layer.site_packages, modules).items() if regular}
    for site_packages in base.site_packages:
        of_target = _top_levels(site_packages, shared)
        of_base_only = _top_levels(site_packages, kept - shared)
        unhidden = ((name, regular) for name, regular in of_base_only.items() if name not in loose)
        for name, regular in (*of_target.items(), *unhidden):
            if name in of_layer and (of_layer[name] or regular):
                return f"the package {name} is partly in the layer and partly in the base"
        in_base = {name: path for name, path in dist_infos(site_packages).items() if name in shared}
        for clash in clashes({**in_base, **in_layer}, modules):
            if (clash.one in in_layer) != (clash.other in in_layer):
                return f"{clash.path} is both in the layer and in the base"
    return None


def loose_names(target: Mapping[str, Distribution]) -> frozenset[str]:
    """Return the names of those distributions that are loose modules."""
    return frozenset(name for name, distribution in target.items() if isinstance(distribution.origin, FromModules))


def _top_levels(site_packages: Path, only: Container[str]) -> dict[str, bool]:
    """Return the top-level names that distributions provide; true for a module or regular package."""
    found: dict[str, bool] = {}
    for name, dist_info in dist_infos(site_packages).items():
        if name in only:
            for entry in entries(dist_info):
                if (top := top_level(entry.path)) is not None:
                    is_regular = "/" not in entry.path or entry.path == f"{top}/__init__.py"
                    found[top] = found.get(top, False) or is_regular
    return found
