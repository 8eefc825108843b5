"""Loose modules: importable code that belongs to no distribution, such as modules beside a script or notebook.

Each module or package travels as a distribution of its own. So two users with the same module have the same
distribution, and two users with different code under one name have distributions that differ, which is a conflict.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import site
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.origin import FromModules
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.text import human_bytes
from dask_pkgsync.scanning.sources import SourceFile, digest_of, largest_of, loose_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_NOT_FOR_IMPORT = frozenset({"setup.py", "conftest.py", "noxfile.py"})
_MAX_NAME = 80
"""The most characters of a module's name in the name of its distribution."""
_NOT_TAKEN = ".gitignore, or its name (a cache, a key, a secret), excludes it"


@dataclass(frozen=True)
class LooseModule:
    """A loose module or package, with its files."""

    distribution: Distribution
    """The distribution as which it travels."""
    directory: Path
    """The directory on the search path that holds it."""
    files: tuple[SourceFile, ...]


@dataclass(frozen=True)
class LooseModules:
    """The loose modules of a client."""

    modules: tuple[LooseModule, ...] = ()
    """The modules that travel to the cluster."""
    left_out: tuple[tuple[Path, str], ...] = ()
    """Files and directories of importable code that do not travel, each with the reason."""


def find_modules(chosen: bool | Sequence[str], *, limit: int) -> LooseModules:  # noqa: FBT001  # off, on, or a list
    """Return the loose modules that travel, and those that are left out.

    Parameters
    ----------
    chosen : bool or sequence of str
        True: all modules in those directories of `sys.path` that no installer put there, such as the script's or
        notebook's directory and those of ``PYTHONPATH``, except home, root and temporary directories. False: none. A
        list: names of modules, and paths of modules, packages and directories.
    limit : int
        The most bytes of all modules together.

    Raises
    ------
    PolicyError
        If a module in the list does not exist or cannot travel, or if all modules together exceed the limit.
    """
    if chosen is False:
        return LooseModules()
    candidates = _in_loose_directories() if isinstance(chosen, bool) else _in_list(chosen)
    modules: list[LooseModule] = []
    all_left_out: list[tuple[Path, str]] = []
    known: set[str] = set()
    for directory, names in candidates.items():
        travels, left_out = _importable_on_nodes(directory, names, known)
        known |= {name.partition(".")[0] for name in travels}
        by_name: dict[str, list[SourceFile]] = {}
        found = loose_files(directory, travels)
        for file in found.files:
            by_name.setdefault(file.path.partition("/")[0], []).append(file)
        left_out += tuple((name, _NOT_TAKEN) for name in travels if name not in by_name)
        if left_out and not isinstance(chosen, bool) and not _is_whole(directory, chosen):
            name, reason = left_out[0]
            raise PolicyError(f"modules: {directory / name} was named and cannot travel: {reason}")
        modules += _by_module(directory, by_name)
        all_left_out += [*((directory / name, reason) for name, reason in left_out), *found.left_out]
    _refuse_too_large(modules, limit)
    return LooseModules(tuple(modules), tuple(all_left_out))


def _by_module(directory: Path, by_name: Mapping[str, Sequence[SourceFile]]) -> Iterator[LooseModule]:
    """Yield the modules of a directory; a package and a file of one name are one module."""
    together: dict[str, list[SourceFile]] = {}
    for name, files in by_name.items():
        together.setdefault(name.partition(".")[0], []).extend(files)
    for module, files in together.items():
        digest = digest_of(files)
        origin = FromModules(directory.as_uri(), digest)
        version = f"0+{digest.partition('=')[2][:12]}"
        yield LooseModule(Distribution(distribution_name(module), version, origin), directory, tuple(files))


def distribution_name(module: str) -> str:
    """Return the name of the distribution as which a module travels, for example ``module-helpers``.

    Some names of modules (``a_b``, ``A_b``, ``_a_b``) have the same canonical spelling (PEP 503). So only names in
    lower case with single underscores are taken as they are; the others get a digest of the exact name.
    """
    plain = module.replace("_", "-")
    if len(plain) <= _MAX_NAME and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", plain):
        return f"module-{plain}"
    words = re.findall(r"[a-z0-9]+", module.lower()[:_MAX_NAME])
    return "-".join(["module", *words, hashlib.sha256(module.encode()).hexdigest()[:8]])


def _is_whole(directory: Path, chosen: Sequence[str]) -> bool:
    """Whether the list names the directory itself, and not single modules in it."""
    return any(Path(entry).expanduser().resolve() == directory for entry in chosen)


def loose_directories() -> list[Path]:
    """Return the directories on the search path that may hold loose modules, in its order."""
    directories: dict[Path, None] = {}
    for entry in sys.path:
        if not isinstance(entry, str):  # the import system ignores it
            continue
        try:
            directory = Path(entry or os.getcwd()).resolve()  # noqa: PTH109
        except (OSError, ValueError):  # not a valid path, or the current directory was removed
            continue
        if directory.is_dir() and not _is_known(directory):
            directories.setdefault(directory)
    return list(directories)


