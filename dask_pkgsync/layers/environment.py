"""Makes empty virtual environments (PEP 405), in a millisecond: installers start a process for that.

What an interpreter needs is ``pyvenv.cfg`` and a link to the interpreter below all virtual environments. Scripts that
activate an environment in a shell, and packages, are left out.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dask_pkgsync.interpreters.below import CONFIGURATION, interpreter_below
from dask_pkgsync.layers.layout import library_of, site_packages_in
from dask_pkgsync.model.environments.interpreter import IMPLEMENTATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from dask_pkgsync.model.environments.interpreter import Interpreter


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
        What it is.

    Raises
    ------
    LayerError
        If the interpreter below it cannot be found.
    OSError
        If the environment cannot be written.
    """
    below, library = interpreter_below(python), library_of(interpreter)
    programs = directory / "bin"
    programs.mkdir(parents=True)
    (directory / site_packages_in(library)).mkdir(parents=True)
    if sys.maxsize > 2**32 and sys.platform != "darwin":  # as venv does: extension modules may be installed there
        (directory / "lib64").symlink_to("lib")
    (programs / "python").symlink_to(below)
    for name in ("python3", library):
        (programs / name).symlink_to("python")
    (directory / CONFIGURATION).write_text(
        f"home = {below.parent}\n"
        f"implementation = {IMPLEMENTATIONS.get(interpreter.implementation, interpreter.implementation)}\n"
        f"version_info = {interpreter.version}\n"
        "include-system-site-packages = false\n"
        "relocatable = true\n",
        encoding="utf-8",
    )
