"""Reads the conda packages of a prefix from the records in its ``conda-meta``, whatever tool wrote them.

Conda, mamba, micromamba, pixi and constructor all write one JSON file for each package (conda's ``PrefixRecord``).
Nearly all of a record are its two lists of files. So these are cut out before the rest is parsed, and only searched for
what is needed of them.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.environments.conda import CondaPackage, is_conda_name, is_conda_version
from dask_pkgsync.model.environments.distribution import Fault
from dask_pkgsync.model.environments.origin import FromConda
from dask_pkgsync.model.text import printable
from dask_pkgsync.model.wire.names import SHA256, canonical
from dask_pkgsync.scanning.direct_url import without_credentials
from dask_pkgsync.scanning.file_states import Remembered
from dask_pkgsync.scanning.small_files import bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.scanning.file_states import Watch

CONDA_META = "conda-meta"
"""The directory of a prefix that holds its records."""
AS_MODIFIED = "dask-pkgsync"
"""The key of a record that a node has written of a package whose files were modified on the client: how many, and the
digest of its content."""
_BYTES = re.compile(rb'"size_in_bytes": ?(\d+)')
_KEY = b'\n  "'
"""How each key of a record begins."""
_TAIL = 20_000
"""Bytes of a record within which its second list of files ends."""
_BINARY, _PLACEHOLDER = b'file_mode": "binary"', b'"prefix_placeholder": '
_METADATA = (b'.dist-info/METADATA"', b'.egg-info"', b'.egg-info/PKG-INFO"')
"""How the paths of the metadata of distributions end. They are searched as texts: a pattern takes 50 times as long."""
_FILES = (b'\n  "files": [', b"\n  ]"), (b'\n  "paths_data": {', b"\n  }")
"""Where each list of files begins and ends in a record that is indented as all tools indent it."""
_TOKEN = re.compile(r"/t/[^/]+(?=/)")
"""Matches the token in the URL of a channel (``/t/<token>/``)."""
_PLAIN = re.compile(r"[A-Za-z0-9:/._+!-]{0,500}")
"""Matches a channel or URL in which there is no place for credentials but that of a token."""
_MAX_REQUIREMENTS = 2_000
_TEXT = 500

_LISTINGS: Remembered[tuple[str, ...]] = Remembered(limit=50)
_READ: Remembered[Record | Fault] = Remembered(limit=5_000)
_SIZES: Remembered[int] = Remembered(limit=5_000)


@dataclass(frozen=True, slots=True)
class Record:
    """What the record of one package says."""

    package: CondaPackage
    metadata: tuple[str, ...]
    """The metadata directories or files of its distributions, relative to the prefix, with ``/``."""
    path: str
    """Path of the record."""


@dataclass
class CondaPrefix:
    """A prefix with its records; `claim` is told each distribution that is found in it."""

    root: str
    """Its directory."""
    records: tuple[Record, ...] = ()
    faults: tuple[Fault, ...] = ()
    claimed: dict[str, str] = field(default_factory=dict)
    """Canonical names of the distributions that belong to a package, by the path of their metadata."""

    def __post_init__(self) -> None:
        self._owners = {f"{self.root}/{path}": record for record in self.records for path in record.metadata}

    def claim(self, distribution: Distribution, metadata: str) -> Distribution:
        """Return a distribution with the package that it belongs to, if it belongs to one.

        Parameters
        ----------
        distribution : Distribution
        metadata : str
            Path of its metadata directory or file.
        """
        owner = self._owners.get(metadata)
        if owner is None or not _is_as_recorded(distribution, metadata, owner, self.root):
            return distribution
        self.claimed[metadata] = distribution.name
        return replace(distribution, origin=FromConda(owner.package.name), content="", is_pure=False)

    def packages(self, here: Mapping[str, Distribution]) -> tuple[list[CondaPackage], list[Fault]]:
        """Return the packages that are still there, and faults.

        A package all of whose distributions were replaced or removed by pip or uv is not there any more.

        Parameters
        ----------
        here : mapping of str to Distribution
            The distributions that were found.
        """
        packages, faults = [], list(self.faults)
        for record in self.records:
            names = [self.claimed.get(f"{self.root}/{path}") for path in record.metadata]
            there = tuple(sorted({name for name in names if name is not None}))
            if record.metadata and not there:
                faults.append(_stale(record, here))
            else:
                packages.append(replace(record.package, distributions=there))
        return packages, faults


def _is_as_recorded(distribution: Distribution, metadata: str, owner: Record, root: str) -> bool:
    """Whether a distribution is that of a package, and was not installed over it by pip or uv.

    Builders of packages write ``conda`` into INSTALLER. Where they did not, the digest of the file tells.
    """
    if distribution.installer == "conda" or not metadata.endswith(".dist-info"):
        return True
    path = f"{metadata}/INSTALLER"
    try:
        import hashlib

        with open(path, "rb") as file:  # noqa: PTH123
            digest = hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return digest in {entry.get("sha256") for entry in paths_of(owner.path) if f"{root}/{entry.get('_path')}" == path}


def paths_of(record: str) -> list[dict[str, Any]]:
    """Return the entries for files (``paths_data``) of a record, by its path. Blocks.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no record.
    """
    with open(record, "rb") as file:  # noqa: PTH123
        data = json.loads(file.read())
    paths = data["paths_data"]["paths"] if isinstance(data, dict) and isinstance(data.get("paths_data"), dict) else None
    if not isinstance(paths, list) or not all(isinstance(entry, dict) for entry in paths):
        raise ValueError(record)
    return paths


def _stale(record: Record, here: Mapping[str, Distribution]) -> Fault:
    package = record.package
    names = {canonical(path.rpartition("/")[2].partition("-")[0]) for path in record.metadata}
    now = [f"{here[name].installer or 'another tool'} has installed {name} {here[name].version} over it"
           for name in sorted(names) if name in here]  # fmt: skip
    detail = f"conda's record of {package.name} {package.label} is out of date: "
    detail += "; ".join(now) or "its files were removed"
    return Fault("stale", printable(record.path), printable(detail), canonical(package.name))


def prefix_on(path: Sequence[str]) -> CondaPrefix | None:
    """Return the conda prefix of an interpreter; None if no tool of conda made it.

    Parameters
    ----------
    path : sequence of str
        The interpreter's search path: the prefix is that in which the first directory of distributions lies.
    """
    for entry in path:
        if os.path.basename(entry) == "site-packages":  # noqa: PTH119  # faster than pathlib
            root = os.path.dirname(os.path.dirname(entry))  # noqa: PTH120  # Windows: Lib/site-packages
            for candidate in (os.path.dirname(root), root):  # noqa: PTH120
                if names := _LISTINGS.of(candidate, partial(_records_in, candidate)):
                    return _prefix(candidate, names)
    return None


def _records_in(root: str, watch: Watch) -> tuple[str, ...]:
    """Return the names of the records in a prefix, sorted; none if it is not one of conda."""
    directory = f"{root}/{CONDA_META}"
    watch.state(directory)
    try:
        with os.scandir(directory) as listing:
            return tuple(sorted(entry.name for entry in listing if entry.name.endswith(".json")))
    except OSError:
        return ()


def _prefix(root: str, names: Iterable[str]) -> CondaPrefix:
    records: dict[str, Record] = {}
    faults = []
    for name in names:
        path = f"{root}/{CONDA_META}/{name}"
        found = _READ.of(path, partial(_read, path))
        if isinstance(found, Fault):
            faults.append(found)
        elif (other := records.setdefault(found.package.name, found)) is not found:
            detail = f"there are two records of {name}: {other.package.label} and {found.package.label}"
            faults.append(Fault("duplicate", printable(path), printable(detail), canonical(found.package.name)))
    return CondaPrefix(root, tuple(records.values()), tuple(faults))


def _read(path: str, watch: Watch) -> Record | Fault:
    """Read one record."""
    try:
        return _parsed(path, bytes_of(path, watch))
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        detail = "is no record of a conda package"
    watch.is_complete = False
    return Fault("broken", printable(path), detail, canonical(_name_of(path)))


def _name_of(path: str) -> str:
    """Guess the name of the package of a faulty record: ``name-version-build.json``."""
    name = os.path.basename(path).rsplit("-", 2)[0]  # noqa: PTH119
    return name.strip("_.") or "unknown"


def _parsed(path: str, text: bytes) -> Record:
    """Return what a record says; raise `ValueError` if it is none."""
    places = _lists_in(text)
    if places is None:  # not indented as usual: all of it is parsed
        data = json.loads(text)
        text = json.dumps(data).encode()
        files = paths = (0, len(text))
    else:
        files, paths = places
        (begin, end), (second, last) = sorted(places)
        data = json.loads(text[:begin] + text[end:second] + text[last:])
    if not isinstance(data, dict):
        raise ValueError(path)  # noqa: TRY004  # it is caught with those of json
    found = {place for end_of_path in _METADATA for place in _paths_with(text, end_of_path, *files)}
    package = replace(package_of(data), placeholder=min(_placeholders(text, *paths), default=0))
    metadata = (place.removesuffix("/METADATA").removesuffix("/PKG-INFO") for place in found)
    return Record(package, tuple(sorted(metadata)), path)


def _lists_in(text: bytes) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return where the insides of the two lists of files are in a record; None if it is not indented as usual."""
    (begin, end), (begin_paths, end_paths) = _FILES
    start = text.find(begin) + len(begin)
    stop = text.find(b"]", start)  # a single byte is found ten times as fast, and paths hardly ever have it
    while stop >= 0 and not text.endswith(end, start, stop + 1):
        stop = text.find(b"]", stop + 1)
    start_paths = text.find(begin_paths, max(stop, 0))
    start_paths = (start_paths if start_paths >= 0 else text.find(begin_paths)) + len(begin_paths)
    if start < len(begin) or stop < 0 or start_paths < len(begin_paths):
        return None
    stop -= len(end) - 1
    window = max(start_paths, len(text) - _TAIL)  # nothing long comes behind the second list
    stop_paths = text.find(end_paths, window)
    is_usual = start <= stop < start_paths <= stop_paths or start_paths <= stop_paths < start <= stop
    return ((start, stop), (start_paths, stop_paths)) if is_usual and text.find(_KEY, window, stop_paths) < 0 else None


