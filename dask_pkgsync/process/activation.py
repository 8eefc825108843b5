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
from dask_pkgsync.layers.layout import VirtualEnvironment
from dask_pkgsync.process.imports import base_path, distributions_imported_from, is_below
from dask_pkgsync.process.own_environment import own_environment
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def is_active(layer: Layer | None) -> bool:
    """Whether this process has this layer, as it was published last; for None, whether it has no layer."""
    state = this_process()
    return (state.layer, state.built) == ((str(layer.root), layer.built) if layer else ("", ""))


def switch_to(layer: Layer | None, place: Path | None = None, *, programs: bool = True) -> Callable[[], None]:
    """Activate a layer in this process, or go back to the base for None; return what undoes that.

    Modules that were imported before stay imported, and the process is not verified against a target any more.

    Parameters
    ----------
    layer : Layer or None
    place : Path, optional
        A directory that ends with this process, for its own environment; by default a temporary one.
    programs : bool
        Whether programs that this process starts are to use the layer as well.
    """
    state = this_process()
    before, built, target, lacks = state.layer, state.built, state.target, state.lacks
    whole = state.beneath or state.whole
    if is_active(layer):
        return lambda: None

    def undo() -> None:
        if before:
            former = Layer(Path(before).name, Path(before), complete=False, pins=(), built=built, whole=whole)
            activate(former, place, programs=programs)
        else:
            deactivate()
        state.target, state.lacks = target, lacks

    try:
        if layer is None:
            deactivate()
        else:
            activate(layer, place, programs=programs)
    except BaseException:  # for example no space is left for the process's own environment
        undo()
        raise
    return undo


def path_with(layer: Layer | None) -> list[str]:
    """Return `sys.path` with a layer in place of the active one; None for the base alone.

    With a layer comes the conda prefix that it stands on, in place of the one that this process runs on, if it does.
    """
    base, own = base_path(), _modules_of(this_process().whole)
    if layer is not None and layer.whole:
        base = [entry for entry in base if entry != own]
    entries = [str(layer.site_packages), _modules_of(layer.whole)] if layer is not None else []
    position = _first_site_directory(base)
    return [*base[:position], *filter(None, entries), *base[position:]]


def _modules_of(prefix: str) -> str:
    """Return the directory of the distributions of a conda prefix; empty for none."""
    return str(VirtualEnvironment.at(Path(prefix)).site_packages) if prefix else ""


def activate(layer: Layer, place: Path | None = None, *, programs: bool = True) -> None:
    """Put a layer in front of the base in this process, in place of the active layer if there is one.

    ``place`` and ``programs`` are as for `switch_to`.
    """
    _leave_active()
    state, directory = this_process(), str(layer.site_packages)
    sys.path[:] = path_with(layer)  # in one step, as other threads import meanwhile
    state.layer, state.built = str(layer.root), layer.built
    state.beneath = layer.whole if layer.whole != state.whole else ""
    _add_links(layer, directory)
    if programs:
        _prefer(layer, place)
    forget_caches()


def adopt(layer: Layer, place: Path | None = None) -> None:
    """Record that this process was started in a layer; ``place`` is as for `switch_to`."""
    state = this_process()
    state.layer, state.built, state.whole = str(layer.root), layer.built, layer.whole
    _prefer(layer, place)


def deactivate() -> None:
    """Remove the active layer from this process; modules that were imported from it stay imported."""
    state = this_process()
    if not state.layer:
        return
    _leave_active()
    sys.path[:] = base_path()
    state.layer = state.built = state.beneath = ""
    forget_caches()


def forget_caches() -> None:
    """Let the import system read again the directories whose contents it has cached."""
    importlib.invalidate_caches()


def _leave_active() -> None:
    """Note what was imported from the active layer, and let programs of this process use the base again."""
    state = this_process()
    state.target, state.lacks = "", ()
    if not state.layer:
        return
    for root in filter(None, (state.beneath, state.layer)):
        state.leftovers.update(distributions_imported_from(root))
    roots = [root for root in (state.layer, state.own_environment) if root]
    paths = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(entry for entry in paths if not _is_in_any(entry, roots))
    if state.own_environment and os.environ.get("VIRTUAL_ENV") == state.own_environment:
        os.environ.pop("VIRTUAL_ENV")
        if state.virtual_env is not None:
            os.environ["VIRTUAL_ENV"] = state.virtual_env
    if _is_in_any(sys.executable, roots):
        sys.executable = state.python
        multiprocessing.set_executable(state.python)


def _is_in_any(path: str, roots: Sequence[str]) -> bool:
    return any(is_below(path, root) for root in roots)


def _add_links(layer: Layer, directory: str) -> None:
    """Read the .pth files of a layer, except that which adds the base.

    What they add comes behind the layer, except what they put in front of it (`wheels.module_wheel`).
    """
    before = list(sys.path)
    known = {os.path.normcase(entry) for entry in before}
    for link in sorted(layer.site_packages.glob("*.pth")):
        if link.name != BASE_LINK:
            site.addpackage(directory, link.name, known)
    if added := [entry for entry in sys.path if entry not in before]:
        place = sys.path.index(directory)
        front = [entry for entry in added if sys.path.index(entry) < place]
        behind = [entry for entry in added if entry not in front]
        position = before.index(directory)
        sys.path[:] = [*before[:position], *front, directory, *behind, *before[position + 1 :]]


def _prefer(layer: Layer, place: Path | None) -> None:
    """Let the programs that this process starts use the layer.

    They find the interpreter of the process's own environment first, then the layer's scripts.
    """
    state, own = this_process(), own_environment(place)
    own.put_behind(layer)
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
