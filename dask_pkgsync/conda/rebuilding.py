"""Turns an installed conda package back into an archive, from its record in ``conda-meta`` and its files in the prefix.

The archive does not hold what the installer has added: scripts of entry points and bytecode of packages for every
Python, which the next installer makes anew. In files with the prefix, the placeholder is put back. Each file is checked
against its recorded digest. The archive describes its package (``info/index.json``, ``info/paths.json``,
``info/link.json``) by what the record says, except where it came from: its URL may have credentials.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import json
import os
import re
import stat
import tarfile
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_pkgsync.conda.archive_file import ArchiveFile
from dask_pkgsync.model.blobs import archive_name, request_for_conda
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.scanning.conda_content import (
    MISSING,
    content_digest,
    digest_now,
    is_verifiable,
    recorded_digest,
)
from dask_pkgsync.scanning.conda_files import Kind
from dask_pkgsync.scanning.placeholders import prefixes_of
from dask_pkgsync.scanning.sources import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import IO

    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.scanning.conda_files import CondaFile, CondaRecord
    from dask_pkgsync.scanning.placeholders import Prefixes

_INDEX = (
    *("name", "version", "build", "build_number", "depends", "constrains", "subdir", "arch", "platform", "noarch"),
    *("timestamp", "license", "license_family", "features", "track_features", "python_site_packages_path"),
)
"""What ``info/index.json`` says, of all that a record says."""
_SITE_PACKAGES = re.compile(r"lib/python[0-9.]+t?/site-packages/")
_USER = re.compile(r"(?<=://)[^/\s@]*@|/t/[^/\s]+(?=/)")
"""Matches credentials in a URL: a user with a password, or a token."""
_IMPORT = re.compile(r"^from (\S+) import \S+\s*$", re.MULTILINE)
_CALL = re.compile(r"sys\.exit\((\S+)\(\)\)")
_NAMED = 5
"""The most files that are named in a message."""
_AGAIN = (
    "Run the sync again. If it names these files again, reinstall the package, for example with conda install "
    "--force-reinstall."
)


@dataclass
class _Rebuilt:
    """What has been put into the archive so far."""

    states: list[tuple[CondaFile, str]] = field(default_factory=list)
    """The files that count as content, each with its digest as it is."""
    paths: list[dict[str, Any]] = field(default_factory=list)
    """The entries of ``info/paths.json``."""
    tied: list[str] = field(default_factory=list)
    """Files as they were installed, out of which the prefix cannot be taken again."""

    @property
    def changed(self) -> list[str]:
        """The files that are not as they were installed."""
        return [
            f"{file.path} (missing)" if digest == MISSING else file.path
            for file, digest in self.states
            if digest != recorded_digest(file)
        ]


def rebuild(
    package: CondaPackage, record: CondaRecord, prefix: Path, directory: Path, extracted: Iterable[Path] = ()
) -> tuple[Path, str]:
    """Make the archive of an installed conda package. Blocks.

    Parameters
    ----------
    package : CondaPackage
        The package as it was scanned. If its files have been modified, they are taken as they are.
    record : CondaRecord
        Its record in the prefix.
    prefix : Path
        The prefix in which it is installed. It may have been moved since.
    directory : Path
        The directory that the archive is written into.
    extracted : iterable of Path
        Directories that may have its files as they were in the archive, for files that cannot be restored otherwise.

    Returns
    -------
    (Path, str)
        The path of the archive; and a note for the user, empty if there is none.

    Raises
    ------
    WheelError
        If its files are not those that were scanned, with their names.
    OSError
        If a file cannot be read, or the archive cannot be written.
    """
    label = request_for_conda(package).label
    if not is_verifiable(record):
        raise WheelError(
            label,
            "its record in the prefix has no digests of its files, as it was built in a time before they were recorded",
            advice="Let the nodes get it from its channel, or update the package.",
        )
    path = directory / archive_name(request_for_conda(package), ".conda")
    rebuilt, sources = _Rebuilt(), _Sources(prefix, prefixes_of(prefix), tuple(extracted))
    files = sorted(record.files, key=lambda file: _place(file, package))
    with closing(ArchiveFile(path, len(files), _size_of(files, prefix))) as archive:
        with archive.part("pkg") as tar:
            for file in files:
                _add(tar, file, package, sources, rebuilt)
        _check(package, rebuilt, label)
        with archive.part("info") as tar:
            for name, text in _descriptions(package, record, rebuilt, prefix).items():
                _add_bytes(tar, f"info/{name}", text.encode(errors="surrogateescape"))
    if not rebuilt.changed:
        return path, ""
    return path, f"{label}: changed on the client after it was installed, and shipped so: {_named(rebuilt.changed)}"


def _check(package: CondaPackage, rebuilt: _Rebuilt, label: str) -> None:
    """Raise `WheelError` unless the files in the archive are those that were scanned."""
    if package.modified:
        if content_digest(rebuilt.states) != package.content:
            raise WheelError(
                label, f"its files are not those that the scan found: {_named(rebuilt.changed)}", advice=_AGAIN
            )
    elif rebuilt.changed:
        raise WheelError(
            label, f"files of it are no longer as they were installed: {_named(rebuilt.changed)}", advice=_AGAIN
        )
    if rebuilt.tied:
        raise WheelError(
            label,
            f"the path of the prefix cannot be taken out again of {_named(rebuilt.tied)}, and no package cache of the "
            "client has the package",
            advice="Let the nodes get it from its channel, or reinstall it, so that the package cache has it.",
        )


def _named(files: Sequence[str]) -> str:
    return ", ".join(files[:_NAMED]) + (f" and {len(files) - _NAMED} more" if len(files) > _NAMED else "")


def _size_of(files: Iterable[CondaFile], prefix: Path) -> int:
    size = 0
    for file in files:
        with suppress(OSError):  # a missing file is named when it is to be added
            size += max((prefix / file.path).stat().st_size, file.size)
    return size


def _place(file: CondaFile, package: CondaPackage) -> str:
    """Return the path of a file in the archive. That of a package for every Python does not know its version."""
    path = file.own_path
    if package.noarch != "python":
        return path
    if path.startswith("bin/"):
        return f"python-scripts/{path[len('bin/') :]}"
    return _SITE_PACKAGES.sub("site-packages/", path, count=1) if _SITE_PACKAGES.match(path) else path


@dataclass(frozen=True)
class _Sources:
    """Where the files of a package are."""

    prefix: Path
    prefixes: Prefixes
    extracted: tuple[Path, ...]

    def original(self, data: bytes, file: CondaFile, place: str) -> bytes | None:
        """Return the bytes that a file with a prefix had in the archive, or None."""
        found = self.prefixes.original(data, file)
        if found is not None or hashlib.sha256(data).hexdigest() != file.sha256_in_prefix:
            return found
        for directory in self.extracted:  # an installer has signed it anew, for example, as on macOS
            path = directory / place
            if path.is_file() and sha256_of(path) == file.sha256:
                return path.read_bytes()
        return None


class _Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _add(tar: tarfile.TarFile, file: CondaFile, package: CondaPackage, sources: _Sources, rebuilt: _Rebuilt) -> None:
    """Put a file into the archive as it is here, and note its digest."""
    place = _place(file, package)
    full = sources.prefix / file.path
    try:
        if file.kind is Kind.DIRECTORY:
            tar.addfile(_member(place, 0o755, tarfile.DIRTYPE))
            rebuilt.paths.append({"_path": place, "path_type": "directory"})
        elif file.kind is Kind.LINK:
            rebuilt.states.append((file, digest_now(file, sources.prefix, sources.prefixes)))
            _add_link(tar, file, place, full, rebuilt)
        elif file.kind is Kind.FILE:
            digest = _add_file(tar, file, place, full, sources, rebuilt)
            if not file.is_bytecode:
                rebuilt.states.append((file, digest))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        if file.kind is Kind.FILE and not file.is_bytecode:
            rebuilt.states.append((file, MISSING))


def _add_link(tar: tarfile.TarFile, file: CondaFile, place: str, full: Path, rebuilt: _Rebuilt) -> None:
    if not full.is_symlink():  # where links are not possible, installers copy the file
        digest = _add_content(tar, place, full, full.read_bytes())
        rebuilt.paths.append(
            {"_path": place, "path_type": "hardlink", "sha256": digest, "size_in_bytes": full.stat().st_size}
        )
        return
    member = _member(place, 0o777, tarfile.SYMTYPE, full.lstat())
    member.linkname = os.readlink(full)  # noqa: PTH115  # a text, not a path
    tar.addfile(member)
    entry: dict[str, Any] = {"_path": place, "path_type": "softlink"}
    if file.sha256:
        entry |= {"sha256": file.sha256, "size_in_bytes": max(file.size, 0)}
    rebuilt.paths.append(entry)


def _add_file(
    tar: tarfile.TarFile, file: CondaFile, place: str, full: Path, sources: _Sources, rebuilt: _Rebuilt
) -> str:
    """Put a regular file into the archive, and return its digest."""
    entry: dict[str, Any] = {"_path": place, "path_type": "hardlink"}
    if file.placeholder:
        data = full.read_bytes()
        original = sources.original(data, file, place)
        if original is None and hashlib.sha256(data).hexdigest() == file.sha256_in_prefix:
            rebuilt.tied.append(file.path)
            return file.sha256
        data = sources.prefixes.as_it_is(data, file) if original is None else original
        digest, size = _add_content(tar, place, full, data), len(data)
        if file.placeholder.encode() in data:
            entry |= {"prefix_placeholder": file.placeholder, "file_mode": "binary" if file.is_binary else "text"}
    elif file.is_bytecode:
        data = full.read_bytes()
        if hashlib.sha256(data).hexdigest() != file.sha256:  # Python has written it anew
            return MISSING
        digest, size = _add_content(tar, place, full, data), len(data)
    else:
        with full.open("rb") as source:
            facts = os.fstat(source.fileno())
            member, hashed = _member(place, facts.st_mode, tarfile.REGTYPE, facts), _Hashed(source)
            member.size = size = facts.st_size
            tar.addfile(member, hashed)  # type: ignore[arg-type]  # it only reads
            digest = hashed.sha256
    entry |= {"sha256": digest, "size_in_bytes": size}
    rebuilt.paths.append({**entry, "no_link": True} if file.no_link else entry)
    return digest


def _add_content(tar: tarfile.TarFile, place: str, full: Path, data: bytes) -> str:
    """Put data into the archive with the mode and date of a file, and return its digest."""
    facts = full.stat()
    member = _member(place, facts.st_mode, tarfile.REGTYPE, facts)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    return hashlib.sha256(data).hexdigest()


def _add_bytes(tar: tarfile.TarFile, place: str, data: bytes) -> None:
    member = _member(place, 0o644, tarfile.REGTYPE)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _member(place: str, mode: int, kind: bytes, facts: os.stat_result | None = None) -> tarfile.TarInfo:
    """Return the entry of a file, with the date of that file: bytecode in a package names the date of its source."""
    member = tarfile.TarInfo(place)
    member.mode, member.type = stat.S_IMODE(mode) & 0o777, kind
    member.mtime = max(0, int(facts.st_mtime)) if facts is not None else 0
    return member


def _descriptions(package: CondaPackage, record: CondaRecord, rebuilt: _Rebuilt, prefix: Path) -> dict[str, str]:
    """Return the files that describe the package, by their names in ``info``."""
    index = {key: record.facts[key] for key in _INDEX if record.facts.get(key) not in (None, "", [])}
    texts = {
        "index.json": _without_credentials(json.dumps(index, sort_keys=True)),
        "paths.json": json.dumps({"paths": rebuilt.paths, "paths_version": 1}),
        "files": "".join(f"{entry['_path']}\n" for entry in rebuilt.paths),
    }
    if package.noarch:
        noarch: dict[str, Any] = {"type": package.noarch}
        if package.noarch == "python":
            noarch["entry_points"] = _entry_points(package, record, prefix)
        texts["link.json"] = json.dumps({"noarch": noarch, "package_metadata_version": 1})
    return texts


def _without_credentials(text: str) -> str:
    """Return a text without credentials: a requirement may name its channel by a URL."""
    return _USER.sub("", text)


def _entry_points(package: CondaPackage, record: CondaRecord, prefix: Path) -> list[str]:
    """Return the entry points of a package for every Python, as the scripts say that the installer has made of them."""
    scripts = [file for file in record.files if file.kind is Kind.GENERATED and file.path.startswith("bin/")]
    known = _entry_points_of_distributions(record, prefix) if scripts else {}
    found = []
    for file in scripts:
        name = file.path.removeprefix("bin/")
        try:
            text = (prefix / file.path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            text = ""
        module, function = _IMPORT.search(text), _CALL.search(text)
        value = f"{module[1]}:{function[1]}" if module and function else known.get(name)
        if value is None:
            raise WheelError(
                request_for_conda(package).label,
                f"nothing says any more what its command {name} runs: {file.path} is changed or missing",
                advice=_AGAIN,
            )
        found.append(f"{name} = {value}")
    return found


def _entry_points_of_distributions(record: CondaRecord, prefix: Path) -> dict[str, str]:
    """Return the commands of the distributions in a package, by name."""
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    for file in record.files:
        if file.path.endswith(".dist-info/entry_points.txt"):
            try:
                parser.read_string((prefix / file.path).read_text(encoding="utf-8"))
            except (OSError, ValueError, configparser.Error):
                continue
    groups = ("console_scripts", "gui_scripts")
    return {name: value for group in groups if parser.has_section(group) for name, value in parser.items(group)}