def _paths_with(text: bytes, end: bytes, start: int, stop: int) -> Iterator[str]:
    """Yield the paths in a part of a record that end so."""
    position = text.find(end, start, stop)
    while position >= 0:
        yield text[text.rfind(b'"', start, position) + 1 : position + len(end) - 1].decode("utf-8", "replace")
        position = text.find(end, position + len(end), stop)


def _placeholders(text: bytes, start: int, stop: int) -> Iterator[int]:
    """Yield the length of the placeholder of each program or library in a part of a record."""
    position = text.find(_BINARY, start, stop)
    while position >= 0:
        begin, end = text.rfind(b"{", start, position), text.find(b"}", position, stop)
        found = text.find(_PLACEHOLDER, begin, end)
        if found >= 0:
            begin = text.find(b'"', found + len(_PLACEHOLDER)) + 1
            yield text.find(b'"', begin) - begin
        position = text.find(_BINARY, position + 1, stop)


def with_sizes(environment: Environment, path: Sequence[str]) -> Environment:
    """Return an environment in which the conda packages say how large they are; a scan has no need for that.

    Parameters
    ----------
    environment : Environment
        The result of a scan of this machine.
    path : sequence of str
        The search path that was scanned.
    """
    prefix = prefix_on(path)
    sizes = (
        {one.package.name: _SIZES.of(one.path, partial(_size_in, one.path)) for one in prefix.records} if prefix else {}
    )
    conda = environment.conda.values()
    return environment.with_conda(replace(one, installed_size=sizes.get(one.name, 0)) for one in conda)


