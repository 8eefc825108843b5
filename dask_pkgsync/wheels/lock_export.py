"""Makes pylock.toml (PEP 751) with uv: of uv.lock, a format that it owns, and of requirements."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.installers.calls import call
from dask_pkgsync.installers.find import own_uv
from dask_pkgsync.installers.settings import installer_environment
from dask_pkgsync.installers.uv import index_options, index_variables
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.indexes import OWN
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.configured_indexes import configured_indexes
from dask_pkgsync.scanning.configured_trust import configured_trust

if TYPE_CHECKING:
    from dask_pkgsync.model.lockfiles.pin import Choice

TIMEOUT = 60.0
"""Seconds that the export may take: it reads two files, and asks nobody."""
COMPILE_TIMEOUT = 600.0
"""Seconds that the hashes of all packages may take."""


def exported(lock: Path, choice: Choice) -> str | None:
    """Return a uv.lock as pylock.toml, with the groups and extras that were chosen. Blocks.

    Parameters
    ----------
    lock : Path
    choice : Choice
        Without groups, uv's default ones are exported.

    Returns
    -------
    str or None
        None if uv cannot export it: there is no uv, or no pyproject.toml beside the lock.

    Raises
    ------
    PolicyError
        If uv refuses, for example because a group is not in the project.
    """
    program = own_uv(Path(sys.executable))
    if program is None or not (lock.parent / "pyproject.toml").is_file():
        return None
    with tempfile.TemporaryDirectory() as directory:
        env = installer_environment(Path(directory), {"UV_PYTHON_DOWNLOADS": "never"}, OWN)
        argv = export_argv(program, lock.parent.absolute(), choice)
        try:
            return call(argv, "resolve", (), timeout=TIMEOUT, temporary=Path(directory), env=env)
        except LayerError as error:
            raise PolicyError(f"{os.fspath(lock)}: uv cannot export it: {error.last_words or error.problem}") from None


def export_argv(program: Path, project: Path, choice: Choice) -> list[str]:
    """Return the argument vector: the lock as it is, without the locked projects themselves."""
    chosen = [option for extra in choice.extras for option in ("--extra", extra)]
    if choice.groups:
        chosen += ["--no-default-groups", *(option for group in choice.groups for option in ("--group", group))]
    return [
        *[str(program), "--no-config", "--no-progress", "--color", "never", "export", "--directory", str(project)],
        *["--frozen", "--format", "pylock.toml", "--no-emit-workspace", "--no-header", "--quiet"],
        *["--python", sys.executable, *chosen],
    ]


def compiled(requirements: str) -> str:
    """Return exact requirements as pylock.toml, with the URLs and hashes that the indexes here have. Blocks.

    Raises
    ------
    LayerError
        If there is no uv here, or it fails, for example because an index lacks a package.
    """
    program = own_uv(Path(sys.executable))
    if program is None:
        raise LayerError("resolve", "uv, which writes pylock.toml, is not installed", advice="Install uv with pip.")
    indexes = configured_indexes()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        pins, lock = directory / "requirements.in", directory / "pylock.toml"
        pins.write_text(requirements)
        settings = {**configured_trust(), **index_variables(indexes), "UV_PYTHON_DOWNLOADS": "never"}
        env = installer_environment(directory, settings, indexes)
        argv = [*compile_argv(program, pins, lock), *index_options(indexes)]
        call(argv, "resolve", requirements.splitlines(), timeout=COMPILE_TIMEOUT, temporary=directory, env=env)
        return lock.read_text()


def compile_argv(program: Path, pins: Path, lock: Path) -> list[str]:
    """Return the argument vector: exactly these packages, for this interpreter."""
    return [
        *[str(program), "--no-config", "--no-progress", "--color", "never", "pip", "compile", str(pins)],
        *["--no-deps", "--no-header", "--format", "pylock.toml", "--output-file", str(lock), "--quiet"],
        *["--python", sys.executable],
    ]
