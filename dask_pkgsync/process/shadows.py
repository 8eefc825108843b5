"""Finds shadows: code that is imported in place of the target's, because it comes before that on the search path.

What shadows the target's packages is not a distribution in another version, which a scan would see. It is a plain copy
of a package in a directory of the node's ``PYTHONPATH``, a module in the working directory of a process, an uploaded
file, or what a .pth file puts in front of everything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dask_pkgsync.model.policy import CRITICAL, Level
from dask_pkgsync.process.imports import is_below
from dask_pkgsync.process.module_files import found_in, is_namespace, names_in, root_of, same_code
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scanning.records import FIRST, dist_infos, module_names, unrecorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.module_files import Place

Wanted: TypeAlias = Mapping[str, Path]
"""The dist-info directories of the distributions whose code is to be imported, by canonical name."""

NOT_JUDGED = frozenset({*CRITICAL, "dask-pkgsync"})
"""Distributions that may come from anywhere: Dask itself is compared by its versions, and we bring our own code along
in an archive at the head of the search path."""


@dataclass(frozen=True)
class Shadow:
    """A module or package that is imported in place of a distribution's."""

    module: str
    """Its dotted name, for example ``helpers`` or ``google.protobuf``."""
    place: str
    """Path of its file or directory."""
    entry: str
    """The entry of the search path that holds it."""
    distribution: str
    """Canonical name of the distribution whose module it hides."""
    directory: str
    """The entry of the search path that holds the distribution."""

    def __str__(self) -> str:
        """Say from where the module is imported instead of the distribution."""
        return f"{self.module} is imported from {self.place}, and not from {self.distribution} in {self.directory}"


def wanted_of(target: Target) -> Wanted:
    """Return where this process has the distributions of a target; those in the active layer come first.

    A distribution whose files nothing records (a bare egg-info) is left out, also if a directory further behind has a
    recorded one: the first is the one that a scan finds.
    """
    root = this_process().layer
    path = [entry for entry in sys.path if isinstance(entry, str)]
    here: dict[str, Path | None] = {}
    for entry in (*(entry for entry in path if root and is_below(entry, root)), *path):
        here = {**dict.fromkeys(unrecorded(entry)), **dist_infos(entry), **here}
    theirs, policy = target.environment, target.policy
    same_platform = theirs.interpreter.same_platform(this_interpreter())
    return {
        name: dist_info
        for name in theirs.distributions
        if (dist_info := here.get(name)) is not None
        and policy.rule(name, same_platform=same_platform).level is not Level.IGNORE
    }


def find_shadows(path: Sequence[str], wanted: Wanted, *, loaded: bool = False) -> list[Shadow]:
    """Return what shadows the wanted distributions on a search path. Blocks.

    Code that is byte for byte that of the distribution is no shadow, for example a module that was uploaded.

    Parameters
    ----------
    path : sequence of str
    wanted : mapping of str to Path
    loaded : bool
        Whether modules count as well that this process has imported from an entry behind the distribution's, as it goes
        on with what it has imported.
    """
    owned = _Owned({name: dist_info for name, dist_info in wanted.items() if name not in NOT_JUDGED})
    found: list[Shadow] = []
    for index, entry in enumerate(path):
        behind = [other for other in path[index + 1 :] if owned.has(other)]
        others = [other for other in path if owned.has(other)] if loaded else behind
        root = None if _is_standard(entry) or _is_of_target(entry) or not others else root_of(entry)
        if root is None:
            continue
        names = names_in(root) - sys.stdlib_module_names
        for other in dict.fromkeys(others):
            for module, here, there in _hidden(root, Path(other), names & owned.stems(other)):
                place = str(here).rstrip("/")
                if other == entry or not (other in behind or _is_loaded(module, place)):
                    continue
                owner = owned.owner(other, module)
                if owner and not owned.owner(entry, module) and not same_code(here, there):
                    found.append(Shadow(module, place, entry, owner, other))
    return found


def _is_loaded(module: str, place: str) -> bool:
    """Whether this process has imported a module from a file or directory."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return isinstance(file, str) and is_below(file, place)


def put_behind(path: Sequence[str], wanted: Wanted, fixed: str = "") -> list[str]:
    """Return the search path with the entries that shadow wanted distributions behind these. Blocks.

    Parameters
    ----------
    path : sequence of str
    wanted : mapping of str to Path
    fixed : str
        A directory that keeps its place, with the entries in it.
    """
    settled = list(path)
    for _ in path:
        shadows = find_shadows(settled, wanted)
        movable = (shadow.entry for shadow in shadows if not fixed or not is_below(shadow.entry, fixed))
        entry = next(movable, None)
        if entry is None:
            break
        last = max(settled.index(shadow.directory) for shadow in shadows if shadow.entry == entry)
        settled.insert(last + 1, entry)
        settled.remove(entry)
    return settled


class _Owned:
    """Which modules the wanted distributions have in each directory; their RECORDs are read only when asked."""

    def __init__(self, wanted: Wanted) -> None:
        self.by_directory: dict[str, dict[str, Path]] = {}
        self.modules: dict[str, dict[str, str]] = {}
        for name, dist_info in wanted.items():
            self.by_directory.setdefault(str(dist_info.parent), {})[name] = dist_info
        self._stems: dict[str, frozenset[str]] = {}

    def has(self, entry: str) -> bool:
        """Whether an entry of the search path holds a wanted distribution."""
        return bool(entry) and str(Path(entry)) in self.by_directory

    def stems(self, entry: str) -> frozenset[str]:
        """Return the names that an entry of the search path may have modules of."""
        if entry not in self._stems:
            self._stems[entry] = names_in(Path(entry))
        return self._stems[entry]

    def owner(self, entry: str, module: str) -> str | None:
        """Return the wanted distribution in an entry of the search path that has a module, or modules below it."""
        directory = str(Path(entry)) if entry else ""
        if directory not in self.modules:
            owners = self.modules[directory] = {}
            for name, dist_info in self.by_directory.get(directory, {}).items():
                for dotted in module_names(dist_info):
                    parts = dotted.split(".")
                    for depth in range(1, len(parts) + 1):
                        owners.setdefault(".".join(parts[:depth]), name)
        return self.modules[directory].get(module)


def _hidden(here: Place, there: Path, names: frozenset[str], package: str = "") -> Iterator[tuple[str, Place, Path]]:
    """Yield dotted name, place and hidden place of each module that one directory hides in a later one.

    A namespace package (PEP 420) is looked into: the import system joins the parts of all directories.
    """
    for name in sorted(names):
        mine, theirs = found_in(here, name), found_in(there, name)
        if mine is None or not isinstance(theirs, Path):
            continue
        if not is_namespace(mine):
            yield package + name, mine, theirs
        elif is_namespace(theirs):  # a regular package or module behind a namespace comes first
            yield from _hidden(mine, theirs, names_in(mine) & names_in(theirs), f"{package}{name}.")


def _is_of_target(entry: str) -> bool:
    """Whether an entry of the search path holds the loose modules of a target that hide its distributions."""
    return os.path.basename(entry) == FIRST  # noqa: PTH119


def _is_standard(entry: str) -> bool:
    """Whether an entry of the search path is the standard library, in front of which nothing is put."""
    home = os.path.dirname(os.__file__)  # noqa: PTH120
    return is_below(entry, home) and os.path.basename(entry) in (os.path.basename(home), "lib-dynload")  # noqa: PTH119
