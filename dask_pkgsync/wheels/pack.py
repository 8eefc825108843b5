"""On the client: makes the packages of what is installed here, each once: wheels, and archives of conda packages."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion

from dask_pkgsync.model.environments.origin import FromConda, FromDirectory, FromModules, Unrecorded
from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.plan import why_it_cannot_travel
from dask_pkgsync.scanning.conda_files import read_record, record_path
from dask_pkgsync.scanning.conda_meta import prefix_on
from dask_pkgsync.scanning.content import looked_at
from dask_pkgsync.scanning.direct_url import source_directory
from dask_pkgsync.scanning.installed import scan_installed
from dask_pkgsync.scanning.loose_modules import LooseModule
from dask_pkgsync.scanning.records import entries, installed
from dask_pkgsync.scanning.snapshot import snapshot
from dask_pkgsync.scanning.sources import installed_files
from dask_pkgsync.scanning.unrecorded import metadata_of, modules_of
from dask_pkgsync.wheels.build import BUILD_TIMEOUT, build_project
from dask_pkgsync.wheels.module_wheel import pack_modules
from dask_pkgsync.wheels.packed import PackedBlobs
from dask_pkgsync.wheels.repack import repack

if TYPE_CHECKING:
    from collections.abc import Callable

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.model.blobs import Blob, BlobRequest
    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.scanning.snapshot import Snapshot

FORMAT = 4
"""A number that changes whenever a new release would make another wheel from the same code."""

_ELSEWHERE = (
    "Choose a version that the index has for the platform of the nodes, or sync from an environment in which this "
    "version is installed."
)


@dataclass(frozen=True)
class Packer:
    """Makes the packages of what is in one snapshot of this environment, and keeps them in the cache."""

    snapshot: Snapshot
    cache: Cache
    timeout: float = BUILD_TIMEOUT
    """Seconds that one build may take."""
    archives: Callable[[BlobRequest], tuple[Blob, Path]] | None = None
    """Gives the archives of conda packages (`conda.archives`); None where there are none."""
    interpreter: Callable[[BlobRequest], tuple[Blob, Path]] | None = None
    """Gives the interpreter below this environment (`interpreters.packing`); None where there is none to give."""

    def pack(self, request: BlobRequest) -> tuple[Blob, Path]:
        """Return the package that a node asks for, as a blob, and the path of its file. Blocks.

        Raises
        ------
        WheelError
            If there is no such package to give, with the reason and the alternative.
        """
        if self.interpreter is not None and request.tag and request.is_met_in(self.snapshot.environment):
            return self.interpreter(request)
        if self.archives is not None and request.build:
            return self.archives(request)
        label = request.label
        distribution = (
            None if request.build or request.tag else self.snapshot.environment.distributions.get(request.name)
        )
        if distribution is None or not request.is_met_by(distribution):
            there = f"has {distribution.label}" if distribution else "does not have it"
            raise WheelError(label, f"the environment of this client {there}", advice=_ELSEWHERE)
        origin = distribution.origin
        if isinstance(origin, Unrecorded) and (reason := why_it_cannot_travel(origin)) is not None:
            raise WheelError(label, reason)
        packed = PackedBlobs(self.cache, self.timeout * 2)
        return packed.obtain(request, self._key(distribution), lambda work: self._wheel(distribution, work))

    def _key(self, distribution: Distribution) -> str:
        """Return a digest of everything that decides the bytes of a wheel.

        For a distribution that is neither editable nor a loose module, that includes its files (see `_record_of`).
        """
        interpreter = self.snapshot.environment.interpreter
        identity = (distribution.name, distribution.version, distribution.identity)
        facts = [FORMAT, *identity, interpreter.version, interpreter.tag]
        if isinstance(distribution.origin, Unrecorded):
            facts.append(_unrecorded(distribution)[1].digest())
        elif not isinstance(distribution.origin, FromModules) and not _is_editable(distribution):
            facts.append(_record_of(distribution))
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _owner(self, distribution: Distribution) -> CondaPackage | None:
        """Return the conda package that a distribution belongs to; None if it belongs to none."""
        origin = distribution.origin
        return self.snapshot.environment.conda.get(origin.package) if isinstance(origin, FromConda) else None

    def _wheel(self, distribution: Distribution, work: Path) -> tuple[Path, str]:
        """Make a wheel in a directory; return its path, and a note for people (empty if there is none)."""
        match distribution.origin:
            case FromModules():
                module = self.snapshot.modules.get(distribution.name) or _module_here(distribution)
                return pack_modules(module, distribution, work, digest=distribution.identity), ""
            case Unrecorded():
                metadata, module = _unrecorded(distribution)
                entry_points = metadata / "entry_points.txt"
                text = entry_points.read_text(encoding="utf-8") if entry_points.is_file() else ""
                return pack_modules(module, distribution, work, digest=module.digest(), entry_points=text), ""
            case FromDirectory(editable=True) as origin:
                built = build_project(source_directory(origin), distribution, work, timeout=self.timeout)
                return built.path, built.note[:1000]
        dist_info, owner = _dist_info(distribution), self._owner(distribution)
        packed = repack(dist_info, work, _files_with_prefix(owner) if owner is not None else None)
        now = scan_installed().distributions.get(distribution.name)
        if now is None or looked_at(now, str(dist_info)).build != distribution.build:
            raise WheelError(
                f"{distribution.name} {distribution.version}",
                "its files are not those that the scan found",
                advice="Run the sync again. If you give it an environment of your own, make that with "
                "scan(verify=True).",
            )
        if not packed.differing or (owner is not None and not owner.modified):  # conda-build does not renew RECORD
            return packed.path, ""
        files = ", ".join(packed.differing[:5]) + (", …" if len(packed.differing) > 5 else "")  # noqa: PLR2004
        label = f"{distribution.name} {distribution.version}"
        note = f"{label}: changed on the client after it was installed, and shipped so: {files}"
        return packed.path, note[:1000]


def _files_with_prefix(package: CondaPackage) -> frozenset[Path]:
    """Return the files of an installed conda package into which the path of the prefix was written."""
    prefix = prefix_on([entry for entry in sys.path if isinstance(entry, str)])
    try:
        record = read_record(record_path(Path(prefix.root if prefix is not None else sys.prefix), package))
    except (OSError, ValueError) as error:
        raise WheelError(
            package.name, f"its record in the prefix of conda cannot be read: {error}", advice="Run the sync again."
        ) from None
    return frozenset(record.root / file.path for file in record.files if file.placeholder)


def _module_here(distribution: Distribution) -> LooseModule:
    """Return the loose module of an environment that was scanned earlier; raise `WheelError` if it has changed."""
    for module in snapshot(ignores=lambda _: True).modules.values():
        if module.distribution.name == distribution.name and module.distribution.identity == distribution.identity:
            return module
    raise WheelError(
        f"{distribution.name} {distribution.version}",
        "this loose module is no longer on the client's sys.path, or has changed since the scan",
        advice="Scan and sync in one process, or leave loose modules out: scan(modules=False).",
    )


def _unrecorded(distribution: Distribution) -> tuple[Path, LooseModule]:
    """Return the metadata directory and the modules of a distribution without a list of its files."""
    metadata = metadata_of(distribution.name)
    if metadata is None:
        raise WheelError(
            f"{distribution.name} {distribution.version}",
            "it is not installed on the client any more",
            advice="Run the sync again.",
        )
    files = installed_files(metadata.parent, modules_of(metadata)).files
    return metadata, LooseModule(distribution.name, metadata.parent, files)


def _is_editable(distribution: Distribution) -> bool:
    return isinstance(distribution.origin, FromDirectory) and distribution.origin.editable


def _dist_info(distribution: Distribution) -> Path:
    """Return the dist-info directory of a distribution; raise `WheelError` if this version is not installed here."""
    label = f"{distribution.name} {distribution.version}"
    directory = installed([entry for entry in sys.path if isinstance(entry, str)]).get(distribution.name)
    if directory is None and distribution.name in scan_installed().distributions:
        raise WheelError(
            label,
            "nothing on the client records which files are its own (it has no dist-info directory)",
            advice="Install it on the client with pip or uv.",
        )
    if directory is None:
        raise WheelError(label, "it is not installed on the client", advice=_ELSEWHERE)
    version = directory.name.removesuffix(".dist-info").rpartition("-")[2]
    with contextlib.suppress(InvalidVersion):  # an old tool has not escaped it: the scan has read it from METADATA
        if not distribution.same_version(version):
            raise WheelError(label, f"the client has {version} installed", advice=_ELSEWHERE)
    return directory


def _record_of(distribution: Distribution) -> str:
    """Return a digest of the paths in a distribution's RECORD, and of the sizes and dates of these files."""
    directory = _dist_info(distribution)
    digest = hashlib.sha256()
    for entry in entries(directory):
        with contextlib.suppress(OSError):  # a missing file is an error when it is packed
            facts = (directory.parent / entry.path).stat()
            digest.update(f"{entry.path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
