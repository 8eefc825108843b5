"""On the client: packages that were made to be sent are kept in its cache, so that each is made once."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from dask_pkgsync.model.blobs import Blob
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.sources import sha256_of
from dask_pkgsync.wheels.build import discard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.model.blobs import BlobRequest

MAX_AGE = 7 * 24 * 3600.0
"""Seconds after which a package that was not asked for is removed."""
_FACTS = "blob.json"
"""File beside a package in the cache with the facts about it."""


@dataclass(frozen=True)
class PackedBlobs:
    """Wheels, and archives of conda packages, that this client has made."""

    cache: Cache
    timeout: float
    """Seconds to wait for another process that makes the same package."""

    def obtain(self, request: BlobRequest, key: str, make: Callable[[Path], tuple[Path, str]]) -> tuple[Blob, Path]:
        """Return the package for a request, as a blob, and the path of its file; make it unless it is there. Blocks.

        Parameters
        ----------
        request : BlobRequest
        key : str
            Digest of all that decides the bytes of the package.
        make : callable
            Makes the package in a directory; returns its path, and a note for people (empty if there is none).

        Raises
        ------
        WheelError
            If it cannot be made, or the disk fails.
        """
        try:
            with self.cache.lock(f"wheel-{key}", self.timeout):
                return self._found(request, key) or self._made(request, key, make)
        except LayerError as error:
            raise WheelError(request.label, error.problem, advice=error.advice) from None
        except OSError as error:
            raise WheelError(request.label, f"{error.strerror or error}: {error.filename}") from None

    def _found(self, request: BlobRequest, key: str) -> tuple[Blob, Path] | None:
        try:
            facts = json.loads((self.cache.wheels / key / _FACTS).read_text())
            blob = Blob(request, facts["filename"], facts["digest"], facts["size"], facts["note"])
            path = self.cache.wheels / key / blob.filename
            os.utime(path.parent)
            return (blob, path) if path.stat().st_size == blob.size else None
        except (OSError, ValueError, KeyError):
            return None

    def _made(self, request: BlobRequest, key: str, make: Callable[[Path], tuple[Path, str]]) -> tuple[Blob, Path]:
        work = self.cache.aside("wheel")
        work.mkdir()
        try:
            path, note = make(work)
            result = work / "result"
            result.mkdir()
            path = path.rename(result / path.name)
            blob = Blob(request, path.name, sha256_of(path), path.stat().st_size, note)
            facts = {"filename": blob.filename, "digest": blob.digest, "size": blob.size, "note": note}
            (result / _FACTS).write_text(json.dumps(facts))
            final = self.cache.wheels / key
            final.parent.mkdir(exist_ok=True)
            self._remove_old()
            discard(final)
            result.rename(final)
        finally:
            discard(work)
        return blob, final / blob.filename

    def _remove_old(self) -> None:
        """Remove packages that were not asked for in a long time: each edit of a project leaves one behind."""
        for directory in self.cache.wheels.iterdir():
            with contextlib.suppress(OSError):  # another process may remove it at the same time
                if directory.stat().st_mtime < time() - MAX_AGE:
                    discard(directory)
