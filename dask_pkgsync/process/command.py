"""The command that this process executes in another environment, in its own place.

This module is imported where a command must start in milliseconds, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from dask_pkgsync.cache.leases import keep_leases_when_executing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

_PYTHON = ("python", "pypy")
_OF_DASK = ("dask", "dask-scheduler", "dask-ssh", "dask-worker", "dask-spec", "distributed")
"""Programs, and packages whose modules ``python -m`` runs, that need all of Dask."""


def needs_dask(command: Sequence[str]) -> bool:
    """Whether a command starts a part of Dask."""
    name, *arguments = command
    if os.path.basename(name).startswith(_PYTHON):
        module = arguments[arguments.index("-m") + 1 :][:1] if "-m" in arguments else []
        name = module[0].partition(".")[0] if module else ""
    return name in _OF_DASK


def argv_in(path: Sequence[str], command: Sequence[str], environ: Mapping[str, str]) -> list[str] | None:
    """Return the arguments with which a command is executed in an environment; the first one is its program's path.

    Parameters
    ----------
    path : sequence of str
        The directories of the environment's programs: that of its interpreter, then those beneath it.
    command : sequence of str
        The command, with its arguments.
    environ : mapping of str to str
        The environment variables of a process in the environment.

    Returns
    -------
    list of str or None
        None if there is no such program, or it is only in the environment that this process leaves.
    """
    name, *arguments = command
    program = name if os.sep in name else _found(name, environ.get("PATH", os.defpath))
    if program is None or not _is_program(program):
        return None
    directory = os.path.dirname(program)
    is_python = _is_script_of_python(program)
    if is_python and directory in path[1:]:  # it would find only what is beneath
        return [f"{path[0]}{os.sep}python", program, *arguments]
    if is_python and directory not in path and os.sep not in name and directory == os.path.dirname(sys.executable):
        return None
    return [program, *arguments]


def execute(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Execute a program in the place of this process, with the same pid.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    import _signal  # type: ignore[import-not-found]  # `signal` imports `enum`, and all that it needs

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and what is executed would inherit that
        if (number := getattr(_signal, name, None)) is not None:
            _signal.signal(number, _signal.SIG_DFL)
    keep_leases_when_executing()
    os.execve(argv[0], list(argv), env=environ)  # noqa: S606  # no shell is wanted


def _found(name: str, path: str) -> str | None:
    for directory in path.split(os.pathsep):
        if directory and _is_program(candidate := f"{directory}{os.sep}{name}"):
            return candidate
    return None


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _is_script_of_python(program: str) -> bool:
    """Whether a program is a script that names a Python by its path."""
    try:
        with open(program, "rb") as file:
            first = file.readline(1000)
    except OSError:
        return False
    words = first[2:].split() if first.startswith(b"#!") else []
    return bool(words) and os.path.basename(words[0].decode(errors="replace")).startswith(_PYTHON)
