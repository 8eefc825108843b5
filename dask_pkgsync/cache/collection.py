"""Removes unused layers from the cache: those that are too old, and those beyond the size limit."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

import psutil

from dask_pkgsync.cache import trees
from dask_pkgsync.cache.host import this_host
from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.model.reports.failure import LayerError

if TYPE_CHECKING:
    from pathlib import Path

    from dask_pkgsync.cache.directory import Cache


@dataclass(frozen=True, slots=True)
class Usage:
    """How much a cache holds."""

    layers: int
    """Number of finished layers."""
    bytes: int
    """Bytes of all layers together, of which many are links into the installer's own cache."""


def usage(cache: Cache) -> Usage:
    """Return how many layers a cache has, and their size, from the markers of the layers. Blocks."""
    layers = _last_use(cache)
    return Usage(len(layers), sum(_size(cache.layers / digest) for digest in layers))


def collect(cache: Cache, *, max_age: float, max_bytes: int) -> tuple[str, ...]:
    """Remove layers that no process uses: the too old ones, then the least recently used ones until the rest fits.

    Parameters
    ----------
    cache : Cache
    max_age : float
        Seconds since its last use after which an unused layer is removed.
    max_bytes : int
        Bytes that all layers together may take.

    Returns
    -------
    tuple of str
        Digests of the removed layers.
    """
    _sweep(cache, max_age)
    unused = sorted((used, digest) for digest, used in _last_use(cache).items() if not cache.is_leased(digest, max_age))
    removed = [digest for used, digest in unused if used < time() - max_age and _remove(cache, digest, max_age)]
    total = sum(_size(cache.layers / digest) for digest in _last_use(cache))
    for _, digest in unused:
        if total <= max_bytes:
            break
        size = _size(cache.layers / digest) if digest not in removed else 0
        if size and _remove(cache, digest, max_age):
            removed.append(digest)
            total -= size
    return tuple(removed)


def _last_use(cache: Cache) -> dict[str, float]:
    last_use = {}
    for layer in cache.layers.iterdir():
        with contextlib.suppress(OSError):  # another process removed it
            last_use[layer.name] = (layer / MARKER).stat().st_mtime
    return last_use


def _remove(cache: Cache, digest: str, max_age: float) -> bool:
    try:
        with cache.lock(digest, 0.1):
            if cache.is_leased(digest, max_age):
                return False
            aside = cache.aside("removed")
            trees.move(cache.layers / digest, aside)
            trees.remove(cache.leases / digest)
    except (OSError, LayerError):  # another process builds, uses or has removed it
        return False
    trees.remove(aside)
    return True


_VERIFIED_MAX_AGE = 7 * 24 * 3600.0
"""Seconds after which a list of verified files that was not extended is removed: its host may not run any more."""


def _sweep(cache: Cache, max_age: float) -> None:
    """Remove what dead processes have left half built, and lists of hosts that are gone.

    Processes of other hosts cannot be seen, so what they build counts as abandoned when it is old enough.
    """
    for directory in cache.building.iterdir():
        with contextlib.suppress(OSError, ValueError):
            _, pid, rest = directory.name.split("-", 2)
            is_gone = rest.rpartition("-")[0] == this_host() and not psutil.pid_exists(int(pid))
            abandoned = is_gone or directory.stat().st_mtime < time() - max(max_age, 3600)
            if abandoned:
                directory.unlink() if directory.is_file() else trees.remove(directory)
    for verified in cache.verified.glob("*"):
        with contextlib.suppress(OSError):
            if verified.stat().st_mtime < time() - max(max_age, _VERIFIED_MAX_AGE):
                verified.unlink()


def _size(directory: Path) -> int:
    """Return the bytes of a layer from its marker; files that are links into the installer's cache count in full."""
    try:
        return int(json.loads((directory / MARKER).read_text())["bytes"])
    except (OSError, ValueError, KeyError):
        return 0
