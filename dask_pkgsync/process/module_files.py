"""The files of modules, also in a zip: what is imported from a directory under a name, and whether two are equal."""

from __future__ import annotations

import os
import zipfile
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from types import ModuleType

Place: TypeAlias = Path | zipfile.Path
"""A file or directory, which may lie in a zip."""

_SUFFIXES = tuple(all_suffixes())


def root_of(entry: str) -> Place | None:
    """Return the directory of an entry of the search path, also one in a zip; None if it is neither."""
    try:
        path = Path(os.path.abspath(entry))  # noqa: PTH100  # '' means the current directory; no link is followed
        if path.is_dir():
            return path
        return zipfile.Path(path) if path.is_file() else None
    except (OSError, ValueError, zipfile.BadZipFile):
        return None


def names_in(directory: Place) -> frozenset[str]:
    """Return the names under which something may be imported from a directory."""
    try:
        stems = {item.name.partition(".")[0] for item in directory.iterdir()}
    except OSError:
        return frozenset()
    return frozenset(stem for stem in stems if stem.isidentifier() and stem != "__pycache__")


def found_in(directory: Place, name: str) -> Place | None:
    """Return what is imported under a name from a directory: a package, module, or part of a namespace (PEP 420)."""
    package = directory / name
    if package.is_dir() and not is_namespace(package):
        return package
    for suffix in _SUFFIXES:
        if (file := directory / f"{name}{suffix}").is_file():
            return file
    return package if package.is_dir() else None


def is_namespace(place: Place) -> bool:
    """Whether a directory is no regular package, so that the directories of its name on the search path are joined."""
    return place.is_dir() and not any((place / f"__init__{suffix}").is_file() for suffix in _SUFFIXES)


def same_code(one: Place, other: Place) -> bool:
    """Whether two modules or packages have the same files, byte for byte, bytecode apart."""
    if one.is_dir() != other.is_dir():
        return False
    try:
        if not one.is_dir():
            return one.name == other.name and one.read_bytes() == other.read_bytes()
        mine, theirs = _contents(one), _contents(other)
        return mine.keys() == theirs.keys() and all(same_code(mine[name], theirs[name]) for name in mine)
    except OSError:
        return False


def _contents(directory: Place) -> dict[str, Place]:
    items = ((item.name, item) for item in directory.iterdir())
    return {name: item for name, item in items if name != "__pycache__" and not name.endswith(".pyc")}


def is_copy(module: ModuleType, directory: Path) -> bool:
    """Whether an imported top-level module or regular package is the one in a directory, byte for byte.

    This holds for a module that a client has uploaded, and that also travels with its environment.
    """
    name, file = module.__name__, getattr(module, "__file__", None)
    if "." in name or not isinstance(file, str):
        return False
    above = os.path.dirname(os.path.dirname(file) if hasattr(module, "__path__") else file)  # noqa: PTH120
    root = root_of(above)
    mine, theirs = found_in(root, name) if root else None, found_in(directory, name)
    return mine is not None and theirs is not None and same_code(mine, theirs)
