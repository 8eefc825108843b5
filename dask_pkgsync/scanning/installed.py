"""Reads the installed distributions of the running interpreter, in milliseconds.

It takes names and versions from the names of the metadata directories, which it lists with one `os.scandir` for each
entry of the search path. It parses METADATA only if a directory's name does not show name and version clearly. What it
has read, it remembers: of what is unchanged, only the states of the files are looked up.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Distribution, Fault
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.environments.origin import (
    FromArchive,
    FromDirectory,
    FromIndex,
    Unrecorded,
    content_identity,
)
from dask_pkgsync.model.text import printable
from dask_pkgsync.model.wire.names import NORMAL, canonical
from dask_pkgsync.scanning.content import Content, content_of, owner
from dask_pkgsync.scanning.file_states import Remembered
from dask_pkgsync.scanning.known_distributions import KnownDistributions
from dask_pkgsync.scanning.known_environments import known
from dask_pkgsync.scanning.small_files import size_of, text_of
from dask_pkgsync.scanning.unrecorded import modules_of
from dask_pkgsync.scanning.wheel_tag import wheel_tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.model.environments.origin import Origin
    from dask_pkgsync.scanning.conda_meta import CondaPrefix
    from dask_pkgsync.scanning.file_states import Watch
    from dask_pkgsync.scanning.known_distributions import Known


_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


_LEFTOVER = ("~", "-")
"""First characters of the names that pip gives to metadata which it is about to remove."""
_MAX_TEXT = 200
"""The most characters of a name or version, the same as in messages (`model.wire.fields`)."""
_LISTINGS: Remembered[tuple[str, ...]] = Remembered(limit=1_000)
"""The names of the metadata in a directory."""
_READ: Remembered[Distribution | Fault] = Remembered(limit=20_000)
"""What metadata says. Faults are not remembered."""


def scan_installed(path: Sequence[str] | None = None, *, remembers: bool = True) -> Environment:
    """Return the interpreter and the installed distributions on a search path.

    Parameters
    ----------
    path : sequence of str, optional
        Directories in the order of import; by default `sys.path`.
    remembers : bool
        Whether what was read may be written into the user's cache directory, for later processes.

    Returns
    -------
    Environment
        Of several distributions with one name it has the first on the path, as the import system does. Distributions
        with broken metadata, and two of one name in one directory, are listed in ``faults`` and match no other
        distribution.
    """
    distributions: dict[str, Distribution] = {}
    faults: list[Fault] = []
    working = _working_directory()
    if path is None:  # the import system ignores entries that are no texts
        path = [entry for entry in sys.path if isinstance(entry, str)]
    conda = _conda_prefix(path)
    for place in dict.fromkeys(path):
        if directory := place or working:  # '' means the current directory
            _scan_directory(directory, working, distributions, faults, conda, remembers=remembers)
    packages, more = conda.packages(distributions) if conda is not None else ([], [])
    return known(Environment.of(this_interpreter(), distributions.values(), [*faults, *more], packages))


def _conda_prefix(path: Sequence[str]) -> CondaPrefix | None:
    """Return what `conda_meta.prefix_on` does, which is only imported where a tool of conda has made some prefix."""
    parent = os.path.dirname  # only the text of the path counts, as there
    libraries = (parent(parent(entry)) for entry in path if os.path.basename(entry) == "site-packages")  # noqa: PTH119
    places = (place for library in libraries for place in (library, parent(library)))
    if not any(os.path.isdir(f"{place}{os.sep}conda-meta") for place in places):  # noqa: PTH112
        return None
    from dask_pkgsync.scanning.conda_meta import prefix_on

    return prefix_on(path)


@cache
def this_interpreter() -> Interpreter:
    """Return the running interpreter."""
    version = sys.version.split(maxsplit=1)[0].rstrip("+")  # as platform.python_version does
    return Interpreter(sys.implementation.name, version, sysconfig.get_platform(), wheel_tag())


def _working_directory() -> str:
    """Return the current directory, or an empty text if it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return ""


