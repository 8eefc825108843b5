"""Content digests: what tells two builds of one version apart, from the digests that RECORD lists.

One wheel has one content digest, whichever installer has unpacked it, and in whichever prefix. So the digest covers the
paths and digests of the wheel's own files. It does not cover what installers add or rewrite: their own files in
dist-info, bytecode that they compile, and scripts, whose first line names an interpreter.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from dask_pkgsync.scanning.small_files import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.record import Entry

OF_INSTALLER = frozenset(
    {
        *("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED"),
        *("direct_url.json", "uv_cache.json", "uv_build.json"),
    }
)
"""Files in dist-info that belong to the installation, not to the distribution."""
_SCRIPT = re.compile(r"(?:\.\./)+(?:bin|Scripts)/[^/]*")
_HEADER = re.compile(r"(?:\.\./)+[Ii]nclude/(?:site/)?(?:python\d[^/]*/)?")
_DATA = re.compile(r"(?:\.\./)+")
_FOR_EVERY_PLATFORM = re.compile(r"^Tag:\s*\S+-none-any\s*$", re.MULTILINE | re.IGNORECASE)
FORMAT = 1
"""A number that changes whenever the same RECORD and WHEEL would give another `Content`."""
ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})
"""The algorithms of digests in RECORD (PEP 376, PEP 427)."""
_BYTECODE = (".pyc", ".pyo")
_CHUNK = 1 << 20
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Content:
    """What RECORD and WHEEL say about the files of a distribution."""

    digest: str = ""
    """The content digest, 64 hexadecimal digits; empty if no file is listed, or one without a digest."""
    is_pure: bool = False
    """Whether the wheel was for every platform, by its tags (PEP 425)."""


class OwnFile(NamedTuple):
    """A file of a distribution that was in its wheel."""

    place: str
    """Its path in the digest: as in RECORD, but without what depends on the prefix and its layout."""
    path: str
    """Its path in RECORD, relative to the directory that holds the dist-info."""
    digest: str
    """Its digest in RECORD, for example ``sha256=…``; empty if none is recorded."""
    size: str
    """Its size in RECORD, in bytes; may be empty."""


def content_of(dist_info: str) -> Content:
    """Return the content of an installed distribution, from RECORD alone: no file is looked at.

    Parameters
    ----------
    dist_info : str
        Path of its dist-info directory.

    Raises
    ------
    OSError
        If RECORD cannot be read.
    """
    try:
        facts = os.stat(f"{dist_info}{os.sep}RECORD")  # noqa: PTH116  # faster than pathlib
    except (FileNotFoundError, NotADirectoryError):
        return Content()
    return _content_of(dist_info, facts.st_mtime_ns, facts.st_size, facts.st_ino)


@lru_cache(maxsize=20_000)
def _content_of(dist_info: str, _mtime_ns: int, _size: int, _inode: int) -> Content:
    return Content(content_digest(dist_info), bool(_FOR_EVERY_PLATFORM.search(text_of(f"{dist_info}{os.sep}WHEEL"))))


def _digest(rows: Iterable[tuple[str, str]]) -> str:
    """Return the content digest of files, by their places and digests; empty if one has no digest, or there is none."""
    ordered = sorted({f"{place},{digest}" for place, digest in rows})
    if not ordered or any(row.endswith(",") for row in ordered):
        return ""
    import hashlib  # imported here because a scan that finds everything known does not need it

    return hashlib.sha256("\n".join(ordered).encode()).hexdigest()


def own_files(dist_info: str, entries: Iterable[Entry] | None = None) -> Iterator[OwnFile]:
    """Yield the files that RECORD lists and that were in the wheel, in the order of RECORD.

    Parameters
    ----------
    dist_info : str
        Path of the dist-info directory.
    entries : iterable of Entry, optional
        What its RECORD lists; by default RECORD is read.
    """
    if entries is None:
        from dask_pkgsync.model.record import parse  # imported here, as above

        entries = parse(text_of(f"{dist_info}{os.sep}RECORD"))
    of_installer = {f"{os.path.basename(dist_info)}/{name}" for name in OF_INSTALLER}  # noqa: PTH119
    new = tuple.__new__  # without a call of OwnFile, for tens of thousands of files
    for path, digest, size in entries:
        if path in of_installer or (path.endswith(_BYTECODE) and is_compiled_here(path, digest)):
            continue
        if not path.startswith("../"):
            yield new(OwnFile, (path, path, digest, size))
        elif not _SCRIPT.fullmatch(path):
            place = _HEADER.sub("headers:", path)
            yield OwnFile(place if place != path else _DATA.sub("data:", path), path, digest, size)


def content_digest(dist_info: str, entries: Iterable[Entry] | None = None) -> str:
    """Return the content digest of a distribution (see `Content`); the parameters are those of `own_files`."""
    return _digest((place, digest) for place, _, digest, _ in own_files(dist_info, entries))


def is_compiled_here(path: str, digest: str) -> bool:
    """Whether a file in RECORD is bytecode that this Python may write anew, and no content.

    Python never imports bytecode in ``__pycache__`` without its source, and replaces it when the source's date differs,
    which it does after an installation; so it is no content even if the wheel had it (as that of numpy 2.2.6 has).
    Elsewhere bytecode with a digest is a module without source.
    """
    return path.endswith(_BYTECODE) and (not digest or "__pycache__/" in path)


def owner(one: str, other: str) -> str | None:
    """Return which of two dist-info directories of one name lists the files that are there; None if both or neither.

    An interrupted run of an installer leaves the metadata of the version that it has replaced. Blocks.
    """
    intact = [dist_info for dist_info in (one, other) if _is_intact(dist_info)]
    return intact[0] if len(intact) == 1 else None


def _is_intact(dist_info: str) -> bool:
    directory, files = os.path.dirname(dist_info), list(own_files(dist_info))  # noqa: PTH120
    try:
        now = [_digest_now(f"{directory}{os.sep}{file.path}", file.digest) for file in files if file.digest]
    except OSError:  # a file is missing
        return False
    return bool(now) and now == [file.digest for file in files if file.digest]


def looked_at(distribution: Distribution, dist_info: str) -> Distribution:
    """Return a distribution after a look at its files, with ``modified`` and ``content`` as the files are. Blocks.

    Each file is looked up (`os.stat`). It is read only if it has another size than RECORD lists, or was changed after
    RECORD was written. So an edit that restores both size and date of a file goes unnoticed.

    Parameters
    ----------
    distribution : Distribution
        The distribution as it was scanned.
    dist_info : str
        Path of its dist-info directory.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    if not distribution.content:
        return distribution
    directory, recorded = os.path.dirname(dist_info), os.stat(f"{dist_info}{os.sep}RECORD").st_mtime_ns  # noqa: PTH116, PTH120
    modified, rows = 0, []
    for file in own_files(dist_info):
        full = f"{directory}{os.sep}{file.path}"
        try:
            facts = os.stat(full)  # noqa: PTH116  # faster than pathlib for many thousand files
        except (FileNotFoundError, NotADirectoryError):
            modified += 1
            continue
        is_suspect = facts.st_mtime_ns > recorded or (file.size.isdigit() and int(file.size) != facts.st_size)
        digest = _digest_now(full, file.digest) if is_suspect and file.digest else file.digest
        modified += digest != file.digest
        rows.append((file.place, digest))
    return replace(distribution, content=_digest(rows), modified=modified) if modified else distribution


def _digest_now(path: str, recorded: str) -> str:
    """Return the digest of a file as it is, by the algorithm of the recorded digest; read again only if it changed."""
    facts = os.stat(path)  # noqa: PTH116
    return _digest_of_file(path, recorded.partition("=")[0], facts.st_mtime_ns, facts.st_size, facts.st_ino)


@lru_cache(maxsize=20_000)
def _digest_of_file(path: str, algorithm: str, _mtime_ns: int, _size: int, _inode: int) -> str:
    return digest_of_file(path, algorithm if algorithm in ALGORITHMS else "sha256")  # then it counts as modified


def digest_of_file(path: str, algorithm: str) -> str:
    """Return the digest of a file as RECORD has it. Blocks, but other threads run meanwhile.

    Parameters
    ----------
    path : str
    algorithm : str
        One of `ALGORITHMS`.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    import hashlib  # imported here, as above

    from dask_pkgsync.model.record import encoded

    digest = hashlib.new(algorithm)
    descriptor = os.open(path, _READ)
    try:
        while chunk := os.read(descriptor, _CHUNK):
            digest.update(chunk)
    finally:
        os.close(descriptor)
    return f"{algorithm}={encoded(digest.digest())}"
