"""Whether the files of conda packages are as they were installed, and a digest of them as they are.

Each file is looked up (`os.lstat`). It is read only if it has another size than its record says, or was changed after
the record was written, which installers do after they have written the files. So an edit that restores both size and
date of a file goes unnoticed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from dask_pkgsync.scanning.conda_files import Kind, read_record, record_path
from dask_pkgsync.scanning.file_states import Remembered, are_as_listed
from dask_pkgsync.scanning.placeholders import prefixes_of
from dask_pkgsync.scanning.sources import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.scanning.conda_files import CondaFile, CondaRecord
    from dask_pkgsync.scanning.file_states import Listed, Watch
    from dask_pkgsync.scanning.placeholders import Prefixes

_LISTED: Remembered[Listed | None] = Remembered(limit=5_000)
MISSING = ""
"""The digest of a file that is not there."""
_LINK = "link"
"""The digest of a symbolic link that is as it was installed: not every installer records its target."""
_OF_NOTHING = hashlib.sha256(b"").hexdigest()
"""What conda-build records as the digest of a link to a directory."""


def look_at(packages: Iterable[CondaPackage], prefix: Path) -> list[CondaPackage]:
    """Return conda packages after a look at their files, with ``modified`` and ``content`` as the files are. Blocks.

    Packages whose record cannot be read, or has no digests, are returned as they are. The look at a package whose files
    were not touched costs one `os.lstat` for each.

    Parameters
    ----------
    packages : iterable of CondaPackage
        The packages as they were scanned.
    prefix : Path
        The prefix in which they are installed.
    """
    prefixes = prefixes_of(prefix)
    return [_looked_at(package, prefix, prefixes) for package in packages]


def _looked_at(package: CondaPackage, prefix: Path, prefixes: Prefixes) -> CondaPackage:
    path = record_path(prefix, package)
    try:
        listed = _LISTED.of(str(path), partial(_listed, path))
        if listed is None or are_as_listed(listed, str(prefix), os.lstat):
            return package
        record, written = read_record(path), listed[2]
    except (OSError, ValueError):
        return package
    states = dict(_states(record, prefix, prefixes, written))
    modified = sum(state != recorded_digest(file) for file, state in states.items())
    if not modified:
        return package
    return replace(package, modified=modified, content=content_digest(states.items()))


def _listed(path: Path, watch: Watch) -> Listed | None:
    """Return what a record lists; None if it lists no file, one without a digest, or one with a break in its name."""
    state, record = watch.state(str(path)), read_record(path)
    files = list(contents_of(record))
    if state is None or not files or any("\n" in file.path for file in files) or not is_verifiable(record):
        return None
    return "\n".join(file.path for file in files), array("q", (file.size_in_prefix for file in files)), state[3]


def is_verifiable(record: CondaRecord) -> bool:
    """Whether a record has a digest of each file, as those of all packages have that were built since 2017."""
    return bool(record.files) and all(len(file.sha256) == 64 for file in record.files if file.kind is Kind.FILE)  # noqa: PLR2004


def contents_of(record: CondaRecord) -> Iterator[CondaFile]:
    """Yield the files and links of a package that count as its content."""
    return (file for file in record.files if file.kind in (Kind.FILE, Kind.LINK) and not file.is_bytecode)


def recorded_digest(file: CondaFile) -> str:
    """Return the digest that a file, or a link, has if it is as it was installed."""
    return _LINK if file.kind is Kind.LINK else file.sha256


def content_digest(states: Iterable[tuple[CondaFile, str]]) -> str:
    """Return the digest of a package's content (`CondaPackage.content`), 64 hexadecimal digits.

    It does not depend on the prefix: of a file that names it, the digest is that with the placeholder.

    Parameters
    ----------
    states : iterable of (CondaFile, str)
        Each file and its digest, as `contents_of` and `digest_now` give them.
    """
    rows = sorted(f"{file.own_path},{digest}" for file, digest in states if digest != MISSING)
    return hashlib.sha256("\n".join(rows).encode(errors="surrogatepass")).hexdigest()


def _states(record: CondaRecord, prefix: Path, prefixes: Prefixes, written: int) -> Iterator[tuple[CondaFile, str]]:
    """Yield each file with its digest; only those that may have been changed are read."""
    for file in contents_of(record):
        try:
            facts = os.lstat(prefix / file.path)
        except (FileNotFoundError, NotADirectoryError):
            yield file, MISSING
            continue
        size = file.size_in_prefix
        is_suspect = facts.st_mtime_ns > written or (facts.st_size != size and size >= 0)
        yield file, digest_now(file, prefix, prefixes) if is_suspect else recorded_digest(file)


def digest_now(file: CondaFile, prefix: Path, prefixes: Prefixes) -> str:
    """Return the digest of a file or link as it is; of a file that names its prefix, that with the placeholder. Blocks.

    It is that of the record (`recorded_digest`) exactly if the file is as it was installed, and `MISSING` if there is
    none.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    path = prefix / file.path
    try:
        if file.kind is Kind.LINK:
            return _link_now(file, path)
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return f"no file, mode {facts.st_mode:o}"
        return _digest_of(file, path, prefixes, (facts.st_mtime_ns, facts.st_size, facts.st_ino))
    except (FileNotFoundError, NotADirectoryError):
        return MISSING


@lru_cache(maxsize=20_000)
def _digest_of(file: CondaFile, path: Path, prefixes: Prefixes, _state: tuple[int, int, int]) -> str:
    if not file.placeholder:
        return sha256_of(path)
    data = path.read_bytes()
    if file.sha256_in_prefix and hashlib.sha256(data).hexdigest() == file.sha256_in_prefix:
        return file.sha256
    if prefixes.original(data, file) is not None:
        return file.sha256
    return hashlib.sha256(prefixes.as_it_is(data, file)).hexdigest()


def _link_now(file: CondaFile, path: Path) -> str:
    """Return the digest of a link: conda records that of the file that it leads to, rattler that of its text."""
    recorded = {file.sha256, file.sha256_in_prefix} - {"", _OF_NOTHING}
    target = os.readlink(path) if path.is_symlink() else ""  # noqa: PTH115  # a text, not a path
    if target and hashlib.sha256(os.fsencode(target)).hexdigest() in recorded:
        return _LINK
    if path.is_file() and sha256_of(path) in recorded:
        return _LINK
    if target and not recorded:
        return _LINK
    return f"{_LINK} to {target}"
