"""Makes empty virtual environments (PEP 405), in a millisecond: installers start a process for that.

What an interpreter needs is ``pyvenv.cfg`` and a link to the interpreter below all virtual environments. Scripts that
activate an environment in a shell, and packages, are left out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.layers.layout import LIBRARY, SITE_PACKAGES
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.interpreter import Interpreter

_CONFIGURATION = "pyvenv.cfg"
_DEPTH = 40
"""The most links, or environments, from one interpreter to the one below them; as many as Linux follows itself."""


def make_environment(directory: Path, python: Path, interpreter: Interpreter) -> None:
    """Make an empty virtual environment that still works after its directory was renamed. Blocks.

    ``relocatable`` lets uv write scripts that find their interpreter beside themselves (uv 0.13).

    Parameters
    ----------
    directory : Path
        Its directory, which must not exist.
    python : Path
        An interpreter, which may itself be in a virtual environment.
    interpreter : Interpreter
        What it is; of the same version as that of this process.

    Raises
    ------
    LayerError
        If the interpreter below it cannot be found.
    OSError
        If the environment cannot be written.
    """
    below = interpreter_below(python)
    programs = directory / "bin"
    programs.mkdir(parents=True)
    (directory / SITE_PACKAGES).mkdir(parents=True)
    if sys.maxsize > 2**32 and sys.platform != "darwin":  # as venv does: extension modules may be installed there
        (directory / "lib64").symlink_to("lib")
    (programs / "python").symlink_to(below)
    for name in ("python3", LIBRARY):
        (programs / name).symlink_to("python")
    (directory / _CONFIGURATION).write_text(
        f"home = {below.parent}\n"
        f"implementation = {_IMPLEMENTATIONS.get(interpreter.implementation, interpreter.implementation)}\n"
        f"version_info = {interpreter.version}\n"
        "include-system-site-packages = false\n"
        "relocatable = true\n",
        encoding="utf-8",
    )


_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalVM"}
"""How `platform.python_implementation` spells them."""


def interpreter_below(python: Path) -> Path:
    """Return the interpreter that a virtual environment was made for; the interpreter itself if it is in none.

    Links outside of virtual environments are not followed: they stay the same when a package manager replaces what they
    point to, and ``home`` must be where the interpreter finds its library, as for `sys._base_executable`.

    Raises
    ------
    LayerError
        If there is none, as it was removed, or the links go in a circle.
    """
    found = Path(os.path.abspath(python))  # noqa: PTH100  # only the text changes: links are followed one by one
    for _ in range(_DEPTH):
        configuration = _configuration(found)
        if configuration is None:
            if found.exists():
                return found
            break
        if found.is_symlink():
            found = Path(os.path.normpath(found.parent / found.readlink()))
        else:  # a copy of the interpreter
            home = Path(configuration.get("home", ""))
            names = (found.name, "python3", "python")
            found = next((home / name for name in names if (home / name).exists()), home / found.name)
    raise LayerError(
        "install",
        f"the interpreter below {python} cannot be found: {found} does not exist, or leads to itself",
        advice="Make the node's virtual environment anew.",
    )


def _configuration(python: Path) -> dict[str, str] | None:
    """Return the keys of the ``pyvenv.cfg`` of an interpreter; None if it is in no virtual environment."""
    for directory in (python.parent, python.parent.parent):
        try:
            text = (directory / _CONFIGURATION).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {key.strip().lower(): value.strip() for key, _, value in pairs}
    return None
