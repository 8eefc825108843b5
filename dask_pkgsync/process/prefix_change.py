"""Whether a process that runs on one conda prefix may go on with the distributions of another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.layers.layout import SITE_PACKAGES, VirtualEnvironment
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.conda_meta import paths_of, prefix_on

if TYPE_CHECKING:
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.scanning.conda_meta import Record

ANOTHER = "the environment has an interpreter and libraries of its own: only a new process can run on them"
_LIVE = (f"{SITE_PACKAGES}/", "bin/")
"""Where the files of a package may lie that a process can take live: modules, and programs, which it starts anew."""


def why_new_process(layer: Layer | None) -> str:
    """Return why only a new process can run on what a layer stands on; empty if this process can. Blocks.

    Prefixes that differ only in packages of pure Python (``noarch: python``) have the same interpreter and libraries.
    """
    here, there = this_process().whole, layer.whole if layer is not None else ""
    if here == there:
        return ""
    if not (here and there):
        return ANOTHER
    one, other = _records(here), _records(there)
    changed = {
        name
        for name in one.keys() | other.keys()
        if name not in one or name not in other or not one[name].package.is_same_build(other[name].package)
    }
    for name in sorted(changed):
        for record in filter(None, (one.get(name), other.get(name))):
            if record.package.noarch != "python" or not _is_live(record):
                return f"the conda package {name} is not only modules of Python, and it differs: {ANOTHER}"
    return ""


def _records(prefix: str) -> dict[str, Record]:
    found = prefix_on([str(VirtualEnvironment.at(Path(prefix)).site_packages)])
    return {record.package.name: record for record in found.records} if found is not None else {}


def _is_live(record: Record) -> bool:
    """Whether all files of a package are modules or programs."""
    try:
        return all(str(entry.get("_path", "")).startswith(_LIVE) for entry in paths_of(record.path))
    except (OSError, ValueError):
        return False
