"""What this process has imported: whether the nodes will have all of it, and as it is in memory here.

Each module is of the standard library, of a distribution, or loose. A loose module that the scan has passed over, such
as one beside a script in the home directory, travels too, since it was imported. What cannot travel is a discrepancy,
as is a module whose file has changed since it was imported.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import ref

import psutil

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.reports.discrepancies import Discrepancy
from dask_pkgsync.model.wire.names import canonical
from dask_pkgsync.scanning.file_states import Remembered
from dask_pkgsync.scanning.loose_modules import (
    NOT_TAKEN,
    STANDARD,
    LooseModule,
    distribution_name,
    files_of,
    joined,
    refuse_too_large,
)
from dask_pkgsync.scanning.memory import differs
from dask_pkgsync.scanning.search_path import (
    OWN,
    Kind,
    SearchPath,
    is_installed,
    is_standard,
    site_directories,
    standard,
)
from dask_pkgsync.scanning.sources import loose_files
from dask_pkgsync.scanning.unrecorded import entries_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.scanning.file_states import Watch
    from dask_pkgsync.scanning.snapshot import Snapshot
    from dask_pkgsync.scanning.sources import SourceFile

_OF_INTERPRETER = frozenset({"_virtualenv", "apport_python_hook", "sitecustomize", "usercustomize"})
"""Modules that set up an interpreter when it starts."""
_RESTART = "Restart this process (in a notebook: the kernel), and sync again."
_CLOCK = 2.0
"""Seconds by which the clocks of processes and of file systems may differ."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A module that was imported from a file."""

    name: str
    module: ModuleType
    file: str

    @property
    def top(self) -> str:
        """The name of its top-level package, or its own if it is in none."""
        return self.name.partition(".")[0]


def accounted(snapshot: Snapshot, policy: Policy, *, limit: int | None) -> tuple[Snapshot, tuple[Discrepancy, ...]]:
    """Return a snapshot with all loose modules that this process has imported, and what the nodes will lack. Blocks.

    Parameters
    ----------
    snapshot : Snapshot
        A snapshot of this process.
    policy : Policy
        Says which modules and distributions are ignored.
    limit : int or None
        The most bytes of all loose modules together; None: the user has chosen the loose modules, so that no other one
        is added, or missed.
    """
    ledger = _Ledger(snapshot)
    ledger.enter_all()
    added: dict[str, LooseModule] = {}
    discrepancies: list[Discrepancy] = []
    for (place, top), modules in ledger.missing.items() if limit is not None else ():
        if policy.ignores(distribution_name(top)):
            continue
        module = _module(place, top, modules)
        reason = _why_not(module, modules, (*snapshot.modules.values(), *added.values()), limit or 0)
        if reason is not None:
            discrepancies.append(Discrepancy(top, *reason))
        else:
            name = distribution_name(top)
            known = added.get(name) or snapshot.modules.get(name)
            added[name] = joined(module, known) if known else module
            for one in modules:
                ledger.compare_edit(one)
    for name, problem in ledger.changed.items():
        if not (policy.ignores(canonical(name)) or policy.ignores(distribution_name(name))):
            discrepancies.append(Discrepancy(name, problem, _RESTART))
    return _with_modules(snapshot, added), tuple(discrepancies)


def _with_modules(snapshot: Snapshot, added: Mapping[str, LooseModule]) -> Snapshot:
    if not added:
        return snapshot
    environment = snapshot.environment
    distributions = {**environment.distributions, **{name: module.distribution for name, module in added.items()}}
    whole = environment.with_distributions(distributions.values())
    return replace(snapshot, environment=whole, modules={**snapshot.modules, **added})


def _module(place: Path, top: str, modules: Iterable[Imported]) -> LooseModule:
    """Return a module or package that was imported, with its files.

    Of a directory without ``__init__.py`` it has only what was imported: it may hold files of all kinds.
    """
    if place.is_dir():
        entries = entries_of(place, top)
        if (place / top).is_dir() and not (place / top / "__init__.py").is_file():
            files = _files_below(place, {_below(place, Path(module.file)) for module in modules})
        else:
            files = loose_files(place, entries).files
    else:
        by_name, _ = files_of(place, [top, f"{top}.py"])
        files = tuple(file for of_entry in by_name.values() for file in of_entry)
    is_first = place not in site_directories() and is_installed(top)
    return LooseModule(top, place, files, is_first=is_first)


def _files_below(place: Path, paths: Iterable[Path]) -> tuple[SourceFile, ...]:
    """Return the files of some modules and packages below a directory."""
    names: dict[Path, list[str]] = {}
    for path in sorted(paths):
        names.setdefault(path.parent, []).append(path.name)
    return tuple(
        replace(file, path=f"{above.as_posix()}/{file.path}")
        for above, of_directory in names.items()
        for file in loose_files(place / above, of_directory).files
    )


def _below(place: Path, file: Path) -> Path:
    """Return the path, relative to a directory, of the outermost regular package that has a file; else of the file."""
    relative = Path(os.path.relpath(file, place))
    packages = (parent for parent in reversed(relative.parents) if (place / parent / "__init__.py").is_file())
    return next(packages, relative)


