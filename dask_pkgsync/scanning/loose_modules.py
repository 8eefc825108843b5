"""Loose modules: importable code that belongs to no distribution, such as modules beside a script or notebook.

Each module or package travels as a distribution of its own. So two users with the same module have the same
distribution, and two users with different code under one name have distributions that differ, which is a conflict.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.origin import FromModules
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.text import human_bytes
from dask_pkgsync.scanning.search_path import (
    Kind,
    SearchPath,
    imported_from,
    is_installed,
    is_standard,
)
from dask_pkgsync.scanning.unrecorded import entries_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from dask_pkgsync.scanning.sources import SourceFile

STANDARD = "the standard library has a module of this name"
NOT_TAKEN = ".gitignore, or its name (a cache, a key, a secret), excludes it"
TOO_LARGE = "all loose modules together are larger than modules-limit allows"
_NOT_FOR_IMPORT = frozenset({"setup.py", "conftest.py", "noxfile.py", "__main__.py"})
_MAX_NAME = 80
"""The most characters of a module's name in the name of its distribution."""
_LOOKED_AT = 200
"""The most entries of a directory without modules that are looked at for packages."""


@dataclass(frozen=True)
class LooseModule:
    """A loose module or package, with its files."""

    name: str
    """Its name for import."""
    directory: Path
    """The directory or archive on the search path that holds it."""
    files: tuple[SourceFile, ...]
    is_first: bool = False
    """Whether it hides a module of an installed distribution here, so that it must also do so on the nodes."""

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution as which it travels."""
        digest = self.digest()
        version = f"0+{digest.partition('=')[2][:12]}"
        return Distribution(distribution_name(self.name), version, FromModules(self.directory.as_uri(), digest))

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(file.size for file in self.files)

    def digest(self) -> str:
        """Return the digest of its files as they are now, and of whether it comes first."""
        from dask_pkgsync.scanning.sources import digest_of  # imported here because many scans find no loose modules

        return digest_of(self.files, *(["first"] if self.is_first else []))


@dataclass(frozen=True)
class LooseModules:
    """The loose modules of a client."""

    modules: tuple[LooseModule, ...] = ()
    """The modules that travel to the cluster."""
    left_out: tuple[tuple[Path, str], ...] = ()
    """Files and directories of importable code that do not travel, each with the reason."""
    incomplete: Mapping[str, tuple[tuple[Path, str], ...]] = field(default_factory=dict)
    """For each distribution of a module that travels without some of its files: these, each with the reason."""


def find_modules(
    chosen: bool | Sequence[str],  # noqa: FBT001  # off, on, or a list
    *,
    limit: int,
    path: SearchPath | None = None,
) -> LooseModules:
    """Return the loose modules that travel, and those that are left out.

    Parameters
    ----------
    chosen : bool or sequence of str
        True: all modules in those directories and archives of `sys.path` that no installer put there, such as the
        script's or notebook's directory and those of ``PYTHONPATH``, except home, root and temporary directories.
        False: none. A list: names of modules, and paths of modules, packages and directories.
    limit : int
        The most bytes of all modules together. Above it, modules of development directories (.pth files) are left out.
    path : SearchPath, optional
        The search path; by default that of this process, without knowledge of editable projects.

    Raises
    ------
    PolicyError
        If a module in the list does not exist or cannot travel, or if all modules together exceed the limit.
    """
    if chosen is False:
        return LooseModules()
    path = path or SearchPath.of()
    candidates = _in_loose_places(path) if isinstance(chosen, bool) else _in_list(chosen, path)
    modules: dict[str, LooseModule] = {}
    all_left_out: list[tuple[Path, str]] = []
    incomplete: dict[str, tuple[tuple[Path, str], ...]] = {}
    for place, names in candidates.items():
        if not names:
            continue
        travels, left_out = _importable_on_nodes(place, names, path)
        files, unfit = files_of(place, travels)
        left_out += tuple((name, NOT_TAKEN) for name in travels if name not in files)
        if left_out and not isinstance(chosen, bool) and not _is_whole(place, chosen):
            name, reason = left_out[0]
            raise PolicyError(f"modules: {place / name} was named and cannot travel: {reason}")
        for module in modules_in(place, files):
            modules[module.name] = joined(modules[module.name], module) if module.name in modules else module
        all_left_out += [(place / name, reason) for name, reason in left_out]
        for file, reason in unfit:
            of_module = distribution_name(file.relative_to(place).parts[0].partition(".")[0])
            incomplete[of_module] = (*incomplete.get(of_module, ()), (file, reason))
    for module in _too_much(modules.values(), limit, path):
        del modules[module.name]
        all_left_out.append((module.directory / module.name, TOO_LARGE))
    refuse_too_large(modules.values(), limit)
    return LooseModules(tuple(modules.values()), tuple(all_left_out), incomplete)


def _too_much(modules: Collection[LooseModule], limit: int, path: SearchPath) -> Iterator[LooseModule]:
    """Yield the modules that are left out since all together are too large: the largest of development directories."""
    excess = sum(module.size for module in modules) - limit
    linked = [module for module in modules if path.places.get(module.directory) is Kind.LINKED]
    for module in sorted(linked, key=lambda module: -module.size):
        if excess > 0:
            excess -= module.size
            yield module


def files_of(place: Path, names: Iterable[str]) -> tuple[dict[str, list[SourceFile]], tuple[tuple[Path, str], ...]]:
    """Return the files of modules in a directory or archive, by its entries, and what no wheel can hold."""
    from dask_pkgsync.scanning.sources import loose_files, zipped_files  # imported here, as above

    found = zipped_files(place) if place.is_file() else loose_files(place, names)
    by_name: dict[str, list[SourceFile]] = {}
    for file in found.files:
        top = file.path.partition("/")[0]
        if top in names:
            by_name.setdefault(top, []).append(file)
    return by_name, found.left_out


def modules_in(place: Path, files: Mapping[str, Sequence[SourceFile]]) -> Iterator[LooseModule]:
    """Yield the modules of a directory or archive; a package and a file of one name are one module."""
    together: dict[str, list[SourceFile]] = {}
    for entry, of_entry in files.items():
        together.setdefault(entry.partition(".")[0], []).extend(of_entry)
    for name, of_module in together.items():
        yield LooseModule(name, place, tuple(of_module), is_first=is_installed(name))


def joined(first: LooseModule, other: LooseModule) -> LooseModule:
    """Return the parts of a namespace package (PEP 420) in two directories as one module."""
    known = {file.path for file in first.files}
    return replace(first, files=(*first.files, *(file for file in other.files if file.path not in known)))


def distribution_name(module: str) -> str:
    """Return the name of the distribution as which a module travels, for example ``module-helpers``.

    Some names of modules (``a_b``, ``A_b``, ``_a_b``) have the same canonical spelling (PEP 503). So only names in
    lower case with single underscores are taken as they are; the others get a digest of the exact name.
    """
    plain = module.replace("_", "-")
    if len(plain) <= _MAX_NAME and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", plain):
        return f"module-{plain}"
    words = re.findall(r"[a-z0-9]+", module.lower()[:_MAX_NAME])
    import hashlib  # imported here because it is rarely needed

    return "-".join(["module", *words, hashlib.sha256(module.encode()).hexdigest()[:8]])


def _is_whole(directory: Path, chosen: Sequence[str]) -> bool:
    """Whether the list names the directory itself, and not single modules in it."""
    return any(Path(entry).expanduser().resolve() == directory for entry in chosen)


def _in_loose_places(path: SearchPath) -> dict[Path, list[str]]:
    """Return all importable entries of the loose directories and archives except the running script, by place."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    here = Path(script).resolve() if isinstance(script, str) else None
    kinds = {
        Kind.LOOSE: importable,
        Kind.LINKED: importable,
        Kind.SHARED: _single_modules,
        Kind.ZIP: _importable_in_zip,
    }
    return {
        place: [name for name in kinds[kind](place) if place / name != here]
        for place, kind in path.places.items()
        if kind in kinds
    }


