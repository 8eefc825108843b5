"""Makes the children of this process start in a layer, for as long as somebody in this process uses one."""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from dask_pkgsync.installers.programs import run
from dask_pkgsync.process.multiprocessing_internals import change_preparation_data
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dask_pkgsync.layers.layer import Layer

_guard = threading.Lock()
_users: dict[object, tuple[str, list[str]]] = {}
_undo: Callable[[], None] | None = None
"""Puts back what children are told, as it was before the first user."""

_PRINT_PATH = "import json, sys; print(json.dumps(sys.path))"


@cache
def own_path(python: str) -> tuple[str, ...]:
    """Return the search path that an interpreter gives itself, without anything from its surroundings. Blocks."""
    finished = run([python, "-I", "-c", _PRINT_PATH], timeout=60)
    return tuple(json.loads(finished.stdout.strip().splitlines()[-1]))


def path_in_layer(layer: Layer, base_site_packages: tuple[Path, ...]) -> list[str]:
    """Return the search path for a child of this process that runs in a layer. Blocks.

    That is the layer interpreter's own path, with what was added to this process (directories of uploads and
    preloads, PYTHONPATH) before and behind it, as it stood before and behind the standard library here.
    """
    native, layered = own_path(this_process().python), list(own_path(str(layer.python)))
    left_behind = {str(path) for path in base_site_packages} if layer.complete else set()
    added = [entry for entry in sys.path if entry not in native and entry not in layered and entry not in left_behind]
    position = next((index for index, entry in enumerate(sys.path) if entry in native), 0)
    front = [entry for entry in added if sys.path.index(entry) < position]
    return [*front, *layered, *(entry for entry in added if entry not in front)]


def start_children_in(user: object, python: Path, path: list[str]) -> None:
    """Start the children of this process with this interpreter and search path, until `start_children_here`."""
    global _undo  # noqa: PLW0603  # what is changed is changed for the whole process
    with _guard:
        _users[user] = (str(python), path)
        multiprocessing.set_executable(str(python))
        if _undo is None:
            _undo = change_preparation_data(_give_path)


def start_children_here(user: object) -> bool:
    """Say that this user needs no layer any more; with the last one, children start as ever, and the answer is true."""
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
