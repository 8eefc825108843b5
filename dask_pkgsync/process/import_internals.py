"""The private part of `importlib` that we use.

The function names what it uses, the versions of Python in which that was read, and what to do when it changes.
`tests/contracts/processes.py` checks what other threads see of an import.
"""

from __future__ import annotations

from importlib import _bootstrap


def being_imported() -> frozenset[str]:
    """Return the names of the modules that threads of this process are importing now.

    They include modules that are not in `sys.modules` yet: those whose file is being looked for, or has been found.

    Notes
    -----
    Uses ``importlib._bootstrap._module_locks``, which has one lock for each import in progress: Python 3.10 to 3.13.
    If it changes: find what ``importlib._bootstrap._find_and_load`` holds while it looks for a module.
    """
    return frozenset(list(_bootstrap._module_locks))  # type: ignore[attr-defined]  # noqa: SLF001
