"""Wheels that came from a client, on the disk of the scheduler and of each host, by the digest of their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from time import time
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.sources import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.model.blobs import Blob

CHUNK = 8 << 20
"""Bytes of one message: what an upload or a fetch holds in memory at once."""


class BlobStore:
    """The blobs of one cache. What is there was verified when it came in, and is verified again before it is used.

    Parameters
    ----------
    cache : Cache
    max_age : float
        Seconds after which a blob that nobody used is removed.
    max_bytes : int
        Size of all blobs. What is in use is never removed for it: then nothing more is taken in.
    """

    def __init__(self, cache: Cache, *, max_age: float, max_bytes: int) -> None:
        self.cache, self.max_age, self.max_bytes = cache, max_age, max_bytes
        self._partial: dict[str, _Partial] = {}
        self._lock = threading.Lock()

    def path(self, blob: Blob) -> Path:
        """Return where a blob is, or will be: installers read the name of a wheel from the name of its file."""
        return self.cache.blobs / blob.digest / blob.filename

    def has(self, blob: Blob) -> bool:
        """Whether a blob is there; marks it as used."""
        with contextlib.suppress(OSError):
            os.utime(self.path(blob).parent)
            return self.path(blob).stat().st_size == blob.size
        return False

    def verify(self, blob: Blob) -> Path:
        """Return the path of a blob whose bytes are what they were; raise, and remove it, if they are not."""
        path = self.path(blob)
        if sha256_of(path) != blob.digest:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise _damaged(blob)
        return path

    def expect(self, blob: Blob) -> int:
        """Return how many bytes of a blob are there: all, some of an earlier try, or none. Blocks.

        A blob that has been here since an earlier sync, or an earlier scheduler, is read again, and removed if it is
        damaged.

        Raises
        ------
        LayerError
            If there is no room for it.
        """
        with self._lock:
            if self.has(blob):
                with contextlib.suppress(LayerError):
                    self.verify(blob)
                    return blob.size
            known = self._partial.get(blob.digest)
            if known is None:
                self._make_room(blob)
                known = self._partial[blob.digest] = _Partial(self.cache.aside("blob"), blob.size)
            return known.size

    def append(self, blob: Blob, offset: int, data: bytes) -> int:
        """Take a part of a blob, and return how many bytes are there now.

        What does not begin where the last part ended (another client sends the same blob) is passed over: the answer
        says where to go on. With the last part the whole is verified and published.

        Raises
        ------
        LayerError
            If the bytes are not those of the digest, or the disk is full. Nothing of it is kept.
        """
        with self._lock:
            if self.has(blob):
                return blob.size
            partial = self._partial.get(blob.digest)
            if partial is None:
                raise LayerError("receive", f"the upload of {blob.filename} was given up", advice="Run the sync again.")
            if offset != partial.size:
                return partial.size
            try:
                partial.append(data)
                if partial.size < blob.size:
                    return partial.size
                self._publish(blob, partial)
            except OSError as error:
                self._drop(blob.digest)
                raise LayerError(
                    "store", f"{blob.filename} could not be stored: {error.strerror}", advice=_ADVICE
                ) from None
            return blob.size

    def _publish(self, blob: Blob, partial: _Partial) -> None:
        if partial.size != blob.size or partial.digest.hexdigest() != blob.digest:
            self._drop(blob.digest)
            raise _damaged(blob)
        directory = partial.path.with_name(f"{partial.path.name}-done")
        try:
            directory.mkdir()
            partial.path.rename(directory / blob.filename)
            shutil.rmtree(self.path(blob).parent, ignore_errors=True)
            directory.rename(self.path(blob).parent)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        del self._partial[blob.digest]

    def read(self, blob: Blob, offset: int, length: int = CHUNK) -> bytes:
        """Return a part of a blob."""
        with self.path(blob).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def _drop(self, digest: str) -> None:
        self._partial.pop(digest).path.unlink(missing_ok=True)

    def forget_partial(self, idle: float) -> None:
        """Remove what nobody has sent a part of for so many seconds."""
        with self._lock:
            for digest, partial in list(self._partial.items()):
                if partial.touched < time() - idle:
                    self._drop(digest)

    def _make_room(self, blob: Blob) -> None:
        """Remove what is too old, then what was not used for the longest time; raise if that is not enough."""
        total = blob.size + sum(partial.total for partial in self._partial.values())
        found = ((self.cache.is_leased(one.name, self.max_age), used, size, one) for used, size, one in self._all())
        for leased, used, size, directory in sorted(found, reverse=True):
            if leased or (used > time() - self.max_age and total + size <= self.max_bytes):
                total += size
            else:
                shutil.rmtree(directory, ignore_errors=True)
        if total > self.max_bytes:
            raise LayerError(
                "store",
                f"{blob.filename} ({blob.size} bytes) does not fit: {total} bytes would be more than the "
                f"{self.max_bytes} that are allowed",
                advice="Raise pkgsync.store-size on that node, or release what is not needed any more.",
            )

    def _all(self) -> Iterator[tuple[float, int, Path]]:
        for directory in self.cache.blobs.iterdir():
            with contextlib.suppress(OSError):  # somebody else removed it
                size = sum(file.stat().st_size for file in directory.iterdir())
                yield directory.stat().st_mtime, size, directory


_ADVICE = "Free space there, or set pkgsync.cache-directory on that node to a larger file system."


class _Partial:
    """A blob that has not wholly come in, with the digest of what has."""

    def __init__(self, path: Path, total: int) -> None:
        self.path = path
        self.total = total
        self.digest = hashlib.sha256()
        self.size = 0
        self.touched = time()

    def append(self, data: Any) -> None:
        with self.path.open("ab") as file:
            file.write(data)
        self.digest.update(data)
        self.size += len(data)
        self.touched = time()


def _damaged(blob: Blob) -> LayerError:
    return LayerError(
        "receive",
        f"{blob.filename} does not have the bytes that the client announced (SHA-256 {blob.digest[:16]}…)",
        advice="Run the sync again: it is sent anew. If it stays so, something between the two changes bytes.",
    )
