"""Which shared libraries a compiled file needs, as its dynamic section says (ELF, System V ABI)."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_LOADED, _DYNAMIC = 1, 2
_NEEDED, _NAMES = 1, 5
_MAX_BYTES = 1_000_000_000
OF_SYSTEM = re.compile(
    r"(?:lib(?:c|m|dl|rt|util|pthread|resolv|gcc_s)\.so\.\d+|ld-linux[\w-]*\.so\.\d+|linux-vdso\.so\.\d+)"
)
"""Matches the libraries that every Linux with glibc has (PEP 600, and its policy for manylinux)."""


def needed_libraries(path: Path) -> tuple[str, ...] | None:
    """Return the names of the libraries that a compiled file needs; None if it is no ELF file of 64 bits. Blocks.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged.
    """
    with path.open("rb") as file:
        if file.read(6) != b"\x7fELF\x02\x01":
            return None
        file.seek(0)
        data = file.read(_MAX_BYTES)
    try:
        return tuple(_needed(data))
    except (struct.error, ValueError, StopIteration) as error:
        raise ValueError(f"{path.name} is a damaged ELF file: {error}") from None


def _needed(data: bytes) -> list[str]:
    header = _HEADER.unpack_from(data)
    start, size, count = header[4], header[8], header[9]
    segments = [_SEGMENT.unpack_from(data, start + index * size) for index in range(count)]
    loaded = [segment for segment in segments if segment[0] == _LOADED]
    names, offsets = 0, []
    for segment in segments:
        if segment[0] == _DYNAMIC:
            for tag, value in _ENTRY.iter_unpack(data[segment[2] : segment[2] + segment[5] // 16 * 16]):
                names = value if tag == _NAMES else names
                offsets += [value] if tag == _NEEDED else []
    if not offsets:
        return []
    place = next(names - segment[3] + segment[2] for segment in loaded if 0 <= names - segment[3] < segment[5])
    return [data[place + one : data.index(b"\0", place + one)].decode("ascii", "replace") for one in offsets]
