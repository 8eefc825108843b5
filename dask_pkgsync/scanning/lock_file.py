"""Reads a lock file from the disk."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.tags import sys_tags

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.lockfile import check_python, environment_from_lock, environment_from_pylock
from dask_pkgsync.model.lockfiles.pin import EVERYTHING
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.tags import tags_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.lockfiles.pin import Choice

    Export: TypeAlias = Callable[[Path, Choice], str | None]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, which tell the encoding of a text: PowerShell writes UTF-16 with one."""


def no_export(_path: Path, _choice: Choice) -> None:
    """Export nothing, so that a uv.lock is read as it is."""


def read_lock(path: str, choice: Choice = EVERYTHING, export: Export = no_export) -> Environment:
    """Return the environment that a lock file pins.

    Parameters
    ----------
    path : str
        Path of the file; ``~`` is the home directory.
    choice : Choice
        Which groups and extras to read.
    export : callable
        Returns a uv.lock as pylock.toml, or None where it cannot.

    Raises
    ------
    PolicyError
        If the file, or one that it includes, cannot be read, or is no lock file (`environment_from_lock`).
    """
    text, tags = _read(path), frozenset(sys_tags())
    if Path(path).name == "uv.lock" and (pylock := export(Path(path).expanduser(), choice)) is not None:
        return environment_from_pylock(path, pylock, this_interpreter())
    return environment_from_lock(path, text, this_interpreter(), _included, choice=choice, tags=tags)


def read_lock_for(
    path: str, interpreter: Interpreter, choice: Choice = EVERYTHING, export: Export = no_export
) -> tuple[Environment, tuple[str, ...]]:
    """Return the environment that a lock file pins for an interpreter, and the paths of all files that say so.

    Raises
    ------
    PolicyError
        As for `read_lock`; also if the file is for other versions of Python.
    """
    files, text, tags = [str(Path(path).expanduser())], _read(path), tags_of(interpreter)
    check_python(path, text, interpreter)
    if Path(path).name == "uv.lock" and (pylock := export(Path(path).expanduser(), choice)) is not None:
        return environment_from_pylock(path, pylock, interpreter, tags), tuple(files)

    def include(name: str, inner: str) -> tuple[str, str]:
        found, content = _included(name, inner)
        files.append(found)
        return found, content

    found = environment_from_lock(path, text, interpreter, include, choice=choice, tags=frozenset(tags))
    return found, tuple(files)


def text_of(data: bytes) -> str:
    """Return a text that was written as UTF-8, or in another encoding with a byte order mark.

    Raises
    ------
    ValueError
        If it is no such text, with what to do.
    """
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"it is no text in {encoding.upper().removesuffix('-SIG')}; save it as UTF-8") from None
    if "\0" in text:
        raise ValueError("it is a text in UTF-16 without a byte order mark, or no text; save it as UTF-8")
    return text


def _read(path: str) -> str:
    try:
        return text_of(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise PolicyError(f"{path} cannot be read: {error}") from None


def _included(name: str, path: str) -> tuple[str, str]:
    """Return path and text of a file that a requirements file includes; the path is relative to that file."""
    full = str(Path(name).parent / path)
    return full, _read(full)
