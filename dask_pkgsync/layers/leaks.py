"""Where a delta would not behave like the target, because the base shows through."""

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
    """Return why this delta would not behave like the target, or None.

    A directory without ``__init__`` (PEP 420) in the layer hides behind a regular package of the same name in the
    base; a regular package in the layer hides what another distribution adds to it in the base; and an editable in
    the base may put itself before everything (a finder in `sys.meta_path`). A loose module that hides what only the
    base has is as it should be: on the client it is what is imported under its name.
    """
    for step in plan.changes:
        if isinstance(step, Replace):
            origin = base.environment.distributions[step.name].origin
            if isinstance(origin, FromDirectory) and origin.editable:
                return f"{step.name} is installed in the base in editable mode"
    kept = {step.name for step in plan.steps if isinstance(step, Keep)}
    wanted, modules, in_layer = kept & target.keys(), loose_names(target), dist_infos(layer.site_packages)
    ours = _top_levels(layer.site_packages, in_layer)
    loose = {name for name, regular in _top_levels(layer.site_packages, modules).items() if regular}
    for site_packages in base.site_packages:
        theirs = _top_levels(site_packages, wanted)
        only_there = _top_levels(site_packages, kept - wanted)
        for name, regular in (*theirs.items(), *((name, one) for name, one in only_there.items() if name not in loose)):
            if name in ours and (ours[name] or regular):
                return f"the package {name} is partly in the layer and partly in the base"
        in_base = {name: path for name, path in dist_infos(site_packages).items() if name in wanted}
        for clash in clashes({**in_base, **in_layer}, modules):
            if (clash.one in in_layer) != (clash.other in in_layer):
                return f"{clash.path} is both in the layer and in the base"
    return None


def loose_names(target: Mapping[str, Distribution]) -> frozenset[str]:
    """Return the names of the loose modules among some distributions."""
    return frozenset(name for name, one in target.items() if isinstance(one.origin, FromModules))


def _top_levels(site_packages: Path, only: Container[str]) -> dict[str, bool]:
    """Return the top-level packages and modules that distributions provide, and whether each is a regular one."""
    found: dict[str, bool] = {}
    for name, dist_info in dist_infos(site_packages).items():
        if name in only:
            for entry in entries(dist_info):
                if (top := top_level(entry.path)) is not None:
                    is_regular = "/" not in entry.path or entry.path == f"{top}/__init__.py"
                    found[top] = found.get(top, False) or is_regular
    return found
