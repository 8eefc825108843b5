"""The entries of `sys.path`: which hold the standard library, installed packages, or loose modules.

It also answers where Python imports a module from, and which distributions its directory holds.
"""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import os
import re
import site
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.scanning.file_states import Remembered
from dask_pkgsync.scanning.projects import project_names
from dask_pkgsync.scanning.small_files import text_of
from dask_pkgsync.scanning.unrecorded import SITE_NAMES, modules_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.scanning.file_states import Watch

OWN = Path(__file__).parents[2]
"""The directory or archive that holds this package."""
_TOP = re.compile(r'^"?([^/,"\r\n]+)', re.MULTILINE)
"""The first component of each path in RECORD."""
_LINES: Remembered[tuple[str, ...]] = Remembered(limit=100)
"""The lines of the .pth files in a directory."""
_OWNERS: Remembered[dict[str, tuple[Path, ...]]] = Remembered(limit=1_000)
"""The modules and packages in a directory that belong to distributions."""
_TOPS: Remembered[frozenset[str]] = Remembered(limit=20_000)
"""The modules and packages that a RECORD names."""


class Kind(enum.Enum):
    """What an entry of the search path holds."""

    INSTALLED = "installed"
    """The standard library, or packages of an installer."""
    PROJECT = "project"
    """The source of an editable project, which an installer put on the search path."""
    SHARED = "shared"
    """The source of an editable project, which an installer put there and which the user has chosen too, for example
    with a script in it."""
    CROWDED = "crowded"
    """Files of all kinds: a home, root or temporary directory."""
    LOOSE = "loose"
    """Loose modules: nothing but the user put it there."""
    LINKED = "linked"
    """Loose modules, in a directory that a .pth file of the user's adds."""
    ZIP = "zip"
    """Loose modules, in an archive."""


@dataclass(frozen=True)
class SearchPath:
    """The search path of this process."""

    places: Mapping[Path, Kind]
    """The directories and archives that exist, in the order of import."""
    projects: Mapping[Path, frozenset[str]]
    """The source directory of each editable project, with the names that are known to be those of its modules."""
    _owners: dict[Path, dict[str, tuple[Path, ...]]] = field(default_factory=dict, repr=False, compare=False)
    _in_projects: dict[Path, list[frozenset[str]]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, environment: Environment | None = None) -> SearchPath:
        """Read the search path.

        Parameters
        ----------
        environment : Environment, optional
            The result of a scan of this machine, which names the editable projects.
        """
        projects = project_names(environment) if environment is not None else {}
        chosen = set(_chosen())
        of_links = {}
        for place in set(_linked()):
            if any(source in (place, *place.parents) for source in projects):
                of_links[place] = Kind.SHARED if place in chosen else Kind.PROJECT
            elif place not in chosen:
                of_links[place] = Kind.LINKED
        crowded = _crowded()
        places: dict[Path, Kind] = {}
        for place in filter(None, map(_resolved, sys.path)):
            if place not in places and (kind := _kind(place, of_links, crowded)) is not None:
                places[place] = kind
        return cls(places, projects)

    def owners(self, place: Path) -> dict[str, tuple[Path, ...]]:
        """Return what `owners` returns, which reads each directory once."""
        if place not in self._owners:
            self._owners[place] = owners(place)
        return self._owners[place]

    def owns(self, place: Path, name: str) -> bool:
        """Whether a module or package in a directory belongs to a distribution."""
        if name in self.owners(place):
            return True
        if place not in self._in_projects:
            above = (place, *place.parents)
            self._in_projects[place] = [names for source, names in self.projects.items() if source in above]
        return any(name.lower() in names for names in self._in_projects[place])


def _resolved(entry: object) -> Path | None:
    """Return the path of an entry of the search path; None for one that the import system ignores."""
    if not isinstance(entry, str):
        return None
    try:
        return Path(entry or os.getcwd()).resolve()  # noqa: PTH109
    except (OSError, ValueError):  # not a valid path, or the current directory was removed
        return None


def _kind(place: Path, of_links: Mapping[Path, Kind], crowded: set[Path]) -> Kind | None:
    """Return what an entry of the search path holds; None if it does not exist, or holds nothing to import."""
    if place.is_file():
        is_loose = place != OWN and (place.suffix == ".egg" or not is_of_installer(place))
        return Kind.ZIP if is_loose and _is_zip(place) else None
    if not place.is_dir():
        return None
    if place in crowded:
        return Kind.CROWDED
    if place.suffix != ".egg" and is_of_installer(place):  # `setup.py install` gives each project an .egg directory
        return Kind.INSTALLED
    return of_links.get(place, Kind.LOOSE)


def _is_zip(place: Path) -> bool:
    import zipfile  # imported here because it is rarely needed

    return zipfile.is_zipfile(place)


def is_of_installer(place: Path) -> bool:
    """Whether a directory belongs to an interpreter, or to the installer of its packages."""
    return place.name in SITE_NAMES or _is_in(place, _of_interpreters(sys.prefix, sys.base_prefix, sys.exec_prefix))


@lru_cache(maxsize=200)
def _is_in(place: Path, roots: frozenset[Path]) -> bool:
    return not roots.isdisjoint((place, *place.parents))


