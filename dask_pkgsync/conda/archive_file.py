"""Writes archives of conda packages in the format ``.conda``, without compressing them.

Such an archive is a zip of two tar archives, which are compressed with Zstandard (conda's package format 2). A frame of
Zstandard may hold blocks as they are (RFC 8878, 3.1.1.2), so nothing but the standard library is needed to write one,
and it takes hardly more time than a copy. A ``.tar.bz2`` would have to be compressed with bzip2.
"""

from __future__ import annotations

import contextlib
import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

_DATE = (1980, 1, 1, 0, 0, 0)
_BLOCK = 1 << 17
"""Bytes of one block of a frame: the most that the format allows."""
_CHUNK = 1 << 20
_HEADER = b"\x28\xb5\x2f\xfd" + b"\x00" + b"\x38"
"""Magic number; a frame without a checksum and without its size; a window of 128 KiB."""
_METADATA = b'{"conda_pkg_format_version": 2}'
_FOUR_GIGABYTES = 0xFFFF_FFFF
_PER_FILE = 4096
"""Bytes that a file takes in a tar archive beside its content, at most."""


class StoredFrame:
    """A file in which all that is written becomes one frame of Zstandard, uncompressed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._pending = bytearray()
        self._size = 0
        file.write(_HEADER)

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._size

    def write(self, data: bytes) -> int:
        """Write data, a block as soon as it is full."""
        self._pending += data
        self._size += len(data)
        if len(self._pending) > _BLOCK:
            whole = (len(self._pending) - 1) // _BLOCK * _BLOCK
            with memoryview(self._pending) as view:
                for start in range(0, whole, _BLOCK):
                    self._block(view[start : start + _BLOCK])
            del self._pending[:whole]
        return len(data)

    def close(self) -> None:
        """Write the last block. The file itself is left open."""
        self._block(self._pending, is_last=True)

    def _block(self, data: bytes | bytearray | memoryview, *, is_last: bool = False) -> None:
        self._file.write((len(data) << 3 | is_last).to_bytes(3, "little"))
        self._file.write(data)


class ArchiveFile:
    """A new archive of a conda package. Its parts are written one after the other.

    Parameters
    ----------
    path : Path
        Its path, which ends in ``.conda``.
    files : int
        How many files it will have.
    size : int
        The bytes of all its files together.
    """

    def __init__(self, path: Path, files: int, size: int) -> None:
        self._stem = path.name.removesuffix(".conda")
        self._is_large = size + (files + 1) * _PER_FILE > _FOUR_GIGABYTES // 2
        self._bundle = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._bundle.writestr(zipfile.ZipInfo("metadata.json", _DATE), _METADATA)

    def close(self) -> None:
        """Write the directory of the zip, and close the file."""
        self._bundle.close()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[tarfile.TarFile]:
        """Write the part ``pkg`` (the package's own files) or ``info`` (what describes it) as a tar archive."""
        entry = zipfile.ZipInfo(f"{name}-{self._stem}.tar.zst", _DATE)
        with self._bundle.open(entry, "w", force_zip64=self._is_large) as file:
            frame = StoredFrame(file)
            with tarfile.TarFile(fileobj=frame, mode="w", format=tarfile.PAX_FORMAT, copybufsize=_CHUNK) as tar:  # type: ignore[arg-type]
                yield tar
            frame.close()