def _is_known(directory: Path) -> bool:
    """Whether a directory holds no loose modules.

    Such are the directories of interpreters, installers and editable projects, and the home, root and temporary
    directories, which hold files of all kinds.
    """
    of_all_kinds = {Path(tempfile.gettempdir()).resolve(), Path(directory.anchor)}
    with contextlib.suppress(RuntimeError):  # the user has no home directory
        of_all_kinds.add(Path.home().resolve())
    if directory in of_all_kinds or directory in _editable_directories():
        return True
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    standard = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    installed = standard | {prefix / part for prefix in prefixes for part in ("lib", "lib64", "bin", "Scripts")}
    if any(root in (directory, *directory.parents) for root in installed):
        return True
    return directory.name in ("site-packages", "dist-packages") or any(directory.glob("*.dist-info"))


def _site_directories() -> list[Path]:
    texts = (entry for entry in sys.path if isinstance(entry, str) and entry)
    return [Path(entry) for entry in texts if Path(entry).name in ("site-packages", "dist-packages")]


def _editable_directories() -> set[Path]:
    """Return the directories that editable projects add to the search path with .pth files."""
    directories = set()
    for directory in {*_site_directories(), Path(site.getusersitepackages())}:
        for link in directory.glob("*.pth"):
            for line in link.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    directories.add((directory / line.strip()).resolve())
    return directories


def _in_loose_directories() -> dict[Path, list[str]]:
    """Return all importable entries of the loose directories except the running script, by directory."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    here = Path(script).resolve() if script else None
    return {
        directory: [name for name in _importable(directory) if directory / name != here]
        for directory in loose_directories()
    }


def _in_list(chosen: Iterable[str]) -> dict[Path, list[str]]:
    """Return the entries that a list of names and paths refers to, by directory."""
    by_directory: dict[Path, list[str]] = {}
    for entry in chosen:
        directory, names = _locate(entry)
        known = by_directory.setdefault(directory, [])
        known += [name for name in names if name not in known]
    return by_directory


def _locate(entry: str) -> tuple[Path, list[str]]:
    """Return the directory and names of the modules to which an entry of the option ``modules`` refers.

    An entry is the name of a module on the search path, or the path of a file, package or directory.
    """
    path = Path(entry).expanduser()
    if path.exists() and (path.suffix or os.sep in entry or path.is_dir()):
        path = path.resolve()
        if path.is_dir() and not (path / "__init__.py").exists():
            return path, _importable(path)
        return path.parent, [path.name]
    if entry.isidentifier():
        for directory in loose_directories():
            for name in _importable(directory):
                if name.partition(".")[0] == entry:
                    return directory, [name]
    raise PolicyError(
        f"modules: {entry!r} is neither a loose module on the search path nor the path of a module, package or "
        "directory; give True, False, or a list of such names and paths"
    )


def _importable(directory: Path) -> list[str]:
    """Return the entries of a directory that can be imported."""
    importable = []
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        stem = entry.name.partition(".")[0]
        if stem.isidentifier() and (_is_package(entry) if entry.is_dir() else _is_module(entry.name)):
            importable.append(entry.name)
    return importable


def _is_module(name: str) -> bool:
    return name.endswith((".py", *EXTENSION_SUFFIXES)) and name not in _NOT_FOR_IMPORT


def _is_package(entry: os.DirEntry[str]) -> bool:
    """Whether a directory directly contains a module; one that only contains directories need not be a package."""
    if "." in entry.name:
        return False
    try:
        return any(_is_module(name) for name in os.listdir(entry.path))  # noqa: PTH208
    except OSError:
        return False


def _importable_on_nodes(
    directory: Path, names: Sequence[str], known: set[str]
) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Split the entries of a directory into those that travel, and those that another module hides, with the reason.

    Parameters
    ----------
    directory : Path
    names : sequence of str
    known : set of str
        Names of the modules of earlier directories on the search path.
    """
    travels, left_out = [], []
    for name in names:
        module = name.partition(".")[0]
        if module in sys.stdlib_module_names:
            left_out.append((name, "the standard library has a module of this name"))
        elif module in known:
            left_out.append((name, "a directory before it on the search path has a module of this name"))
        elif (owner := _owner(module, directory)) is not None:
            left_out.append((name, f"an installed distribution has a module of this name ({owner})"))
        else:
            travels.append(name)
    return travels, tuple(left_out)


def _owner(module: str, directory: Path) -> str | None:
    """Return the path of a module with this name in an installed distribution; None if there is none."""
    for place in {*_site_directories(), *_editable_directories()} - {directory}:
        for candidate in (place / module, place / f"{module}.py"):
            if candidate.exists():
                return str(candidate)
    for name, finder in list(sys.modules.items()):  # how setuptools makes editable projects importable
        mapping = getattr(finder, "MAPPING", None) if name.startswith("__editable__") else None
        if isinstance(mapping, dict) and module in mapping:
            return str(mapping[module])
    return None


def _refuse_too_large(modules: Sequence[LooseModule], limit: int) -> None:
    files = [file for module in modules for file in module.files]
    total = sum(file.size for file in files)
    if total > limit:
        raise PolicyError(
            f"modules: the loose modules are {human_bytes(total)}, more than modules-limit allows "
            f"({human_bytes(limit)}). The largest files: {largest_of(files)}. List the modules that your tasks need in "
            "modules=[…]; or list files that are no code in .gitignore, ship no modules with modules=False, or raise "
            "modules-limit (DASK_PKGSYNC__MODULES_LIMIT)."
        )