def _in_list(chosen: Iterable[str], path: SearchPath) -> dict[Path, list[str]]:
    """Return the entries that a list of names and paths refers to, by directory."""
    by_directory: dict[Path, list[str]] = {}
    for entry in chosen:
        directory, names = _locate(entry, path)
        known = by_directory.setdefault(directory, [])
        known += [name for name in names if name not in known]
    return by_directory


def _locate(entry: str, search_path: SearchPath) -> tuple[Path, list[str]]:
    """Return the directory and names of the modules to which an entry of the option ``modules`` refers.

    An entry is the name of a module on the search path, or the path of a file, package or directory.
    """
    path = Path(entry).expanduser()
    if path.exists() and (path.suffix or os.sep in entry or path.is_dir()):
        path = path.resolve()
        if path.is_dir() and not (path / "__init__.py").exists():
            return path, importable(path)
        if path.suffix == ".zip":
            return path, _importable_in_zip(path)
        return path.parent, [path.name]
    if entry.isidentifier():
        for directory, kind in search_path.places.items():
            if kind not in (Kind.INSTALLED, Kind.ZIP) and (names := entries_of(directory, entry)):
                return directory, names
    raise PolicyError(
        f"modules: {entry!r} is neither a loose module on the search path nor the path of a module, package or "
        "directory; give True, False, or a list of such names and paths"
    )


