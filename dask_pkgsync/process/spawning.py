"""Starts the children of this process in a layer, for as long as a user in this process (a nanny) has set one."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_pkgsync.installers.programs import run
from dask_pkgsync.layers.layout import VirtualEnvironment
from dask_pkgsync.model.child_environment import child_environment
from dask_pkgsync.process.imports import base_path
from dask_pkgsync.process.multiprocessing_internals import change_preparation_data
from dask_pkgsync.process.shadows import put_behind
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.records import dist_infos

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.layers.layer import Layer

_guard = threading.Lock()
_users: dict[object, tuple[str, list[str]]] = {}
"""Interpreter and search path for children, for each user; those of the newest user apply."""
_undo: Callable[[], None] | None = None
"""Restores how children start without any user; None while there are no users."""

_asking = threading.Lock()
_own_paths: dict[str, tuple[str, ...]] = {}
"""By interpreter, its own search path."""

_PRINT_PATH = "import json, sys; print(json.dumps(sys.path))"


def own_path(python: str) -> tuple[str, ...]:
    """Return an interpreter's search path in isolated mode, without PYTHONPATH or the user's directories. Blocks.

    Each interpreter is asked once, also where several nannies of a process need its path at the same time.
    """
    with _asking:
        if python not in _own_paths:
            finished = run([python, "-I", "-c", _PRINT_PATH], timeout=60, env=child_environment(os.environ))
            _own_paths[python] = tuple(json.loads(finished.stdout.strip().splitlines()[-1]))
        return _own_paths[python]


def ask_for_paths(layer: Layer | None) -> None:
    """Ask the interpreters for their paths that `path_in_layer` needs, so that it has them at once. Blocks."""
    if layer is not None:
        own_path(this_process().python)
        own_path(str(layer.python))


def path_in_layer(layer: Layer, base_site_packages: tuple[Path, ...]) -> list[str]:
    """Return the search path for a child of this process that runs in a layer. Blocks.

    It is the layer interpreter's own path and the entries that were added to this process (directories of uploads and
    preloads, PYTHONPATH). An added entry comes before the layer's path if it comes before the interpreter's own path
    in this process, and behind it otherwise. It also comes behind if it shadows a package of the layer.

    Parameters
    ----------
    layer : Layer
    base_site_packages : tuple of Path
        The base's directories of distributions, which are left out if the layer is complete.
    """
    native, layered = own_path(this_process().python), list(own_path(str(layer.python)))
    excluded = {str(path) for path in base_site_packages} if layer.complete else set()
    here = base_path()  # this process itself may have taken another layer
    added = [entry for entry in here if entry not in native and entry not in layered and entry not in excluded]
    position = next((index for index, entry in enumerate(here) if entry in native), 0)
    front = [entry for entry in added if here.index(entry) < position]
    path = [*front, *layered, *(entry for entry in added if entry not in front)]
    beneath = (
        dist_infos(VirtualEnvironment.at(Path(layer.whole), layer.python_directory).site_packages)
        if layer.whole
        else {}
    )
    return put_behind(path, {**beneath, **dist_infos(layer.site_packages)})


def start_children_in(user: object, python: Path, path: list[str]) -> None:
    """Start this process's children with an interpreter and search path, until `start_children_here` for this user."""
    global _undo  # noqa: PLW0603  # multiprocessing has one setting for the whole process
    with _guard:
        _users.pop(user, None)  # so that it is the newest one again
        _users[user] = (str(python), path)
        multiprocessing.set_executable(str(python))
        if _undo is None:
            _undo = change_preparation_data(_give_path)


def start_children_here(user: object) -> bool:
    """Forget a user's interpreter and search path; without users, children start as they would without any layer.

    Returns
    -------
    bool
        Whether no user is left.
    """
    global _undo  # noqa: PLW0603
    with _guard:
        _users.pop(user, None)
        if _users:
            python, _ = next(reversed(_users.values()))
            multiprocessing.set_executable(python)
        elif _undo is not None:
            multiprocessing.set_executable(this_process().python)
            _undo()
            _undo = None
        return not _users


def _give_path(data: dict[str, Any]) -> None:
    if _users:
        _, data["sys_path"] = next(reversed(_users.values()))