@lru_cache(maxsize=4)
def _of_interpreters(*prefixes: str) -> frozenset[Path]:
    """Return the directories that belong to interpreters with these prefixes."""
    parts = ("lib", "lib64", "bin", "Scripts")
    return standard() | {Path(prefix).resolve() / part for prefix in prefixes for part in parts}


@lru_cache(maxsize=1)
def standard() -> frozenset[Path]:
    """Return the directories of the standard library."""
    return frozenset(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def _crowded() -> set[Path]:
    temporary = Path(_temporary()).resolve()
    crowded = {temporary, Path(temporary.anchor)}
    with contextlib.suppress(RuntimeError):  # the user has no home directory
        crowded.add(Path.home().resolve())
    return crowded


def _temporary() -> str:
    """Return what `tempfile.gettempdir` returns, which is slow to import, and writes a file to find it out."""
    if (tempfile := sys.modules.get("tempfile")) is not None:
        return str(tempfile.gettempdir())
    chosen = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    candidates = (*filter(None, chosen), "/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108  # nothing is written there
    usable = (place for place in candidates if os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK))  # noqa: PTH112
    return next(usable, os.curdir)


def _chosen() -> Iterator[Path]:
    """Yield the directories that the user has chosen: the script's, the current one, and those of PYTHONPATH."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    texts = [os.path.dirname(script) or os.curdir] if isinstance(script, str) else []  # noqa: PTH120  # resolved below
    texts += [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    with contextlib.suppress(OSError):
        texts += {"", os.getcwd()}.intersection(entry for entry in sys.path if isinstance(entry, str))  # noqa: PTH109
    yield from filter(None, map(_resolved, texts))


def site_directories() -> list[Path]:
    """Return the directories on the search path into which installers put packages."""
    texts = (entry for entry in sys.path if isinstance(entry, str) and entry)
    return [Path(entry) for entry in texts if Path(entry).name in SITE_NAMES]


def _linked() -> Iterator[Path]:
    """Yield the directories that .pth files add to the search path."""
    for directory in {*map(str, site_directories()), site.getusersitepackages()}:
        for line in _LINES.of(directory, partial(_lines_of_links, directory)):
            with contextlib.suppress(OSError, ValueError):
                yield Path(directory, line).resolve()


def _lines_of_links(directory: str, watch: Watch) -> tuple[str, ...]:
    """Return the lines of the .pth files in a directory that name directories."""
    watch.state(directory)
    lines: list[str] = []
    try:
        names = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return ()
    for name in names:
        link = f"{directory}{os.sep}{name}"
        if name.endswith(".pth"):
            watch.state(link)
            with contextlib.suppress(OSError):
                lines += text_of(link).splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith(("#", "import ", "import\t")))


# -- who owns a module, and where Python imports it from -------------------------------------------------------------


def owners(place: Path) -> dict[str, tuple[Path, ...]]:
    """Return the modules and packages in a directory that belong to distributions installed there.

    Returns
    -------
    dict of str to tuple of Path
        Name of the module to the metadata directories of the distributions that have files of it.
    """
    return _OWNERS.of(place, partial(_owners, place))


def _owners(place: Path, watch: Watch) -> dict[str, tuple[Path, ...]]:
    watch.state(str(place))
    found: dict[str, tuple[Path, ...]] = {}
    try:
        with os.scandir(place) as listing:
            entries = sorted(entry.name for entry in listing if entry.name.endswith((".dist-info", ".egg-info")))
    except OSError:  # an archive, or not readable
        return {}
    for entry in entries:
        metadata = place / entry
        for name in _names_of(metadata, watch):
            found[name] = (*found.get(name, ()), metadata)
    return found


def _names_of(metadata: Path, watch: Watch) -> Iterable[str]:
    """Return the names of the modules and packages of a distribution."""
    if metadata.name.endswith(".dist-info"):
        record = f"{metadata}{os.sep}RECORD"
        watch.state(record)
        with contextlib.suppress(OSError):
            return _TOPS.of(record, partial(_tops, record))
    watch.state(str(metadata / "top_level.txt"))
    return (entry.partition(".")[0] for entry in modules_of(metadata))


def _tops(record: str, watch: Watch) -> frozenset[str]:
    """Return the modules and packages that a RECORD names."""
    with open(record, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        watch.note(record, os.fstat(file.fileno()))
        return frozenset(first.partition(".")[0] for first in set(_TOP.findall(file.read())))


def is_standard(module: str) -> bool:
    """Whether the standard library has a module of this name.

    `sys.stdlib_module_names` leaves the tests of Python (``test``) out.
    """
    if module in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(module, [str(place) for place in standard()])
    return spec is not None and spec.origin is not None


def is_installed(module: str) -> bool:
    """Whether an installer's directory has a module or package of this name."""
    return PathFinder.find_spec(module, [str(place) for place in site_directories()]) is not None


def imported_from(module: str) -> list[Path]:
    """Return the directories or archives from which Python imports a top-level module, or has imported it.

    These are several for a namespace package, and none for a module that is built in or does not exist.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # a module without a spec, as some programs make them
        file = vars(sys.modules[module]).get("__file__") if module in sys.modules else None
        return [Path(file).parent.resolve()] if isinstance(file, str) else []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(location).parent.resolve() for location in spec.submodule_search_locations]
    return [Path(spec.origin).parent.resolve()] if spec.has_location and spec.origin else []
