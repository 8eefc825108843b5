"""Live activation: puts a layer in front of the base of a running process, if nothing that changes was imported."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.layers.layer import BASE_LINK
from dask_pkgsync.process.imports import (
    altered,
    base_path,
    distributions_imported_from,
    imported,
    imported_but_missing_from,
    is_below,
)
from dask_pkgsync.process.own_environment import own_environment
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.plan import Plan

SHOWN = 5
"""Modules that a reason names."""


def why_restart(layer: Layer | None, plan: Plan) -> str | None:
    """Return why this process must restart to take a layer, or None if it can take the layer live.

    Parameters
    ----------
    layer : Layer or None
        The layer that the process is to have; None for the base alone.
    plan : Plan
        The steps from what the process has now to the target.
    """
    if layer is not None and layer.complete and this_process().layer != str(layer.root):
        return "the layer stands alone (it is complete): only a new process can leave out the base"
    if late := imported(plan, layer):
        names = ", ".join(f"{name} (as {modules[0]})" for name, modules in sorted(late.items()))
        return f"already imported in another version: {names}"
    if missing := imported_but_missing_from(layer):
        return f"already imported, and missing from the new environment: {', '.join(missing)}"
    if modules := altered(layer):
        return f"imported from files of its layer that had been changed: {', '.join(modules[:SHOWN])}"
    return None


def is_active(layer: Layer | None) -> bool:
    """Whether this process has this layer, as it was published last; for None, whether it has no layer."""
    state = this_process()
    return (state.layer, state.built) == ((str(layer.root), layer.built) if layer else ("", ""))


def activate(layer: Layer, place: Path | None = None) -> None:
    """Put a layer in front of the base in this process, in place of the active layer if there is one.

    Parameters
    ----------
    layer : Layer
    place : Path, optional
        A directory that ends with this process, for its own environment; by default a temporary one.
    """
    deactivate()
    before = list(sys.path)
    known = {os.path.normcase(entry) for entry in before}
    directory = str(layer.site_packages)
    sys.path.append(directory)
    for link in sorted(layer.site_packages.glob("*.pth")):
        if link.name != BASE_LINK:
            site.addpackage(directory, link.name, known)
    added = [entry for entry in sys.path if entry not in before]
    position = _first_site_directory(before)
    sys.path[:] = [*before[:position], *added, *before[position:]]
    _note(layer, place)
    forget_caches()


def adopt(layer: Layer, place: Path | None = None) -> None:
    """Record that this process was started in a layer; ``place`` as for `activate`."""
    _note(layer, place)


def deactivate() -> None:
    """Remove the active layer from this process; modules that were imported from it stay imported."""
    state = this_process()
    if not state.layer:
        return
    roots = [root for root in (state.layer, state.own_environment) if root]
    state.leftovers.update(distributions_imported_from(state.layer))
    sys.path[:] = base_path()
    paths = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(entry for entry in paths if not any(is_below(entry, root) for root in roots))
    if os.environ.get("VIRTUAL_ENV") == state.own_environment:
        os.environ.pop("VIRTUAL_ENV")
        if state.virtual_env is not None:
            os.environ["VIRTUAL_ENV"] = state.virtual_env
    sys.executable = state.python
    multiprocessing.set_executable(state.python)
    state.layer = state.built = state.target = ""
    forget_caches()


def forget_caches() -> None:
    """Let the import system read again the directories whose contents it has cached."""
    importlib.invalidate_caches()


def _note(layer: Layer, place: Path | None) -> None:
    """Record that a layer is active, and let the programs that this process starts use it.

    They find the interpreter of the process's own environment first, then the layer's scripts.
    """
    state, own = this_process(), own_environment(place)
    own.put_behind(layer)
    state.layer, state.built = str(layer.root), layer.built
    state.virtual_env = os.environ.get("VIRTUAL_ENV")
    os.environ["VIRTUAL_ENV"] = str(own.root)
    os.environ["PATH"] = os.pathsep.join(filter(None, [str(own.bin), str(layer.bin), os.environ.get("PATH", "")]))
    sys.executable = str(own.python)
    multiprocessing.set_executable(str(own.python))
    if not layer.complete:  # a complete layer leaves nothing else importable
        sys.path.append(str(own.site_packages))


def _first_site_directory(path: Sequence[str]) -> int:
    """Return the index in a search path at which third-party packages begin: after the standard library."""
    standard = [index for index, entry in enumerate(path) if _is_standard(entry)]
    return max(standard, default=-1) + 1


def _is_standard(entry: str) -> bool:
    home, entry = Path(os.__file__).parent, os.path.normcase(entry)
    return entry in {os.path.normcase(home), os.path.normcase(home / "lib-dynload")}