def _why_not(
    module: LooseModule, imported: Iterable[Imported], others: Iterable[LooseModule], limit: int
) -> tuple[str, str] | None:
    """Return why a loose module does not travel, and what to do; None if it does."""
    file = next(iter(imported)).file
    if is_standard(module.name):
        problem = f"this process has imported {file}, and on the nodes {STANDARD}"
        return problem, "Give it another name."
    left = [one.file for one in imported if not _is_among(one.file, module)]
    if left and not os.path.exists(left[0]) and module.directory.is_dir():  # noqa: PTH110
        return f"this process has imported {left[0]}, which is gone now, so that the nodes do not get it", _RESTART
    if left:
        problem = f"this process has imported {left[0]}, which is not shipped: {NOT_TAKEN}"
        return problem, f"Change that, or ignore {distribution_name(module.name)}."
    try:
        refuse_too_large((*others, module), limit)
    except PolicyError as error:
        return f"this process has imported {file}, which is not shipped: {error}", ""
    return None


def _is_among(file: str, module: LooseModule) -> bool:
    return any(str(one.full) == file for one in module.files) or any(
        os.path.realpath(one.full) == os.path.realpath(file)
        for one in module.files
        if one.full.name == os.path.basename(file)  # noqa: PTH119
    )


class _Ledger:
    """Looks up to whom each module belongs.

    Parameters
    ----------
    snapshot : Snapshot
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.path = SearchPath.of(snapshot.environment)
        self.shipped = {str(file.full) for module in snapshot.modules.values() for file in module.files}
        self.standard = standard()
        self.roots = _roots(self.path, self.standard)
        self.started = _start_of(os.getpid()) - _CLOCK
        self.known = _known_modules(self.path.places, self.roots)
        self.settled: dict[_Owner, bool] = {}
        self.installed_at: dict[tuple[Path, ...], tuple[str, float]] = {}
        self.missing: dict[tuple[Path, str], list[Imported]] = {}
        self.changed: dict[str, str] = {}

    def enter_all(self) -> None:
        """Note the modules of this process that the nodes will lack, or have in another state.

        The running script, and this package in an archive, are left out.
        """
        own = str(OWN) if OWN.is_file() else None
        known, settled = self.known.owners, self.settled
        for key, module in list(sys.modules.items()):
            if (found := known.get(key)) is not None and found[0]() is module:
                owner = found[1]
                if settled[owner] if owner in settled else self._is_settled(owner):
                    continue
            one = _imported(key, module)
            if one is not None and not (own and one.file.startswith(own)):
                self._enter(key, one)

    def _is_settled(self, owner: _Owner) -> bool:
        """Whether what a module belongs to is still there, and was installed before this process started."""
        self.settled[owner] = owner.metadata == () or (
            self.path.owners(owner.place).get(owner.top) == owner.metadata
            and self._installation(owner.metadata)[1] <= self.started
        )
        return self.settled[owner]

    def _installation(self, metadata: tuple[Path, ...]) -> tuple[str, float]:
        if metadata not in self.installed_at:
            self.installed_at[metadata] = _latest(metadata)
        return self.installed_at[metadata]

    def _enter(self, key: str, one: Imported) -> None:
        """Note a module if the nodes will lack it, or have it in another state."""
        place, relative = self._found(one)
        if place is None:
            return
        top = relative.partition(os.sep)[0].partition(".")[0]
        if place in self.standard:
            self._remember(key, one, place, top)
        elif metadata := self.path.owners(place).get(top, ()):
            self._remember(key, one, place, top, metadata)
            self._compare(*self._installation(metadata), one, _UPGRADED)
        elif (
            f"{place}{os.sep}{relative}" in self.shipped or self.path.owns(place, top) or self.path.owns(place, one.top)
        ):
            self.compare_edit(one)
        elif one.top not in _OF_INTERPRETER and one.top.isidentifier():
            self.missing.setdefault((place, one.top), []).append(one)

    def _remember(self, key: str, one: Imported, place: Path, top: str, metadata: tuple[Path, ...] = ()) -> None:
        if self.path.places.get(place, Kind.INSTALLED) is Kind.INSTALLED:  # elsewhere more than its owner counts
            self.known.remember(key, one.module, place, top, metadata)

    def _found(self, one: Imported) -> tuple[Path | None, str]:
        """Return the directory or archive that has a module, and the path of the module in it."""
        for root, place in self.roots:
            if one.file.startswith(root):
                relative = one.file[len(root) :]
                if self.path.places.get(place, Kind.INSTALLED) is Kind.INSTALLED or _is_named(relative, one.name):
                    return place, relative
                break
        by_name = _root_by_name(one)
        return by_name, os.path.relpath(os.path.realpath(one.file), by_name) if by_name else ""

    def compare_edit(self, one: Imported) -> None:
        """Note a module that was edited after it was imported."""
        self._compare(one.top, _modified(one.file), one, _EDITED)

    def _compare(self, name: str, since: float, one: Imported, problem: str) -> None:
        if since > self.started and name not in self.changed and _differs(one):
            self.changed[name] = problem


_UPGRADED = "this process has imported it before it was installed in its present version, which the nodes get"
_EDITED = "this process has imported it before its last edit, which the nodes get"


def _is_named(relative: str, name: str) -> bool:
    """Whether the path of a module is that of its name."""
    stem = relative.partition(".")[0].removesuffix(f"{os.sep}__init__")
    return stem.replace(os.sep, ".") == name


def _roots(path: SearchPath, standard: Iterable[Path]) -> list[tuple[str, Path]]:
    """Return the beginnings of the paths of modules, the longest first, each with the directory or archive it means."""
    places = {str(place): place for place, kind in path.places.items() if kind is not Kind.INSTALLED}
    for directory in (*site_directories(), *standard):
        places[str(directory)] = places[str(directory.resolve())] = directory.resolve()
    for entry in sys.path:
        if isinstance(entry, str) and os.path.realpath(entry) in places:
            places[os.path.abspath(entry)] = places[os.path.realpath(entry)]  # noqa: PTH100
    return sorted(((f"{text}{os.sep}", place) for text, place in places.items()), key=lambda pair: -len(pair[0]))


def _imported(key: str, module: ModuleType) -> Imported | None:
    """Return an entry of `sys.modules` as a module that was imported from a file; None if it is none."""
    try:
        names = vars(module)
    except TypeError:
        return None
    file = names.get("__file__")
    name = getattr(names.get("__spec__"), "name", None) or key
    if not isinstance(file, str) or key in ("__main__", "__mp_main__") or not isinstance(name, str):
        return None
    return Imported(name, module, os.path.abspath(file))  # noqa: PTH100  # a script's neighbours may have relative paths


@dataclass(frozen=True, eq=False, slots=True)
class _Owner:
    """What an installed module belongs to. There is one object of each, so that its hash is no hash of paths."""

    place: Path
    """The directory on the search path."""
    top: str
    """The top-level module or package."""
    metadata: tuple[Path, ...]
    """The metadata of the distributions that have files of it; none for the standard library."""


class _KnownModules:
    """What installed modules of this process belong to, as earlier calls have found out.

    Parameters
    ----------
    places : mapping
    roots : list
        The search path, and the beginnings of the paths of modules: what the owners depend on. Whether an owner is
        still there must be looked up.
    """

    def __init__(self, places: Mapping[Path, Kind], roots: list[tuple[str, Path]]) -> None:
        self.depends_on = places, roots
        self.owners: dict[str, tuple[ref[ModuleType], _Owner]] = {}
        """By the name in `sys.modules`."""
        self._objects: dict[tuple[Path, str, tuple[Path, ...]], _Owner] = {}

    def remember(self, key: str, module: ModuleType, place: Path, top: str, metadata: tuple[Path, ...]) -> None:
        """Remember what a module belongs to."""
        with contextlib.suppress(TypeError):  # an object in the place of a module need not know weak references
            owner = self._objects.setdefault((place, top, metadata), _Owner(place, top, metadata))
            self.owners[key] = ref(module), owner


_KNOWN = [_KnownModules({}, [])]


def _known_modules(places: Mapping[Path, Kind], roots: list[tuple[str, Path]]) -> _KnownModules:
    if _KNOWN[0].depends_on != (places, roots):
        _KNOWN[0] = _KnownModules(places, roots)
    return _KNOWN[0]


_UNCHANGED: Remembered[bool] = Remembered(limit=20_000)
"""False for each module that does not differ from its file."""


def _differs(one: Imported) -> bool:
    """Whether a module in memory was made from another state of its file; it is compared once with each state."""

    def compare(watch: Watch) -> bool:
        watch.state(one.file)
        watch.is_complete = not (answer := differs(one.module, one.file))
        return answer

    return _UNCHANGED.of((one.file, id(one.module)), compare)


@lru_cache(maxsize=1)
def _start_of(process: int) -> float:
    """Return the time at which a process started, in seconds since 1970."""
    return psutil.Process(process).create_time()


def _root_by_name(one: Imported) -> Path | None:
    """Return the directory from which a module is imported by its name; None if its path is that of another name."""
    parts = one.name.split(".")
    path = Path(one.file)
    stem = path.parent if path.name.startswith("__init__.") else path.with_name(path.name.partition(".")[0])
    if stem.parts[-len(parts) :] != tuple(parts) or len(stem.parts) <= len(parts):
        return None
    return stem.parents[len(parts) - 1].resolve()


def _latest(metadata: Iterable[Path]) -> tuple[str, float]:
    """Return name and version, and the time of its installation, of the distribution that was installed last."""
    times = {place: max(_modified(f"{place}{os.sep}RECORD"), _modified(place)) for place in metadata}
    last = max(times, key=lambda place: times[place])
    return re.split(r"-\d", last.name, maxsplit=1)[0].replace("_", "-").lower(), times[last]


def _modified(path: str | Path) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116
    except OSError:
        return 0.0
