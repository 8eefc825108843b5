"""Where a machine may have interpreters of other versions than that of this process."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.interpreters.below import interpreter_below
from dask_pkgsync.interpreters.probing import Candidate
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dask_pkgsync.model.environments.interpreter import Interpreter

_ROOTS_OF_CONDA = (
    *("~/miniforge3", "~/mambaforge", "~/miniconda3", "~/anaconda3", "~/micromamba"),
    *("/opt/conda", "/opt/miniforge3", "/opt/miniconda3", "/opt/anaconda3"),
)
"""Where the installers of conda's distributions put them."""


def on_this_machine(wanted: Interpreter, environ: Mapping[str, str] | None = None) -> Iterator[Candidate]:
    """Yield the interpreters of this machine that by their names are of the wanted X.Y. Blocks.

    Parameters
    ----------
    wanted : Interpreter
    environ : mapping of str to str, optional
        The environment variables of this process.
    """
    environ = os.environ if environ is None else environ
    name = program_name(wanted)
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == wanted.feature_version:
        with contextlib.suppress(LayerError):  # it was removed
            yield Candidate(interpreter_below(Path(sys.executable)), "this process")
    for directory in filter(None, environ.get("PATH", os.defpath).split(os.pathsep)):
        if (found := shutil.which(name, path=directory)) is not None:
            yield Candidate(Path(found), "PATH")
    of_pyenv = _sorted(_pyenv(environ), re.compile(re.escape(wanted.feature_version) + r"\..*"))
    prefixes = [("uv", prefix) for prefix in managed_by_uv(uv_directory(environ), wanted)]
    prefixes += [*(("pyenv", prefix) for prefix in of_pyenv), *(("conda", prefix) for prefix in _conda(environ))]
    for source, prefix in prefixes:
        if (python := prefix / "bin" / name).exists():
            yield Candidate(python, source)


def program_name(wanted: Interpreter) -> str:
    """Return the usual name of an interpreter's program, for example ``python3.13t``."""
    name = "python" if wanted.implementation == "cpython" else wanted.implementation
    return f"{name}{wanted.feature_version}{'t' if wanted.is_free_threaded else ''}"


def uv_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory in which uv keeps the interpreters that it has downloaded."""
    if chosen := environ.get("UV_PYTHON_INSTALL_DIR"):
        return Path(chosen).expanduser()
    return Path(environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "uv" / "python"


def managed_by_uv(directory: Path, wanted: Interpreter) -> list[Path]:
    """Return the prefixes of an X.Y in a directory of uv, the newest first.

    Their names are keys of uv (0.13), for example ``cpython-3.13.1+freethreaded-linux-x86_64-gnu``.
    """
    version = re.escape(wanted.feature_version)
    variant = r"\+freethreaded" if wanted.is_free_threaded else ""
    return _sorted(directory, re.compile(rf"{wanted.implementation}-{version}\.[0-9a-z]+{variant}-.*"))


def _pyenv(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"


def _conda(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the roots of conda on this machine; what is installed in them beside Python is never imported."""
    known = [environ.get("CONDA_PREFIX"), environ.get("MAMBA_ROOT_PREFIX")]
    if program := environ.get("CONDA_EXE"):
        known.append(str(Path(program).parent.parent))
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known += Path("~/.conda/environments.txt").expanduser().read_text(encoding="utf-8").splitlines()
    for place in filter(None, (*known, *_ROOTS_OF_CONDA)):
        if (root := Path(place).expanduser()).is_absolute():
            yield root


def _sorted(directory: Path, names: re.Pattern[str]) -> list[Path]:
    """Return the directories in a directory whose names match, the highest version first."""
    try:
        found = [entry for entry in directory.iterdir() if names.fullmatch(entry.name)]
    except OSError:
        return []
    return sorted(found, key=lambda path: _numbers(path.name), reverse=True)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", name)[:3])


def without_repeats(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Yield candidates, each program once with the same variables, whatever links lead to it."""
    seen: set[tuple[object, ...]] = set()
    for candidate in candidates:
        real = os.path.realpath(candidate.python), *candidate.variables.items()
        if real not in seen:
            seen.add(real)
            yield candidate