def importable(directory: Path) -> list[str]:
    """Return the entries of a directory that can be imported."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return []
    found = []
    for entry in entries:
        stem = entry.name.partition(".")[0]
        if stem.isidentifier() and (_is_package(entry) if entry.is_dir() else _is_module(entry.name)):
            found.append(entry.name)
    return found


def _single_modules(directory: Path) -> list[str]:
    """Return the single files among the modules of a directory: packages beside a project are its tests and docs."""
    return [name for name in importable(directory) if (directory / name).is_file()]


def _is_module(name: str) -> bool:
    return name.endswith((".py", *EXTENSION_SUFFIXES)) and name not in _NOT_FOR_IMPORT


def _is_package(entry: os.DirEntry[str]) -> bool:
    """Whether a directory contains a module, or directly below it a regular package; others need not be packages."""
    if "." in entry.name:
        return False
    try:
        names = os.listdir(entry.path)  # noqa: PTH208
    except OSError:
        return False
    return any(map(_is_module, names)) or any(
        os.path.exists(os.path.join(entry.path, name, "__init__.py"))  # noqa: PTH110, PTH118
        for name in islice((name for name in names if name.isidentifier()), _LOOKED_AT)
    )


def _importable_in_zip(archive: Path) -> list[str]:
    """Return the entries of an archive that can be imported; none if it cannot be read."""
    from dask_pkgsync.scanning.sources import zipped_files  # imported here, as above

    try:
        paths = [file.path for file in zipped_files(archive).files]
    except OSError:
        return []
    code = (path for path in paths if path.endswith(".py") and path not in _NOT_FOR_IMPORT)
    tops = dict.fromkeys(path.partition("/")[0] for path in code)
    return [top for top in tops if top.partition(".")[0].isidentifier()]


def _importable_on_nodes(
    place: Path, names: Sequence[str], path: SearchPath
) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Split the entries of a directory into those that travel, and those that do not, with the reason.

    What travels is what Python imports here. Modules of distributions in the directory (``pip install --target``, an
    editable project) are neither: these travel as what they are.
    """
    travels, left_out = [], []
    for name in names:
        module = name.partition(".")[0]
        if path.owns(place, module):
            continue
        origins = imported_from(module)
        if is_standard(module):
            left_out.append((name, STANDARD))
        elif place in origins or not origins or (place not in path.places and not is_installed(module)):
            travels.append(name)
        else:
            left_out.append((name, _why_hidden(module, origins[0], path)))
    return travels, tuple(left_out)


def _why_hidden(module: str, origin: Path, path: SearchPath) -> str:
    kind = path.places.get(origin)
    if kind is Kind.INSTALLED or path.owns(origin, module):
        return f"an installed distribution has a module of this name ({origin / module})"
    if kind is None:
        return f"this process has imported a module of this name from {origin}"
    return f"a directory before it on the search path has a module of this name ({origin})"


def refuse_too_large(modules: Iterable[LooseModule], limit: int) -> None:
    """Raise `PolicyError` if modules together are larger than a limit in bytes."""
    files = [file for module in modules for file in module.files]
    total = sum(file.size for file in files)
    if total > limit:
        from dask_pkgsync.scanning.sources import largest_of

        raise PolicyError(
            f"modules: the loose modules are {human_bytes(total)}, more than modules-limit allows "
            f"({human_bytes(limit)}). The largest files: {largest_of(files)}. List the modules that your tasks need in "
            "modules=[…]; or list files that are no code in .gitignore, ship no modules with modules=False, or raise "
            "modules-limit (DASK_PKGSYNC__MODULES_LIMIT)."
        )
