"""The environment variables of a process in another environment than that of this process.

This module is imported where a command must start in milliseconds, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_OF_THE_OLD = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONEXECUTABLE", "PYTHONPLATLIBDIR", "__PYVENV_LAUNCHER__"),
    *("VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_SHLVL", "CONDA_PROMPT_MODIFIER"),
    *("UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "PYENV_VERSION"),
)
"""Variables that lead a process, or what it starts, to the environment that it leaves."""
_PATHS = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Variables with directories, some of which may be those of the environment that it leaves."""


def variables_in(
    path: Iterable[str], variables: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return all environment variables of a process in another environment.

    Parameters
    ----------
    path : iterable of str
        The directories that come first on its PATH.
    variables : mapping of str to str
        What else it has otherwise than this process.
    environ : mapping of str to str, optional
        The variables of this process.
    """
    environ = os.environ if environ is None else environ
    old = _old_prefixes(environ)
    kept = {name: value for name, value in environ.items() if name not in _OF_THE_OLD and not _is_stacked(name)}
    for name in _PATHS:
        if name in kept:
            kept[name] = os.pathsep.join(entry for entry in kept[name].split(os.pathsep) if not _is_in(entry, old))
            if not kept[name]:
                del kept[name]
    kept["PATH"] = os.pathsep.join(
        dict.fromkeys([*path, *filter(None, kept.get("PATH", os.defpath).split(os.pathsep))])
    )
    return {**kept, **variables}


def _old_prefixes(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the directories of virtual environments and conda environments that this process runs in."""
    found = [environ.get("VIRTUAL_ENV", ""), environ.get("CONDA_PREFIX", "")]
    if sys.prefix != sys.base_prefix:
        found.append(sys.prefix)
    return tuple(dict.fromkeys(os.path.abspath(one) for one in found if one))


def _is_stacked(name: str) -> bool:
    """Whether a variable names an environment below the active one (``CONDA_PREFIX_1``)."""
    return name.startswith("CONDA_PREFIX_")


def _is_in(entry: str, prefixes: tuple[str, ...]) -> bool:
    return any(entry == prefix or entry.startswith(prefix + os.sep) for prefix in prefixes)
