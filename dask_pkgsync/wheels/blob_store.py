"""Stores blobs (packages from clients) on the disk of the scheduler and of each host, by the digest of their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from time import time
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.blobs import CHUNK
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.sources import sha256_of
from dask_pkgsync.wheels.incoming_blob import IncomingBlob, storing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.model.blobs import Blob


_incoming: dict[Path, IncomingBlob] = {}
"""By the directory that they will have, the blobs that this process is fetching for its host."""


class BlobStore:
    """The blobs of one cache. A blob is verified when it is stored, and again before it is used.

    Parameters
    ----------
    cache : Cache
    max_age : float
        Seconds after which an unused blob is removed.
    max_bytes : int
        Bytes that all blobs together may take. Blobs in use are never removed to make room: if they leave none, a new
        blob is refused.
    """

    def __init__(self, cache: Cache, *, max_age: float, max_bytes: int) -> None:
        self.cache, self.max_age, self.max_bytes = cache, max_age, max_bytes
        self._partial: dict[str, _Partial] = {}
        self._lock = threading.Lock()

    def path(self, blob: Blob) -> Path:
        """Return the path of a blob, which need not exist. The file has the package's name, which installers parse."""
        return self.cache.blobs / blob.digest / blob.filename

    def has(self, blob: Blob) -> bool:
        """Whether the store has a blob; if so, the blob is marked as used now."""
        with contextlib.suppress(OSError):
            os.utime(self.path(blob).parent)
            return self.path(blob).stat().st_size == blob.size
        return False

    def has_verified(self, blob: Blob) -> bool:
        """Whether the store has a blob with its digest; one that is damaged is removed. Blocks."""
        if self.has(blob):
            with contextlib.suppress(LayerError, FileNotFoundError):
                self.verify(blob)
                return True
        return False

    def verify(self, blob: Blob) -> Path:
        """Return the path of a blob after checking its digest; if it is damaged, remove it and raise `LayerError`."""
        path = self.path(blob)
        if sha256_of(path) != blob.digest:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise _damaged(blob)
        return path

    def expect(self, blob: Blob) -> int:
        """Prepare to receive a blob, and return how many of its bytes are stored already. Blocks.

        These are all bytes, some from an earlier try, or none. A complete blob (from an earlier sync, or an earlier
        scheduler on this host) is verified again, and removed if it is damaged.

        Raises
        ------
        LayerError
            If there is no room for the blob.
        """
        with self._lock:
            if self.has_verified(blob):
                return blob.size
            known = self._partial.get(blob.digest)
            if known is None:
                self._make_room(blob)
                known = self._partial[blob.digest] = _Partial(self.cache.aside("blob"), blob.size)
            return known.size

    def append(self, blob: Blob, offset: int, data: bytes) -> int:
        """Store a part of a blob, and return how many bytes are stored now. Blocks.

        A part that does not begin where the stored bytes end is ignored (another client may send the same blob): the
        sender goes on at the returned offset. After the last part, the blob is verified and published.

        Parameters
        ----------
        blob : Blob
        offset : int
            Position of the part in the blob, in bytes.
        data : bytes

        Raises
        ------
        LayerError
            If the bytes do not have the digest, the blob cannot be written, or its upload was given up before. Nothing
            of the blob is kept.
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
                with storing(blob):
                    partial.append(data)
                    if partial.size < blob.size:
                        return partial.size
                    self._publish(blob, partial)
            except LayerError:
                self._drop(blob.digest)
                raise
            return blob.size

    def _publish(self, blob: Blob, partial: _Partial) -> None:
        if partial.size != blob.size or partial.digest.hexdigest() != blob.digest:
            raise _damaged(blob)
        self._move_in(blob, partial.path)
        del self._partial[blob.digest]

    def _move_in(self, blob: Blob, path: Path) -> None:
        """Give a verified file its place among the blobs, whole or not at all."""
        directory = path.with_name(f"{path.name}-done")
        try:
            directory.mkdir()
            path.rename(directory / blob.filename)
            shutil.rmtree(self.path(blob).parent, ignore_errors=True)
            directory.rename(self.path(blob).parent)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @contextlib.contextmanager
    def incoming(self, blob: Blob) -> Iterator[IncomingBlob]:
        """Receive a blob whose chunks arrive in any order; at the end it is verified and published. Blocks.

        The caller holds the lock of the blob against other processes. Until the end, `read_chunk` of this process finds
        the chunks that are there.

        Raises
        ------
        LayerError
            If there is no room for the blob, it cannot be written, or its bytes do not have its digest. Nothing of it
            is kept.
        """
        with self._lock:
            self._make_room(blob)
        path, place = self.cache.aside("blob"), self.path(blob).parent
        with storing(blob):
            incoming = IncomingBlob(path, blob)
        _incoming[place] = incoming
        try:
            yield incoming
            with storing(blob):
                if sha256_of(path) != blob.digest:
                    raise _damaged(blob)
                self._move_in(blob, path)
        finally:
            del _incoming[place]
            incoming.close()
            path.unlink(missing_ok=True)

    def read_chunk(self, digest: str, chunk: int) -> bytes | None:
        """Return a chunk of a blob that this host has, or that this process is fetching; None if it is not there.

        The chunk is not verified: who asks for it knows its digest.

        Parameters
        ----------
        digest : str
            SHA-256 of the whole blob, 64 hexadecimal digits, as `model.blobs.check_digest` has checked.
        chunk : int
            The number of the chunk.
        """
        place = self.cache.blobs / digest
        if (incoming := _incoming.get(place)) is not None and (data := incoming.read(chunk)) is not None:
            return data
        with contextlib.suppress(OSError, ValueError):  # not there, or about to be removed
            (path,) = place.iterdir()
            with path.open("rb", buffering=0) as file:
                file.seek(chunk * CHUNK)
                return file.read(CHUNK) or None
        return None

    def read(self, blob: Blob, offset: int, length: int = CHUNK) -> bytes:
        """Return at most ``length`` bytes of a blob, from an offset on."""
        with self.path(blob).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def _drop(self, digest: str) -> None:
        self._partial.pop(digest).path.unlink(missing_ok=True)

    def forget_partial(self, idle: float) -> None:
        """Remove incomplete blobs of which no part has arrived for ``idle`` seconds."""
        with self._lock:
            for digest, partial in list(self._partial.items()):
                if partial.touched < time() - idle:
                    self._drop(digest)

    def _make_room(self, blob: Blob) -> None:
        """Remove blobs that are too old, then the least recently used ones; raise if the new one still does not fit."""
        total = blob.size + sum(partial.total for partial in self._partial.values())
        stored = (
            (self.cache.is_leased(directory.name, self.max_age), used, size, directory)
            for used, size, directory in self._all()
        )
        for leased, used, size, directory in sorted(stored, reverse=True):
            if leased or (used > time() - self.max_age and total + size <= self.max_bytes):
                total += size
            else:
                shutil.rmtree(directory, ignore_errors=True)
        if total > self.max_bytes:
            raise LayerError(
                "store",
                f"{blob.filename} ({blob.size} bytes) does not fit: {total} bytes would be more than the "
                f"{self.max_bytes} that are allowed",
                advice="Raise pkgsync.store-size there, or release environments that are no longer needed.",
            )

    def _all(self) -> Iterator[tuple[float, int, Path]]:
        """Yield the time of the last use, the bytes, and the directory of each complete blob."""
        for directory in self.cache.blobs.iterdir():
            with contextlib.suppress(OSError):  # another process removed it
                size = sum(file.stat().st_size for file in directory.iterdir())
                yield directory.stat().st_mtime, size, directory


class _Partial:
    """A blob of which only a part has arrived, with the digest of that part."""

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
        advice="Run the sync again, which sends it again. If it fails again, find out what damages data in between.",
    )
