"""What we use of `multiprocessing` without being promised it.

The function says what it uses, in which versions of Python that was read, and what to do when it changes.
`tests/contracts/processes.py` checks it by what a child gets.
"""

from __future__ import annotations

import multiprocessing.spawn
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def change_preparation_data(change: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """Let a function change what each child that is spawned is told before it runs; return what undoes that.

    Parameters
    ----------
    change : callable
        Receives the dictionary, in which ``sys_path`` is the search path that the child will have.

    Notes
    -----
    Replaces ``multiprocessing.spawn.get_preparation_data``, whose ``sys_path`` overwrites what the child's interpreter
    gives itself, so that `multiprocessing.set_executable` alone is not enough: Python 3.10 to 3.13. The start methods
    ``spawn`` (on Unix and Windows) and ``forkserver`` look it up in its module.
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
