"""Activation: puts a layer in front of the base of a running process, or removes it again."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.layers.layer import BASE_LINK, Layer
from dask_pkgsync.process.imports import base_path, distributions_imported_from, is_below
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def switch_to(layer: Layer | None, *, programs: bool = True) -> Callable[[], None]:
    """Activate a layer in this process, or go back to the base for None; return what undoes that.

    Modules that were imported before stay imported, and the process is not verified against a target any more.

    Parameters
    ----------
    layer : Layer or None
    programs : bool
        Whether programs that this process starts are to use the layer as well.
    """
    state = this_process()
    before, target, lacks = state.layer, state.target, state.lacks
    if before == (str(layer.root) if layer else ""):
        return lambda: None
    if layer is None:
        deactivate()
    else:
        activate(layer, programs=programs)

    def undo() -> None:
        if before:
            activate(Layer(Path(before).name, Path(before), complete=False, pins=()), programs=programs)
        else:
            deactivate()
        state.target, state.lacks = target, lacks

    return undo


def path_with(layer: Layer | None) -> list[str]:
    """Return `sys.path` with a layer in place of the active one; None for the base alone."""
    base = base_path()
    position = _first_site_directory(base)
    return [*base[:position], *([str(layer.site_packages)] if layer else []), *base[position:]]


def activate(layer: Layer, *, programs: bool = True) -> None:
    """Put a layer in front of the base in this process, in place of the active layer if there is one."""
    _leave_active()
    directory = str(layer.site_packages)
    sys.path[:] = path_with(layer)  # in one step, as other threads import meanwhile
    this_process().layer = str(layer.root)
    _add_links(layer, directory)
    if programs:
        _prefer(layer.python, layer.bin)
    forget_caches()


def adopt(layer: Layer) -> None:
    """Record that this process was started in a layer, and let its children find the layer's scripts."""
    this_process().layer = str(layer.root)
    _prefer(Path(sys.executable), layer.bin)


def deactivate() -> None:
    """Remove the active layer from this process; modules that were imported from it stay imported."""
    if not this_process().layer:
        return
    _leave_active()
    sys.path[:] = base_path()
    this_process().layer = ""
    forget_caches()


def forget_caches() -> None:
    """Let the import system read again the directories whose contents it has cached."""
    importlib.invalidate_caches()


def _leave_active() -> None:
    """Note what was imported from the active layer, and let programs of this process use the base again."""
    state = this_process()
    state.target, state.lacks = "", ()
    root = state.layer
    if not root:
        return
    state.leftovers.update(distributions_imported_from(root))
    paths = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(entry for entry in paths if not is_below(entry, root))
    if is_below(sys.executable, root):
        sys.executable = state.python
        multiprocessing.set_executable(state.python)


def _add_links(layer: Layer, directory: str) -> None:
    """Read the .pth files of a layer, except that which adds the base; what they add comes behind the layer."""
    before = list(sys.path)
    known = {os.path.normcase(entry) for entry in before}
    for link in sorted(layer.site_packages.glob("*.pth")):
        if link.name != BASE_LINK:
            site.addpackage(directory, link.name, known)
    if added := [entry for entry in sys.path if entry not in before]:
        position = before.index(directory) + 1
        sys.path[:] = [*before[:position], *added, *before[position:]]


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
