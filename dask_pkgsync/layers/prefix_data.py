"""Data files that distributions install below `sys.prefix`, for example in ``share``, and not beside their modules."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.cache.marker import MARKER
from dask_pkgsync.layers.unchanged import MANIFEST
from dask_pkgsync.scanning.records import dist_infos, entries

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from dask_pkgsync.layers.layer import Base, Layer
    from dask_pkgsync.model.record import Entry


_SITE_PACKAGES = "lib/python/site-packages/"
"""Where the directory of distributions lies below the prefix; only its depth matters."""
_NOT_READ = (
    "bin/",
    "Scripts/",
    "include/",
    "share/man/",
    "share/doc/",
    "share/info/",
    "share/bash-completion/",
    "share/fish/",
    "share/zsh/",
    "etc/bash_completion.d/",
    "share/jupyter/",
    "etc/jupyter/",
)
"""Directories below the prefix that no worker reads: of scripts, which `PATH` finds, headers, manuals, and Jupyter."""

_OF_ENVIRONMENT = frozenset(
    {
        *("bin", "Scripts", "include", "lib64", "pyvenv.cfg", "conda-meta", "pkgs", "envs", "CACHEDIR.TAG"),
        *(MARKER, MANIFEST),
    }
)
"""What an environment has below its prefix for itself, so that a layer has its own."""


def data_files(dist_info: Path) -> frozenset[Entry]:
    """Return the entries of a distribution's RECORD that only a process with the right `sys.prefix` finds."""
    return frozenset(
        entry for entry in entries(dist_info) if (place := below_prefix(entry.path)) and not place.startswith(_NOT_READ)
    )


def below_prefix(path: str) -> str:
    """Return the path of a file in RECORD relative to the prefix; empty if it lies beside the modules or elsewhere."""
    if not path.startswith("../"):
        return ""
    place = posixpath.normpath(_SITE_PACKAGES + path)
    return "" if place.startswith(("../", "lib/python")) else place


def link_data(layer: Layer, base: Base, own: Container[str]) -> None:
    """Link the data files of the base into a layer, so that a process in the layer finds them below its `sys.prefix`.

    The layer's own files come first. What a distribution of the base has put there is left out if the layer has this
    distribution in another version, or, if the layer is complete, at all: the layer has its own then.

    Parameters
    ----------
    layer : Layer
    base : Base
    own : container of str
        The canonical names of the distributions in the layer.
    """
    if not base.site_packages:  # a bare interpreter: what lies below its prefix belongs to none of its distributions
        return
    hidden = {
        str(site_packages.parents[2] / place)
        for site_packages in base.site_packages
        if len(site_packages.parents) > 2  # noqa: PLR2004  # below lib/pythonX.Y of a prefix
        for name, dist_info in dist_infos(site_packages).items()
        if layer.complete or name in own
        for entry in entries(dist_info)
        if (place := below_prefix(entry.path))
    }
    above = {str(parent) for path in hidden for parent in Path(path).parents}
    for source, link in _links(base.prefix, layer.root, hidden, above, left_out=_OF_ENVIRONMENT):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)


def _links(
    here: Path, there: Path, hidden: set[str], above: set[str], *, left_out: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Path]]:
    """Yield the links that add a directory of the base to one of the layer, each as source and place."""
    try:
        with os.scandir(here) as listing:
            items = sorted(listing, key=lambda item: item.name)
    except OSError:  # no reader may list it
        return
    for item in items:
        place = there / item.name
        if item.path in hidden or item.name in left_out or (left_out and item.name.startswith(".")):
            continue
        if item.is_dir() and (place.is_dir() or (item.path in above and not os.path.lexists(place))):
            inner = _modules_in(item.path) if left_out and item.name == "lib" else frozenset()
            yield from _links(Path(item.path), place, hidden, above, left_out=inner)
        elif not os.path.lexists(place):
            yield item.path, place


def _modules_in(lib: str) -> frozenset[str]:
    """Return the names in a prefix's ``lib`` that hold modules of Python."""
    return frozenset(name for name in os.listdir(lib) if name.startswith("python"))  # noqa: PTH208
