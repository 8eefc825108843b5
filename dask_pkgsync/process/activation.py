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
from dask_pkgsync.process.imports import distributions_imported_from, imported, imported_but_missing_from, is_below
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.plan import Plan


def why_restart(layer: Layer | None, plan: Plan) -> str | None:
    """Return why this process must restart to take a layer, or None if it can take the layer live.

    Parameters
    ----------
    layer : Layer or None
        The layer that the process is to have; None for the base alone.
    plan : Plan
        The steps from what the process has now to the target.
    """
    if layer is not None and layer.complete:
        return "the layer stands alone (it is complete): only a new process can leave out the base"
    if late := imported(plan, layer):
        names = ", ".join(f"{name} (as {modules[0]})" for name, modules in sorted(late.items()))
        return f"already imported in another version: {names}"
    if missing := imported_but_missing_from(layer):
        return f"already imported, and missing from the new environment: {', '.join(missing)}"
    return None


def activate(layer: Layer) -> None:
    """Put a layer in front of the base in this process, in place of the active layer if there is one."""
    deactivate()
    state = this_process()
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
    state.layer = str(layer.root)
    _prefer(layer.python, layer.bin)
    forget_caches()


def adopt(layer: Layer) -> None:
    """Record that this process was started in a layer, and let its children find the layer's scripts."""
    this_process().layer = str(layer.root)
    _prefer(Path(sys.executable), layer.bin)


def deactivate() -> None:
    """Remove the active layer from this process; modules that were imported from it stay imported."""
    state = this_process()
    if not state.layer:
        return
    root = state.layer
    state.leftovers.update(distributions_imported_from(root))
    sys.path[:] = [entry for entry in sys.path if not is_below(entry, root)]
    paths = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(entry for entry in paths if not is_below(entry, root))
    sys.executable = state.python
    multiprocessing.set_executable(state.python)
    state.layer = ""
    state.target = ""
    forget_caches()


def forget_caches() -> None:
    """Let the import system read again the directories whose contents it has cached."""
    importlib.invalidate_caches()


def _prefer(python: Path, scripts: Path) -> None:
    """Let the programs that this process starts use the layer's interpreter and scripts."""
    sys.executable = str(python)
    multiprocessing.set_executable(str(python))
    os.environ["PATH"] = os.pathsep.join([str(scripts), *filter(None, [os.environ.get("PATH", "")])])


def _first_site_directory(path: Sequence[str]) -> int:
    """Return the index in a search path at which third-party packages begin: after the standard library."""
    standard = [index for index, entry in enumerate(path) if _is_standard(entry)]
    return max(standard, default=-1) + 1


def _is_standard(entry: str) -> bool:
    home, entry = Path(os.__file__).parent, os.path.normcase(entry)
    return entry in {os.path.normcase(home), os.path.normcase(home / "lib-dynload")}
