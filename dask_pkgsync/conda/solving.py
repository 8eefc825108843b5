"""Finds the conda packages that meet the match specs in ``extra``, while all packages of the client stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.conda.installer import CondaInstaller, Wanted
from dask_pkgsync.layers.publication import built_aside
from dask_pkgsync.scanning.conda_meta import package_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.model.environments.conda import CondaPackage


def solve_extra(
    specs: Sequence[str],
    packages: Sequence[CondaPackage],
    cache: Cache,
    tool: Callable[[], Path],
    *,
    timeout: float,
) -> tuple[CondaPackage, ...]:
    """Return the packages that have to be added. Blocks.

    Parameters
    ----------
    specs : sequence of str
        Match specs, for example ``conda-forge::cuda-nvcc=12.4``.
    packages : sequence of CondaPackage
        The packages of the client, in whose channels is looked, and in those that specs name.
    cache : Cache
    tool : callable
        Returns the directory that holds py-rattler.
    timeout : float
        Seconds that this may take.

    Raises
    ------
    LayerError
        If there is no solution, or a channel cannot be asked.
    """
    named = [spec.rpartition("::")[0] for spec in specs]
    channels = dict.fromkeys(filter(None, (*named, *(package.channel for package in packages))))
    held = [Wanted(package, (f"held/{package.filename}",)) for package in packages]
    with built_aside(cache) as work:
        found = CondaInstaller(tool(), cache.conda, timeout).solve(specs, list(channels), held, work)
    return tuple(map(package_of, found))
