"""The private part of `multiprocessing` that we use.

The function names what it uses, the versions of Python in which that was read, and what to do when it changes.
`tests/contracts/processes.py` checks what a child process receives.
"""

from __future__ import annotations

import multiprocessing.spawn
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def change_preparation_data(change: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Let a function change the data that each spawned child receives before it runs.

    Parameters
    ----------
    change : callable
        Receives the dictionary with the data and changes it in place; ``sys_path`` is the child's search path.

    Returns
    -------
    callable
        Undoes the change.

    Notes
    -----
    Replaces ``multiprocessing.spawn.get_preparation_data``, whose ``sys_path`` overwrites the search path of the
    child's interpreter, so that `multiprocessing.set_executable` alone is not enough: Python 3.10 to 3.13. The start
    methods ``spawn`` (on Unix and Windows) and ``forkserver`` look the function up in its module.
    If it changes: find what the child does in ``multiprocessing.spawn.prepare``.
    """
    original = multiprocessing.spawn.get_preparation_data

    def changed(name: str) -> dict[str, Any]:
        data = original(name)
        change(data)
        return data

    multiprocessing.spawn.get_preparation_data = changed

    def undo() -> None:
        multiprocessing.spawn.get_preparation_data = original

    return undo
