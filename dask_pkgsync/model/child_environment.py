"""Which of a process's environment variables the programs get that it starts: none that lead them elsewhere."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_OTHER_PYTHON = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONEXECUTABLE", "PYTHONUSERBASE", "PYTHONINSPECT", "__PYVENV_LAUNCHER__"),
    *("VIRTUAL_ENV", "CONDA_PREFIX"),
)
"""Variables that lead a program to another Python environment than the one that its command names."""

_GIT_KEPT = (
    *("GIT_SSL_*", "GIT_PROXY_*", "GIT_HTTP_*", "GIT_SSH*", "GIT_ASKPASS", "GIT_TERMINAL_PROMPT"),
    *("GIT_ALLOW_PROTOCOL", "GIT_EXEC_PATH", "GIT_CONFIG_*"),
)
"""git's variables that say how it reaches servers, and whom it trusts. All others lead it to a repository (``GIT_DIR``
in a hook or a linked worktree), into files (``GIT_INDEX_FILE``, ``GIT_TRACE``), or change what its commands do."""
_GIT_DROPPED = ("GIT_CONFIG_PARAMETERS",)
"""The settings of a git command that this process was started by, for example in a hook."""


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for a program that we start.

    Without those that would lead it to another Python environment, to a git repository other than that of its working
    directory, or into files that it would write.

    Parameters
    ----------
    environ : mapping
        The environment variables of this process.
    """
    return {
        name: value
        for name, value in environ.items()
        if name not in _OTHER_PYTHON
        and name not in _GIT_DROPPED
        and (not name.startswith("GIT_") or is_any_of(name, _GIT_KEPT))
    }


def is_any_of(name: str, patterns: Iterable[str]) -> bool:
    """Whether a variable has one of some names; in these, ``*`` stands for any text."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
