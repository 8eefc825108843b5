"""Inspects a wheel that came from another process, before an installer reads it.

Installers read a wheel in different ways: one trusts the zip's central directory, another its local headers. So a wheel
is refused if the two disagree, or if one of its files could be written outside the layer.
"""

from __future__ import annotations

import email.parser
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path  # noqa: TC003  # also used at runtime by callers' annotations
from typing import TYPE_CHECKING, BinaryIO

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.scanning.sources import fits_a_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILES = 200_000
"""Files in a wheel."""
MAX_BYTES = 20_000_000_000
"""Bytes of all unpacked files."""
MAX_RATIO = 200
"""Ratio of the unpacked bytes to those of the wheel. A larger ratio counts as a zip bomb (see `RATIO_MATTERS`)."""
RATIO_MATTERS = 100_000_000
"""Unpacked bytes from which on the ratio is checked."""
MAX_METADATA = 5_000_000
"""Bytes of the METADATA file."""

_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_EXTRA, _ZIP64 = struct.Struct("<HH"), 0x1
_DESCRIPTOR, _ENCRYPTED = 0x8, 0x1
_UNKNOWN = 0xFFFFFFFF
_DATA = frozenset({"purelib", "platlib", "scripts", "data", "headers"})
"""Directories that may be in the .data directory of a wheel (PEP 427)."""
_ADVICE = "Nothing of it was installed. Run the sync again; if it fails again, reinstall the package on the client."


class _RefusedError(Exception):
    """A wheel is refused; the text says why."""


def inspect(path: Path, *, name: str, version: str) -> None:
    """Check that a file is a wheel of this distribution and version, and that it can be read in only one way. Blocks.

    Parameters
    ----------
    path : Path
        The file. Its name is checked, too.
    name : str
        Canonical name of the distribution (PEP 503).
    version : str
        Its version (PEP 440).

    Raises
    ------
    WheelError
        If it is not, with the first fault that was found.
    """
    try:
        _same(*parse_wheel_filename(path.name)[:2], name, version, "the file name")
        with path.open("rb") as file, zipfile.ZipFile(file) as bundle:
            entries = bundle.infolist()
            _check_sizes(entries, path.stat().st_size)
            _check_names(entries, folds_case=_folds_case(path))
            for entry in entries:
                _check_entry(entry)
            _check_headers(file, entries, bundle.start_dir)
            _check_metadata(bundle, name, version)
    except _RefusedError as refused:
        raise WheelError(f"{name} {version}", f"its wheel is refused: {refused}", advice=_ADVICE) from None
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise WheelError(f"{name} {version}", f"its wheel is refused: {error}", advice=_ADVICE) from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        ValueError,
        EOFError,
        struct.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise WheelError(f"{name} {version}", f"its wheel cannot be read: {error}", advice=_ADVICE) from None


def _same(found: str, found_version: Version, name: str, version: str, where: str) -> None:
    if found != name or found_version != Version(version):
        raise _RefusedError(f"{where} says {found} {found_version}")


