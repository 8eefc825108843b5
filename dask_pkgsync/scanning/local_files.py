"""The files of local code in a snapshot: what a user edits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.scanning.direct_url import source_directory
from dask_pkgsync.scanning.sources import ZippedFile, project_sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.scanning.snapshot import Snapshot


def local_files(snapshot: Snapshot) -> Iterator[str]:
    """Yield the path of each file of editable projects and loose modules, and of each archive that holds some. Blocks.

    Parameters
    ----------
    snapshot : Snapshot
        The result of a scan of this machine.
    """
    for module in snapshot.modules.values():
        for file in module.files:
            yield str(file.archive.path) if isinstance(file, ZippedFile) else str(file.full)
    for distribution in snapshot.environment.distributions.values():
        match distribution.origin:
            case FromDirectory(editable=True) as origin if origin.digest:
                with contextlib.suppress(OSError):
                    yield from (str(file.full) for file in project_sources(source_directory(origin)).files)
