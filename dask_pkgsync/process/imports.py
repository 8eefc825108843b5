"""What this process can import, and what it has imported already."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.records import installed, module_names
from dask_pkgsync.scanning.snapshot import source_directory, with_digests

if TYPE_CHECKING:
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.plan import Plan
    from dask_pkgsync.model.target import Target


def base_path() -> list[str]:
    """Return `sys.path` without what our layer put there."""
    root = this_process().layer
    return [entry for entry in sys.path if not (root and is_below(entry, root))]


def remaining(target: Target) -> Plan:
    """Return what this process, as it is now, still lacks of the target. Empty means: verified."""
    return make_plan(here(target), target.environment, target.policy)


def here(target: Target) -> Environment:
    """Return what this process can import, with digests of the editable projects that the target names."""
    return with_digests(scan_installed(), target.environment.distributions)


def editable_sources(environment: Environment) -> dict[str, FromDirectory]:
    """Return the editable projects of an environment, whose source can change under a process."""
    found = ((name, one.origin) for name, one in environment.distributions.items())
    return {name: origin for name, origin in found if isinstance(origin, FromDirectory) and origin.editable}


def stale(target: Target) -> tuple[str, ...]:
    """Return the editable projects of the base that this process has imported before their source changed.

    That is so where client and node share a file system: then the base has every edit at once, but not the process.
    """
    before, found = this_process().sources, []
    for name, origin in editable_sources(here(target)).items():
        if before.get(name, origin.digest) != origin.digest and loaded_from(str(source_directory(origin))):
            found.append(name)
    return tuple(found)


def imported(plan: Plan, layer: Layer | None = None) -> dict[str, tuple[str, ...]]:
    """Return the changes that come too late for this process: name to the modules it has imported already.

    Parameters
    ----------
    plan : Plan
        What the process lacks.
    layer : Layer, optional
        Where the new versions are, if they were built already.
    """
    found: dict[str, tuple[str, ...]] = {}
    old, new = installed(sys.path), installed([str(layer.site_packages)] if layer else [])
    for step in plan.changes:
        modules: set[str] = set()
        for dist_info in filter(None, (old.get(step.name), new.get(step.name))):
            modules |= {name for name in module_names(dist_info) if _is_loaded(name, layer)}
        if modules:
            found[step.name] = tuple(sorted(modules))
    return found


def stays_whole(name: str) -> bool:
    """Whether a distribution that was imported from the base goes on coming from there, behind whatever layer.

    So it is if all its top-level packages and modules are loaded, and none is a namespace, whose path can grow.
    """
    dist_info = installed(sys.path).get(name)
    modules = module_names(dist_info) if dist_info else frozenset()
    tops = {module.partition(".")[0] for module in modules}
    return bool(tops) and all(top in modules and top in sys.modules for top in tops)


def _is_loaded(name: str, layer: Layer | None) -> bool:
    module = sys.modules.get(name)
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    return not (layer is not None and isinstance(file, str) and is_below(file, str(layer.root)))


def dropped(layer: Layer | None) -> tuple[str, ...]:
    """Return what this process has imported from its active layer and would not find in the next one, nor in the base.

    A process that was started in the next layer could not import it; so this one must not have it either.
    """
    root = this_process().layer
    if not root or (layer is not None and root == str(layer.root)):
        return ()
    there = installed([*base_path(), *([layer.site_packages] if layer else [])])
    here = installed([entry for entry in sys.path if is_below(entry, root)])
    loaded = {
        name: [module for module in module_names(here[name]) if module in sys.modules] for name in here.keys() - there
    }
    return tuple(sorted(name for name, modules in loaded.items() if modules))


def distributions_imported_from(root: str) -> dict[str, tuple[str, str]]:
    """Return the distributions of a layer of which this process has imported anything."""
    places = [entry for entry in sys.path if is_below(entry, root)]
    there, directories = scan_installed(places).distributions, installed(places)
    return {
        name: (one.version, one.identity)
        for name, one in there.items()
        if name in directories and any(module in sys.modules for module in module_names(directories[name]))
    }


def left_over(target: Target) -> set[str]:
    """Return what this process has imported, from a layer that has gone, in another version than the target's."""
    wanted = target.environment.distributions
    before = this_process().leftovers
    return {
        name
        for name, (version, identity) in before.items()
        if name in wanted and not (wanted[name].same_version(version) and wanted[name].identity == identity)
    }


def loaded_from(root: str) -> tuple[str, ...]:
    """Return the modules that this process has imported from a directory."""
    files = ((name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items()))
    return tuple(sorted(name for name, file in files if isinstance(file, str) and is_below(file, root)))


def is_below(path: str, root: str) -> bool:
    """Whether a path is a directory or lies in it."""
    return path == root or path.startswith(root + os.sep)
