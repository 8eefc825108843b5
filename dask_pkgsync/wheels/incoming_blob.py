"""A blob that a host is fetching: its chunks arrive in any order, and other hosts may read those that are there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from typing import TYPE_CHECKING

from dask_pkgsync.model.blobs import CHUNK, chunk_count, chunk_size
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from dask_pkgsync.model.blobs import Blob


@contextlib.contextmanager
def storing(blob: Blob) -> Iterator[None]:
    """Turn errors of the disk into a `LayerError` that names a blob."""
    try:
        yield
    except OSError as error:
        raise LayerError(
            "store",
            f"{blob.filename} could not be stored: {error.strerror}",
            advice="Free space there, or set pkgsync.cache-directory on that node to a larger file system.",
        ) from None


class IncomingBlob:
    """The file into which the chunks of one blob are written. All methods may be called from any thread, and block.

    Parameters
    ----------
    path : Path
        The file; it is created, and must not exist.
    blob : Blob
    """

    def __init__(self, path: Path, blob: Blob) -> None:
        self.path, self.blob = path, blob
        self.have = 0
        """The chunks that have been written: the bit with the value ``1 << number`` is set for each."""
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)

    @property
    def is_complete(self) -> bool:
        """Whether all chunks have been written."""
        return self.have == (1 << chunk_count(self.blob)) - 1

    def write(self, chunk: int, data: Any, digest: str = "") -> bool:
        """Write a chunk; return False, and write nothing, if the data is not that chunk.

        Parameters
        ----------
        chunk : int
            The number of the chunk.
        data : bytes-like
        digest : str
            SHA-256 of the chunk, 64 hexadecimal digits; empty where only the whole blob is verified.

        Raises
        ------
        LayerError
            If the disk fails, or the file has been closed.
        """
        if not isinstance(data, bytes | bytearray | memoryview) or len(data) != chunk_size(self.blob, chunk):
            return False
        if digest and hashlib.sha256(data).hexdigest() != digest:
            return False
        with self._lock, storing(self.blob):
            left, offset = memoryview(data), chunk * CHUNK
            while left:
                written = os.pwrite(self._file, left, offset)
                left, offset = left[written:], offset + written
            self.have |= 1 << chunk
        return True

    def read(self, chunk: int) -> bytes | None:
        """Return a chunk; None if it has not been written, or the blob is complete and this file is closed."""
        with self._lock:
            if not self.have >> chunk & 1 or self._file < 0:
                return None
            return os.pread(self._file, chunk_size(self.blob, chunk), chunk * CHUNK)

    def close(self) -> None:
        """Close the file, which stays where it is."""
        with self._lock:
            os.close(self._file)
            self._file = -1
