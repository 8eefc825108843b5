"""What a scheduler sends to bring a target to nodes, made once for all of them.

Dask sends the plugins of nannies and workers to each of them that joins. So these are only references to a target, and
the nodes that need their content ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dask_pkgsync.carry.travel import parcel, referred
from dask_pkgsync.model.target import target_to_wire
from dask_pkgsync.node.dask_internals import pickled
from dask_pkgsync.node.nanny import nanny_parcel
from dask_pkgsync.node.worker import worker_parcel

if TYPE_CHECKING:
    from dask_pkgsync.model.target import Target


@dataclass(frozen=True)
class Parcels:
    """What brings one target to nodes."""

    nanny: bytes
    """The pickled reference for nannies."""
    worker: bytes
    """The pickled reference for workers."""
    target: dict[str, Any]
    """The target as plain data."""

    def content(self, role: str, *, with_source: bool) -> dict[str, Any]:
        """Return what the reference of a role refers to (`carry.travel.parcel`). Blocks.

        Parameters
        ----------
        role : str
            ``nanny`` or ``worker``.
        with_source : bool
            Whether the source of this package is in it.
        """
        factory, state = nanny_parcel(self.target) if role == "nanny" else worker_parcel(self.target)
        return parcel(factory, state, with_source=with_source)


class Reference:
    """A plugin that is pickled as a reference to a target.

    Parameters
    ----------
    role : {"nanny", "worker"}
    target : str
        Name of the target (`Target.id`).
    """

    def __init__(self, role: Literal["nanny", "worker"], target: str) -> None:
        self.role, self.target = role, target

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a stand-in that knows only the name of the target."""
        return referred(self.role, self.target)


def parcels_of(target: Target) -> Parcels:
    """Make what brings a target to nodes. Blocks: it makes plain data of the whole target."""
    nanny, worker = Reference("nanny", target.id), Reference("worker", target.id)
    return Parcels(pickled(nanny), pickled(worker), target_to_wire(target))