def _scan_directory(
    directory: str,
    working: str,
    distributions: dict[str, Distribution],
    faults: list[Fault],
    conda: CondaPrefix | None,
    *,
    remembers: bool,
) -> None:
    """Add the distributions in one entry of the search path, except those that an earlier entry has."""
    here: dict[str, tuple[Distribution, str]] = {}
    try:
        names = _LISTINGS.of(directory, partial(_metadata_in, directory))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a zip, or an entry that does not exist or is no path
        return
    except OSError as error:
        faults.append(Fault("unreadable", printable(directory), printable(f"cannot be listed: {error.strerror}")))
        return
    known_here = KnownDistributions(directory)
    for name in names:
        full = f"{directory}{os.sep}{name}"
        if name.endswith(".egg-info") and os.path.realpath(directory) == working:
            detail = "metadata of a source tree in the current directory, which need not be installed"
            faults.append(Fault("stray", printable(full), detail, _name_of(name)))
            continue
        entry = _READ.of(full, partial(_read, full, name, known_here))
        if conda is not None and isinstance(entry, Distribution):
            entry = conda.claim(entry, full)
        if entry.name in distributions:
            continue  # an earlier entry of the path hides this distribution
        if isinstance(entry, Fault):
            faults.append(entry)
        elif entry.name in here:
            faults.append(_duplicate(here, entry, full))
        else:
            here[entry.name] = entry, full
    if remembers:
        known_here.save(names)
    distributions.update((name, distribution) for name, (distribution, _) in here.items())


def _metadata_in(directory: str, watch: Watch) -> tuple[str, ...]:
    """Return the names of the metadata directories and files in a directory, sorted."""
    watch.state(directory)
    with os.scandir(directory) as listing:
        names = [entry.name for entry in listing if entry.name.endswith((".dist-info", ".egg-info", ".egg-link"))]
    return tuple(sorted(names))


def _duplicate(here: dict[str, tuple[Distribution, str]], entry: Distribution, full: str) -> Fault:
    """Keep of two distributions of one name in one directory the one whose files are there; return the fault."""
    other, place = here[entry.name]
    kept = owner(place, full)
    if kept is None:
        detail = f"installed twice in one directory: {other.version} and {entry.version}"
        return Fault("duplicate", printable(full), detail, entry.name)
    if kept == full:
        here[entry.name] = entry, full
        other, entry, full = entry, other, place
    detail = f"metadata of {entry.version} that was left behind: the files are those of {other.version}; remove it"
    return Fault("stray", printable(full), detail, entry.name)


def _read(full: str, name: str, known_here: KnownDistributions, watch: Watch) -> Distribution | Fault:
    """Read one metadata directory or file."""
    watch.state(full)
    try:
        if name.endswith(".dist-info"):
            found = _read_dist_info(full, name, known_here, watch)
        elif name.endswith(".egg-link"):
            found = _read_egg_link(full, name, watch)
        else:
            found = _read_egg_info(full, name, Unrecorded(_modules_beside(full, watch)), watch)
    except OSError as error:  # without its direct_url.json a distribution must not pass for one from an index
        found = Fault("unreadable", printable(full), printable(f"cannot be read: {error.strerror}"), _name_of(name))
    if isinstance(found, Fault):
        watch.is_complete = False
    return found


def _read_dist_info(full: str, entry: str, known_here: KnownDistributions, watch: Watch) -> Distribution | Fault:
    """Read a dist-info directory.

    A file that comes or goes is a change of the directory, which is noted; installers never write METADATA and
    INSTALLER in another way (pip replaces INSTALLER by a new file). The other files are noted too.
    """
    broken = partial(Fault, "broken", printable(full))
    if entry.startswith(_LEFTOVER):
        return broken("left behind by an interrupted run of pip; remove it")
    of_entry, before = _name_and_version(entry.removesuffix(".dist-info")), known_here.of(entry, watch)
    if of_entry is not None and before.installer is not None and before.content is not None:
        name, version, content = canonical(of_entry[0]), of_entry[1], before.content
        return Distribution(name, version, FromIndex(), before.installer, content.digest, content.is_pure)
    metadata = f"{full}{os.sep}METADATA"
    if not size_of(metadata):
        return broken("METADATA is missing or empty", _name_of(entry))
    name_and_version = of_entry or _from_metadata(metadata)
    if name_and_version is None:
        return broken("no readable name, or no valid version (PEP 440)", _name_of(entry))
    try:
        return _read_files(full, canonical(name_and_version[0]), name_and_version[1], known_here, before, watch)
    except ValueError:
        return broken("direct_url.json is not readable (PEP 610)", canonical(name_and_version[0]))


def _read_files(
    full: str, name: str, version: str, known_here: KnownDistributions, before: Known, watch: Watch
) -> Distribution:
    """Read the files that say where a distribution came from, and what is in it."""
    installer = printable(text_of(f"{full}{os.sep}INSTALLER").strip())[:_MAX_TEXT]
    if installer == "conda":  # its direct_url.json names a directory, and its RECORD the files, of where it was built
        return Distribution(name, version, FromIndex(), installer)
    origin = _origin(full, watch)
    if isinstance(origin, FromDirectory) and origin.editable:
        return Distribution(name, version, origin, installer)  # its code is in its source directory
    content = before.content or Content()
    if before.content is None:
        with suppress(OSError):
            content = content_of(full)
            is_from_index = isinstance(origin, FromIndex)
            known_here.note(os.path.basename(full), before, content, installer if is_from_index else None)  # noqa: PTH119
    return Distribution(name, version, _with_digest(origin, content), installer, content.digest, content.is_pure)


