"""Finds out what this process can import, and what it has imported already."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.direct_url import source_directory
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.records import installed, module_names
from dask_pkgsync.scanning.snapshot import verified, with_digests

if TYPE_CHECKING:
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.plan import Plan
    from dask_pkgsync.model.target import Target


def base_path() -> list[str]:
    """Return `sys.path` without the entries of the active layer and of the process's own environment."""
    state = this_process()
    roots = [root for root in (state.layer, state.beneath, state.own_environment) if root]
    return [entry for entry in sys.path if not any(is_below(entry, root) for root in roots)]


def remaining(target: Target) -> Plan:
    """Return the plan from what this process can import now to the target; it is empty if the process matches."""
    return make_plan(importable_now(target), target.environment, target.policy)


def importable_now(target: Target) -> Environment:
    """Return what this process can import now, with digests of the local code that the target names. Blocks."""
    expected = target.environment.distributions
    modified = {name for name, distribution in expected.items() if distribution.modified}
    return verified(with_digests(scan_installed(), expected), only=modified)


def editable_sources(environment: Environment) -> dict[str, FromDirectory]:
    """Return the editable projects of an environment: their source can change while a process runs."""
    origins = ((name, distribution.origin) for name, distribution in environment.distributions.items())
    return {name: origin for name, origin in origins if isinstance(origin, FromDirectory) and origin.editable}


def stale(target: Target) -> tuple[str, ...]:
    """Return the editable projects of the base that this process imported before their source changed.

    This happens if client and node share a file system: an edit is in the base at once, but not in the process, which
    has loaded the earlier source.
    """
    verified, changed = this_process().sources, []
    for name, origin in editable_sources(importable_now(target)).items():
        if verified.get(name, origin.digest) != origin.digest and loaded_from(str(source_directory(origin))):
            changed.append(name)
    return tuple(changed)


def stays_whole(name: str) -> bool:
    """Whether all modules of an imported distribution will come from the base, even when a layer is in front of it.

    This holds if all its top-level packages and modules are loaded, and none is a namespace package: the path of a
    namespace package can grow, that of a regular package cannot.
    """
    dist_info = installed(sys.path).get(name)
    modules = module_names(dist_info) if dist_info else frozenset()
    tops = {module.partition(".")[0] for module in modules}
    return bool(tops) and all(top in modules and top in sys.modules for top in tops)


def distributions_imported_from(root: str) -> dict[str, tuple[str, str]]:
    """Return version and identity of each distribution of which this process has imported modules from a layer.

    Parameters
    ----------
    root : str
        Directory of the layer.
    """
    entries = [entry for entry in sys.path if is_below(entry, root)]
    distributions, directories = scan_installed(entries).distributions, installed(entries)
    return {
        name: (distribution.version, distribution.identity)
        for name, distribution in distributions.items()
        if name in directories and any(is_loaded_from(module, root) for module in module_names(directories[name]))
    }


def left_over(target: Target) -> set[str]:
    """Return the distributions imported from a layer that is no longer active, and not in the target's version."""
    expected = target.environment.distributions
    return {
        name
        for name, (version, identity) in this_process().leftovers.items()
        if name in expected and not (expected[name].same_version(version) and expected[name].identity == identity)
    }


def loaded_from(root: str) -> tuple[str, ...]:
    """Return the modules that this process has imported from a directory."""
    return tuple(sorted(name for name in list(sys.modules) if is_loaded_from(name, root)))


def is_loaded_from(module: str, root: str) -> bool:
    """Whether this process has imported a module from a file in a directory."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return isinstance(file, str) and is_below(file, root)


def altered(layer: Layer | None) -> tuple[str, ...]:
    """Return the modules imported from files of the active layer that were changed before it was built anew."""
    state = this_process()
    if layer is None or state.layer != str(layer.root) or state.built == layer.built:
        return ()
    paths = {os.path.join(state.layer, path) for path in layer.altered}  # noqa: PTH118
    files = {name: getattr(sys.modules.get(name), "__file__", None) or "" for name in loaded_from(state.layer)}
    whole = "" in layer.altered
    return tuple(name for name, file in files.items() if whole or file in paths)


def is_below(path: str, root: str) -> bool:
    """Whether a path is a directory or lies in it."""
    return path == root or path.startswith(root + os.sep)