def _size_in(path: str, watch: Watch) -> int:
    """Return the bytes of the files that a record lists."""
    watch.state(path)
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return sum(map(int, _BYTES.findall(file.read())))
    except OSError:
        return 0


def package_of(data: dict[str, Any]) -> CondaPackage:
    """Return the package that a record is about, without what its files say; raise `ValueError` if it is no record."""
    name, version, build = (str(data.get(key, "")) for key in ("name", "version", "build"))
    if not (is_conda_name(name) and is_conda_version(version) and is_conda_version(build)):
        raise ValueError(name)
    subdir = str(data.get("subdir") or "")
    noarch = data.get("noarch")
    sha256, md5 = str(data.get("sha256") or ""), str(data.get("md5") or "")
    modified, content = _modified(data.get(AS_MODIFIED))
    return CondaPackage(
        name,
        version,
        build,
        _whole(data.get("build_number")),
        subdir if is_conda_name(subdir) else "noarch" if noarch else "unknown",
        _place(data.get("channel")),
        _place(data.get("url")),
        sha256 if SHA256.fullmatch(sha256) else "",
        md5 if re.fullmatch(r"[0-9a-f]{32}", md5) else "",
        _whole(data.get("size")),
        "" if not noarch else "python" if noarch == "python" else "generic",
        tuple(_texts(data.get("depends"))),
        tuple(_texts(data.get("constrains"))),
        printable(str(data.get("python_site_packages_path") or ""))[:_TEXT],
        modified=modified,
        content=content,
    )


def _modified(value: object) -> tuple[int, str]:
    """Return what a record says of modified files; 0 and an empty text if it says nothing."""
    match value:
        case {"modified": int(modified), "content": str(content)} if modified > 0 and SHA256.fullmatch(content):
            return modified, content
    return 0, ""


def _place(value: object) -> str:
    """Return the name or URL of a channel, or the URL of a package, without user, password and token."""
    text = str(value or "")
    if _PLAIN.fullmatch(text) and "/t/" not in text:
        return text
    return printable(without_credentials(_TOKEN.sub("", text)))[: 4 * _TEXT]


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else 0


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from (printable(text)[:_TEXT] for text in value[:_MAX_REQUIREMENTS] if isinstance(text, str))


def forget() -> None:
    """Forget what was read of all prefixes, for measurements."""
    _LISTINGS.forget()
    _READ.forget()
