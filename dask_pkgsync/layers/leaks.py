"""Finds leaks: cases in which a delta would not behave like the target, because the base behind it shows through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.layers.clashes import clashes
from dask_pkgsync.model.environments.origin import FromDirectory, FromModules
from dask_pkgsync.model.plan import Keep, Replace
from dask_pkgsync.scanning.records import listed

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from dask_pkgsync.layers.layer import Base
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.plan import Plan
    from dask_pkgsync.scanning.records import Listed


def find_leak(in_layer: Mapping[str, Listed], plan: Plan, base: Base, target: Mapping[str, Distribution]) -> str | None:
    """Return why a delta would not behave like the target, or None if it would.

    There are three kinds of leaks. A regular package in the base hides a namespace package (PEP 420) of the same name
    in the layer. A regular package in the layer hides what another distribution in the base adds to it. An editable
    project in the base may have a finder in `sys.meta_path`, which comes before every directory.

    A loose module of the client that hides a package which only the base has is no leak: the client imports the loose
    module under that name, too.

    Parameters
    ----------
    in_layer : mapping of str to Listed
        The distributions in the layer, by canonical name.
    plan : Plan
    base : Base
    target : mapping of str to Distribution
        The client's distributions, by canonical name.
    """
    for step in plan.changes:
        if isinstance(step, Replace):
            origin = base.environment.distributions[step.name].origin
            if isinstance(origin, FromDirectory) and origin.editable:
                return f"{step.name} is installed in the base in editable mode"
    kept = {step.name for step in plan.steps if isinstance(step, Keep)}
    shared, modules = kept & target.keys(), loose_names(target)
    of_layer = _top_levels(in_layer.values())
    loose = {name for name, regular in _top_levels(_only(in_layer, modules)).items() if regular}
    for site_packages in base.site_packages:
        in_base = listed(site_packages)
        of_target = _top_levels(_only(in_base, shared))
        of_base_only = _top_levels(_only(in_base, kept - shared))
        unhidden = ((name, regular) for name, regular in of_base_only.items() if name not in loose)
        for name, regular in (*of_target.items(), *unhidden):
            if name in of_layer and (of_layer[name] or regular):
                return f"the package {name} is partly in the layer and partly in the base"
        kept_here = {name: one for name, one in in_base.items() if name in shared}
        for clash in clashes({**kept_here, **in_layer}, modules):
            if (clash.one in in_layer) != (clash.other in in_layer):
                return f"{clash.path} is both in the layer and in the base"
    return None


def loose_names(target: Mapping[str, Distribution]) -> frozenset[str]:
    """Return the names of those distributions that are loose modules."""
    return frozenset(name for name, distribution in target.items() if isinstance(distribution.origin, FromModules))


def _only(distributions: Mapping[str, Listed], names: Container[str]) -> Iterator[Listed]:
    return (one for name, one in distributions.items() if name in names)


def _top_levels(distributions: Iterable[Listed]) -> dict[str, bool]:
    """Return the top-level names that distributions provide; true for a module or regular package."""
    found: dict[str, bool] = {}
    for one in distributions:
        for top, is_regular in one.top_levels.items():
            found[top] = found.get(top, False) or is_regular
    return found
