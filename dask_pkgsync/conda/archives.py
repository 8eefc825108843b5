"""On the client: the archives of the conda packages that are installed here, for nodes that ask for them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.conda.package_caches import extracted_directories, find_archive
from dask_pkgsync.conda.rebuilding import rebuild
from dask_pkgsync.model.blobs import CONDA_SUFFIXES, Blob, archive_name
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.scanning.conda_files import read_record, record_path
from dask_pkgsync.wheels.build import BUILD_TIMEOUT
from dask_pkgsync.wheels.packed import PackedBlobs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.model.blobs import BlobRequest
    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.scanning.conda_files import CondaRecord

FORMAT = 1
"""A number that changes whenever a new release would make another archive from the same files."""
_ELSEWHERE = "Run the sync again, from the environment in which the package is installed."


@dataclass(frozen=True)
class ArchivePacker:
    """Gives the archives of the conda packages in one prefix: from a package cache, else rebuilt from their files."""

    packages: Mapping[str, CondaPackage]
    """The packages as they were scanned, by name."""
    prefix: Path
    """The prefix in which they are installed."""
    cache: Cache
    """Keeps the archives that are rebuilt."""
    timeout: float = BUILD_TIMEOUT
    """Seconds to wait for another process that rebuilds the same archive."""

    def pack(self, request: BlobRequest) -> tuple[Blob, Path]:
        """Return the archive that a node asks for, as a blob, and the path of its file. Blocks.

        Raises
        ------
        WheelError
            If there is no such archive to give, with the reason and the alternative.
        """
        package = self.packages.get(request.name)
        if package is None or not request.is_met_by(package):
            there = f"has {package.label}" if package else "does not have this conda package"
            raise WheelError(request.label, f"the environment of this client {there}", advice=_ELSEWHERE)
        record = self._record(package, request)
        if not package.modified and (found := find_archive(package, record, self.prefix)) is not None:
            path, digest = found
            suffix = next(suffix for suffix in CONDA_SUFFIXES if path.name.endswith(suffix))
            return Blob(request, archive_name(request, suffix), digest, path.stat().st_size), path
        packed = PackedBlobs(self.cache, self.timeout)
        extracted = extracted_directories(record, self.prefix)
        return packed.obtain(
            request,
            self._key(package, record),
            lambda work: rebuild(package, record, self.prefix, work, extracted),
        )

    def _record(self, package: CondaPackage, request: BlobRequest) -> CondaRecord:
        try:
            return read_record(record_path(self.prefix, package))
        except (OSError, ValueError) as error:
            detail = error.strerror if isinstance(error, OSError) else error
            raise WheelError(
                request.label, f"its record in {self.prefix} cannot be read: {detail}", advice=_ELSEWHERE
            ) from None

    def _key(self, package: CondaPackage, record: CondaRecord) -> str:
        """Return a digest of what decides the bytes of a rebuilt archive: its record, and the state of each file."""
        facts = [FORMAT, *package.key, package.identity, str(self.prefix), record.facts]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for file in record.files:
            path = self.prefix / file.path
            try:
                state = os.lstat(path)
            except OSError:  # a missing file is an error when the archive is rebuilt
                continue
            digest.update(f"{file.path} {state.st_size} {state.st_mtime_ns} {state.st_mode}\n".encode())
        return digest.hexdigest()
