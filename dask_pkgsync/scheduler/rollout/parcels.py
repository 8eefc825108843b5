"""What a scheduler sends to bring a target to nodes, made once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.target import target_to_wire
from dask_pkgsync.node.dask_internals import pickled
from dask_pkgsync.node.nanny import NannySync
from dask_pkgsync.node.worker import WorkerSync

if TYPE_CHECKING:
    from dask_pkgsync.model.target import Target


@dataclass(frozen=True)
class Parcels:
    """What brings one target to nodes."""

    nanny: bytes
    """The pickled plugin for nannies."""
    worker: bytes
    """The pickled plugin for workers."""
    target: dict[str, Any]
    """The target as plain data."""


def parcels_of(target: Target) -> Parcels:
    """Make what brings a target to nodes. Blocks: it pickles the source of this package, and the whole target."""
    return Parcels(pickled(NannySync(target)), pickled(WorkerSync(target)), target_to_wire(target))
