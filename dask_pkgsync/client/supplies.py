"""Where the nodes would get the packages of this environment from, and how large these are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dask_pkgsync.model.environments.origin import FromDirectory, FromModules
from dask_pkgsync.model.reports.preview import Supply
from dask_pkgsync.scanning.direct_url import source_directory
from dask_pkgsync.scanning.dist_infos import dist_infos_on
from dask_pkgsync.scanning.records import Listed
from dask_pkgsync.scanning.sources import project_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scanning.snapshot import Snapshot

INDEX = "index"
CLIENT = "this client"


def supplies_of(target: Target, snapshot: Snapshot) -> dict[str, Supply]:
    """Return for each distribution and conda package of a target where it comes from. Blocks: it reads RECORD files."""
    directories = dist_infos_on([entry for entry in sys.path if isinstance(entry, str)])
    found = {
        name: _supply(distribution, target, snapshot, directories)
        for name, distribution in target.environment.distributions.items()
    }
    for name, package in target.environment.conda.items():
        host = urlsplit(package.url).hostname or ""
        modules = frozenset(top for one in package.distributions if one in found for top in found[one].modules)
        sizes = [found[one].size or 0 for one in package.distributions if one in found]
        found[name] = Supply(f"conda channel {package.channel or host}".rstrip(), sum(sizes) or None, modules)
    return found


def _supply(distribution: Distribution, target: Target, snapshot: Snapshot, directories: Mapping[str, Path]) -> Supply:
    name, origin = distribution.name, distribution.origin
    if name in snapshot.modules:
        module = snapshot.modules[name]
        return Supply(f"{CLIENT} ({module.directory})", module.size, frozenset({module.name}))
    listed = Listed(Path(directories[name])) if name in directories else None
    modules = frozenset(listed.top_levels) if listed is not None else frozenset({name.replace("-", "_")})
    if isinstance(origin, FromDirectory) and origin.editable:
        directory = source_directory(origin)
        files = project_files(directory) if directory.is_dir() else []
        return Supply(f"{CLIENT} ({directory})", sum(file.size for file in files), modules)
    sizes = [entry.bytes for entry in listed.entries] if listed is not None else []
    size = sum(one for one in sizes if one is not None) or None
    only_here = bool(distribution.identity) or isinstance(origin, FromModules) or target.transport == "client"
    return Supply(CLIENT if only_here else INDEX, size, modules)