def _check_sizes(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    if len(entries) > MAX_FILES:
        raise _RefusedError(f"it holds {len(entries)} files")
    total = sum(entry.file_size for entry in entries)
    if total > MAX_BYTES or (total > RATIO_MATTERS and total > MAX_RATIO * size):
        raise _RefusedError(f"it would unpack to {total} bytes (a zip bomb)")


def _check_names(entries: Sequence[zipfile.ZipInfo], *, folds_case: bool) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.filename.rstrip("/")
        other = seen.setdefault(name.casefold() if folds_case else name, entry.filename)
        if other is not entry.filename:
            same = "" if other.rstrip("/") == name else f" (as {_shown(other)}: this file system knows no case)"
            raise _RefusedError(f"it holds {_shown(entry.filename)} twice{same}")


def _folds_case(path: Path) -> bool:
    """Whether the file system of a file takes names that differ only in case for the same."""
    other = path.with_name(path.name.swapcase())
    return other.exists() and other.samefile(path)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    filename = entry.orig_filename
    parts = filename.removesuffix("/").split("/")
    if not fits_a_wheel(filename) or ":" in parts[0]:  # C:/x would lead elsewhere on Windows
        raise _RefusedError(f"a name in it has characters that no path of a wheel has: {_shown(filename)}")
    if any(part in ("", ".", "..") for part in parts):
        raise _RefusedError(f"a path in it leads elsewhere: {_shown(filename)}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _RefusedError(f"{_shown(filename)} is neither a file nor a directory (a symbolic link?)")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _RefusedError(f"{_shown(filename)} is compressed in a way other than deflate")
    if entry.flag_bits & _ENCRYPTED:
        raise _RefusedError(f"{_shown(filename)} is encrypted")


def _check_headers(file: BinaryIO, entries: Sequence[zipfile.ZipInfo], directory: int) -> None:
    """Check that each local header agrees with the central directory, and that no entries overlap each other or it."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise _RefusedError(f"{_shown(entry.filename)} overlaps with another entry (a zip bomb)")
        file.seek(entry.header_offset)
        fields = _LOCAL.unpack(file.read(_LOCAL.size))
        magic, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = fields
        encoding = "utf-8" if flags & 0x800 else "cp437"
        name = file.read(name_length).decode(encoding, "replace")
        zip64 = _has_zip64(file.read(extra_length))
        agree = [magic == b"PK\x03\x04", name == entry.orig_filename, method == entry.compress_type]
        agree.append((flags ^ entry.flag_bits) & (_ENCRYPTED | _DESCRIPTOR | 0x800) == 0)
        if not flags & _DESCRIPTOR:
            sizes = ((compressed, entry.compress_size), (size, entry.file_size))
            agree += [local == central or (zip64 and local == _UNKNOWN) for local, central in sizes]
            agree.append(crc == entry.CRC)
        if not all(agree):
            raise _RefusedError(f"its local header and its central directory disagree about {_shown(entry.filename)}")
        end = entry.header_offset + _LOCAL.size + name_length + extra_length + entry.compress_size
    if end > directory:
        raise _RefusedError("its last entry overlaps with the central directory")


def _has_zip64(extra: bytes) -> bool:
    while len(extra) >= _EXTRA.size:
        kind, length = _EXTRA.unpack_from(extra)
        if kind == _ZIP64:
            return True
        extra = extra[_EXTRA.size + length :]
    return False


def _check_metadata(bundle: zipfile.ZipFile, name: str, version: str) -> None:
    names = {entry.filename: entry for entry in bundle.infolist()}
    tops = {filename.partition("/")[0] for filename in names if "/" in filename}
    infos = [top for top in tops if top.endswith(".dist-info")]
    if len(infos) != 1:
        raise _RefusedError(f"it has {len(infos)} dist-info directories")
    (info,) = infos
    stem = info.removesuffix(".dist-info")
    _stem_says(stem, name, version, info)
    for top in tops:
        if top.endswith(".data") and top != f"{stem}.data":
            raise _RefusedError(f"{_shown(top)} is not named like its {info}")
    for filename in names:
        top, _, rest = filename.partition("/")
        if top.endswith(".data") and rest and rest.partition("/")[0] not in _DATA:
            raise _RefusedError(f"{_shown(filename)} is in a directory that installers do not know")
    for required in ("METADATA", "WHEEL", "RECORD"):
        if f"{info}/{required}" not in names:
            raise _RefusedError(f"it has no {required}")
    metadata = names[f"{info}/METADATA"]
    if metadata.file_size > MAX_METADATA:
        raise _RefusedError(f"its METADATA has {metadata.file_size} bytes")
    headers = email.parser.BytesHeaderParser().parsebytes(bundle.read(metadata))
    found = canonicalize_name(str(headers.get("Name", "")))
    _same(found, Version(str(headers.get("Version", ""))), name, version, "METADATA")


def _stem_says(stem: str, name: str, version: str, where: str) -> None:
    found, _, found_version = stem.rpartition("-")
    if not re.fullmatch(r"[A-Za-z0-9._+!-]+", stem):
        raise _RefusedError(f"{_shown(where)} is no name of a directory in a wheel")
    _same(canonicalize_name(found), Version(found_version), name, version, where)


def _shown(text: str) -> str:
    return repr(text)[:200]