def _origin(full: str, watch: Watch) -> Origin:
    if not (direct_url := text_of(f"{full}{os.sep}direct_url.json", watch)):
        return FromIndex()
    from dask_pkgsync.scanning.direct_url import parse_direct_url  # imported here because it is rarely needed

    return parse_direct_url(direct_url)


def _with_digest(origin: Origin, content: Content) -> Origin:
    """Add the content digest to an origin outside of any index that has no other digest."""
    match origin:
        case FromArchive(digest="") | FromDirectory(editable=False, digest="") if content.digest:
            return replace(origin, digest=content_identity(content.digest))
    return origin


def _modules_beside(egg_info: str, watch: Watch) -> tuple[str, ...]:
    """Return the modules beside an egg-info that are those of its distribution."""
    watch.state(os.path.dirname(egg_info))  # noqa: PTH120
    watch.state(f"{egg_info}{os.sep}top_level.txt")
    return modules_of(Path(egg_info))


def _read_egg_info(full: str, entry: str, origin: Origin, watch: Watch) -> Distribution | Fault:
    """Read an egg-info directory or file: ``name-version-py3.11.egg-info``, or ``name.egg-info``."""
    metadata = full if os.path.isfile(full) else f"{full}{os.sep}PKG-INFO"  # noqa: PTH113
    name_and_version = None
    watch.state(metadata)
    if size_of(metadata):
        stem = re.sub(r"-py\d[\d.]*$", "", entry.removesuffix(".egg-info"))
        name_and_version = _name_and_version(stem) or _from_metadata(metadata)
    if name_and_version is None:
        return Fault("broken", printable(full), "no readable name and version", _name_of(entry))
    return Distribution(canonical(name_and_version[0]), name_and_version[1], origin)


def _read_egg_link(full: str, entry: str, watch: Watch) -> Distribution | Fault:
    """Read an egg-link, which ``setup.py develop`` writes: the path of a source tree that holds the egg-info."""
    watch.is_complete = False  # the directory that it names may change
    source = text_of(full).partition("\n")[0].strip()
    with suppress(OSError, ValueError):  # ValueError: the text is no valid path
        target = Path(os.path.abspath(Path(full).parent / source))  # noqa: PTH100  # no .. in the URI
        for egg_info in sorted(target.glob("*.egg-info")) if source else ():
            origin = FromDirectory(target.as_uri(), editable=True)
            distribution = _read_egg_info(str(egg_info), egg_info.name, origin, watch)
            if distribution.name == _name_of(entry):
                return distribution
    return Fault("broken", printable(full), "points to no source tree with metadata", _name_of(entry))


def _name_and_version(stem: str) -> tuple[str, str] | None:
    """Return name and version from the name of a metadata directory or file; None if it is ambiguous.

    Tools escape both so that neither contains a dash (PEP 427). After an old tool that did not, only METADATA tells
    where the name ends.
    """
    name, _, version = stem.partition("-")
    return (name, version) if "-" not in version and _valid(name, version) else None


def _valid(name: str, version: str) -> bool:
    if len(name) > _MAX_TEXT or len(version) > _MAX_TEXT:
        return False
    return _NAME.fullmatch(name) is not None and (NORMAL.fullmatch(version) is not None or _is_version(version))


def _is_version(text: str) -> bool:
    """Whether a text is a version that is not in its normal form."""
    from packaging.version import InvalidVersion, Version  # imported here because it is rarely needed

    try:
        Version(text)
    except InvalidVersion:
        return False
    return text.isascii() and text == text.strip()


def _from_metadata(path: str) -> tuple[str, str] | None:
    import email.parser  # imported here because it is rarely needed and slow to import

    with open(path, "rb") as file:  # noqa: PTH123
        headers = email.parser.BytesHeaderParser().parse(file)
    name, version = str(headers.get("Name") or "").strip(), str(headers.get("Version") or "").strip()
    return (name, version) if _valid(name, version) else None


def _name_of(entry: str) -> str:
    """Guess the canonical name of a faulty distribution from the name of its metadata directory or file."""
    stem, _, kind = entry.rpartition(".")
    if kind != "egg-link":  # name-version: a valid version begins with a digit
        stem = re.split(r"-(?=\d)", stem, maxsplit=1)[0] if re.search(r"-\d", stem) else stem.partition("-")[0]
    return canonical(stem) if _NAME.fullmatch(stem) else ""
