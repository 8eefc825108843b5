"""Where a program of Linux looks for its libraries (RPATH, RUNPATH), rewritten in place so that it can be moved.

The text in the file is overwritten by one that is no longer, as ``chrpath`` does: nothing else in the file moves.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC, _CLASS_64, _LITTLE = b"\x7fELF", 2, 1
_LOAD, _DYNAMIC = 1, 2
_END, _STRING_TABLE, _RPATH, _RUNPATH = 0, 5, 15, 29


def with_run_path(data: bytes, old: str, new: str) -> bytes:
    """Return a program or library that looks for libraries in another place, if it looks in an absolute one now.

    Parameters
    ----------
    data : bytes
        The content of the file. What is no 64-bit little-endian ELF file is returned as it is.
    old : str
        The directory that is replaced, wherever it stands in the list.
    new : str
        What takes its place, for example ``$ORIGIN/../lib``. If it does not fit, the file stays as it is.
    """
    changed = bytearray(data)
    try:
        for offset in _run_paths(data):
            text = data[offset : data.index(b"\0", offset)]
            places = [new.encode() if place == old.encode() else place for place in text.split(b":")]
            wanted = b":".join(dict.fromkeys(places))
            if len(wanted) <= len(text):
                changed[offset : offset + len(text)] = wanted.ljust(len(text), b"\0")
    except (struct.error, IndexError, ValueError, StopIteration):  # no such file, or a damaged one
        return data
    return bytes(changed)


def _run_paths(data: bytes) -> Iterator[int]:
    """Yield where in a file the lists of directories begin."""
    if data[:4] != _MAGIC or data[4] != _CLASS_64 or data[5] != _LITTLE:
        return
    (start,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    # of each program header: type, offset in the file, address, size in the file
    headers = [struct.unpack_from("<I4xQQ8xQ", data, start + size * number) for number in range(count)]
    for kind, offset, _, length in headers:
        if kind == _DYNAMIC:
            entries = list(struct.iter_unpack("<qQ", data[offset : offset + length - length % 16]))
            ends = [number for number, (tag, _) in enumerate(entries) if tag == _END]
            entries = entries[: ends[0]] if ends else entries
            table = next((value for tag, value in entries if tag == _STRING_TABLE), None)
            if table is None:
                return
            place = next(
                at + table - address
                for kind, at, address, extent in headers
                if kind == _LOAD and address <= table < address + extent
            )
            yield from (place + value for tag, value in entries if tag in (_RPATH, _RUNPATH))
